"""Running a study: what is missing, `jobs` runs at a time; what is there is not done again, what was killed goes on.

Whoever runs a study may be killed while its runs live on, and two studies may share a run. A run's log is therefore
locked from before its process starts until it has ended: the process inherits the lock with its output, so that it
holds also where the study is gone. The lock in the run's folder (resuming.claim) would come too late, once the model is
loaded, and an evaluation has none.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import TextIO

from tqdm.auto import tqdm

from spark_lib.clock import TRAINING
from spark_lib.config import load_config
from spark_lib.study.plan import ROOT, Planned, Study, evaluation_name

try:
    import fcntl
except ImportError:  # Windows: there a study must not be run twice at once
    fcntl = None


def missing(study: Study, run: Planned) -> list[list[str]]:
    """The commands that are still to do for one run, in their order: training, then its evaluations."""
    commands = []
    if not (run.folder / "summary.json").exists():
        words = [f"resume={run.folder}"] if goes_on(run) else [study.config, *run.words]
        commands.append([run.script, *words, *equal_to(run)])
    for name, words in study.evaluate.items():
        own = evaluation_name(study, name)
        if not (run.folder / f"eval-{own}" / "results.json").exists():
            commands.append(["evaluate.py", str(run.folder), *words.split(), f"name={own}"])
    return commands


def goes_on(run: Planned) -> bool:
    """Whether there is something to go on with: not where a run was killed before it had written a thing, nor where a
    script of its own makes it, which may know no way to go on."""
    return run.script == "train.py" and (run.folder / "config.yaml").exists()


def claimed(run: Planned) -> TextIO | None:
    """The run's log, open to be added to and locked; None while another process is at work on the run. The lock holds
    as long as anyone has the log open, as a process has whose output goes there."""
    run.folder.parent.mkdir(parents=True, exist_ok=True)
    log = open(f"{run.folder}.log", "a", encoding="utf-8")
    if not fcntl:
        return log
    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.close()
        return None
    except OSError as error:  # a file system without locks
        tqdm.write(f"{log.name} cannot be locked ({error}): do not run its study twice at once")
    return log


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
    busy: dict[Planned, tuple[subprocess.Popen, list[list[str]], TextIO]] = {}
    elsewhere: set[Planned] = set()  # waiting for the end of a process that is not ours
    threads = max(1, (os.cpu_count() or 1) // study.jobs)
    environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}

    def start(run: Planned, commands: list[list[str]], log: TextIO) -> None:
        process = subprocess.Popen([sys.executable, str(ROOT / commands[0][0]), *commands[0][1:]], stdout=log,
                                   stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment,
                                   start_new_session=True)  # Ctrl-C reaches it through us alone, and once
        busy[run] = (process, commands[1:], log)

    def take_up(run: Planned) -> bool:
        """Begin what is missing of a run, or leave it waiting where another process is at work on it. Returns whether
        it takes one of the `jobs` places."""
        if missing(study, run):
            if not (log := claimed(run)):
                if run not in elsewhere:
                    tqdm.write(f"waits: {run.setting}, seed {run.seed}: another process is at work on it")
                elsewhere.add(run)
                return True
            if commands := missing(study, run):  # asked again, as the other one may have ended just now
                if not (run.folder / "summary.json").exists() and not goes_on(run):
                    shutil.rmtree(run.folder, ignore_errors=True)
                start(run, commands, log)
            else:
                log.close()
        waiting.remove(run)
        elsewhere.discard(run)
        return run in busy

    shape = "{desc} |{bar}| {n:.2f}/{total} runs [{elapsed}<{remaining}]{postfix}"
    with tqdm(total=len(runs), desc=study.name, bar_format=shape, disable=not sys.stderr.isatty()) as bar:
        try:
            while waiting or busy:
                for run, (process, rest, log) in list(busy.items()):
                    if process.poll() is None:
                        continue
                    del busy[run]
                    if process.returncode != 0 or not (run.folder / "summary.json").exists():
                        failed[run] = last_line(Path(f"{run.folder}.log"))
                        tqdm.write(f"failed: {run.setting}, seed {run.seed}: {failed[run]}")
                    elif rest:
                        start(run, rest, log)
                        continue
                    log.close()
                for run in [run for run in waiting if run.after and any(run.after == f.folder for f in failed)]:
                    waiting.remove(run)
                    failed[run] = f"needs {run.after}, which failed"
                ready = [run for run in waiting if not run.after or (run.after / "summary.json").exists()]
                places = study.jobs - len(busy)
                for run in ready:
                    if places > 0 and take_up(run):
                        places -= 1
                bar.n = sum(part_done(run) for run in runs)
                bar.set_postfix_str(", ".join(f"{run.setting} {run.seed}" for run in busy)[:60])
                bar.refresh()
                if busy or elsewhere:
                    time.sleep(pause)
        finally:  # a signal: the runs write their checkpoints and end, so that none goes on behind its study's back
            for process, _, _ in busy.values():
                process.send_signal(signal.SIGTERM)
            for process, _, log in busy.values():
                process.wait()
                log.close()
    return failed


def last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").strip().splitlines()
    return lines[-1].strip() if lines else "it said nothing"
