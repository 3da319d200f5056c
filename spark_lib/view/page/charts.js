// Vector graphics. Colours are classes, so that light and dark have their own; a line is told by its dashes and by the
// name at its end as well.

// Round numbers from low to high, about `count` of them.
function ticks(low, high, count = 5) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const size = [1, 2, 5, 10].map((m) => m * power).find((step) => step >= rough * 0.999);
  const found = [];
  for (let x = Math.ceil(low / size - 1e-9) * size; x <= high + size * 1e-6;
    x += size) found.push(Number(x.toPrecision(12)));
  return found;
}

// Names at the ends of lines, pushed apart where they would touch. places: [[y, text, class]]
function apart(places, gap, low, high) {
  const sorted = places.map((place) => [...place]).sort((a, b) => a[0] - b[0]);
  for (let i = 1; i < sorted.length; i++) sorted[i][0] = Math.max(sorted[i][0], sorted[i - 1][0] + gap);
  const over = sorted.length ? sorted[sorted.length - 1][0] - high : 0;
  if (over > 0) {
    sorted[sorted.length - 1][0] -= over;
    for (let i = sorted.length - 2; i >= 0; i--) sorted[i][0] = Math.min(sorted[i][0], sorted[i + 1][0] - gap);
  }
  return sorted;
}

// What is written of a name in `room` pixels. Of a long one the middle is left out, as the names of settings differ at
// either end, and the whole is its tooltip.
function short(name, room) {
  const letters = [...name], most = Math.max(3, Math.floor(room / 6.8)), tail = Math.floor((most - 1) / 2);
  return letters.length <= most ? [name] : [svg("title", {}, name),
    `${letters.slice(0, most - 1 - tail).join("")}…${letters.slice(-tail).join("")}`];
}

// A chart of lines. series: [{name, kind (class), points: [[x, y]], faint: [[x, y]], band: [[x, low, high]], dots,
// leads: for each point its link as {href, told}}]. options: {title, note, width, height, y: [low, high], xLabel, level,
// logX, format, xFormat, mark, onpick, links (whether there are any), small, hideTitle}
function lines(series, options) {
  const width = Math.max(options.small ? 120 : 280, options.width), height = options.height ?? 240,
    narrow = width < 480;
  const shown = series.filter((one) => one.points.length);
  const right = Math.min(130, 16 + 6.6 * Math.max(4, ...shown.map((one) => one.name.length)));
  const room = { left: options.small ? 24 : 46, right: options.small ? 8 : right, top: options.small ? 6 : 10,
    bottom: options.xLabel ? 38 : 22 };
  const xs = shown.flatMap((one) => one.points.map((p) => p[0]));
  const turn = options.logX ? Math.log2 : (x) => x;
  const [x0, x1] = [Math.min(...xs.map(turn)), Math.max(...xs.map(turn))];
  const [y0, y1] = options.y;
  const x = (v) => room.left + (x1 > x0 ? (turn(v) - x0) / (x1 - x0) : 0.5) * (width - room.left - room.right);
  const y = (v) => height - room.bottom - ((v - y0) / (y1 - y0)) * (height - room.top - room.bottom);
  const path = (points) => points.map((p, i) => `${i ? "L" : "M"}${x(p[0]).toFixed(1)} ${y(p[1]).toFixed(1)}`).join("");
  const format = options.format ?? ((v) => String(v));
  const parts = [];
  for (const v of ticks(y0, y1, height < 160 ? 2 : 4)) {
    parts.push(svg("line", { class: "grid", x1: room.left, x2: width - room.right, y1: y(v), y2: y(v) }));
    parts.push(svg("text", { class: "tick", x: room.left - 6, y: y(v) + 4, "text-anchor": "end" }, format(v)));
  }
  const across = options.logX ? ticks(x0, x1, narrow ? 3 : 6).map((v) => 2 ** v) : ticks(x0, x1, narrow ? 4 : 8);
  for (const v of xs.length ? across.filter((v) => options.logX || Number.isInteger(v)) : []) {
    parts.push(svg("text", { class: "tick", x: x(v), y: height - room.bottom + 16, "text-anchor": "middle" },
      (options.xFormat ?? grouped)(v)));
  }
  if (options.xLabel) parts.push(svg("text", { class: "tick", x: room.left, y: height - 4 }, options.xLabel));
  if (options.level !== undefined) parts.push(svg("line",
    { class: "level", x1: room.left, x2: width - room.right, y1: y(options.level), y2: y(options.level) }));
  if (options.mark !== undefined) parts.push(svg("line",
    { class: "cursor", x1: x(options.mark), x2: x(options.mark), y1: room.top, y2: height - room.bottom }));
  for (const one of shown) {
    if (one.band) {
      const [low, high] = [one.band.map((b) => [b[0], b[1]]), one.band.map((b) => [b[0], b[2]]).reverse()];
      parts.push(svg("path", { class: `band ${one.kind}`, d: path(low) + path(high).replace("M", "L") + "Z" }));
    }
    if (one.faint) parts.push(svg("path", { class: `line faint ${one.kind}`, d: path(one.faint) }));
    parts.push(svg("path", { class: `line ${one.kind}`, d: path(one.points) }));
    parts.push((one.dots ? one.points : []).map((p, i) => {
      const place = { cx: x(p[0]), cy: y(p[1]) }, lead = one.leads?.[i];
      const mark = svg("circle", { class: `dot-${one.kind} ${one.kind}`, ...place, r: 3.5 });
      return lead ? svg("a", { href: lead.href, "aria-label": lead.told, class: "spot" }, svg("title", {}, lead.told),
        svg("circle", { class: "hit", ...place, r: 8 }), mark) : mark;
    }));
  }
  const ends = shown.map((one) => [y(one.points[one.points.length - 1][1]), one.name, one.kind]);
  for (const [place, name, kind] of options.small ? [] : apart(ends, 15, room.top + 4, height - room.bottom)) {
    parts.push(svg("text", { class: `name ${kind}`, x: width - room.right + 8, y: place + 4 },
      ...short(name, room.right - 8)));
  }
  return chart(parts, width, height, options, (event, box) => {
    const place = x0 + ((event.clientX - box.left - room.left) / (width - room.left - room.right)) * (x1 - x0);
    return options.logX ? 2 ** place : place;
  });
}

function chart(parts, width, height, options, place) {
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height,
    role: options.links ? "group" : "img", // what is inside an image is hidden from a screen reader, links too
    "aria-label": options.title + (options.told ? `. ${options.told}` : "") }, parts);
  if (options.onpick) {
    drawing.classList.add("pick");
    drawing.addEventListener("click", (event) => options.onpick(place(event, drawing.getBoundingClientRect())));
  }
  const caption = options.hideTitle ? null : el("figcaption", {}, el("strong", {}, options.title),
    options.note && ` ${options.note}`);
  return el("figure", { class: "chart" }, caption, drawing);
}

// Horizontal bars. entries: [{name, value, kind, text}]
function bars(entries, options) {
  const width = Math.max(280, options.width), step = 28, height = entries.length * step + 8, left = 84, right = 96;
  const most = Math.max(...entries.map((one) => one.value), 1e-9);
  const parts = entries.map((one, i) => [
    svg("text", { class: "label", x: left - 8, y: i * step + 18, "text-anchor": "end" }, one.name),
    svg("rect", { class: `bar ${one.kind ?? "plain"}`, x: left, y: i * step + 6, height: 16, rx: 2,
      width: Math.max(1, (one.value / most) * (width - left - right)) }),
    svg("text", { class: "tick", x: left + 8 + (one.value / most) * (width - left - right), y: i * step + 18 },
      one.text),
  ]);
  return chart(parts, width, height, { ...options, told: entries.map((one) => `${one.name} ${one.text}`).join(", ") },
    () => 0);
}

// Figures as dots with their intervals, a row each; where it has many, each dot is on a line of its own, with its name.
// entries: [{name, values: [{value, low, high, kind, name}]}]
function dots(entries, options) {
  const most = Math.max(...entries.map((one) => one.values.length)), many = most > 4, gap = many ? 14 : 9;
  const width = Math.max(280, options.width), narrow = width < 480, step = Math.max(34, gap * most + 10), top = 6,
    left = narrow ? 104 : 190, right = (narrow ? 84 : 120) + (many ? 60 : 44 * Math.max(0, most - 2));
  const height = entries.length * step + top + 26;
  const x = (v) => left + v * (width - left - right);
  const parts = ticks(0, 1, narrow ? 2 : 4).map((v) => [
    svg("line", { class: "grid", x1: x(v), x2: x(v), y1: top, y2: height - 24 }),
    svg("text", { class: "tick", x: x(v), y: height - 8, "text-anchor": "middle" }, `${Math.round(100 * v)} %`),
  ]);
  entries.forEach((one, i) => {
    const middle = top + i * step + step / 2;
    parts.push(svg("text", { class: "label", x: left - 12, y: middle + 4, "text-anchor": "end" }, one.name));
    const known = one.values.filter((v) => v.value !== null && v.value !== undefined);
    known.forEach((v, j) => {
      const y = middle + (j - (known.length - 1) / 2) * gap;
      if (v.low !== undefined) parts.push(svg("line", { class: `whisker ${v.kind}`, x1: x(v.low), x2: x(v.high),
        y1: y, y2: y }));
      parts.push(svg("circle", { class: `point ${v.kind}`, cx: x(v.value), cy: y, r: 4.5 },
        svg("title", {}, `${v.name}: ${percent(v.value)} %`)));
      if (many) parts.push(svg("text", { class: `tick ${v.kind}`, x: width - right + 10, y: y + 4 },
        `${percent(v.value)} `, ...short(v.name, right - 48)));
    });
    if (!many) parts.push(svg("text", { class: "tick", x: width - right + 10, y: middle + 4 },
      known.map((v) => percent(v.value)).join(options.between ?? " → ")));
  });
  const told = entries.map((one) =>
    `${one.name}: ${one.values.map((v) => `${v.name} ${percent(v.value)} %`).join(", ")}`).join("; ");
  return chart(parts, width, height, { ...options, told }, () => 0);
}
