"""Rewards: the built-in rule, and the user's own, whose mistakes must not become rewards."""

import random
from collections import Counter

import pytest

from spark_lib.config import ConfigError
from spark_lib.problem import KINDS, Problem
from spark_lib.rewards import clusters, load_rule, mark, vote

RULES = r'''
def length(text, problem):
    """A third of the reward for each digit of the reference that the text has."""
    return sum(digit in text for digit in problem.answer) / 3

def crashes(text, problem):
    return {}[text]

NUMBER = 3
'''


@pytest.fixture
def rule_file(tmp_path):
    path = tmp_path / "rules.py"
    path.write_text(RULES)
    return path


@pytest.fixture
def said(rollout, arithmetic_problem):
    """said(text, kind, answer) -> an unmarked rollout."""

    def build(text: str, kind: str = "solve", answer: str = "102"):
        return rollout(problem=Problem(f"The {kind} prompt", answer, kind), text=text)

    return build


def test_the_built_in_rule_marks_every_kind(said):
    """Guards joint training: a verdict or a reflection is marked by the same rule as a solution, in the right order."""
    cases = [
        ("solve", "102", r"\boxed{102}", 1.0), ("solve", "102", r"\boxed{103}", 0.0), ("solve", "102", "102", 0.0),
        ("pointwise", "Yes", r"\boxed{Yes}", 1.0), ("pointwise", "Yes", r"\boxed{No}", 0.0),
        ("pairwise", "B", r"\boxed{B}", 1.0), ("pairwise", "B", r"\boxed{A}", 0.0),
        ("reflect", "102", r"no, \boxed{102}", 1.0), ("reflect", "102", "", 0.0),
    ]
    groups = [[said(text, kind, answer)] * 2 for kind, answer, text, _ in cases]
    mark(groups, rule=None)
    assert [[r.reward for r in group] for group in groups] == [[reward] * 2 for *_, reward in cases]
    assert all(isinstance(r.reward, float) for group in groups for r in group)


def test_a_response_that_was_cut_off_gets_no_reward(rollout):
    """Guards the length limit: a right box in the middle of endless text would be rewarded, and never ends."""
    endless = rollout(text="So \\boxed{102} and so \\boxed{102} and", finished=False)
    mark([[endless]], rule=None)
    assert endless.reward == 0.0


def test_partial_rewards_arrive_unrounded(rule_file, said):
    """Guards an own rule's marks: one third is neither rounded nor made right or wrong."""
    groups = [[said("1"), said("10"), said("102"), said("")]]
    mark(groups, load_rule(f"{rule_file}:length"))
    assert [r.reward for r in groups[0]] == [1 / 3, 2 / 3, 1.0, 0.0]


def test_an_own_rule_leaves_judgements_to_the_built_in_one(said):
    """Guards judging under an own rule: it knows answers, not verdicts; solving and reflecting are its own."""
    texts = {"pointwise": r"\boxed{Yes}", "pairwise": r"\boxed{A}", "solve": r"\boxed{102}", "reflect": r"\boxed{102}"}
    answers = {"pointwise": "Yes", "pairwise": "A", "solve": "102", "reflect": "102"}
    asked = []

    def rule(text, problem):
        asked.append((text, problem.kind))
        return 0.25

    groups = [[said(texts[kind], kind, answers[kind])] for kind in KINDS]
    mark(groups, rule)
    assert [group[0].reward for group in groups] == [0.25, 1.0, 1.0, 0.25]
    assert asked == [(r"\boxed{102}", "solve"), (r"\boxed{102}", "reflect")]


def raises(text, problem):
    raise ZeroDivisionError("by zero")


@pytest.mark.parametrize(
    "rule, message",
    [
        (raises, "ZeroDivisionError: by zero"),
        (lambda text, problem: float("nan"), "nan"),
        (lambda text, problem: 2, "got 2"),
        (lambda text, problem: -0.1, "got -0.1"),
        (lambda text, problem: float("inf"), "inf"),
        (lambda text, problem: "1", "got '1'"),
        (lambda text, problem: None, "got None"),
        (lambda text, problem: [1.0], "got "),
        (lambda text: 1.0, "TypeError"),
    ],
)
def test_a_bad_rule_is_reported_with_the_problem(said, rule, message):
    """Guards training on nonsense: an exception swallowed as 0, or 2 taken as a reward, would be learned."""
    with pytest.raises(ConfigError) as error:
        mark([[said("what the model said")]], rule)
    for part in ("verifier", message, "The solve prompt", "what the model said"):
        assert part in str(error.value)


@pytest.mark.parametrize("reward", [0, 1, 0.5, True, False])
def test_numbers_and_truth_values_are_rewards(said, reward):
    """Guards simple rules, which return text == answer or an int."""
    groups = [[said("1")]]
    mark(groups, lambda text, problem: reward)
    assert groups[0][0].reward == float(reward) and isinstance(groups[0][0].reward, float)


def test_a_rule_may_use_dataclasses(tmp_path):
    """Guards ordinary modules as rule files: with postponed annotations, @dataclass looks its own module up."""
    (tmp_path / "own_rule.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass Span:\n    low: int\n"
        "def rule(text, problem):\n    return Span(1).low\n"
    )
    assert load_rule(f"{tmp_path}/own_rule.py:rule")("", None) == 1


@pytest.mark.parametrize("name, message", [("missing", "missing"), ("NUMBER", "NUMBER"), ("", "function")])
def test_a_rule_that_is_not_there_is_refused(rule_file, name, message):
    """Guards `verifier=`: a typo is told before anything is loaded or sampled."""
    with pytest.raises(ConfigError, match=f"verifier: .*{message}"):
        load_rule(f"{rule_file}:{name}")


@pytest.mark.parametrize("spec", ["nowhere.py:rule", "rule", ":rule", "", "/tmp:rule"])
def test_a_file_that_is_not_there_is_refused(spec):
    """Guards `verifier=` without a file: the message shows the form that was expected."""
    with pytest.raises(ConfigError, match="file.py:function"):
        load_rule(spec)


def test_an_earlier_mark_does_not_stay(said):
    """A group that is marked again, by another rule or by none, is marked anew."""
    groups = [[said(r"\boxed{7}", "solve", "7"), said(r"\boxed{8}", "solve", "7")]]
    mark(groups, lambda text, problem: 0.5)
    mark(groups, None)
    assert [r.reward for r in groups[0]] == [1.0, 0.0]


def test_nothing_to_mark():
    """Guards the step whose groups gave nothing to recycle."""
    mark([], rule=None)
    mark([[]], rule=raises)


def test_vote_is_the_most_common():
    """Guards the vote against Counter, ties included: of equals, the first wins."""
    rng = random.Random(0)
    for _ in range(200):
        labels = [rng.choice(["a", "b", "c", None]) for _ in range(rng.randrange(7))]
        counts = Counter(label for label in labels if label is not None).most_common(1)
        assert vote(labels) == (counts[0][0] if counts else None)


def test_vote_adds_up_weights():
    """Guards the weighted vote: two doubtful answers lose to a sure one, three win. Weight 0 still is a vote."""
    assert vote(["a", "a", "b"], [0.3, 0.3, 0.9]) == "b"
    assert vote(["a", "b", "a", "a"], [0.3, 0.8, 0.3, 0.3]) == "a"
    assert vote(["a", None], [0.0, 1.0]) == "a"
    with pytest.raises(ValueError):
        vote(["a", "b"], [1.0])


def test_clusters():
    """Guards the votes: spellings of one answer are one candidate, and no answer is none."""
    calls = []

    def same(a: str, b: str) -> bool:
        calls.append((a, b))
        return float(a) == float(b)

    assert clusters(["1", "0.5", None, "1.0", "0.50", "2", None, "1"], same) == [0, 1, None, 0, 1, 5, None, 0]
    assert ("1", "1") not in calls  # the verifier may take seconds, equal texts need none of it
    assert clusters([], same) == []
