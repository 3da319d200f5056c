"""Marks that are not the verifier's, by hand: a majority, a judge, both, and a verifier that errs."""

import random
from dataclasses import replace

import pytest

from spark_lib.config import Config, ConfigError, Noise, check
from spark_lib.problem import Problem
from spark_lib.sampling import labels


@pytest.fixture
def group(rollout):
    """group("102", "105", None) -> responses to 12 + 34 + 56 = ? as the verifier marks them; None has no box."""

    def build(*answers: str | None) -> list:
        made = [rollout(answer or "", reward=float(answer == "102")) for answer in answers]
        return [r if answer else replace(r, text="I do not know.") for r, answer in zip(made, answers)]

    return build


def rewards(groups: list) -> list[list[float]]:
    return [[r.reward for r in one] for one in groups]


def no_judge(problems):
    raise AssertionError("nobody was to be asked")


@pytest.mark.parametrize(("reward", "step", "source"), [
    ("majority", 0, "majority"), ("verifier until 30 then judge", 29, "verifier"),
    ("verifier until 30 then judge", 30, "judge"),
])
def test_whose_word_counts_at_a_step(reward, step, source):
    assert labels.source_at(reward, step) == source


@pytest.mark.parametrize("reward", ["jury", "judge until then majority", "judge until 3", ""])
def test_words_that_mean_nothing_are_refused(reward):
    with pytest.raises(ConfigError, match="reward: "):
        check(Config(reward=reward))


def test_a_probability_never_reaches_one():
    """With right_at at 1 no candidate would ever count as right, and nothing but "No" be recycled."""
    with pytest.raises(ConfigError, match="right_at"):
        check(Config(reward="judge_probability"))


def test_the_majority_is_right_even_where_it_errs(group):
    """TTRL: 105 is wrong and most frequent (105.0 is the same answer). The reference must not be left in the problem,
    or a reflection would still be rewarded by it."""
    (one,), _ = labels.relabel([group("105", "102", "105.0", None)], "majority", no_judge, "answer", random.Random(0))
    assert [r.reward for r in one] == [1.0, 0.0, 1.0, 0.0]
    assert [r.truth for r in one] == [0.0, 1.0, 0.0, 0.0]
    assert {r.problem.answer for r in one} == {"105"}


def test_a_tie_goes_to_the_first_answer(group):
    tied = [group("7", "102", "102", "7")]
    assert rewards(labels.relabel(tied, "majority", no_judge, "answer", random.Random(0))[0]) == [[1.0, 0.0, 0.0, 1.0]]


def test_where_nobody_answers_nothing_is_right_and_no_answer_can_become_it(group):
    (one,), _ = labels.relabel([group(None, None)], "majority", no_judge, "answer", random.Random(0))
    assert [r.reward for r in one] == [0.0, 0.0] and one[0].problem.answer == labels.NOBODY
    assert not labels.same_answer("", labels.NOBODY) and not labels.same_answer("102", labels.NOBODY)


def judge_by(table: dict[str, float | None], seen: list):
    """A judge whose P(Yes) depends on the shown answer."""

    def judge(problems: list[Problem]) -> list[float | None]:
        seen.extend(problems)
        return [table[labels.extract_boxed(p.meta["candidates"][0].text)] for p in problems]

    return judge


def test_the_judge_marks_each_response(group):
    """P(Yes) of 0.5 is a Yes; an unreadable verdict and a response without a box are 0. The right answer is the one
    with the largest sum: 105 has 0.6, 102 twice 0.5."""
    seen: list[Problem] = []
    judge = judge_by({"105": 0.6, "102": 0.5, "7": None}, seen)
    groups = [group("105", "102", None, "102", "7"), group("7", "7")]
    marked, _ = labels.relabel(groups, "judge", judge, "answer", random.Random(0))
    assert rewards(marked) == [[1.0, 1.0, 0.0, 1.0, 0.0], [0.0, 0.0]]
    assert [one[0].problem.answer for one in marked] == ["102", labels.NOBODY]
    assert len(seen) == 6 and {p.kind for p in seen} == {"pointwise"}
    assert all("102" not in p.prompt for p in seen if labels.extract_boxed(p.meta["candidates"][0].text) != "102")
    numbers, _ = labels.relabel(groups, "judge_probability", judge, "answer", random.Random(0))
    assert rewards(numbers) == [[0.6, 0.5, 0.0, 0.5, 0.0], [0.0, 0.0]]


def test_the_judge_filters_the_majority(group):
    """CoVerRL: the majority's own responses must be believed on average; a group that is not is left out whole."""
    judge = judge_by({"105": 0.4, "102": 0.7}, [])
    groups = [group("105", "105", "102"), group("102", "105", "102"), group(None, None)]
    kept, left_out = labels.relabel(groups, "majority_and_judge", judge, "answer", random.Random(0))
    assert rewards(kept) == [[1.0, 0.0, 1.0]] and len(left_out) == 2


def test_a_noisy_verifier_errs_at_its_rates(group):
    groups = [group("102", "105") for _ in range(2000)]
    noisy = labels.with_noise(groups, Noise(0.3, 0.1), seed=0, stream=(0, "solve"))
    right, wrong = zip(*rewards(noisy))
    assert sum(right) / 2000 == pytest.approx(0.9, abs=0.03) and sum(wrong) / 2000 == pytest.approx(0.3, abs=0.03)
    assert [r.truth for r in noisy[0]] == [1.0, 0.0]
    again = labels.with_noise(groups, Noise(0.3, 0.1), seed=0, stream=(0, "solve"))
    other = labels.with_noise(groups, Noise(0.3, 0.1), seed=0, stream=(1, "solve"))
    assert rewards(again) == rewards(noisy) != rewards(other)


def test_a_systematic_verifier_always_errs_alike(group):
    """The same wrong answer is let pass always or never, whatever the step; over many answers the rate is kept."""
    wrong = [str(n) for n in range(500, 1500)]
    first, second = (labels.with_noise([group(*wrong)], Noise(0.3, 0.0, True), 0, (step, "solve")) for step in (0, 9))
    assert rewards(first) == rewards(second)
    assert sum(r.reward for r in first[0]) / 1000 == pytest.approx(0.3, abs=0.05)


def test_verdicts_and_partial_rewards_are_not_touched(rollout, arithmetic_problem):
    """What a verdict is compared with is a noisy mark already: noise on top would be another experiment."""
    verdict = rollout("Yes", replace(arithmetic_problem(), kind="pointwise", answer="Yes"), reward=1.0)
    partial = rollout("112", reward=0.5)
    (marked,) = labels.with_noise([[verdict, partial]], Noise(1.0, 1.0), 0, (0, "judge"))
    assert [r.reward for r in marked] == [1.0, 0.5]
