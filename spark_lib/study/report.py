"""What a study shows: report.md with its table, its paired differences, and one figure."""

from collections import defaultdict
from pathlib import Path
from textwrap import fill

from spark_lib.report import pyplot
from spark_lib.study.plan import Planned, Study, planned
from spark_lib.study.results import (
    Difference,
    Outcome,
    difference,
    figure_at,
    is_share,
    mean_and_deviation,
    outcomes,
)


def shown(value: float, place: str) -> str:
    """A figure as it stands in the table: shares in percent with one decimal, memory in MiB, all else in whole
    numbers."""
    if place.startswith("memory."):
        value /= 2**20
    return f"{100 * value:.1f}" if is_share(place) else f"{value:,.0f}"


def cell(values: list[float | None], place: str) -> str:
    """Mean ± sample standard deviation over the seeds; a dash where a run has no such figure."""
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    mean, deviation = mean_and_deviation(known)
    return shown(mean, place) + (f" ± {shown(deviation, place)}" if deviation is not None else "")


def table(study: Study, by_setting: dict[str, list[Outcome]]) -> list[str]:
    """A row per setting, a column per figure."""
    lines = ["| | " + " | ".join(study.columns) + " | seeds |", "|---|" + "---|" * (len(study.columns) + 1)]
    for name, runs in by_setting.items():
        cells = [cell([figure_at(run.results, place) for run in runs], place) for place in study.columns.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {len(runs)} |")
    return lines


def held_out(by_setting: dict[str, list[Outcome]]) -> str:
    """How many problems the figures are of: "500", or "500, of evaluate.py 300" where it had others."""
    results = [run.results for runs in by_setting.values() for run in runs]
    n = (results[0]["after"] or {}).get("n")
    others = {one["n"] for result in results for one in result["evaluations"].values()} - {n}
    return f"{n}" + (f", of evaluate.py {', '.join(map(str, sorted(others)))}" if others else "")


def differences(study: Study, by_setting: dict[str, list[Outcome]]) -> list[Difference]:
    found = [difference(column, place, by_setting.get(first, []), by_setting.get(second, []))
             for first, second in study.compare for column, place in study.columns.items()]
    return [one for one in found if one]


def difference_table(study: Study, found: list[Difference]) -> list[str]:
    lines = ["| difference | of | mean | 95 % interval | by seed | drawn anew |", "|---|---|---|---|---|---|"]
    for one in found:
        place = study.columns[one.column]
        values = [one.mean, *one.by_seed.values()]
        mean, *by_seed = [("+" if value >= 0 else "−") + shown(abs(value), place) for value in values]
        low, high = ("–" if end is None else ("−" if end < 0 else "+") + shown(abs(end), place)
                     for end in (one.low, one.high))
        lines.append(f"| {one.first} against {one.second} | {one.column} | {mean} | {low} to {high} | "
                     f"{', '.join(by_seed)} | {one.over} |")
    return lines


def figure(path: Path, study: Study, by_setting: dict[str, list[Outcome]]) -> None:
    """The columns that are shares: as bars by setting, or over the values of study.curve's key; below them, where the
    study has any, those that are seconds. A dot is a seed."""
    shares = {name: place for name, place in study.columns.items() if is_share(place)}
    seconds = {name: place for name, place in study.columns.items() if place.startswith("seconds.")}
    drawn, panels = pyplot.subplots(1 + bool(seconds), figsize=(11, 4.5 + 3 * bool(seconds)), layout="constrained",
                                    squeeze=False)
    first = panels[0, 0]
    if study.curve:
        lines(first, study, shares, by_setting)
    else:
        bars(first, shares, by_setting, 100)
    first.set(ylabel="%", title=study.question)
    first.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    if seconds:
        bars(panels[1, 0], seconds, by_setting, 1)
        panels[1, 0].set(ylabel="seconds")
    for axes in panels[:, 0]:
        axes.spines[["top", "right"]].set_visible(False)
    drawn.savefig(path, dpi=110)
    pyplot.close(drawn)


def lines(axes, study: Study, columns: dict[str, str], by_setting: dict[str, list[Outcome]]) -> None:
    """Each column over the values of study.curve's key."""
    points = {name: runs for name, runs in by_setting.items() if study.curve in (study.settings.get(name) or {})}
    x = {name: float(study.settings[name][study.curve]) for name in points}
    for i, (column, place) in enumerate(columns.items()):
        values = sorted((x[name], figure_at(run.results, place)) for name in points for run in points[name]
                        if figure_at(run.results, place) is not None)
        means = defaultdict(list)
        for at, value in values:
            means[at].append(100 * value)
        axes.plot(list(means), [sum(v) / len(v) for v in means.values()], color=f"C{i}", label=column, linewidth=2)
        axes.scatter([at for at, _ in values], [100 * v for _, v in values], color=f"C{i}", s=12, alpha=0.6)
    axes.set(xlabel=study.curve)


def bars(axes, columns: dict[str, str], by_setting: dict[str, list[Outcome]], scale: float) -> None:
    """A group of bars for each column, one for each setting."""
    width = 0.8 / max(1, len(by_setting))
    for i, (name, runs) in enumerate(by_setting.items()):
        for j, place in enumerate(columns.values()):
            values = [scale * v for run in runs if (v := figure_at(run.results, place)) is not None]
            if values:
                at = j - 0.4 + (i + 0.5) * width
                axes.bar(at, sum(values) / len(values), width, color=f"C{i}", label=None if j else name)
                axes.scatter([at] * len(values), values, color="black", s=8, zorder=3)
    room = max(10, 100 // max(1, len(columns)))  # characters below each group
    axes.set_xticks(range(len(columns)), [fill(name, room, break_long_words=False) for name in columns],
                    fontsize=9 if len(columns) < 10 else 7)


def write_report(study: Study, command: str, failed: dict[Planned, str], extra: list[str]) -> Path:
    """runs/study-<name>/report.md and report.png; returns the folder."""
    found = outcomes(study, planned(study, extra))
    by_setting: dict[str, list[Outcome]] = {"before": [], **{name: [] for name in study.settings}}
    for one in found:
        by_setting[one.setting].append(one)
    by_setting = {name: runs for name, runs in by_setting.items()  # "before" has no evaluations
                  if any(figure_at(run.results, place) is not None for run in runs for place in study.columns.values())}
    folder = Path("runs") / f"study-{study.name}"
    folder.mkdir(parents=True, exist_ok=True)
    parts = [f"# {study.question or study.name}"]
    if study.expects:
        parts.append(f"**What was expected.** {study.expects.strip()}")
    parts.append(f"    {command}")
    if by_setting:
        figure(folder / "report.png", study, by_setting)
        parts.append(f"Held-out problems: {held_out(by_setting)}. Shares in percent, mean ± sample standard deviation "
                     f"over the seeds {', '.join(map(str, study.seeds))}.")
        parts.append("\n".join(table(study, by_setting)))
        if compared := differences(study, by_setting):
            parts.append("Paired differences: the same seeds, and where it says so the same problems.")
            parts.append("\n".join(difference_table(study, compared)))
        parts.append("![the table as a figure](report.png)")
    folders = {name: [run.folder.name for run in planned(study, extra) if run.setting == name]
               for name in study.settings}
    parts.append("Runs, in runs/studies/:\n\n" + "\n".join(f"- {name}: {', '.join(map('`{}`'.format, own))}"
                                                           for name, own in folders.items()))
    if study.notes:
        parts.append(study.notes.strip())
    if failed:
        parts.append("**Failed runs**\n\n" + "\n".join(f"- {run.setting}, seed {run.seed}: {why}"
                                                       for run, why in failed.items()))
    (folder / "report.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return folder
