// What of the rollouts is shown: the state that the address holds, and the filters.
// An entry of data.steps is {step, groups: [[kind, dropped, problem, rewards, flags]]}, what the filters need; texts
// and tokens of a step are unpacked when it is shown. flags: a digit per response, 1 cut off + 2 verdict unread.

const KINDS = data.kinds;
const SHOWS = {
  right: "right", wrong: "wrong", judge: "judge wrong", unread: "verdict unread", cut: "cut off",
    dropped: "dropped group",
};
const COLOURS = { plain: "plain", logprob: "log-prob", push: "advantage × weight" };
const state = { step: null, group: 0, response: null, colour: "plain", kind: "", show: new Set(), q: "" };
const unpacked = new Map(); // step -> promise of its row in the record
let hits = null; // step -> set of "group.response" in which q was found; null without a search
let shownParts = {};

function row(step) {
  if (!unpacked.has(step)) {
    if (unpacked.size > 40) unpacked.delete(unpacked.keys().next().value);
    unpacked.set(step, unpack(`step-${step}`));
  }
  return unpacked.get(step);
}

// Whether response i of a group passes the filters. g: an entry of data.steps[…].groups
function passes(step, place, g, i) {
  const [kind, dropped, , rewards, flags] = g, right = rewards[i] >= data.right_at, flag = Number(flags[i]);
  if (state.kind && KINDS[kind] !== state.kind) return false;
  for (const show of state.show) {
    if (show === "right" && !right) return false;
    if (show === "wrong" && right) return false;
    if (show === "judge" && (right || !data.judges.includes(KINDS[kind]))) return false;
    if (show === "unread" && !(flag & 2)) return false;
    if (show === "cut" && !(flag & 1)) return false;
    if (show === "dropped" && !dropped) return false;
  }
  return !hits || (hits.get(step)?.has(`${place}.${i}`) ?? false);
}

// The responses of a step that pass: by group, the numbers of its responses.
function passing(entry) {
  return entry.groups.map((g, place) => g[3].map((_, i) => i).filter((i) => passes(entry.step, place, g, i)));
}

const filtering = () => Boolean(state.kind || state.show.size || hits);
const nearest = (x) => data.steps.reduce((best, entry) =>
  (Math.abs(entry.step - x) < Math.abs(best.step - x) ? entry : best)).step;
const entryOf = (step) => data.steps.find((entry) => entry.step === step);

let counts = null; // by step, the responses that pass

function count() {
  counts = new Map(data.steps.map((entry) => [entry.step,
    passing(entry).reduce((sum, found) => sum + found.length, 0)]));
}

// --- search ---------------------------------------------------------------------------------------------------------

let searching = 0;

// No search any more; one that is under way ends at its next step.
function forgetSearch() {
  searching++;
  [state.q, hits] = ["", null];
}

async function search(q) {
  forgetSearch();
  if (!q) return filtersChanged();
  const mine = searching;
  state.q = q;
  const found = await searched(q, () => mine === searching && shownParts.search.isConnected).catch((error) => error);
  if (mine !== searching) return;
  // Who has left the rollouts is not called back to them, nor is their address; the search begins anew if they return.
  if (!found || !shownParts.search.isConnected) return forgetSearch();
  if (found instanceof Error) forgetSearch();
  else hits = found;
  filtersChanged();
  if (found instanceof Error) shownParts.count.textContent = `the search failed: ${found.message}`;
}

// What is found, by step; null where it is not wanted any more.
async function searched(q, wantedStill) {
  const wanted = q.toLowerCase(), found = new Map();
  for (const [done, entry] of data.steps.entries()) {
    const { groups } = await (unpacked.get(entry.step) ?? unpack(`step-${entry.step}`));
    if (!wantedStill()) return null;
    const places = new Set();
    groups.forEach((group, place) => group.responses.forEach((r, i) => {
      if (group.prompt.toLowerCase().includes(wanted) || r.text.toLowerCase().includes(wanted)) places.add(
        `${place}.${i}`);
    }));
    found.set(entry.step, places);
    if (done % 20 === 19) shownParts.count.textContent = `searching: ${done + 1} of ${data.steps.length} steps`;
  }
  return found;
}

function filtersChanged() {
  count();
  for (const entry of data.steps) {
    const button = shownParts.stepButtons.get(entry.step), n = counts.get(entry.step);
    button.parentNode.hidden = filtering() && !n && entry.step !== state.step;
    button.lastChild.textContent = filtering() ? grouped(n) : "";
  }
  const all = data.steps.reduce((sum, entry) => sum + entry.groups.reduce((s, g) => s + g[3].length, 0), 0);
  const n = [...counts.values()].reduce((sum, x) => sum + x, 0);
  shownParts.count.textContent = filtering() ? `${grouped(n)} of ${plural(all, "response")}` : plural(all, "response");
  for (const [name, chip] of shownParts.chips) chip.setAttribute("aria-pressed", state.show.has(name));
  for (const [name, chip] of shownParts.kinds) chip.setAttribute("aria-pressed", state.kind === name);
  if (shownParts.search.value !== state.q) shownParts.search.value = state.q;
  remember(false);
  drawStep();
}
