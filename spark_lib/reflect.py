"""Test time (PAPER Eq. 9-11): answer, judge the own answer, reflect and answer again if it was judged wrong."""

import random
from collections.abc import Callable

from spark_lib.problems import Problem
from spark_lib.recycle import about
from spark_lib.rollout import Rollout
from spark_lib.verify import extract_boxed

Sampler = Callable[[list[Problem], int, str], list[list[Rollout]]]  # problems, n, name of the random stream


def judge_and_reflect(
    answers: list[Rollout], rounds: int, view: str, roll: Sampler, rng: random.Random
) -> tuple[list[list[Rollout]], list[list[Rollout]]]:
    """(answers after 0, 1 ... `rounds` rounds, everything said about each problem in order).

    A round judges the answers not yet accepted and, where the verdict is not Yes, replaces the answer by a reflection
    on it. The first accepted answer of a problem stands; the last reflection is not judged. An answer without a box
    cannot be judged and counts as rejected. Only the verdict is read, never an answer's mark or the reference.
    """
    history = [list(answers)]
    turns = [[answer] for answer in answers]
    rejected = list(range(len(answers)))
    for k in range(1, rounds + 1):
        now = list(history[-1])
        judged = [i for i in rejected if extract_boxed(now[i].text) is not None]
        # The reference is unknown at test time. "Yes" stands for "the answer is right" only to read the verdict.
        verdicts = roll([about("pointwise", [now[i]], "Yes", view, rng) for i in judged], 1, f"judge {k}")
        for i, (verdict,) in zip(judged, verdicts):
            turns[i].append(verdict)
        accepted = {i for i, (verdict,) in zip(judged, verdicts) if verdict.reward == 1}
        rejected = [i for i in rejected if i not in accepted]
        problems = [about("reflect", [now[i]], now[i].problem.answer, view, rng) for i in rejected]
        again = roll(problems, 1, f"reflect {k}")
        for i, (reflection,) in zip(rejected, again):
            turns[i].append(reflection)
            now[i] = reflection
        history.append(now)
    return history, turns
