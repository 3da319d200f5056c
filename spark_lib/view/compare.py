"""Several runs side by side: one page, a PNG and a Markdown table.

Runs whose settings are the same but for the seed are one setting, with mean and standard deviation over its seeds (the
deviation of a sample, n - 1; several runs of one seed count as one, their mean). Curves are compared step by step, over
the steps that all runs of a setting have.
"""

import hashlib
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spark_lib import report
from spark_lib.config import ConfigError
from spark_lib.problem import KINDS
from spark_lib.view import page

APART = ("seed", "run_name", "resume", "plan", "card")  # keys that make no other setting
CHARTS = {f"{kind}/reward": f"Reward in training: {kind}" for kind in KINDS} | {
    "pointwise/said_yes": "Says Yes", "pairwise/said_a": "Says A",
}
# In the PNG; page.css has the same for the page. A setting takes the next colour and the next dashes: as 5 and 4 have
# no common divisor, 20 settings go by before a pair comes again.
COLORS = ("#2456b8", "#c26a00", "#00805f", "#9b4f96", "#63666b")
LINES = ("-", "--", ":", "-.")
HATCHES = ("", "///", "...", "xxx")  # bars have these for dashes


@dataclass
class Loaded:
    """What is compared of one run. metrics: rows of metrics.jsonl; skills: after training, {} where not measured."""

    name: str
    config: dict
    metrics: list[dict]
    summary: dict

    @property
    def key(self) -> str:
        return repr([item for item in self.config.items() if item[0] not in APART])


def load(folder: Path) -> Loaded:
    """Raises ConfigError for a folder that is no run, or whose run has done no step."""
    config = page.config_of(folder)
    metrics = page.lines_of(folder / "metrics.jsonl")
    if not metrics:
        raise ConfigError(f"{folder}: this run has done no step yet, so there is nothing to compare")
    return Loaded(folder.resolve().name, config, metrics, page.json_of(folder / "summary.json"))


def settings_of(runs: Sequence[Loaded]) -> list[list[Loaded]]:
    """The runs by setting, in the order given."""
    found: dict[str, list[Loaded]] = {}
    for run in runs:
        found.setdefault(run.key, []).append(run)
    return list(found.values())


def differing(settings: Sequence[Sequence[Loaded]]) -> dict[str, list]:
    """The keys whose values are not the same in all settings: a value for each."""
    names = dict.fromkeys(name for runs in settings for name in runs[0].config if name not in APART)
    values = {name: [runs[0].config.get(name) for runs in settings] for name in names}
    return {name: found for name, found in values.items() if any(value != found[0] for value in found)}


def seeds_of(runs: Sequence[Loaded]) -> list[int]:
    return list(dict.fromkeys(run.config["seed"] for run in runs))


def label(runs: Sequence[Loaded]) -> str:
    if len(runs) == 1:
        return runs[0].name
    count = len(seeds_of(runs))
    seeds = "one seed" if count == 1 else f"{count} seeds"
    return f"{runs[0].name} ({seeds})" if count == len(runs) else f"{runs[0].name} ({len(runs)} runs of {seeds})"


def style(place: int) -> tuple[int, int]:
    """(colour, dashes) of the setting at this place: places in COLORS and in LINES."""
    return place % len(COLORS), place % len(LINES)


def style_class(place: int) -> str:
    """The same for page.css."""
    return "k{} dash-{}".format(*style(place))


def spread(runs: Sequence[Loaded], values: Sequence[float]) -> tuple[float, float | None]:
    """(mean, standard deviation; None of a single seed) over the seeds. values: one of each run."""
    found: dict[int, list[float]] = {}
    for run, value in zip(runs, values, strict=True):
        found.setdefault(run.config["seed"], []).append(value)
    means = [statistics.fmean(of_seed) for of_seed in found.values()]
    return statistics.fmean(means), statistics.stdev(means) if len(means) > 1 else None


def measured(runs: Sequence[Loaded]) -> list[Loaded]:
    """Those that have figures after training."""
    return [run for run in runs if run.summary.get("after")]


def skill(runs: Sequence[Loaded], name: str) -> tuple[float | None, float | None]:
    """`spread` of a figure after training, over the runs that have it."""
    known = [run for run in measured(runs) if run.summary["after"][name] is not None]
    return spread(known, [run.summary["after"][name] for run in known]) if known else (None, None)


def curve(runs: Sequence[Loaded], name: str) -> dict | None:
    """{"step", "mean", "deviation" (None for a single seed)} of a metric; smoothed as in a run's report."""
    columns = [{row["step"]: row[name] for row in run.metrics if name in row} for run in runs]
    steps = sorted(set.intersection(*map(set, columns)))
    if not steps:
        return None
    smoothed = [report.smooth([column[step] for step in steps]) for column in columns]
    pairs = [spread(runs, values) for values in zip(*smoothed)]
    deviations = [deviation for _, deviation in pairs] if len(seeds_of(runs)) > 1 else None
    return {"step": steps, "mean": [mean for mean, _ in pairs], "deviation": deviations}


def figure_rows(settings: Sequence[Sequence[Loaded]]) -> list[list[str]]:
    """The final figures as cells; the first row is the head."""
    head = ["after training, %", *map(label, settings)]
    names: dict[str, list[str]] = {}
    for place, runs in enumerate(settings):
        skills = [report.skill_rows(run.summary["after"]) for run in measured(runs)]
        for cells in zip(*skills):
            known = [(run, value) for run, (_, value) in zip(measured(runs), cells) if value is not None]
            row = names.setdefault(cells[0][0].strip(), ["–"] * len(settings))
            row[place] = written(*zip(*known)) if known else "–"
    rows = [head, *([name, *cells] for name, cells in names.items())]
    rows.append(["sampled tokens", *(f"{statistics.fmean(r.metrics[-1]['sampled_tokens'] for r in runs):,.0f}"
                                     for runs in settings)])
    seconds = [[r.summary["seconds"]["total"] for r in runs if r.summary] for runs in settings]
    rows.append(["seconds", *(f"{statistics.fmean(s):,.0f}" if s else "–" for s in seconds)])
    return rows


def skill_points(settings: Sequence[Sequence[Loaded]]) -> list[dict]:
    """The final skills as the page draws them: [{"name", "values": [{"name", "kind", "value", "low", "high"}]}], where
    low and high are a deviation away and left out for a single seed."""
    points = []
    for key, name in report.SKILLS.items():
        values = []
        for place, runs in enumerate(settings):
            mean, deviation = skill(runs, key)
            ends = {} if deviation is None else {"low": max(0, mean - deviation), "high": min(1, mean + deviation)}
            values.append({"name": label(runs), "kind": style_class(place), "value": mean, **ends})
        points.append({"name": name, "values": values})
    return points


def written(runs: Sequence[Loaded], values: Sequence[float]) -> str:
    """In percent."""
    mean, deviation = spread(runs, [100 * value for value in values])
    return f"{mean:.1f}" + (f" ± {deviation:.1f}" if deviation is not None else "")


def shown(value) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def write_comparison(folders: Sequence[Path], out: Path | None = None) -> Path:
    """compare.html, compare.png and compare.md of the runs, in the folder `out`; returns the page's path. Raises
    ConfigError.

    folders: one that is given again is the same run. out: beside the first run, a folder named after the runs."""
    runs = [load(folder) for folder in {folder.resolve(): folder for folder in folders}.values()]
    if len(runs) == 1:
        raise ConfigError(f"{folders[0]}: it is the only run here, so there is nothing to compare it with")
    settings = settings_of(runs)
    out = out or folders[0].parent / folder_name([run.name for run in runs])
    out.mkdir(parents=True, exist_ok=True)
    differences = differing(settings)
    figures = figure_rows(settings)
    table = [["key", *map(label, settings)], *([name, *map(shown, values)] for name, values in differences.items())]
    draw(out / "compare.png", settings)
    title = f"# {' · '.join(map(label, settings))}"
    parts = [title, "![curves and final figures](compare.png)", markdown(figures), ABOUT]
    parts.append(markdown(table) if differences else "The settings differ in nothing but the seed.")
    (out / "compare.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    band = "; a band is ± one deviation" if any(len(seeds_of(group)) > 1 for group in settings) else ""
    data = {
        "name": "Side by side", "facts": [", ".join(map(label, settings))], "figures": figures, "differing": table,
        "skills": skill_points(settings), "about": ABOUT, "note": f"mean of 5 steps{band}",
        "charts": [{"name": name, "title": title} for name, title in CHARTS.items()],
        "settings": [
            {"label": label(group), "kind": style_class(place), "runs": [run.name for run in group],
             "curves": {name: page.thinned(found) for name in CHARTS if (found := curve(group, name))}}
            for place, group in enumerate(settings)
        ],
    }
    scripts = ("base.js", "charts.js", "frame.js", "compare.js")
    text = page.assemble(scripts, "Runs side by side", data, {}, page.html_table(figures))
    return page.write(out / "compare.html", text)


ABOUT = ("Held-out problems, sampled at the training temperature; mean ± standard deviation over the seeds of a "
         "setting. Each run's own report has the intervals.")


def folder_name(names: Sequence[str]) -> str:
    joined = "-vs-".join(names)
    return joined if len(joined) <= 80 else f"{joined[:60]}-{hashlib.sha256(joined.encode()).hexdigest()[:8]}"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def draw(path: Path, settings: Sequence[Sequence[Loaded]]) -> None:
    """The PNG: a curve of reward for each kind, and the final figures as bars."""
    pyplot = report.pyplot
    kinds = [kind for kind in KINDS if any(curve(runs, f"{kind}/reward") for runs in settings)]
    figure, axes = pyplot.subplots(2, -(-(len(kinds) + 1) // 2), figsize=(12, 7), layout="constrained", squeeze=False)
    places = iter(axes.flat)
    for kind, ax in zip(kinds, places):
        for i, runs in enumerate(settings):
            if found := curve(runs, f"{kind}/reward"):
                color, dashes = style(i)
                ax.plot(found["step"], found["mean"], LINES[dashes], color=COLORS[color], label=label(runs))
                if found["deviation"]:
                    low, high = ([m + sign * d for m, d in zip(found["mean"], found["deviation"])] for sign in (-1, 1))
                    ax.fill_between(found["step"], low, high, color=COLORS[color], alpha=0.15, linewidth=0)
        ax.set(title=kind, xlabel="step", ylabel="mean reward", ylim=(0, 1))
    bars(next(places), settings)
    for ax in places:
        ax.axis("off")
    axes.flat[0].legend(frameon=False, fontsize=8)
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def bars(ax, settings: Sequence[Sequence[Loaded]]) -> None:
    """Final skills, a bar per setting, with the deviation over its seeds."""
    width = 0.8 / len(settings)
    for i, runs in enumerate(settings):
        color, dashes = style(i)
        for j, name in enumerate(report.SKILLS):
            mean, deviation = skill(runs, name)
            if mean is not None:
                ax.bar(j - 0.4 + width * (i + 0.5), 100 * mean, 0.92 * width, color=COLORS[color],
                       yerr=None if deviation is None else 100 * deviation, hatch=HATCHES[dashes], edgecolor="white",
                       linewidth=0, error_kw={"elinewidth": 1})
    ax.set_xticks(range(len(report.SKILLS)), report.SKILLS.values(), fontsize=8)
    ax.set(title="Held-out problems after training", ylabel="% right", ylim=(0, 105))
