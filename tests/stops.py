"""Small runs that a test stops."""

import os
import signal
from pathlib import Path

import train

REPO = Path(__file__).parents[1]
SMALL = ["max_steps=3", "save_every=2", "problems_per_step=2", "group_size=4", "judge_group_size=2", "judge_share=0.4",
         "max_new_tokens=64", "lr_schedule=constant", "eval.limit=2", "eval.rounds=1", "run_name=a"]


def signal_at(patch, target, name: str, call: int = 1, signum: int = signal.SIGTERM) -> None:
    """The process gets the signal in the call number `call` of target.name, before it does anything."""
    function, calls = getattr(target, name), iter(range(1, 10**6))

    def signalled(*args, **kwargs):
        if next(calls) == call:
            os.kill(os.getpid(), signum)
        return function(*args, **kwargs)

    patch.setattr(target, name, signalled)


def stopped(words: list[str]) -> int:
    """The exit code of train.py with these words."""
    try:
        train.main(words)
    except SystemExit as end:
        return end.code
    return 0


def environment(**more: str) -> dict:
    return os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"} | more
