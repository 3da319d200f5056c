"""Test time: judge the own answer, reflect where it was judged wrong. The model is a script of replies."""

import random

import pytest

from spark_lib.reflect import judge_and_reflect
from spark_lib.rollout import Rollout
from spark_lib.verify import extract_boxed


class Script:
    """Stands for the sampler: what is said about each proposed answer, and what a reflection on it gives instead.

    verdicts: answer -> "Yes", "No" or anything else; reflections: answer -> the next response's text.
    """

    def __init__(self, rollout, verdicts: dict[str, str], reflections: dict[str, str]):
        self.rollout, self.verdicts, self.reflections = rollout, verdicts, reflections
        self.calls: list[tuple[str, list[str]]] = []  # stream, proposed answers
        self.prompts: list[str] = []

    def __call__(self, problems, n, stream) -> list[list[Rollout]]:
        assert n == 1
        shown = [extract_boxed(p.meta["candidates"][0].text) or p.meta["candidates"][0].text for p in problems]
        self.calls.append((stream, shown))
        self.prompts += [p.prompt for p in problems]
        replies = []
        for problem, answer in zip(problems, shown):
            if problem.kind == "pointwise":
                verdict = self.verdicts[answer]
                r = self.rollout(problem=problem, text=f"\\boxed{{{verdict}}}", reward=float(verdict == problem.answer))
            else:
                text = self.reflections[answer]
                r = self.rollout(problem=problem, text=text, reward=float(extract_boxed(text) == problem.answer))
            replies.append([r])
        return replies


@pytest.fixture
def play(rollout, arithmetic_problem):
    """play(answers, verdicts, reflections, rounds, …) -> (script, history, turns); answers are texts."""

    def run(answers, verdicts, reflections, rounds=2, view="answer", **rule):
        made = [
            rollout(problem=arithmetic_problem((10 + i, 20, 772 - i)), text=text, reward=0.0,
                    finished="cut" not in text)
            for i, text in enumerate(answers)
        ]
        script = Script(rollout, verdicts, reflections)
        return script, *judge_and_reflect(made, rounds, view, script, random.Random(0), **rule)

    return run


def texts(round_: list[Rollout]) -> list[str]:
    return [r.text for r in round_]


def box(answer: str) -> str:
    return f"So \\boxed{{{answer}}}"


def test_accepted_answers_stand_and_rejected_ones_are_replaced(play):
    """Guards PAPER Eq. 9-11: the first answer that is judged right is final, also when another is still at work."""
    verdicts = {"1": "Yes", "2": "No", "3": "No", "22": "Yes", "33": "No"}
    reflections = {"2": box("22"), "3": box("33"), "33": box("333")}
    script, history, turns = play([box("1"), box("2"), box("3")], verdicts, reflections)
    assert [texts(round_) for round_ in history] == [
        [box("1"), box("2"), box("3")],
        [box("1"), box("22"), box("33")],
        [box("1"), box("22"), box("333")],
    ]
    assert script.calls == [
        ("judge 1", ["1", "2", "3"]), ("reflect 1", ["2", "3"]), ("judge 2", ["22", "33"]), ("reflect 2", ["33"]),
    ]
    kinds = [[turn.problem.kind for turn in story] for story in turns]
    assert kinds == [
        ["solve", "pointwise"],
        ["solve", "pointwise", "reflect", "pointwise"],
        ["solve", "pointwise", "reflect", "pointwise", "reflect"],
    ]


@pytest.mark.parametrize("rounds", [0, 1, 2, 3])
def test_at_most_so_many_rounds(play, rounds):
    """Guards the cost at test time, and the form of the result: one list of answers per round, and one before."""
    script, history, _ = play([box("2")], {"2": "No"}, {"2": box("2")}, rounds)
    assert len(history) == rounds + 1
    assert [stream for stream, _ in script.calls] == [f"{verb} {k + 1}" for k in range(rounds) for verb in
                                                      ("judge", "reflect")]


def test_it_stops_early_when_all_are_accepted(play):
    """Guards the early stop: nothing more is asked about an accepted answer, and the history has its full length."""
    script, history, _ = play([box("1"), box("1")], {"1": "Yes"}, {}, rounds=3)
    assert [shown for _, shown in script.calls if shown] == [["1", "1"]]
    assert [texts(round_) for round_ in history] == [[box("1")] * 2] * 4


@pytest.mark.parametrize("verdict", ["No", "Maybe", "", "yes and no"])
def test_every_verdict_but_yes_rejects(play, verdict):
    """Guards the acceptance rule: an unreadable verdict is no approval."""
    _, history, _ = play([box("2")], {"2": verdict}, {"2": box("3")}, rounds=1)
    assert texts(history[1]) == [box("3")]


@pytest.mark.parametrize("text, shown", [("it is 2", "it is 2"), (box("2") + ", but cut", "2")])
def test_an_answer_without_a_box_is_rejected_without_judging(play, text, shown):
    """Guards unboxed and cut-off answers: there is nothing to judge, so the round goes to reflecting."""
    script, history, turns = play([text], {"2": "Yes", "5": "Yes"}, {shown: box("5")})
    assert [call for call in script.calls if call[1]] == [("reflect 1", [shown]), ("judge 2", ["5"])]
    assert texts(history[-1]) == [box("5")]
    assert [turn.problem.kind for turn in turns[0]] == ["solve", "reflect", "pointwise"]


@pytest.mark.parametrize("view", ["answer", "trace", "both"])
def test_neither_the_reference_nor_a_mark_is_used(play, view):
    """Guards test time against cheating: no prompt holds the reference (802), and the answers' marks change nothing."""
    verdicts, reflections = {"1": "Yes", "2": "No", "3": "No"}, {"2": box("3"), "3": box("2")}
    script, history, _ = play([box("1"), box("2")], verdicts, reflections, view=view)
    assert {r.problem.answer for r in history[-1]} == {"802"}
    assert script.prompts and not any("802" in prompt for prompt in script.prompts)
    assert texts(history[-1]) == [box("1"), box("2")]  # both wrong; only the verdicts counted


def test_a_reflection_is_checked_against_the_questions_reference(play):
    """Guards the accuracy after each round: rewards of reflections are marks of the answer, not of the verdict."""
    _, history, _ = play([box("2")], {"2": "No", "802": "Yes"}, {"2": box("802")})
    assert [round_[0].reward for round_ in history] == [0.0, 1.0, 1.0]
    assert history[1][0].problem.meta["question"] == history[0][0].problem.meta["question"]


def test_answers_are_not_changed_in_place(play, rollout):
    """Guards the history: round 0 must still hold the first answers, or every round shows the last."""
    answers = [rollout(text=box("2"), reward=0.0)]
    script = Script(rollout, {"2": "No", "3": "No"}, {"2": box("3"), "3": box("4")})
    history, _ = judge_and_reflect(answers, 2, "answer", script, random.Random(0))
    assert [texts(round_) for round_ in history] == [[box("2")], [box("3")], [box("4")]]
    assert texts(answers) == [box("2")]


def test_no_answers():
    """Guards an evaluation of nothing."""
    history, turns = judge_and_reflect([], 2, "both", lambda problems, n, stream: [], random.Random(0))
    assert history == [[], [], []] and turns == []


def test_an_own_rule_decides_instead_of_the_verdict(play):
    """Guards accept=probability: the rule sees the judgement, and the written verdict is then no longer read."""
    verdicts, reflections = {"1": "Yes", "2": "No", "3": "Yes"}, {"1": box("3"), "3": box("4")}
    _, history, _ = play([box("1"), box("2")], verdicts, reflections, accept=lambda j: j.text == "\\boxed{No}")
    assert [texts(round_) for round_ in history] == [[box("1"), box("2")], [box("3"), box("2")], [box("4"), box("2")]]


def test_without_early_stop_every_answer_is_judged_again(play):
    """Guards early_stop=false: an accepted answer stays, but each round asks about it anew."""
    verdicts, reflections = {"1": "Yes", "2": "No", "22": "Yes"}, {"2": box("22")}
    script, history, turns = play([box("1"), box("2")], verdicts, reflections, early_stop=False)
    assert script.calls == [
        ("judge 1", ["1", "2"]), ("reflect 1", ["2"]), ("judge 2", ["1", "22"]), ("reflect 2", []),
    ]
    assert [texts(round_) for round_ in history] == [[box("1"), box("2")]] + [[box("1"), box("22")]] * 2
    assert [len(story) for story in turns] == [3, 4]
