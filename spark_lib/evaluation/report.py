"""What evaluate.py shows: the table, report.md, the reliability diagram, and accuracy against tokens."""

from pathlib import Path

from spark_lib.evaluation import metrics
from spark_lib.evaluation.settings import Evaluation
from spark_lib.report import percent, pyplot, transcript

METHODS = {
    "tts": ("judge + reflect", "#d62728"), "best_of_n": ("best of n", "#ff7f0e"),
    "weighted_vote": ("weighted vote", "#2ca02c"), "majority_vote": ("majority vote", "#1f77b4"),
    "tournament": ("tournament", "#9467bd"),
}
COMPARED = {
    "solve": "accuracy, first answers", "mean@k": "accuracy of samples", "majority": "majority vote",
    "pointwise": "judge one: accuracy", "pairwise": "choose of two: accuracy", "tts": "after judge + reflect",
}


START_POINTS = (
    "Judge + reflect starts from the first answer, the other methods from the samples; their columns are the "
    "accuracies that they reach with the tokens of that row."
)


def sections(found: dict) -> list[list[list[str]]]:
    """Rows of cells for each part that was measured, the first row being the head of its columns. found: results.json,
    or the part of it that is about one benchmark."""

    def between(name: str) -> str:
        low, high = found["intervals"][name]
        return f"[{percent(low)}, {percent(high)}]"

    solve, made = found["solve"], []
    rows = [["solving", "%", "95 % interval"],
            ["accuracy, first answers", percent(solve["accuracy"]), between("solve")],
            ["no answer: cut off, or no box", percent(solve["no_answer"]), f"cut off {percent(solve['cut_off'])}"]]
    if "k" in solve:
        k = solve["k"]
        rows += [[f"mean@{k}: accuracy of samples", percent(solve["mean@k"]), between("mean@k")],
                 [f"pass@{k}: some sample is right", percent(solve["pass@k"]), ""],
                 [f"majority vote of {k}", percent(solve["majority"]), between("majority")]]
    made.append(rows)
    if "pointwise" in found:
        judge, choose = found["pointwise"], found["pairwise"]
        made.append([
            [f"judging {judge['n']} own answers", "%", "95 % interval"],
            ["accuracy", percent(judge["accuracy"]), between("pointwise")],
            ["balanced accuracy", percent(judge["balanced_accuracy"]), ""],
            ["says Yes", percent(judge["yes_rate"]), f"right are {percent(judge['n_right'] / judge['n'])}"],
        ])
        made.append([["verdict", "precision", "recall", "F1"]] + [
            [name, *(percent(judge[f"{score}_{name.lower()}"]) for score in ("precision", "recall", "f1"))]
            for name in ("Yes", "No")
        ])
        made.append([["probability of Yes", "ECE", "Brier", "AUROC"],
                     [f"{judge['n_with_probability']} verdicts", *map(decimal, (judge[x] for x in CALIBRATION))]])
        if choose["n"]:
            made.append([[f"choosing in {choose['n']} pairs of own answers", "%", "95 % interval"],
                         ["accuracy, both orders", percent(choose["accuracy"]), between("pairwise")],
                         ["same answer in both orders", percent(choose["consistency"]), ""],
                         ["says A", percent(choose["a_rate"]), ""]])
    if "reflection" in found:
        again = found["reflection"]
        made.append([["reflecting on the first answer", "%", "of"],
                     ["wrong answers fixed", percent(again["fix_rate"]), str(again["n_wrong"])],
                     ["right answers broken", percent(again["break_rate"]), str(again["n_right"])]])
        made.append(test_time_rows(found))
    return made


CALIBRATION = ("ece", "brier", "auroc")


def decimal(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def test_time_rows(found: dict) -> list[list[str]]:
    """Rounds of judge and reflect, and the other methods' accuracies at the same tokens per problem."""
    tts, others = found["tts"], found.get("equal_tokens", {})
    names = [name for name in METHODS if name in others]
    rows = [["rounds of judge + reflect", "tokens", "%", "fixed", "broken", *(METHODS[name][0] for name in names)]]
    for k, (tokens, right) in enumerate(zip(tts["tokens"], tts["accuracy"])):
        row = [str(k), f"{tokens:.0f}", percent(right), str(tts["fixed"][k]), str(tts["broken"][k])]
        rows.append(row + [percent(others[name][k]) for name in names])
    return rows


def table(rows: list[list[str]]) -> str:
    """Rows of cells as aligned text."""
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def markdown(rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def difference_rows(differences: dict[str, dict], model: str, baseline: str) -> list[list[str]]:
    """differences: see evaluate.compare."""
    rows = [["%", model, baseline, "difference", "95 % interval"]]
    for name, d in differences.items():
        span = f"[{100 * d['low']:+.1f}, {100 * d['high']:+.1f}]"
        row = [COMPARED[name], percent(d["value"]), percent(d["baseline"]), f"{100 * d['difference']:+.1f}", span]
        rows.append(row)
    return rows


def reliability_diagram(path: Path, judge: dict) -> None:
    """How often an answer is right, against the judge's P(Yes); below, how many judgements are in each bin."""
    bins, width = judge["bins"], 1 / metrics.BINS
    figure, (top, below) = pyplot.subplots(
        2, 1, figsize=(5, 6), height_ratios=(3, 1), sharex=True, layout="constrained"
    )
    places = [(b["low"] + b["high"]) / 2 for b in bins]
    top.bar(places, [b["frequency"] for b in bins], 0.9 * width, color="#4c72b0", label="right answers")
    top.plot([b["probability"] for b in bins], [b["frequency"] for b in bins], "o", color="black", ms=4,
             label="mean P(Yes) of the bin")
    top.plot([0, 1], [0, 1], "--", color="grey", linewidth=1, label="perfectly calibrated")
    title = ", ".join(f"{name} {decimal(judge[key])}" for name, key in zip(("ECE", "Brier", "AUROC"), CALIBRATION))
    top.set(title=title, ylabel="share of right answers", xlim=(0, 1), ylim=(0, 1.02))
    top.legend(loc="upper left", frameon=False, fontsize=8)
    below.bar(places, [b["count"] for b in bins], 0.9 * width, color="#bbbbbb")
    below.set(xlabel="P(Yes) / (P(Yes) + P(No))", ylabel="judgements")
    save(figure, path, (top, below))


def scaling_figure(path: Path, found: dict) -> None:
    """Accuracy against tokens per problem for each method."""
    figure, axes = pyplot.subplots(figsize=(6.5, 4.5), layout="constrained")
    for name, (label, color) in METHODS.items():
        if name in found:
            tokens, right = found[name]["tokens"], [100 * x for x in found[name]["accuracy"]]
            axes.plot(tokens, right, "o-", ms=4, color=color, label=label)
            first, last = ("first answer", len(right) - 1) if name == "tts" else ("1 sample", len(right))
            above = name in ("tts", "best_of_n")
            if last:
                place = (5, 3 if above else -11)
                axes.annotate(str(last), (tokens[-1], right[-1]), place, textcoords="offset points", color=color)
            if name in ("tts", "majority_vote"):  # the others begin as majority vote does
                place = (0, 6 if above else -14)
                axes.annotate(first, (tokens[0], right[0]), place, textcoords="offset points", color=color)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set(title="What test-time tokens buy", ylabel="% right",
             xlabel="sampled tokens per problem (at a line's end: its rounds, or samples)")
    axes.margins(x=0.08, y=0.1)
    axes.legend(frameon=False, fontsize=8)
    save(figure, path, (axes,))


def save(figure, path: Path, all_axes) -> None:
    for axes in all_axes:
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def write_figures(folder: Path, name: str, found: dict) -> list[str]:
    """The figures of one set of problems; returns their Markdown."""
    made = []
    if found.get("pointwise", {}).get("bins"):
        reliability_diagram(folder / f"{name}-calibration.png", found["pointwise"])
        made.append(f"![how often the judge is right, against its P(Yes)]({name}-calibration.png)")
    if "tts" in found:
        scaling_figure(folder / f"{name}-tokens.png", found)
        made.append(f"![accuracy against sampled tokens]({name}-tokens.png)")
    return made


def score_rows(score: dict) -> list[list[str]]:
    """The official figures of a benchmark, as spark_lib.benchmarks.score gives them."""
    subsets = {f"  {name}": value for name, value in score.get("subsets", {}).items()}
    values = {name: value for name, value in score.items() if name != "subsets"} | subsets
    return [["by the benchmark's own rule", "value"]] + [
        [name, percent(value) if isinstance(value, float) else str(value)] for name, value in values.items()
    ]


def overview_rows(found: dict[str, dict], average: float) -> list[list[str]]:
    """All benchmarks at a glance, as the paper's tables have them; found: results["benchmarks"]."""
    rows = [[name, str(one["score"]["n"]), percent(one["score"]["accuracy"])] for name, one in found.items()]
    return [["benchmark", "problems", "%"], *rows, ["average", "", percent(average)]]


def write_report(folder: Path, settings: Evaluation, done, differences: dict[str, dict]) -> str:
    """report.md and its figures; returns the tables as text. done: evaluate.Evaluated; differences: by problems."""
    page, text = [f"# Evaluation {folder.name} of {settings.model}", "docs/metrics.md defines every figure."], []
    if "average" in done.results:
        overview = overview_rows(done.results["benchmarks"], done.results["average"])
        page, text = [*page, markdown(overview)], [table(overview)]
    for name in done.tallies:
        found = done.results.get("benchmarks", {}).get(name, done.results)
        blocks = [score_rows(found["score"])] if "score" in found else []
        blocks += sections(found)
        if differences.get(name):
            blocks.append(difference_rows(differences[name], settings.model, settings.baseline))
        title = (f"{name}: {found['n']} problems, seeds {', '.join(map(str, settings.seeds))}, "
                 + ("greedy but for the samples" if settings.greedy else "all sampled"))
        notes = done.results["notes"].get(name, [])
        page += [f"## {title}", *notes, *map(markdown, blocks)]
        page += [START_POINTS] * ("equal_tokens" in found)
        page += write_figures(folder, name, found)
        page += ["\n".join(transcript(story, folder)) for story in done.stories[name]]
        text += [title, *notes, *map(table, blocks)]
    (folder / "report.md").write_text("\n\n".join(page) + "\n", encoding="utf-8")
    return "\n\n".join(text)
