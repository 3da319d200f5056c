"""Run quickstart_vl over seeds and print its table.    python docs/results/quickstart_vl.py [seed ...]

Each trained model is asked everything a second time with the pictures exchanged: a model that looks at them must then
be as wrong as one that guesses. Policy-only training stops at as many sampled tokens as SPARK's run of the same seed.
Runs that are there already are not done again. Prints Markdown, percent, mean ± sample standard deviation over the
seeds.
"""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from accelerate import Accelerator
from quickstart import COLUMNS, figures, row

sys.path.insert(0, str(Path(__file__).parents[2]))

from spark_lib.config import load_config
from spark_lib.data.load import load_problems
from spark_lib.evaluation.skills import measure
from spark_lib.model.checkpoints import load_trained
from spark_lib.run import Clock
from spark_lib.sampling.roll import Sampler


def run(name: str, seed: int, *words: str) -> Path:
    """The folder of a run, which is done first if it is not there."""
    folder = Path("runs") / f"{name}-{seed}"
    if not (folder / "summary.json").exists():
        fresh = ["configs/quickstart_vl.yaml", f"run_name={folder.name}", f"seed={seed}", *words]
        start = [f"resume={folder}"] if (folder / "config.yaml").exists() else fresh
        subprocess.run([sys.executable, "train.py", *start], check=True)
    return folder


def policy_only(seed: int, spark: Path) -> Path:
    tokens = summary(spark)["sampled_tokens"]
    limits = ("max_steps=1000", f"max_sampled_tokens={tokens}")
    return run("quickstart_vl-policy-only", seed, "recycle.kinds=[]", *limits)


def summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def with_wrong_pictures(folder: Path) -> dict:
    """The skills of the trained model when every problem, and every judgement of it, shows the next one's picture."""
    config = load_config([str(folder / "config.yaml")])
    accelerator = Accelerator()
    model, processor = load_trained(folder, accelerator.device, max_pixels=config.max_pixels)
    problems = load_problems(config.data, config.eval.split, limit=config.eval.limit)
    moved = problems[1:] + problems[:1]
    blind = [replace(problem, image=other.image) for problem, other in zip(problems, moved)]
    judged = json.loads((folder / "judge_set.json").read_text())
    roll = Sampler(model, processor, config, accelerator, None, Clock()).evaluating()
    return measure(blind, judged, roll, config)["skills"]


def main() -> None:
    seeds = [int(word) for word in sys.argv[1:]] or [0, 1, 2]
    folders = [run("quickstart_vl", seed) for seed in seeds]
    before, after = ([figures(summary(folder)[when]) for folder in folders] for when in ("before", "after"))
    print(f"| held out, n = {summary(folders[0])['after']['n']}, T = 1 | " + " | ".join(COLUMNS) + " |")
    print("|" + "---|" * (len(COLUMNS) + 1))
    print(row("before", before))
    print(row("SPARK", after), flush=True)
    print(row("SPARK, with wrong pictures", [figures(with_wrong_pictures(folder)) for folder in folders]), flush=True)
    policies = [policy_only(seed, folder) for seed, folder in zip(seeds, folders)]
    print(row("policy-only", [figures(summary(folder)["after"]) for folder in policies]))
    print("\nseconds of SPARK: " + ", ".join(f"{summary(folder)['seconds']['total']:.0f}" for folder in folders))


if __name__ == "__main__":
    main()
