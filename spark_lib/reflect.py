"""Test time: what more tokens buy. Judge and reflect (PAPER Eq. 9-11), and beside it best-of-n and votes.

judge_and_reflect answers, judges the own answer, and reflects and answers again if it was judged wrong. The others
spend the same tokens on more samples: the one that the judge trusts most, the most frequent answer, or the answer with
the largest sum of the judge's probabilities. No method reads a mark or a reference answer.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from spark_lib.problem import Problem
from spark_lib.recycle import about
from spark_lib.rewards import vote
from spark_lib.rollout import Rollout
from spark_lib.verify import extract_boxed

Sampler = Callable[[list[Problem], int, str], list[list[Rollout]]]  # problems, n, name of the random stream


def says_yes(judgement: Rollout) -> bool:
    return judgement.reward == 1  # the problem's answer is "Yes", see judge_and_reflect


def judge_and_reflect(
    answers: list[Rollout], rounds: int, view: str, roll: Sampler, rng: random.Random,
    accept: Callable[[Rollout], bool] = says_yes, early_stop: bool = True,
) -> tuple[list[list[Rollout]], list[list[Rollout]]]:
    """(answers after 0, 1 ... `rounds` rounds, everything said about each problem in order).

    A round judges the answers not yet accepted (without early_stop, all answers) and, where the judgement does not
    `accept`, replaces the answer by a reflection on it. The last reflection is not judged. An answer that was cut off
    or has no box cannot be judged and counts as rejected.
    """
    history = [list(answers)]
    turns = [[answer] for answer in answers]
    rejected = list(range(len(answers)))
    for k in range(1, rounds + 1):
        now = list(history[-1])
        asked = rejected if early_stop else range(len(answers))
        judged = [i for i in asked if now[i].finished and extract_boxed(now[i].text) is not None]
        # The reference is unknown at test time. "Yes" stands for "the answer is right" only to read the verdict.
        verdicts = roll([about("pointwise", [now[i]], "Yes", view, rng) for i in judged], 1, f"judge {k}")
        for i, (verdict,) in zip(judged, verdicts):
            turns[i].append(verdict)
        accepted = {i for i, (verdict,) in zip(judged, verdicts) if accept(verdict)}
        rejected = [i for i in asked if i not in accepted]
        problems = [about("reflect", [now[i]], now[i].problem.answer, view, rng) for i in rejected]
        again = roll(problems, 1, f"reflect {k}")
        for i, (reflection,) in zip(rejected, again):
            turns[i].append(reflection)
            now[i] = reflection
        history.append(now)
    return history, turns


@dataclass
class Candidate:
    """One of a problem's sampled answers. label: the same for equal answers, None for no answer; p_yes: the judge's
    probability that it is right, 0 where it could not be judged; the tokens of the answer and of its judgement.
    beats: by the label of another answer, whether this one wins against it, and the tokens of that duel."""

    label: int | None
    p_yes: float
    right: bool
    tokens: int
    judge_tokens: int
    beats: dict[int, tuple[bool, int]] = field(default_factory=dict)


def best_of_n(drawn: list[Candidate]) -> Candidate:
    """The candidate that the judge trusts most; of equals, the first."""
    return max(drawn, key=lambda c: c.p_yes)


def majority_vote(drawn: list[Candidate]) -> Candidate:
    """The first candidate with the most frequent answer."""
    winner = vote([c.label for c in drawn])
    return next(c for c in drawn if c.label == winner)


def weighted_vote(drawn: list[Candidate]) -> Candidate:
    """The first candidate with the answer whose probabilities add up to most."""
    winner = vote([c.label for c in drawn], [c.p_yes for c in drawn])
    return next(c for c in drawn if c.label == winner)


def knockout(drawn: list[Candidate]) -> tuple[Candidate, int]:
    """(the candidate that stands at the end, tokens of the duels): the first one meets each later one with another
    answer, and stays unless it is beaten (pairwise self-verification, arXiv 2603.04304)."""
    standing, tokens = drawn[0], 0
    for c in drawn[1:]:
        if standing.label is None:
            standing = c
        elif c.label not in (None, standing.label):
            wins, spent = c.beats[standing.label]
            standing, tokens = c if wins else standing, tokens + spent
    return standing, tokens


def tournament(drawn: list[Candidate]) -> Candidate:
    return knockout(drawn)[0]


METHODS = {"best_of_n": best_of_n, "majority_vote": majority_vote, "weighted_vote": weighted_vote,
           "tournament": tournament}
