"""Marks that are not the verifier's: the model's own, and those of a verifier that errs. For studies (docs/method.md).

`reward:` says whose word counts in training; recycling then makes its problems from these marks, and a reflection's
right answer is the one that they call right, so that nothing of the reference answer is left in what is learned. Held-
out problems are always marked by the verifier, and a response to a question keeps the verifier's mark as its `truth`.

    verifier            the rule-based verifier (the paper)
    majority            right is what most of the group answered (TTRL, arXiv 2504.16084)
    judge               right is what the model itself calls right: P(Yes) >= 0.5 of its judgement of each answer
    judge_probability   the same, with P(Yes) as the reward
    majority_and_judge  majority, but only for groups whose judge agrees: where the mean P(Yes) of the majority's
                        responses is below 0.5 the group is left out (CoVerRL, arXiv 2603.17775)
    A until N then B    A in the first N steps, B from step N on
"""

import random
from collections.abc import Callable
from dataclasses import replace

from spark_lib import seeds
from spark_lib.model.vision import content_key, images_of
from spark_lib.problem import Problem
from spark_lib.recycle import about
from spark_lib.rewards import clusters, vote
from spark_lib.rollout import Rollout
from spark_lib.verify import extract_boxed, same_answer

Group = list[Rollout]
Judge = Callable[[list[Problem]], list[float | None]]  # pointwise problems -> P(Yes) of one judgement of each
NOBODY = ""  # an answer that no response can reach: nothing in the group was called right


def source_at(reward: str, step: int) -> str:
    """Whose word counts at a step; config.REWARD has checked the words."""
    first, *later = reward.split(" until ")
    if not later:
        return first
    until, then = later[0].split(" then ")
    return first if step < int(until) else then


def answers_of(group: Group) -> list[str | None]:
    """The boxed answers; None for a response that was cut off or has none."""
    return [extract_boxed(r.text) if r.finished else None for r in group]


def labelled(group: Group, answer: str, rewards: list[float]) -> Group:
    """The group with other marks and another right answer; the verifier's marks are kept as the truth."""
    problem = group[0].problem
    lettered = len(answer) == 1 and answer.isalpha()  # another spelling of a choice is compared as it is
    problem = replace(problem, answer=answer, choices=problem.choices if lettered else (), also=())
    truths = [r.reward if r.truth is None else r.truth for r in group]
    return [replace(r, problem=problem, reward=reward, truth=truth) for r, reward, truth in zip(group, rewards, truths)]


def by_majority(group: Group) -> Group:
    """1 for the group's most frequent answer, of equals the first; the right answer is that one."""
    answers = answers_of(group)
    places = clusters(answers, same_answer)
    winner = vote(places)
    rewards = [float(place is not None and place == winner) for place in places]
    return labelled(group, NOBODY if winner is None else answers[winner], rewards)


def by_judge(group: Group, trust: list[float], as_number: bool) -> Group:
    """trust: P(Yes) of each response's judgement, 0 where there is none. The right answer is the one whose
    probabilities add up to most, if any response is called right."""
    rewards = [p if as_number else float(p >= 0.5) for p in trust]
    answers = answers_of(group)
    winner = vote(clusters(answers, same_answer), trust) if max(trust) >= 0.5 else None
    return labelled(group, NOBODY if winner is None else answers[winner], rewards)


def agrees(group: Group, trust: list[float]) -> bool:
    """Whether the judge believes what by_majority called right."""
    believed = [p for r, p in zip(group, trust) if r.reward == 1]
    return bool(believed) and sum(believed) / len(believed) >= 0.5


def relabel(
    groups: list[Group], source: str, judge: Judge, view: str, rng: random.Random
) -> tuple[list[Group], list[Group]]:
    """(the groups with the marks of `source`, those that majority_and_judge leaves out). view: what the judge sees of a
    response. Both in their order."""
    if source == "verifier":
        return groups, []
    if source == "majority":
        return [by_majority(group) for group in groups], []
    shown = [r for group in groups for r, answer in zip(group, answers_of(group)) if answer is not None]
    # The mark is unknown here; "Yes" stands for "the answer is right" only to read the verdict, as at test time.
    p_yes = iter(judge([about("pointwise", [r], "Yes", view, rng) for r in shown]))
    trust = [[(next(p_yes) or 0.0) if answer is not None else 0.0 for answer in answers_of(group)] for group in groups]
    if source == "majority_and_judge":
        voted = [by_majority(group) for group in groups]
        believed = [agrees(group, own) for group, own in zip(voted, trust)]
        return tuple([group for group, yes in zip(voted, believed) if yes == kept] for kept in (True, False))
    return [by_judge(group, own, source == "judge_probability") for group, own in zip(groups, trust)], []


def with_noise(groups: list[Group], noise, seed: int, stream: tuple) -> list[Group]:
    """The groups as a verifier marks them that errs: a right response (1) counts as wrong with probability
    noise.false_negative, a wrong one as right with probability noise.false_positive (arXiv 2601.04411). A systematic
    verifier errs by the answer: the same answer to the same question is marked alike whenever it comes up. Verdicts are
    left as they are, as what they are compared with is a noisy mark already; so are partial rewards."""
    rng = seeds.rng(seed, "noise", *stream)

    def marked(r: Rollout) -> Rollout:
        if r.problem.kind not in ("solve", "reflect"):
            return r
        draw = rng.random()
        if noise.systematic:
            answer = extract_boxed(r.text) or r.text
            asked = (r.problem.meta["question"], r.problem.context, *map(content_key, images_of(r.problem)))
            draw = seeds.rng(seed, "noise", *asked, answer).random()
        rate = {1.0: noise.false_negative, 0.0: noise.false_positive}.get(r.reward, 0.0)
        return replace(r, reward=1.0 - r.reward if draw < rate else r.reward, truth=r.reward)

    return [[marked(r) for r in group] for group in groups]
