"""Random kills: a run of 30 steps with judging, and its evaluation, end in the same bytes however they are killed.

    python tests/perf/kills.py [--kills 100] [--seed 0] [--steps 30] [--out FILE.jsonl]

An undisturbed run is made first, and after it evaluate.py. Then the same again with SIGKILL: about every second kill at
a random time of the whole course (in its own CPU seconds, whatever else the machine does), the others at a random file
operation in the run's folder (opening, renaming, removing), which a random time seldom meets. A killed course is gone
on with by resume=, and killed again, until it comes to its end; then every file is compared but those that tell seconds
(tests/same_run.py). Each course is a process of its own, forked from one that has read the libraries. Exit code 1 if a
byte differs. Linux only.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

REPO = Path(__file__).parents[2]
sys.path[:0] = [str(REPO), str(REPO / "tests")]

import torch  # noqa: E402
from same_run import differences  # noqa: E402

import evaluate  # noqa: E402
import train  # noqa: E402

RUN = Path("runs") / "a"
SMALL = ["problems_per_step=2", "group_size=4", "judge_group_size=2", "judge_share=0.4", "max_new_tokens=40",
         "save_every=5", "eval.limit=4", "eval.rounds=1", "run_name=a"]
EVALUATION = ["runs/a", "limit=4", "samples=2", "rounds=1", "batch=8"]
OPERATIONS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "shutil.rmtree"}


def course(steps: int) -> None:
    """Train, or go on, and evaluate: what a user would type again after each kill."""
    if RUN.exists() and not (RUN / "config.yaml").exists():
        shutil.rmtree(RUN)  # killed before the run began: nothing is in it
    train.main([f"resume={RUN}"] if RUN.exists() else [*SMALL, f"max_steps={steps}"])
    evaluate.main(EVALUATION)


def watch_files(act) -> None:
    """act(how many) at each file operation in a run's folder from here on, before it is done."""
    count = 0

    def hook(event: str, args: tuple) -> None:
        nonlocal count
        if event in OPERATIONS and "runs/a" in str(args[0]):
            count += 1
            act(count)

    sys.addaudithook(hook)


def fork(folder: Path, steps: int, act=None) -> int:
    """The process id of a course in this folder. act: see watch_files."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.chdir(folder)
        log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        if act:
            watch_files(act)
        course(steps)
        code = 0
    finally:  # whatever it ended with stands in the log; nothing of the parent's runs in this process
        if code:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def said(folder: Path) -> str:
    """The end of what a course printed."""
    log = folder / "log.txt"
    return log.read_text(errors="replace")[-3000:] if log.exists() else "it printed nothing"


def die_at(number: int):
    def act(count: int) -> None:
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)
    return act


def cpu_seconds(pid: int) -> float:
    """What a child process that is not waited for has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait(pid: int, seconds: float | None = None) -> int:
    """The exit status of the process, which is killed after so many CPU seconds."""
    end = seconds if seconds is not None else float("inf")
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if cpu_seconds(pid) >= end:
            os.kill(pid, signal.SIGKILL)
            end = float("inf")
        time.sleep(0.005)


def phase(run: Path, steps: int) -> str:
    """How far a killed course had come, by what is in its folder."""
    if list(run.glob("eval-*")):
        return "evaluate.py"
    if (run / "summary.json").exists():
        return "between run and evaluate.py"
    if list(run.glob("checkpoint-*.partial")):
        return "in a checkpoint"
    if not (run / "before.json").exists():
        return "judge set and evaluation before"
    finished = (run / f"checkpoint-{steps}").exists()
    return "evaluation after and report" if finished else "steps"


def undisturbed(folder: Path, steps: int) -> tuple[float, int]:
    """(CPU seconds, file operations) of a course that nothing kills."""
    counted = folder / "operations"
    before = os.times()
    if wait(fork(folder, steps, lambda count: counted.write_text(str(count)))):
        raise SystemExit(f"the undisturbed course failed:\n{said(folder)}")
    after = os.times()
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    return seconds, int(counted.read_text())


def killed_course(
    folder: Path, steps: int, rng: random.Random, seconds: float, operations: int, most: int
) -> list[str]:
    """Kill a course at most so many times, let it end, and return where it was killed each time."""
    kills = []
    while len(kills) < most:
        by_time = rng.random() < 0.5
        if by_time:
            code = wait(fork(folder, steps), rng.uniform(0, seconds))
        else:
            code = wait(fork(folder, steps, die_at(rng.randint(1, operations))))
        if code == 0:
            return kills
        if code != -signal.SIGKILL:
            raise SystemExit(f"going on failed after {kills} with {code}:\n{said(folder)}")
        kills.append(phase(folder / RUN, steps) + (", at a time" if by_time else ", at a file operation"))
    if code := wait(fork(folder, steps)):
        raise SystemExit(f"going on failed after {kills} with {code}:\n{said(folder)}")
    return kills


def main(kills: int, seed: int, steps: int, out: Path | None = None, each: int = 8) -> Counter:
    """Kill that many times and compare; returns how often in which phase. Raises SystemExit at the first difference."""
    torch.set_num_threads(1)
    rng, met, done, courses = random.Random(seed), Counter(), 0, 0
    with tempfile.TemporaryDirectory() as place:
        whole = Path(place, "whole")
        whole.mkdir()
        seconds, operations = undisturbed(whole, steps)
        while done < kills:
            folder = Path(place, f"course-{courses}")
            folder.mkdir()
            found = killed_course(folder, steps, rng, seconds, operations, min(each, kills - done))
            if different := differences(folder / RUN, whole / RUN):
                kept = shutil.copytree(place, tempfile.mkdtemp() + "/kept")
                raise SystemExit(f"after kills {found} these differ: {different}; kept in {kept}")
            done, courses = done + len(found), courses + 1
            met.update(found)
            if out:
                with open(out, "a", encoding="utf-8") as file:
                    file.write(json.dumps({"kills": found, "in all": done, "courses": courses}) + "\n")
            shutil.rmtree(folder)
    return met


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--out", type=Path)
    words = parser.parse_args()
    met = main(words.kills, words.seed, words.steps, words.out)
    sys.stdout.write("".join(f"{count:4}  {name}\n" for name, count in sorted(met.items())))
    sys.stdout.write(f"{sum(met.values()):4}  kills, every course ended in the same bytes\n")
