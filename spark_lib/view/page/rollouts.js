// The rollouts of a run: steps, a step's groups, a group's responses.

function meanRewards(entry) {
  return entry.means ??= KINDS.map((_, k) => {
    const rewards = entry.groups.filter((g) => g[0] === k).flatMap((g) => g[3]);
    return rewards.length ? rewards.reduce((sum, x) => sum + x, 0) / rewards.length : null;
  });
}

function stepButton(entry) {
  const means = meanRewards(entry);
  const columns = means.map((mean, k) => mean !== null && [
    svg("rect", { class: "slot", x: k * 12, y: 0, width: 9, height: 18 }),
    svg("rect", { class: `bar k${k}`, x: k * 12, y: 18 - 18 * mean, width: 9, height: 18 * mean }),
  ]);
  const told = means.map((mean, k) => mean !== null && `${KINDS[k]} ${mean.toFixed(2)}`).filter(Boolean).join(", ");
  return el("button", { class: "step", onclick: () => go({ step: entry.step, group: 0, response: null }),
    "aria-label": `step ${entry.step}: mean reward ${told}`, title: told },
    el("span", {}, `step ${entry.step}`), svg("svg", { width: 48, height: 18, "aria-hidden": "true" }, columns),
      el("span", { class: "found" }));
}

// The rewards of all steps as a small curve, with the shown step marked; a click goes to the step that is nearest.
function smallCurve() {
  const series = KINDS.map((kind, k) => ({ name: kind, kind: `k${k}`, points: column(data.smooth, `${kind}/reward`) }));
  return lines(series, { title: "mean reward by kind, mean of 5 steps", hideTitle: true, small: true, width: 176,
    height: 92, y: [0, 1], mark: series.some((one) => one.points.length) ? state.step : undefined,
    onpick: (x) => go({ step: nearest(x), group: 0, response: null }) });
}

function groupButton(entry, place, full, found) {
  const [kind, dropped, , rewards, flags] = entry.groups[place];
  const right = rewards.filter((x) => x >= data.right_at).length;
  const uses = full.groups.filter((g) => g.about?.some((a) => a.id?.startsWith(`${entry.step}.${place}.`))).length;
  const note = [dropped ? "dropped" : "", uses ? `→ ${uses}` : ""].filter(Boolean).join(" · ");
  const question = asked(full.groups[place].question, full.groups[place].pictures, 200);
  const told = `${KINDS[kind]}: ${question}; ${right} of ${rewards.length} right` +
    (dropped ? `; dropped: ${full.groups[place].dropped}` : "") + (uses ? `; became ${plural(uses, "problem")}` : "");
  return el("button", { class: `group${dropped ? " flat" : ""}`, "aria-label": told,
    "aria-current": place === state.group ? "true" : null, onclick: () => go({ group: place, response: null }) },
    el("span", { class: "question" }, question),
    el("span", { class: "dots" }, rewards.map((x, i) => {
      const mark = dot(x, !(flags[i] & 1));
      if (filtering() && !found.includes(i)) mark.classList.add("away");
      return mark;
    })), el("span", { class: "note" }, note));
}

let drawing = 0;

async function drawStep() {
  const entry = entryOf(state.step), mine = ++drawing;
  if (!entry) return;
  for (const [step, button] of shownParts.stepButtons) button.setAttribute("aria-current",
    step === state.step ? "true" : "false");
  replace(shownParts.curve, data.steps.length > 1 ? smallCurve() : null);
  const full = await row(entry.step).catch((error) => mine === drawing && replace(shownParts.responses,
    el("p", { class: "warn" }, error.message)));
  if (!full || mine !== drawing) return;
  const found = passing(entry);
  const listed = KINDS.flatMap((kind, k) => {
    const places = entry.groups.map((_, place) => place).filter((place) => entry.groups[place][0] === k &&
      (!filtering() || found[place].length));
    return places.length ? [el("h3", {}, kind, el("span", { class: "quiet" }, plural(places.length, "group"))),
      places.map((place) => groupButton(entry, place, full, found[place]))] : [];
  });
  const [inGroups, inResponses] = [shownParts.groups, shownParts.responses].map((part) =>
    part.contains(document.activeElement));
  replace(shownParts.groups, el("h2", {}, `Step ${entry.step}`),
    listed.length ? listed : el("p", { class: "quiet" }, "Nothing in this step passes the filters."));
  shownParts.places = KINDS.flatMap((_, k) => entry.groups.map((_, place) => place).filter((place) =>
    entry.groups[place][0] === k && (!filtering() || found[place].length)));
  drawGroup(entry, full, found);
  for (const list of [shownParts.groups, shownParts.stepList]) list.querySelector(
    "[aria-current=true]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  // What had the focus is made anew; who walks by keyboard goes on where they were, or where the link led.
  if (inGroups) shownParts.groups.querySelector("[aria-current=true]")?.focus();
  else if (inResponses && state.response === null) shownParts.responses.querySelector("h2")?.focus();
}

function pressed(options, chosen, pick, label) {
  return el("div", { class: "segments", role: "group", "aria-label": label },
    Object.entries(options).map(([value, text]) =>
    el("button", { "aria-pressed": String(value === chosen), onclick: () => pick(value) }, text)));
}

// A button that leads to a group: its kind, its number, its marks.
function link(step, place, word) {
  const [kind, , , rewards, flags] = entryOf(step).groups[place];
  const right = rewards.filter((x) => x >= data.right_at).length;
  return el("button", { class: "link", onclick: () => go({ step, group: place, response: null }),
    "aria-label": `${word ?? ""} ${KINDS[kind]} problem ${step}.${place}, ${right} of ${rewards.length} right` },
    `${word ?? KINDS[kind]} ${step}.${place}`,
    el("span", { class: "dots" }, rewards.map((x, i) => dot(x, !(flags[i] & 1)))));
}

function visits(entry, place) {
  const [kind, , problem] = entry.groups[place];
  if (KINDS[kind] !== "solve") return [];
  const all = data.steps.flatMap((one) => one.groups.map((g, p) => [one.step, p, g]).filter(([, , g]) =>
    KINDS[g[0]] === "solve" && g[2] === problem));
  const at = all.findIndex(([step, p]) => step === entry.step && p === place);
  const [before, after] = [all[at - 1], all[at + 1]];
  return [before && link(before[0], before[1], "← visited before:"),
    after && link(after[0], after[1], "visited again: →")];
}

function aboutCard(entry, full, group, a, i) {
  const letter = group.kind === "pairwise" ? `${"AB"[i]}: ` : "";
  const [, place, number] = (a.id ?? "").split(".").map(Number);
  const shown = a.id ? full.groups[place].responses[number] : a;
  const head = [el("span", {}, letter), dot(shown.reward, true), el("strong", {}, SHAPES[shapeOf(shown.reward, true)])];
  const back = a.id ? el("button", { class: "link", onclick: () => go({ group: place, response: number }) },
    `rollout ${a.id}`) : el("span", { class: "quiet" }, "the starting model's");
  return el("article", { class: "card judged" }, el("header", {}, head, back),
    el("div", { class: "said", dir: "auto" }, visible(shown.text.slice(0, MOST_TEXT))));
}

function drawGroup(entry, full, found) {
  const group = full.groups[state.group];
  if (!group) return replace(shownParts.responses, el("p", { class: "quiet" }, "There is no such group in this step."));
  const most = Math.max(...full.groups.flatMap((g) => g.responses.map((r) => Math.abs(r.advantage * r.weight))));
  const cards = group.responses.map((r, i) => {
    const uses = full.groups.map((_, place) => place).filter((place) =>
      full.groups[place].about?.some((a) => a.id === r.id));
    const made = card(r, { id: r.id, title: r.id, chosen: state.response === i,
      uses: uses.map((place) => link(entry.step, place)) }, state.colour, most);
    if (filtering() && !found[state.group].includes(i)) made.classList.add("away");
    return made;
  });
  replace(shownParts.responses,
    el("div", { class: "asked" },
      el("p", { class: "tags" }, el("span", { class: "tag" }, group.kind),
        el("span", { class: "quiet" }, `step ${entry.step}, group ${state.group}`),
        group.dropped && el("span", { class: "tag grey" }, `dropped: ${group.dropped}, so nothing was learned from it`),
          visits(entry, state.group)),
      group.context && opening(plural(group.context.length, "turn") + " before it", () => group.context.map(
        ([role, text]) => el("div", { class: "said" }, el("strong", {}, visible(role)), ` ${visible(text)}`))),
      el("h2", { dir: "auto", class: "question", tabindex: "-1" }, asked(group.question, group.pictures, MOST_TEXT)),
      (group.pictures ?? []).map((key) => picture(full.pictures[key])),
      el("p", {}, "right answer: ", group.answer ? el("code", {}, visible(group.answer)) : "nothing was called right"),
      group.choices && el("ol", { class: "choices", type: "A" },
        group.choices.map((choice) => el("li", {}, visible(choice)))),
      group.about && el("div", { class: "about" }, el("h3", {},
        group.kind === "reflect" ? "Reflects on" : "What was judged",
        el("span", { class: "quiet" }, group.view === "trace" ? "shown with its whole trace"
        : "only its answer was shown")),
        el("div", { class: "cards" }, group.about.map((a, i) => aboutCard(entry, full, group, a, i)))),
      opening("the whole prompt", () => el("pre", { class: "said" }, visible(group.prompt))),
      full.shortened && el("p", { class: "warn" },
        "Long responses of this step are cut in this page; the record has the whole.")),
    el("div", { class: "tools" }, el("h3", {}, plural(group.responses.length, "response")),
      pressed(COLOURS, state.colour, (colour) => colourChanged(colour, entry, full, found), "colour of tokens")),
    legend(state.colour) ?? "",
    el("div", { class: "cards" }, cards));
  if (state.response !== null) {
    const chosen = shownParts.responses.querySelector(".chosen");
    chosen?.scrollIntoView({ block: "nearest" });
    chosen?.focus({ preventScroll: true });
  }
}

function colourChanged(colour, ...shown) {
  state.colour = colour;
  remember(false);
  drawGroup(...shown);
  shownParts.responses.querySelector(".segments [aria-pressed=true]").focus({ preventScroll: true });
}

// --- moving about ---------------------------------------------------------------------------------------------------

function remember(push) {
  writeAddress({ step: state.step, group: state.group, response: state.response,
    colour: state.colour === "plain" ? "" : state.colour, kind: state.kind, show: [...state.show].join(","),
    q: state.q }, push);
}

function go(change, push = true) {
  Object.assign(state, change);
  remember(push);
  drawStep();
  say(`step ${state.step}, group ${state.group}` + (state.response === null ? "" : `, response ${state.response}`));
  if ("group" in change && matchMedia("(max-width: 820px)").matches && change.response == null &&
    change.step === undefined) shownParts.responses.scrollIntoView();
}

function moveGroup(by) {
  const at = shownParts.places?.indexOf(state.group) ?? -1, next = shownParts.places?.[at + by];
  if (next !== undefined) {
    go({ group: next, response: null }, false);
  } else if (at >= 0) moveStep(by);
}

function moveStep(by) {
  const steps = data.steps.map((entry) => entry.step).filter((step) => step === state.step || !filtering() ||
    counts.get(step));
  const next = steps[steps.indexOf(state.step) + by];
  if (next === undefined) return;
  const entry = entryOf(next), found = passing(entry);
  const first = filtering() ? found.findIndex((one) => one.length) : 0;
  go({ step: next, group: Math.max(0, first), response: null }, false);
}

const KEYS = {
  j: () => moveGroup(1), k: () => moveGroup(-1), ArrowRight: () => moveStep(1), ArrowLeft: () => moveStep(-1),
  c: () => {
    const pressed = shownParts.responses.querySelector(".segments [aria-pressed=true]");
    (pressed?.nextSibling ?? pressed?.parentNode.firstChild)?.click();
  },
  "/": () => shownParts.search.focus(),
};

function onKey(event) {
  if (typing(event)) return;
  const inLists = shownParts.groups.contains(event.target) || shownParts.steps.contains(event.target);
  if (inLists && (event.key === "ArrowDown" || event.key === "ArrowUp")) moveGroup(event.key === "ArrowDown" ? 1 : -1);
  else if (KEYS[event.key]) KEYS[event.key]();
  else return;
  event.preventDefault();
}

function rollouts(host) {
  const chip = (name, text, toggle) => el("button", { class: "chip", "aria-pressed": "false", onclick: toggle }, text);
  const toggleShow = (name) => () => {
    const other = { right: "wrong", wrong: "right" }[name];
    if (!state.show.delete(name)) state.show.add(name).delete(other);
    filtersChanged();
  };
  const present = KINDS.filter((_, k) => data.steps.some((entry) => entry.groups.some((g) => g[0] === k)));
  shownParts = {
    kinds: new Map(["", ...present].map((kind) => [kind,
      chip(kind, kind || "all kinds", () => { state.kind = kind; filtersChanged(); })])),
    chips: new Map(Object.entries(SHOWS).map(([name, text]) => [name, chip(name, text, toggleShow(name))])),
    search: el("input", { type: "search", placeholder: "search in texts",
      "aria-label": "search in prompts and responses", onchange: (event) => search(event.target.value.trim()) }),
    count: el("output", { class: "count" }),
    stepButtons: new Map(data.steps.map((entry) => [entry.step, stepButton(entry)])),
    steps: el("nav", { class: "steps", "aria-label": "steps" }),
      groups: el("div", { class: "groups", role: "region", "aria-label": "groups of the step" }),
      responses: el("main", { class: "responses", "aria-label": "responses of the group" }),
  };
  shownParts.stepList = el("ol", {}, [...shownParts.stepButtons.values()].map((button) => el("li", {}, button)));
  shownParts.curve = el("div", { class: "small" });
  replace(shownParts.steps, shownParts.curve, shownParts.stepList);
  replace(host,
    el("div", { class: "filters", role: "search" },
      el("div", { class: "chips", role: "group", "aria-label": "kind" }, [...shownParts.kinds.values()]),
        el("div", { class: "chips", role: "group", "aria-label": "marks" }, [...shownParts.chips.values()]),
      shownParts.search, shownParts.count),
    data.left_out && el("p", { class: "notice" }, data.left_out),
    el("div", { class: "columns" }, shownParts.steps, shownParts.groups, shownParts.responses));
  takeAddress();
}

function takeAddress() {
  const at = readAddress();
  const number = (name) => (at.has(name) && at.get(name) !== "" ? Number(at.get(name)) : null);
  state.step = entryOf(number("step")) ? number("step") : data.steps[0]?.step ?? null;
  state.group = number("group") ?? 0;
  state.response = number("response");
  state.colour = at.get("colour") in COLOURS ? at.get("colour") : "plain";
  state.kind = KINDS.includes(at.get("kind")) ? at.get("kind") : "";
  state.show = new Set((at.get("show") ?? "").split(",").filter((name) => name in SHOWS));
  const q = at.get("q") ?? "";
  if (q && q !== state.q) search(q);
  else {
    if (!q) forgetSearch();
    filtersChanged();
  }
}
