"""Run the quickstart's comparison and print its table.    python docs/results/quickstart.py [seed ...]

Every setting sees the same problems and stops at the same number of sampled tokens. Runs that are there already are
not done again, so that a stopped comparison goes on. Prints Markdown: mean ± sample standard deviation over the seeds.
"""

import json
import re
import statistics
import subprocess
import sys
from pathlib import Path

TOKENS = 400_000
SETTINGS = {
    "SPARK": [],
    "SPARK, judge_loss=sft": ["judge_loss=sft"],
    "SPARK, judge_loss=sft, solve too": ["judge_loss=sft", "recycle.kinds=[solve,pointwise,pairwise,reflect]"],
    "policy-only": ["recycle.kinds=[]"],
    "policy-only + imitation": ["recycle.kinds=[solve]", "judge_loss=sft"],
}
COLUMNS = ("solve", "pointwise", "pairwise", "reflection", "1 round", "2 rounds")


def run(name: str, words: list[str], seed: int) -> dict:
    """The summary of a run, which is done first if it is not there."""
    folder = Path("runs") / f"{name}-{seed}"
    if not (folder / "summary.json").exists():
        fresh = [f"run_name={folder.name}", f"seed={seed}", *words]
        start = [f"resume={folder}"] if (folder / "config.yaml").exists() else fresh
        limits = ["max_steps=1000", f"max_sampled_tokens={TOKENS}"]
        subprocess.run([sys.executable, "train.py", *start, *limits], check=True)
    return json.loads((folder / "summary.json").read_text())


def figures(skills: dict) -> list[float]:
    return [*(100 * skills[name] for name in COLUMNS[:4]), *(100 * value for value in skills["tts"][1:])]


def row(label: str, runs: list[list[float]]) -> str:
    """Mean ± sample standard deviation over the seeds, a column per skill."""
    spread = [statistics.stdev(column) if len(column) > 1 else 0.0 for column in zip(*runs)]
    cells = [f"{statistics.mean(column):.1f} ± {s:.1f}" for column, s in zip(zip(*runs), spread)]
    return f"| {label} | " + " | ".join(cells) + " |"


def main() -> None:
    seeds = [int(word) for word in sys.argv[1:]] or [0, 1, 2]
    print("| held out, n = 500, T = 1 | " + " | ".join(COLUMNS) + " |\n|" + "---|" * (len(COLUMNS) + 1))
    for label, words in SETTINGS.items():
        name = "compare-" + "-".join(re.findall(r"\w+", label))
        summaries = [run(name, words, seed) for seed in seeds]
        if label == "SPARK":
            print(row("before", [figures(summary["before"]) for summary in summaries]))
        print(row(label, [figures(summary["after"]) for summary in summaries]), flush=True)


if __name__ == "__main__":
    main()
