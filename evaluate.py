"""Evaluate a run or a model on held-out problems.    python evaluate.py [run folder or model] [key=value ...]

Without an argument, the run that was trained last. Keys are those of train.py. Unlike the before and after of a
run's report, the judge problems here are about the answers of the evaluated model itself. Prints a table and
writes <run>/eval/results.json (runs/eval-<model>/results.json for a model).
"""

import json
import sys
from pathlib import Path

from accelerate import Accelerator

from spark_lib import evaluation, report
from spark_lib.checkpoints import load_trained
from spark_lib.config import ConfigError, help_text, load_config
from spark_lib.problems import load_problems
from spark_lib.rewards import load_rule
from spark_lib.run import Clock, write
from spark_lib.sampler import Sampler


def latest_run() -> str:
    """The run whose last checkpoint is the newest. Raises ConfigError if there is none."""
    checkpoints = sorted(Path("runs").glob("*/checkpoint-*/state.json"), key=lambda path: path.stat().st_mtime)
    if not checkpoints:
        raise ConfigError("there is no run to evaluate yet; train one, or name a model: python evaluate.py starter")
    return str(checkpoints[-1].parents[1])


def main(argv: list[str]) -> None:
    if {"-h", "--help"} & set(argv):
        return print(__doc__ + help_text())
    named = [word for word in argv if "=" not in word]
    if len(named) > 1:
        raise ConfigError(f"expected one run or model, then key=value pairs, but got {' and '.join(named)}")
    target = named[0] if named else latest_run()
    is_run = (Path(target) / "config.yaml").is_file()
    start = [str(Path(target) / "config.yaml")] if is_run else [f"model={target}"]
    config = load_config(start + [word for word in argv if "=" in word])
    folder = Path(target) / "eval" if is_run else Path("runs") / f"eval-{Path(target).name}"

    accelerator, clock = Accelerator(), Clock()
    model, tokenizer = load_trained(target, accelerator.device, config.quantization)
    rule = load_rule(config.verifier) if config.verifier else None
    roll = Sampler(model, tokenizer, config, accelerator, rule, clock).evaluating()
    problems = load_problems(config.data, "test", limit=config.eval.limit)
    measured = evaluation.measure(problems, evaluation.judge_set(problems, roll, config), roll, config)
    results = measured | {"target": target, "seed": config.seed, "seconds": clock.seconds["evaluate"]}
    if accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / "results.json", json.dumps(results, indent=1))
        print(report.table({"": results["skills"]}))
        print(f"results: {folder / 'results.json'}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ConfigError as error:
        sys.exit(f"error: {error}")
