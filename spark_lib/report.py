"""What the user sees: the progress line, warnings, the final table, report.md and report.png."""

import base64
import dataclasses
import hashlib
import textwrap
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no display is needed, nor touched
from matplotlib import pyplot

from spark_lib.config import Config, visible
from spark_lib.problem import KINDS
from spark_lib.prompts import MARK, without

COLORS = {"solve": "#1f77b4", "pointwise": "#ff7f0e", "pairwise": "#2ca02c", "reflect": "#d62728"}
PHASES = ("sample", "verify", "train", "evaluate")
WRAP = textwrap.TextWrapper(160, drop_whitespace=False, replace_whitespace=False).wrap
SKILLS = {"solve": "solve", "pointwise": "judge one", "pairwise": "choose of two", "reflection": "reflect"}


def progress(metrics: dict, seconds: dict, wide: bool = True) -> str:
    """One line: reward by kind (with the shares of flat groups and of cut-off responses), speed, seconds."""
    parts = []
    for kind in KINDS:
        if f"{kind}/reward" in metrics:
            flat, cut = metrics[f"{kind}/frac_reward_zero_std"], metrics[f"{kind}/truncated"]
            details = f" (flat {flat:.0%}, cut {cut:.0%})" if wide else ""
            parts.append(f"{kind} {metrics[f'{kind}/reward']:.2f}{details}")
    times = " ".join(f"{phase} {seconds[phase]:.1f}s" for phase in ("sample", "verify", "train"))
    return " ".join(parts) + f" | {seconds['tokens_per_second']:,.0f} tok/s" + (f" | {times}" if wide else "")


def legend(steps: int) -> str:
    """What the lines of training mean; said before the first."""
    return "\n".join([
        f"training, {steps} steps, a line for every tenth: mean reward of the responses by kind, and in brackets the",
        "shares of flat groups (all right or all wrong, nothing to learn from) and of responses that were cut off.",
        'A loss near 0 in the metrics is normal: docs/metrics.md, "Reading the log".',
    ])


def brief(skills: dict) -> str:
    """The skills in one line, in percent."""
    return ", ".join(f"{label} {percent(skills[skill])}" for skill, label in SKILLS.items())


def warnings(metrics: dict, config: Config) -> list[str]:
    """What a newcomer would otherwise puzzle over, in a line each with the section that says what to change."""
    found, page = [], "docs/nothing-is-learned.md"
    if metrics["solve/truncated"] > 0.5:
        found.append(
            f"more than half of the responses were cut off at max_new_tokens={config.max_new_tokens}, which earns no "
            f'reward; raise it ({page}, "Cut off")'
        )
    if metrics["update/rows"] == 0:
        what, section = {0: ("wrong", "Too hard"), 1: ("right", "Too easy")}.get(
            metrics["solve/reward"], ("right or all wrong", "Flat groups"))
        found.append(f"every group of a step was all {what}, so there was nothing to learn in it "
                     f'({page}, "{section}")')
    judged = any(f"{kind}/reward" in metrics for kind in KINDS[1:])
    always = {"pointwise", "reflect"} & set(config.recycle.kinds)  # a pair needs a right and a wrong candidate
    if always and config.judge_loss == "grpo" and not judged:
        found.append("a step had no candidates to recycle: no response was finished and had a \\boxed{} answer "
                     f'({page}, "No box")')
    return found


def flat(config: Config) -> dict:
    """The config as one level of plain values, as trackers want it."""
    pairs = dataclasses.asdict(config).items()
    nested = {f"{k}.{inner}": v for k, section in pairs if isinstance(section, dict) for inner, v in section.items()}
    plain = {k: v for k, v in pairs if not isinstance(v, dict)} | nested
    return {k: v if isinstance(v, int | float | str | bool) else str(v) for k, v in plain.items()}


def percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def skill_rows(skills: dict) -> list[tuple[str, float | None]]:
    """(what, value) of every skill, of the judge's bias, and of the test-time rounds."""
    rows = [(label, skills[skill]) for skill, label in SKILLS.items()]
    rows += [("  says Yes", skills["yes_rate"]), ("  says A", skills["a_rate"])]
    rounds = enumerate(skills["tts"])
    return rows + [(f"solve, {k} round{'s' * (k > 1)} of judge + reflect", value) for k, value in rounds if k]


def table(columns: dict[str, dict]) -> str:
    """Skills as text, in percent, a column per entry of `columns` ({"before": skills, …})."""
    n = next(iter(columns.values()))["n"]
    lines = [f"{f'held out, n = {n}, T = 1':36}" + "".join(f"{name:>9}" for name in columns)]
    for row in zip(*(skill_rows(skills) for skills in columns.values())):
        lines.append(f"{row[0][0]:36}" + "".join(f"{percent(value):>9}" for _, value in row))
    return "\n".join(lines)


def spent(summary: dict) -> str:
    """One line: steps, tokens and seconds of a run."""
    seconds = summary["seconds"]
    phases = ["warm-up"] * ("warm-up" in seconds) + [*PHASES]
    parts = ", ".join(f"{phase} {seconds.get(phase, 0):.0f}" for phase in phases)
    return f"{summary['steps']} steps, {summary['sampled_tokens']:,} sampled tokens, {seconds['total']:.0f} s ({parts})"


def smooth(values: list[float], window: int = 5) -> list[float]:
    """Running mean over the last `window` values."""
    return [sum(values[max(0, i - window + 1) : i + 1]) / min(i + 1, window) for i in range(len(values))]


def figure(path: Path, summary: dict, metrics: list[dict]) -> None:
    """report.png: reward by kind over the steps, skills before and after, tokens by kind, seconds by phase."""
    figure, ((curves, bars), (tokens, seconds)) = pyplot.subplots(2, 2, figsize=(11, 7), layout="constrained")
    totals = {}
    for kind in KINDS:
        present = [row for row in metrics if f"{kind}/reward" in row]
        points = [(row["step"] + 1, row[f"{kind}/reward"], row[f"{kind}/tokens"]) for row in present]
        if points:
            steps, rewards, counts = zip(*points)
            curves.plot(steps, rewards, color=COLORS[kind], alpha=0.2, linewidth=1)
            curves.plot(steps, smooth(rewards), color=COLORS[kind], label=kind, linewidth=2)
            totals[kind] = sum(counts)
    curves.set(title="Reward in training (mean of 5 steps)", xlabel="step", ylabel="mean reward", ylim=(0, 1))
    curves.legend(loc="lower right", frameon=False)
    if summary["before"]:
        pairs = zip(skill_rows(summary["before"]), skill_rows(summary["after"]))
        shown = [(label, x, y) for (label, x), (_, y) in pairs if None not in (x, y) and "says" not in label]
        labels, before, after = zip(*shown)
        labels = [label.replace("solve, ", "").replace(" of judge + reflect", "\nof reflecting") for label in labels]
        for offset, values, name, color in ((-0.2, before, "before", "#bbbbbb"), (0.2, after, "after", "#4c72b0")):
            places = [i + offset for i in range(len(labels))]
            drawn = bars.bar(places, [100 * v for v in values], 0.4, label=name, color=color)
            bars.bar_label(drawn, fmt="%.0f", fontsize=8)
        bars.set_xticks(range(len(labels)), labels, fontsize=8)
        title = f"Held-out problems (n = {summary['after']['n']}, T = 1)"
        bars.set(title=title, ylabel="% right", ylim=(0, 125), yticks=range(0, 101, 20))
        bars.legend(loc="upper left", ncols=2, frameon=False)
    drawn = tokens.barh(list(totals), list(totals.values()), color=[COLORS[kind] for kind in totals])
    tokens.bar_label(drawn, fmt="{:,.0f}", padding=3, fontsize=8)
    tokens.margins(x=0.2)
    tokens.invert_yaxis()
    tokens.set(title=f"Sampled tokens by kind ({summary['sampled_tokens']:,} in all)", xlabel="tokens")
    drawn = seconds.barh(PHASES, [summary["seconds"].get(phase, 0) for phase in PHASES], color="#8172b3")
    seconds.bar_label(drawn, fmt="%.0f s", padding=3, fontsize=8)
    seconds.margins(x=0.2)
    seconds.invert_yaxis()
    seconds.set(title=f"Seconds by phase ({summary['seconds']['total']:.0f} s in all)", xlabel="seconds")
    for axes in (curves, bars, tokens, seconds):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def write_report(folder: Path, config: Config, summary: dict, metrics: list[dict], examples: dict[str, list]) -> None:
    """report.md and report.png. examples: {"before" / "after": stories of evaluation.measure}."""
    figure(folder / "report.png", summary, metrics)
    parts = [f"# Run {folder.name}", "![learning curves, skills, tokens and seconds](report.png)"]
    if summary["before"]:
        pairs = zip(skill_rows(summary["before"]), skill_rows(summary["after"]))
        body = [f"| {what.strip()} | {percent(x)} | {percent(y)} |" for (what, x), (_, y) in pairs]
        parts.append("\n".join(["| held out, % | before | after |", "|---|---|---|", *body]))
    warmup = config.warmup
    warm = f" Before: after a warm-up of {warmup.steps} steps on {warmup.data}." if warmup.data else ""
    parts.append(f"{spent(summary)}. Seed {config.seed}, model {config.model}, data {config.data}.{warm}")
    for when, stories in examples.items():
        parts.append(f"## What the model says {when} training")
        parts += ["\n".join(transcript(story, folder)) for story in stories]
    (folder / "report.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def transcript(story: dict, folder: Path | None = None) -> list[str]:
    """One held-out problem as Markdown: what was asked, every turn of the model, and whether it was right. With a
    folder for the report, its pictures are written to <folder>/pictures and shown."""
    names = {"solve": "answer", "pointwise": "own verdict", "reflect": "reflection"}
    lines = [f"**{without(story['question'], [MARK])}** (reference: {story['answer']})", ""]
    for picture in story["pictures"] if folder else ():
        content = base64.b64decode(picture)
        file = folder / "pictures" / f"{hashlib.sha256(content).hexdigest()[:12]}.png"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
        lines += [f"![the picture](pictures/{file.name})", ""]
    for turn in story["turns"]:
        # Model output is untrusted text: in a code block of its own it cannot become part of the page.
        text = (f"      {part}" for line in visible(turn["text"]).splitlines() for part in WRAP(line) or [""])
        lines += [f"- {names[turn['kind']]}, {'right' if turn['right'] else 'wrong'}:", "", *text, ""]
    return lines
