// A run's page.

const HELP = [
  ["j, k", "next, previous group"],
  ["→, ←", "next, previous step"],
  ["↓, ↑", "the same as j, k within the lists"],
  ["c", "next colour of the tokens"],
  ["/", "search"],
  ["?", "this help"],
];
const views = {
  overview: { title: "Overview", address: "overview", match: (at) => !at.size || at.has("overview"), draw: overview },
};
if (data.steps.length) {
  views.rollouts = { title: "Rollouts", address: `step=${data.steps[0].step}`, match: (at) => at.has("step"),
    draw: rollouts, moved: takeAddress, keys: onKey };
}
frame(data.name, data.facts, views, data.steps.length ? HELP : null);
