// Several runs side by side: curves over each other, final figures, and which settings differ.

function settingCurves(name) {
  const series = data.settings.map((one) => {
    const found = one.curves[name];
    if (!found) return null;
    const points = found.step.map((step, j) => [step, found.mean[j]]);
    const band = found.deviation && found.step.map((step, j) =>
      [step, Math.max(0, found.mean[j] - found.deviation[j]), Math.min(1, found.mean[j] + found.deviation[j])]);
    return { name: one.label, kind: one.kind, points, band };
  }).filter(Boolean);
  return series.length ? series : null;
}

function comparison(host) {
  const width = host.clientWidth, half = width > 760 ? (width - 32) / 2 : width;
  const fraction = { y: [0, 1], xLabel: "step", format: (v) => v.toFixed(v % 1 ? 1 : 0) };
  const charts = data.charts.map(({ name, title }) => [title, settingCurves(name)]).filter(([, series]) => series)
    .map(([title, series]) => lines(series, { ...fraction, title, note: data.note, width: half,
      height: Math.max(240, 60 + 15 * series.length) }));
  const points = data.skills.filter((one) => one.values.some((v) => v.value !== null));
  replace(host,
    section("Final figures", points.length ? dots(points,
      { title: "Held-out problems after training", note: data.settings.map((one) => one.label).join(", then "),
      between: " · ", width }) : null, rows(data.figures[0], data.figures.slice(1), { class: "numbers" }),
      el("p", { class: "quiet" }, data.about)),
    section("What differs", data.differing.length > 1 ? rows(data.differing[0].map(visible),
      data.differing.slice(1).map((row) => row.map(visible)), { class: "numbers left" })
      : el("p", { class: "quiet" }, "Nothing but the seed.")),
    section("Curves", el("div", { class: "pair" }, charts)),
    section("Runs", el("ul", {}, data.settings.map((one) =>
      el("li", {}, `${visible(one.label)}: ${one.runs.map(visible).join(", ")}`)))));
}

frame(data.name, data.facts, { compare: { title: "Side by side", address: "", match: () => true, draw: comparison } },
  null);
