// The overview of a run: figures, curves, what it cost, and the stories of before and after.

// A column of data.curves or data.smooth, which have the same steps, as points.
function column(columns, name) {
  const { step } = data.curves, values = columns[name] ?? [];
  return values.map((y, i) => [step[i], y]).filter(([, y]) => y !== null);
}

function curve(name, label, kind) {
  return { name: label, kind, points: column(data.smooth, name), faint: column(data.curves, name) };
}

function figuresTable(figures) {
  const span = (one) => (one ? `${percent(one[0])} – ${percent(one[1])}` : "");
  const when = ["before", "after"].filter((name) => figures.some((f) => f[name] !== undefined));
  const head = ["held out, %", ...when.flatMap((name) =>
    (figures.some((f) => f[`${name}_interval`]) ? [name, "95 % interval"] : [name]))];
  const body = figures.map((f) => [f.what, ...when.flatMap((name) =>
    (head.includes("95 % interval") ? [percent(f[name]), span(f[`${name}_interval`])] : [percent(f[name])]))]);
  return rows(head, body, { class: "numbers" });
}

function beforeAfter(width) {
  const shown = data.figures.filter((f) => !f.bias);
  if (!shown.length) return el("p", { class: "quiet" },
    "Held-out problems were not evaluated in this run (eval.limit=0), or not yet.");
  const value = (f, name, kind) => ({ name, kind, value: f[name], low: f[`${name}_interval`]?.[0],
    high: f[`${name}_interval`]?.[1] });
  return dots(shown.map((f) => ({ name: f.short, values: [value(f, "before", "old"), value(f, "after", "new")] })),
    { title: "Held-out problems: before ○ and after ●",
      note: data.n ? `n = ${grouped(data.n)}, sampled; lines are 95 % intervals` : "", width });
}

function costs(width) {
  const half = width > 760 ? (width - 32) / 2 : width;
  const seconds = Object.entries(data.seconds ?? {}).filter(([name]) => name !== "total");
  const tokens = KINDS.map((kind, k) => ({ name: kind, kind: `k${k}`,
    value: data.tokens[kind] })).filter((one) => one.value);
  return el("div", { class: "pair" },
    seconds.length ? bars(seconds.map(([name, value]) =>
      ({ name, value, text: `${value.toFixed(value < 10 ? 1 : 0)} s` })),
      { title: "Seconds by phase", note: data.seconds.total ? `${Math.round(data.seconds.total)} s in all` : "",
      width: half }) : null,
    tokens.length ? bars(tokens.map((one) => ({ ...one, text: grouped(one.value) })),
      { title: "Sampled tokens by kind", note: data.sampled_tokens ? `${grouped(data.sampled_tokens)} in all` : "",
      width: half }) : null);
}

function story(one) {
  const names = { solve: "answer", pointwise: "own verdict", reflect: "reflection" };
  return el("article", { class: "story" },
    el("h4", { dir: "auto" }, asked(one.question, one.pictures),
      el("span", { class: "quiet" }, " right: ", visible(one.answer))),
    one.pictures.map((code) => picture(`data:image/png;base64,${code}`)),
    el("ol", {}, one.turns.map((turn) => el("li", {},
      el("span", { class: "turn" }, dot(Number(turn.right), true),
        `${names[turn.kind] ?? turn.kind}, ${turn.right ? "right" : "wrong"}`),
      el("div", { class: "said", dir: "auto" }, visible(turn.text))))));
}

function stories() {
  const when = Object.entries(data.stories).filter(([, told]) => told.length);
  return el("div", { class: "pair" }, when.map(([name, told]) =>
    el("div", {}, el("h3", {}, `${name} training`), told.map(story))));
}

function overview(host) {
  const width = host.clientWidth, half = width > 760 ? (width - 32) / 2 : width;
  const fraction = { y: [0, 1], xLabel: "step", format: (v) => v.toFixed(v % 1 ? 1 : 0) };
  const reward = KINDS.map((kind, k) => curve(`${kind}/reward`, kind, `k${k}`));
  const said = [curve("pointwise/said_yes", "says Yes", "k1"), curve("pairwise/said_a", "says A", "k2")];
  const flat = KINDS.map((kind, k) => curve(`${kind}/frac_reward_zero_std`, kind, `k${k}`));
  const cut = KINDS.map((kind, k) => curve(`${kind}/truncated`, kind, `k${k}`));
  const any = (series) => series.some((one) => one.points.length);
  const pick = { onpick: (x) => data.steps.length && (location.hash = `#step=${nearest(x)}`) };
  replace(host,
    section("What it learned", beforeAfter(width), data.figures.length
      ? opening("the same as a table", () => figuresTable(data.figures)) : null),
    any(reward) && section("How it learned",
      lines(reward, { ...fraction, ...pick, title: "Reward in training",
        note: "mean of 5 steps; a click opens the step", width, height: 280 }),
      el("div", { class: "pair" },
        any(said) ? lines(said, { ...fraction, level: 0.5, title: "Bias of the judge",
          note: "share of verdicts; half of the gold is Yes, and A", width: half }) : null,
        any(flat) ? lines(flat, { ...fraction, title: "Groups without variance", note: "share that is dropped",
          width: half }) : null,
        cut.some((one) => one.points.some(([, y]) => y > 0))
          ? lines(cut, { ...fraction, title: "Cut off", note: "share of responses at the token limit", width: half })
          : null)),
    section("What it cost", costs(width)),
    Object.values(data.stories).some((told) => told.length) && section("Stories", stories()),
    section("Settings", opening("all of them", () => rows(["key", "value"],
      Object.entries(data.config).map(([key, value]) => [el("code", {}, key), visible(String(value))]),
      { class: "numbers left" }))));
}
