"""Whose marks the Sampler gives: in training what reward and noise say, of held-out problems always the verifier's."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from spark_lib.clock import Clock
from spark_lib.config import Config, Noise
from spark_lib.rollout import Rollout
from spark_lib.sampling import roll
from spark_lib.sampling.labels import extract_boxed

ANSWERS = ("105", "102", "105", "7")  # to a question whose answer is 102
TRUE = [0.0, 1.0, 0.0, 0.0]
P_YES = {"105": 0.2, "102": 0.9, "7": 0.6}


@pytest.fixture
def sampler(rollout, monkeypatch) -> Callable[..., roll.Sampler]:
    """sampler(reward="majority") -> one whose responses are ANSWERS and whose judge believes by P_YES."""

    def verified(self, problems: list, n: int, stream: tuple, *_, **__) -> list[list[Rollout]]:
        if problems[0].kind == "pointwise":
            return [[rollout("Yes", replace(problem), reward=1.0)] * n for problem in problems]
        return [[rollout(answer, problem, reward=true) for answer, true in zip(ANSWERS, TRUE)] for problem in problems]

    def believed(model, tokenizer, verdicts: list[Rollout], tokens: int) -> list[float]:
        return [P_YES[extract_boxed(r.problem.meta["candidates"][0].text)] for r in verdicts]

    monkeypatch.setattr(roll.Sampler, "verified", verified)
    monkeypatch.setattr(roll, "yes_probabilities", believed)
    return lambda **keys: roll.Sampler(None, None, Config(**keys), None, None, Clock())


def marks(groups: list[list[Rollout]]) -> tuple[list[float], list[float | None]]:
    """(rewards, truths) of the first group."""
    return [r.reward for r in groups[0]], [r.truth for r in groups[0]]


@pytest.mark.parametrize(("keys", "rewards"), [
    ({"reward": "majority"}, [1.0, 0.0, 1.0, 0.0]),
    ({"noise": Noise(1.0, 1.0)}, [1.0, 0.0, 1.0, 1.0]),
    ({"noise": Noise(0.0, 1.0)}, [0.0, 0.0, 0.0, 0.0]),
    ({"noise": Noise(1.0, 0.0)}, [1.0, 1.0, 1.0, 1.0]),
    ({"reward": "judge"}, [0.0, 1.0, 0.0, 1.0]),
    # The majority does not see the marks that the noise makes; the truth is the verifier's own.
    ({"reward": "majority", "noise": Noise(1.0, 1.0)}, [1.0, 0.0, 1.0, 0.0]),
])
def test_training_learns_from_other_marks_and_an_evaluation_measures_the_truth(
    sampler, arithmetic_problem, keys, rewards
):
    """Marked by its own majority, a model would look better the surer it gets of what is wrong."""
    one = sampler(**keys)
    assert marks(one([arithmetic_problem()], 4, (0, "solve"))) == (rewards, TRUE)
    for stream in ("answers", "candidates", "verdicts"):
        assert marks(one.evaluating("before")([arithmetic_problem()], 4, stream)) == (TRUE, [None] * 4)
    assert marks(one([arithmetic_problem()], 4, ("evaluation", "verdicts"))) == (TRUE, [None] * 4)


def test_verdicts_are_marked_by_what_they_were_made_from(sampler, arithmetic_problem):
    """A judge problem's right answer is a mark already, whoever gave it: a vote on verdicts would be another thing."""
    asked = arithmetic_problem(kind="pointwise")
    for keys in ({"reward": "majority"}, {"reward": "judge"}, {"noise": Noise(1.0, 1.0)}):
        ((verdict,),) = sampler(**keys)([asked], 1, (0, "judge"))
        assert verdict.reward == 1.0 and verdict.problem.answer == asked.answer


def test_from_step_1_on_the_judge_marks(sampler, arithmetic_problem):
    """The switch, over two steps: the verifier's marks as they are, then the judge's, whose verdicts are set aside so
    that their tokens count."""
    one = sampler(reward="verifier until 1 then judge")
    assert marks(one([arithmetic_problem()], 4, (0, "solve"))) == (TRUE, [None] * 4) and not one.set_aside()
    assert marks(one([arithmetic_problem()], 4, (1, "solve"))) == ([0.0, 1.0, 0.0, 1.0], TRUE)
    assert [len(group) for group in one.set_aside()] == [1] * 4 and not one.set_aside()
