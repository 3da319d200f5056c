"""The intervals beside a run's skills before and after."""

import pytest

from spark_lib.evaluation.skills import balanced, interval
from spark_lib.problem import Problem


def test_balanced_marks_have_the_balanced_accuracy_as_mean(rollout):
    """The interval must be about the figure beside it: the mean of both recalls, whatever the classes' sizes."""
    gold = [("Yes", 1.0), ("Yes", 0.0), ("Yes", 1.0), ("No", 0.0)]
    judged = [rollout("x", Problem("Right?", answer, "pointwise"), reward=reward) for answer, reward in gold]
    marks = balanced(judged)
    assert sum(marks) / len(marks) == pytest.approx((2 / 3 + 0) / 2)
    assert balanced(judged[:3]) == []  # one class alone has no balanced accuracy


def test_marks_about_one_problem_are_drawn_together():
    """Eight judgements about one question are no eight independent ones: their interval is that of the question's."""
    apart = interval([1.0, 0.0] * 40)
    together = interval([1.0] * 40 + [0.0] * 40, [place for place in range(10) for _ in range(8)])
    assert apart[1] - apart[0] == pytest.approx(0.22, abs=0.03)  # 2 · 1.96 · sqrt(1/4 / 80)
    assert together[1] - together[0] == pytest.approx(0.6, abs=0.1)  # the same with 10 problems in place of 80
    assert interval([]) is None


def test_an_interval_is_the_same_every_time():
    """before.json and after.json are compared byte by byte with those of a run that was resumed."""
    marks = [float(i % 3 == 0) for i in range(50)]
    assert interval(marks) == interval(marks)
