"""Rewards: the verifier's mark for every rollout, by the built-in rule or by the user's own."""

import importlib.util
import sys
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path

from spark_lib.config import ConfigError
from spark_lib.problem import Problem
from spark_lib.rollout import Rollout
from spark_lib.verify import verify, verify_many

Rule = Callable[[str, Problem], float]


def load_rule(spec: str) -> Rule:
    """The function of a `file.py:function` spec. Raises ConfigError if there is none."""
    file, _, name = spec.rpartition(":")
    if not file or not Path(file).is_file():
        raise ConfigError(f"verifier: expected 'file.py:function' with a file that exists, got '{spec}'")
    module_spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_spec.name] = module  # dataclasses look their module up there
    module_spec.loader.exec_module(module)
    rule = getattr(module, name, None)
    if not callable(rule):
        raise ConfigError(f"verifier: {file} has no function '{name}'")
    return rule


def mark(groups: list[list[Rollout]], rule: Rule | None) -> None:
    """Set the reward in [0, 1] of every rollout, whatever it was before.

    An own rule marks solving and reflecting; a verdict (Yes / No, A / B) is right or wrong by the built-in rule.
    A response that was cut off at the token limit gets 0 unread: else a policy learns to box early and ramble on.
    Raises ConfigError, naming the problem, if the rule raises or returns something that is no number in [0, 1].
    """
    built_in = []
    for r in [r for group in groups for r in group]:
        if not r.finished:
            r.reward = 0.0
        elif rule and r.problem.kind in ("solve", "reflect"):
            r.reward = own_mark(rule, r)
        else:
            built_in.append(r)
    for r, right in zip(built_in, verify_many([r.text for r in built_in], [r.problem for r in built_in])):
        r.reward = float(right)


def own_mark(rule: Rule, rollout: Rollout) -> float:
    about = f"on the {rollout.problem.kind} problem {rollout.problem.prompt!r} and the response {rollout.text!r}"
    try:
        reward = rule(rollout.text, rollout.problem)
    except Exception as error:  # whatever a user's rule may raise; it is reported, not swallowed
        raise ConfigError(f"verifier: your rule raised {type(error).__name__}: {error}; {about}") from error
    if not isinstance(reward, int | float) or not 0 <= reward <= 1:
        raise ConfigError(f"verifier: your rule must return a number from 0 to 1, got {reward!r}; {about}")
    return float(reward)


def said(word: str, rollouts: list[Rollout]) -> float | None:
    """Share of judge rollouts whose verdict is `word`."""
    said_it = [r.finished and verify(r.text, Problem("", word, r.problem.kind)) for r in rollouts]
    return sum(said_it) / len(said_it) if said_it else None


def vote(labels: Sequence[Hashable | None], weights: Sequence[float] | None = None) -> Hashable | None:
    """The label with the most votes (or the largest sum of weights); of equals, the one that came first. None is no
    vote, and the result where nobody votes."""
    totals: dict[Hashable, float] = {}
    for label, weight in zip(labels, weights or [1.0] * len(labels), strict=True):
        if label is not None:
            totals[label] = totals.get(label, 0.0) + weight
    return max(totals, key=totals.__getitem__) if totals else None


def clusters(answers: Sequence[str | None], same: Callable[[str, str], bool]) -> list[int | None]:
    """For each answer the place of the first answer that is the `same`; None for no answer, which is in no cluster."""
    places: list[int | None] = []
    for i, answer in enumerate(answers):
        firsts = [j for j in range(i) if places[j] == j]
        place = next((j for j in firsts if answers[j] == answer), None)  # cheap, so before `same`
        if place is None and answer is not None:
            place = next((j for j in firsts if same(answer, answers[j])), i)
        places.append(place)
    return places
