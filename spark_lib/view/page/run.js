// A run's page.
const views = { overview: { title: "Overview", address: "overview", match: (at) => !at.size || at.has("overview"), draw: overview } };
if (data.steps.length) {
  views.rollouts = { title: "Rollouts", address: `step=${data.steps[0].step}`, match: (at) => at.has("step"), draw: rollouts, moved: takeAddress, keys: onKey };
}
frame(data.name, data.facts, views, data.steps.length ? HELP : null);
