"""The stories that a report shows."""

import pytest

from spark_lib.evaluation.skills import story as shown_story
from spark_lib.problem import Problem


@pytest.mark.parametrize("text, finished, right", [
    ("\\boxed{No}", True, True), ("\\boxed{Yes}", True, False), ("\\boxed{7}", True, False),
    ("\\boxed{No}", False, False),
])
def test_only_a_readable_verdict_is_shown_as_right(rollout, arithmetic_problem, text, finished, right):
    """Guards the stories of a report: a judge that says nothing about a wrong answer was shown as right about it."""
    solved = rollout(problem=arithmetic_problem((10, 20, 772)), text="\\boxed{1}", reward=0.0)
    asked = Problem("?", "Yes", "pointwise")  # as judge_and_reflect asks, with "Yes" as the answer that is hoped for
    turns = [solved, rollout(problem=asked, text=text, reward=float("Yes" in text), finished=finished)]
    assert [turn["right"] for turn in shown_story(turns, 1.0)["turns"]] == [False, right]
