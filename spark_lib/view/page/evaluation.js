// The page of an evaluation: figures, each with what was said behind it.
// data.sets: [{name, n, seeds, tables, judge (bins), curves, stages: {name: count}}]; the `lists` of a table and of a
// curve are the addresses behind its rows and points. Rows are unpacked when a list is opened.

const MORE = 40; // predictions shown at a time
const ROW = ["stage", "seed", "prompt", "answer", "text", "finished", "reward", "count", "verdict", "p_yes",
  "question"];
const loaded = new Map();

function said(place) {
  if (!loaded.has(place)) {
    loaded.set(place, unpack(`set-${place}`).then((packed) => packed.rows.map((values, i) => {
      const one = Object.fromEntries(ROW.map((name, j) => [name, values[j]]));
      const known = { ...one, i, finished: Boolean(one.finished), prompt: packed.prompts[one.prompt],
        answer: packed.answers[one.answer], stage: packed.stages[one.stage], question: packed.questions[one.question],
        place: one.question, pictures: packed.pictures[one.question] };
      if (known.verdict === false) delete known.verdict; // no judgement; null is one without a verdict
      if (/^judge \d+$/.test(known.stage)) known.blind = true; // a judgement at test time, which knows no right answer
      if (known.p_yes === null) delete known.p_yes;
      return known;
    })));
  }
  return loaded.get(place);
}

const listAddress = (set, fields) => "#" + new URLSearchParams({ list: set, ...fields });

// Which predictions a list is about. at: the address; all: to look up whether a problem's first answer was right.
function chosenBy(at, all) {
  const first = at.has("first") && new Map(all.filter((one) => one.stage === "answers").map((one) =>
    [`${one.place} ${one.seed}`, one.reward >= data.right_at])); // a greedy one is of no seed, and of every one
  const stages = (at.get("stage") ?? "").split("|").filter(Boolean), q = (at.get("q") ?? "").toLowerCase();
  const low = Number(at.get("low") ?? -1), high = Number(at.get("high") ?? 2), mark = at.get("mark"),
    gold = at.get("gold"), says = at.get("says");
  return (one) => (!stages.length || stages.includes(one.stage)) &&
    (!at.has("low") || (one.p_yes !== undefined && (one.p_yes > low || (low === 0 && one.p_yes === 0)) &&
      one.p_yes <= high)) &&
    (!first || (first.get(`${one.place} ${one.seed}`) ?? first.get(`${one.place} null`)) ===
      (at.get("first") === "right")) &&
      (!mark || (mark === "right") === one.reward >= data.right_at) && (!gold || one.answer === gold) &&
    (!says || (says === "unread" ? one.verdict === null : one.verdict === says)) &&
    (!at.has("cut") || !one.finished) && (!at.has("problem") || one.place === Number(at.get("problem"))) &&
    (!q || one.text.toLowerCase().includes(q) || one.prompt.toLowerCase().includes(q));
}

function diagram(set, place, width) {
  const { bins } = set.judge, height = 300, room = { left: 44, right: 12, top: 10, bottom: 40, low: 54 };
  const most = Math.max(...bins.map((b) => b.count));
  const x = (v) => room.left + v * (width - room.left - room.right), floor = height - room.bottom;
  const y = (v) => room.top + (1 - v) * (floor - room.low - room.top - 14), foot = y(0);
  const parts = [0, 0.5, 1].map((v) => [svg("line", { class: "grid", x1: x(0), x2: x(1), y1: y(v), y2: y(v) }),
    svg("text", { class: "tick", x: x(0) - 6, y: y(v) + 4, "text-anchor": "end" }, String(v))]);
  for (const v of [0, 0.25, 0.5, 0.75, 1]) parts.push(svg("text",
    { class: "tick", x: x(v), y: floor + 16, "text-anchor": "middle" }, String(v)));
  for (const b of bins) {
    const told = `P(Yes) from ${b.low.toFixed(2)} to ${b.high.toFixed(2)}: ${plural(b.count, "judgement")}, ` +
      `of right answers ${percent(b.frequency)} %, mean P(Yes) ${b.probability.toFixed(2)}`;
    const tall = (b.count / most) * room.low;
    parts.push(svg("a", { href: listAddress(place, { stage: "judge samples", low: b.low, high: b.high }),
      "aria-label": told, class: "bin" }, svg("title", {}, told),
      svg("rect", { class: "hit", x: x(b.low), y: room.top, width: x(b.high) - x(b.low), height: floor - room.top }),
      svg("rect", { class: "chosen", x: x(b.low) + 1.5, y: y(b.frequency), width: x(b.high) - x(b.low) - 3,
        height: Math.max(1, foot - y(b.frequency)) }),
      svg("rect", { class: "plain", x: x(b.low) + 1.5, y: floor - tall, width: x(b.high) - x(b.low) - 3,
        height: Math.max(1, tall) }),
      svg("circle", { class: "mean", cx: x(b.probability), cy: y(b.frequency), r: 3.5 })));
  }
  parts.push(svg("line", { class: "level", x1: x(0), y1: y(0), x2: x(1), y2: y(1) }));
  parts.push(svg("text", { class: "tick", x: x(0), y: height - 6 }, "P(Yes); below: how many judgements"));
  return chart(parts, width, height, { title: "How often an answer is right, against the judge's P(Yes)",
    note: "dots: the mean of a bin; a click shows its judgements", links: true }, () => 0);
}

function tokensChart(set, place, width) {
  const kinds = { tts: "k3", best_of_n: "k1", weighted_vote: "k2", majority_vote: "k0", tournament: "k4" };
  const series = Object.entries(set.curves).map(([name, one]) => ({ name: one.label, kind: kinds[name], dots: true,
    points: one.tokens.map((t, i) => [t, one.accuracy[i]]),
    leads: one.lists.map((fields, i) => ({ href: listAddress(place, fields),
      told: `${one.label}, ${name === "tts" ? plural(i, "round") : plural(i + 1, "sample")}: ` +
        `${percent(one.accuracy[i])} % right with ${plural(one.tokens[i], "token")} per problem` })) }));
  const all = series.flatMap((one) => one.points.map((p) => p[1])),
    low = Math.max(0, Math.floor(10 * Math.min(...all) - 0.5) / 10),
    high = Math.min(1, Math.ceil(10 * Math.max(...all) + 0.5) / 10);
  return lines(series, { title: "What test-time tokens buy", links: true,
    note: "accuracy against sampled tokens per problem; a click shows what was said",
    y: [low, high], logX: true, xLabel: "sampled tokens per problem", format: (v) => `${Math.round(100 * v)} %`,
    width, height: 300 });
}

function figures(set, place) {
  return set.tables.map(({ rows: [head, ...body], lists }) => rows(head, body.map((cells, i) => [
    lists[i] ? el("a", { href: listAddress(place, lists[i]) }, cells[0]) : cells[0], ...cells.slice(1)]),
      { class: "numbers" }));
}

function evaluationOverview(host) {
  const width = host.clientWidth, half = width > 760 ? (width - 32) / 2 : width;
  replace(host,
    data.left_out && el("p", { class: "notice" }, data.left_out),
    data.overview && section("All benchmarks", rows(data.overview[0], data.overview.slice(1), { class: "numbers" })),
    data.sets.map((set, place) => section(`${set.name}: ${plural(set.n, "problem")}`,
      set.notes.map((note) => el("p", { class: "quiet" }, visible(note))),
      el("div", { class: "pair" }, el("div", {}, figures(set, place)),
        el("div", {}, set.judge ? diagram(set, place, half) : null,
          Object.keys(set.curves).length ? tokensChart(set, place, half) : null)),
      el("h3", {}, "What was said"),
      el("ul", { class: "lists" }, Object.entries(set.stages).map(([stage, count]) =>
        el("li", {}, el("a", { href: listAddress(place, { stage }) }, stage),
        el("span", { class: "quiet" }, ` ${grouped(count)}`)))))));
}

function predictionCard(set, one) {
  return el("article", { class: "entry" },
    el("p", { class: "tags" }, el("span", { class: "tag" }, one.stage),
      one.seed !== null && el("span", { class: "quiet" }, `seed ${one.seed}`),
      el("a", { href: listAddress(set, { problem: one.place }) }, "all that was said about this problem")),
    el("h4", { dir: "auto" }, asked(one.question, one.pictures, MOST_TEXT),
      !one.blind && el("span", { class: "quiet" }, " right: ", visible(one.answer))),
    one.pictures.map((key) => picture(data.pictures[key])),
    card(one, { word: one.blind && (one.reward ? "accepted" : "rejected") }, "plain", 0),
      opening("the whole prompt", () => el("pre", { class: "said" }, visible(one.prompt))));
}

async function predictionList(host, still) {
  const at = readAddress(), place = Number(at.get("list")), set = data.sets[place];
  if (!set) return replace(host, el("p", {}, "There is no such set of problems."));
  const all = await said(place).catch((error) => still() && replace(host, el("p", { class: "warn" }, error.message)));
  if (!all || !still()) return;
  const found = all.filter(chosenBy(at, all));
  const with_ = (change) => {
    const words = new URLSearchParams(location.hash.slice(1));
    for (const [name, value] of Object.entries(change)) value === null ? words.delete(name) : words.set(name, value);
    location.hash = words.toString();
  };
  const chip = (text, name, value) => el("button", { class: "chip", "aria-pressed": String(at.get(name) === value),
    onclick: () => with_({ [name]: at.get(name) === value ? null : value }) }, text);
  const stages = el("select", { "aria-label": "stage", onchange: (event) =>
    with_({ stage: event.target.value || null }) },
    el("option", { value: "" }, "all stages"), Object.keys(set.stages).map((stage) =>
      el("option", { value: stage, selected: at.get("stage") === stage }, stage)),
    at.get("stage")?.includes("|") && el("option", { value: at.get("stage"), selected: true },
      at.get("stage").replaceAll("|", ", ")));
  const range = at.has("low") && el("button", { class: "chip", "aria-pressed": "true",
    onclick: () => with_({ low: null, high: null }) },
    `P(Yes) ${Number(at.get("low")).toFixed(2)} – ${Number(at.get("high")).toFixed(2)} ×`);
  const only = { problem: "one problem", gold: `right verdict ${at.get("gold")}`, cut: "cut off",
    first: `first answer ${at.get("first")}` };
  const others = Object.keys(only).filter((name) => at.has(name)).map((name) =>
    el("button", { class: "chip", "aria-pressed": "true", onclick: () => with_({ [name]: null }) }, `${only[name]} ×`));
  const list = el("div", { class: "entries" });
  const more = el("button", { class: "more", onclick: () => add() }, "show more");
  let shown = 0;
  const add = () => {
    list.append(...found.slice(shown, shown + MORE).map((one) => predictionCard(place, one)));
    shown += MORE;
    more.hidden = shown >= found.length;
  };
  replace(host,
    el("h2", {}, `${set.name}: what was said`),
    el("div", { class: "filters plainly" }, stages, el("div", { class: "chips" }, chip("right", "mark", "right"),
      chip("wrong", "mark", "wrong"), chip("says Yes", "says", "Yes"), chip("says No", "says", "No"),
      chip("verdict unread", "says", "unread"), range, others),
      el("input", { type: "search", placeholder: "search in texts", "aria-label": "search in prompts and responses",
        value: at.get("q") ?? "", onchange: (event) => with_({ q: event.target.value.trim() || null }) }),
      el("output", { class: "count" }, `${grouped(found.length)} of ${plural(all.length, "response")}`)),
    list, !found.length && el("p", { class: "quiet" }, "Nothing passes the filters."), more);
  add();
}

frame(data.name, data.facts, {
  overview: { title: "Figures", address: "overview", match: (at) => !at.has("list"), draw: evaluationOverview },
  list: { title: "What was said", address: "list=0", match: (at) => at.has("list"), draw: predictionList,
    moved: predictionList },
}, null);
