"""Running a study: what is missing, `jobs` runs at a time; what is there is not done again, what was killed goes on."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

from tqdm.auto import tqdm

from spark_lib.clock import TRAINING
from spark_lib.config import load_config
from spark_lib.study.plan import ROOT, Planned, Study, evaluation_name


def missing(study: Study, run: Planned) -> list[list[str]]:
    """The commands that are still to do for one run, in their order: training, then its evaluations."""
    commands = []
    if not (run.folder / "summary.json").exists():
        if run.script == "train.py" and (run.folder / "config.yaml").exists():
            words = [f"resume={run.folder}"]
        else:  # killed before it had written a thing, or by a script of its own, which may know no way to go on
            shutil.rmtree(run.folder, ignore_errors=True)
            words = [study.config, *run.words]
        commands.append([run.script, *words, *equal_to(run)])
    for name, words in study.evaluate.items():
        own = evaluation_name(study, name)
        if not (run.folder / f"eval-{own}" / "results.json").exists():
            commands.append(["evaluate.py", str(run.folder), *words.split(), f"name={own}"])
    return commands


def equal_to(run: Planned) -> list[str]:
    """The words that end a run where the one before it did; they come last, as that is known once it has ended."""
    if not run.after:
        return []
    summary = json.loads((run.after / "summary.json").read_text(encoding="utf-8"))
    if run.equal == "tokens":
        return ["max_steps=100000", f"max_sampled_tokens={summary['sampled_tokens']}"]
    seconds = sum(summary["seconds"].get(phase, 0.0) for phase in TRAINING)
    return ["max_steps=100000", "max_sampled_tokens=null", f"max_seconds={seconds:.3f}"]


@cache
def limits(folder: Path) -> tuple[int, float]:
    """(steps, sampled tokens) at which a run ends; kept, as they are asked for twice a second."""
    config = load_config([str(folder / "config.yaml")])
    return config.max_steps, config.max_sampled_tokens or float("inf")


def part_done(run: Planned) -> float:
    """How much of a run's training is done, from 0 to 1, as its metrics say."""
    if (run.folder / "summary.json").exists():
        return 1.0
    try:
        last = (run.folder / "metrics.jsonl").read_text(encoding="utf-8").rstrip("\n").rsplit("\n", 1)[-1]
        row = json.loads(last)
    except (OSError, json.JSONDecodeError):  # not begun, or read in the middle of a line
        return 0.0
    steps, tokens = limits(run.folder)
    return min(0.99, max((row["step"] + 1) / steps, row["sampled_tokens"] / tokens))


def carry_out(study: Study, runs: list[Planned], pause: float = 0.5) -> dict[Planned, str]:
    """Do what is missing of all runs. Returns those that failed, with the last line that each one said: a run that
    fails does not stop the others. What a run says is kept in <folder>.log beside its folder."""
    waiting, failed = list(runs), {}
    busy: dict[Planned, tuple[subprocess.Popen, list[list[str]]]] = {}
    threads = max(1, (os.cpu_count() or 1) // study.jobs)
    environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}

    def start(run: Planned, commands: list[list[str]]) -> None:
        run.folder.parent.mkdir(parents=True, exist_ok=True)
        with open(f"{run.folder}.log", "a", encoding="utf-8") as log:
            process = subprocess.Popen([sys.executable, str(ROOT / commands[0][0]), *commands[0][1:]], stdout=log,
                                       stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment,
                                       start_new_session=True)  # Ctrl-C reaches it through us alone, and once
        busy[run] = (process, commands[1:])

    shape = "{desc} |{bar}| {n:.2f}/{total} runs [{elapsed}<{remaining}]{postfix}"
    with tqdm(total=len(runs), desc=study.name, bar_format=shape, disable=not sys.stderr.isatty()) as bar:
        try:
            while waiting or busy:
                for run, (process, rest) in list(busy.items()):
                    if process.poll() is None:
                        continue
                    del busy[run]
                    if process.returncode != 0 or not (run.folder / "summary.json").exists():
                        failed[run] = last_line(Path(f"{run.folder}.log"))
                        tqdm.write(f"failed: {run.setting}, seed {run.seed}: {failed[run]}")
                    elif rest:
                        start(run, rest)
                for run in [run for run in waiting if run.after and any(run.after == f.folder for f in failed)]:
                    waiting.remove(run)
                    failed[run] = f"needs {run.after}, which failed"
                ready = [run for run in waiting if not run.after or (run.after / "summary.json").exists()]
                for run in ready[: study.jobs - len(busy)]:
                    waiting.remove(run)
                    if commands := missing(study, run):
                        start(run, commands)
                bar.n = sum(part_done(run) for run in runs)
                bar.set_postfix_str(", ".join(f"{run.setting} {run.seed}" for run in busy)[:60])
                bar.refresh()
                if busy:
                    time.sleep(pause)
        finally:  # a signal: the runs write their checkpoints and end, so that none goes on behind its study's back
            for process, _ in busy.values():
                process.send_signal(signal.SIGTERM)
            for process, _ in busy.values():
                process.wait()
    return failed


def last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").strip().splitlines()
    return lines[-1].strip() if lines else "it said nothing"
