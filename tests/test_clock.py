"""Seconds and memory by phase."""

import sys
import time

import pytest
import torch

from spark_lib.clock import Clock

MIB = 2**20


def hold(mebibytes: int) -> None:
    torch.ones(mebibytes * MIB // 4)  # freed at once


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's peak")
def test_each_phase_has_its_own_peak():
    """Guards what freed memory would hide: the phase after the largest one is no larger for it."""
    clock = Clock()
    with clock("large"):
        hold(400)
    with clock("small"):
        hold(50)
    with clock("outer"):
        hold(200)
        with clock("inner"):
            hold(20)
    memory = {name: most / MIB for name, most in clock.memory.items()}
    assert memory["large"] - memory["small"] == pytest.approx(350, abs=60)
    assert memory["outer"] - memory["inner"] == pytest.approx(180, abs=60)


def test_a_large_phase_is_not_missed_where_it_comes_at_a_measured_time():
    clock = Clock()
    for size in (10, 10, 10, 300):  # the 1st, 2nd and 4th are measured
        with clock("step"):
            hold(size)
    with clock("after"):
        hold(10)
    if clock.memory:
        assert clock.memory["step"] - clock.memory["after"] > 200 * MIB


def test_only_counts_everything_as_one_phase_and_training_leaves_it_out():
    clock = Clock()
    with clock.only("evaluate"), clock("sample"):
        time.sleep(0.02)
    with clock("sample"), clock.only("other"), clock("verify"):
        time.sleep(0.01)
    assert clock.seconds["evaluate"] >= 0.02 and clock.seconds["other"] >= 0.01
    assert clock.training == clock.seconds["sample"] > 0 and "verify" not in clock.seconds
