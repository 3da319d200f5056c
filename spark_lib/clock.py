"""Seconds and peak memory of a run, by phase."""

import contextlib
import ctypes
import re
import time
from collections import Counter, defaultdict
from pathlib import Path

import torch

TRAINING = ("sample", "verify", "train")  # the phases of a step; what else there is does not count for max_seconds


def restart_peak(cuda: bool) -> None:
    """Let the peak of memory begin again at what is in use now. A system that cannot do that goes without."""
    if cuda:
        return torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError, AttributeError):  # another system than Linux, another libc than glibc
        ctypes.CDLL(None).malloc_trim(0)  # what is freed and kept at hand (model/lean.py) is not in use
        Path("/proc/self/clear_refs").write_text("5")


def peak(cuda: bool) -> int | None:
    """Bytes since restart_peak: of the GPU where one is used, else of this process; None where the system cannot
    tell (Linux can)."""
    if cuda:
        return torch.cuda.max_memory_allocated()
    try:
        found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


class Clock:
    """Seconds and most bytes by phase. `with clock("sample"): …` adds to that phase; inside
    `with clock.only("evaluate"): …` everything counts as that one phase, so that training and evaluation are told
    apart. A phase within a phase counts for itself in bytes, and for both in seconds."""

    def __init__(self, cuda: bool = False):
        self.seconds: dict[str, float] = defaultdict(float)
        self.memory: dict[str, int] = {}
        self.cuda = cuda
        self.override: str | None = None
        self.entered: Counter[str] = Counter()
        self.running: list[str] = []  # the phases that are measured and not over, outermost first

    @contextlib.contextmanager
    def __call__(self, phase: str):
        phase = self.override or phase
        with self.measuring(phase):
            start = time.perf_counter()
            try:
                yield
            finally:
                self.seconds[phase] += time.perf_counter() - start

    @contextlib.contextmanager
    def measuring(self, phase: str):
        """Count the phase's memory: on a GPU always. Off it freed memory must be given back first, which takes a tenth
        of a second, so that it is done at the 1st, 2nd, 4th, 8th … time only."""
        self.entered[phase] += 1
        times = self.entered[phase]
        if not self.cuda and times & (times - 1):
            yield
            return
        self.note_peak()
        restart_peak(self.cuda)
        self.running.append(phase)
        try:
            yield
        finally:
            self.note_peak()
            self.running.pop()
            if self.running:
                restart_peak(self.cuda)

    def note_peak(self) -> None:
        """What the phase that runs has used so far."""
        if self.running and (most := peak(self.cuda)):
            self.memory[self.running[-1]] = max(most, self.memory.get(self.running[-1], 0))

    @contextlib.contextmanager
    def only(self, phase: str):
        before, self.override = self.override, phase
        try:
            yield
        finally:
            self.override = before

    @property
    def training(self) -> float:
        """Seconds of the steps themselves, without evaluations and what is written."""
        return sum(self.seconds[phase] for phase in TRAINING if phase in self.seconds)
