"""Figures of a scripted model, counted by hand."""

import random

import pytest

from spark_lib.config import Config
from spark_lib.evaluation import assessment
from spark_lib.evaluation.assessment import at_equal_tokens, beaten, curve, duel_problems, tokens_by_round
from spark_lib.evaluation.metrics import bootstrap
from spark_lib.evaluation.predictions import Prediction
from spark_lib.evaluation.settings import Evaluation
from spark_lib.problem import Problem
from spark_lib.reflect import Candidate
from spark_lib.verify import extract_boxed


class Script:
    """Stands for the model. answers, samples: texts by question; judge(candidate's answer) -> (verdict, P(Yes)), with
    an unreadable verdict as None; choose: pairs of answers as shown -> letter; reflections: answer -> new answer."""

    def __init__(self, answers: dict, samples: dict, judge: dict, choose: dict, reflections: dict):
        self.answers, self.samples, self.judge = answers, samples, judge
        self.choose, self.reflections = choose, reflections
        self.stages: list[tuple] = []

    def __call__(self, problems, n, stage, temperature=0.0) -> list[list[Prediction]]:
        self.stages.append((stage, len(problems), n, temperature))
        return [self.replies(problem, n) for problem in problems]

    def replies(self, problem: Problem, n: int) -> list[Prediction]:
        if problem.kind == "solve":
            said = self.samples if n > 1 else self.answers
            return [self.reply(problem, text) for text in said[problem.meta["question"]]]
        shown = tuple(extract_boxed(c.text) for c in problem.meta["candidates"])
        if problem.kind == "reflect":
            return [self.reply(problem, self.reflections[shown[0]])]
        verdict, p = self.judge[shown[0]] if problem.kind == "pointwise" else (self.choose[shown], None)
        text = f"\\boxed{{{verdict}}}" if verdict else "I do not know"
        return [Prediction(problem, text, True, float(verdict == problem.answer), 5, verdict, p)]

    def reply(self, problem: Problem, answer: str) -> Prediction:
        """An answer of 10 tokens; "cut 7" is cut off after the box, "none" has no box."""
        text = answer if answer == "none" else f"\\boxed{{{answer.split()[-1]}}}"
        finished = not answer.startswith("cut")
        return Prediction(problem, text, finished, float(finished and extract_boxed(text) == problem.answer), 10)


PROBLEMS = [Problem(f"What is {q}?", "1", meta={"question": q}) for q in "pqrs"]
SCRIPT = {
    "answers": {"p": ["1"], "q": ["2"], "r": ["none"], "s": ["1"]},
    "samples": {"p": ["1", "1", "2"], "q": ["2", "3", "2"], "r": ["cut 1", "1", "3"], "s": ["3", "1", "none"]},
    "judge": {"1": ("Yes", 0.9), "2": ("No", 0.2), "3": (None, None), "4": ("Yes", 0.6)},
    "choose": {("1", "2"): "A", ("2", "1"): "B", ("1", "3"): "A", ("3", "1"): "A"},
    "reflections": {"1": "4", "2": "1", "4": "4", None: "1"},
}


@pytest.fixture
def listen():
    """listen(key=value …) -> (script, Said) about the four problems."""

    def run(seed: int = 0, **given):
        script = Script(**SCRIPT)
        settings = Evaluation(samples=3, **given)
        return script, assessment.listen(PROBLEMS, script, "toy", seed, settings, Config())

    return run


def test_figures_by_hand(listen):
    """Guards every figure of results.json. Answers 1 are right. p: 1 1 2, q: 2 3 2, r: (cut) 1 3, s: 3 1 (none)."""
    _, said = listen()
    found = assessment.figures(said, 1.0)
    assert found["solve"] == {
        "accuracy": 2 / 4, "no_answer": 1 / 4, "cut_off": 0, "k": 3, "mean@k": pytest.approx(4 / 12), "pass@k": 3 / 4,
        "pass_at": pytest.approx([4 / 12, (1 + 0 + 2 / 3 + 2 / 3) / 4, 3 / 4]),
        # r: 1 and 3 have a vote each, whichever comes first wins: 1 in two of three turns of the list; s: 3 in two.
        "majority": pytest.approx((1 + 0 + 2 / 3 + 1 / 3) / 4),
    }
    judge = found["pointwise"]
    # Judged are 1 1 2, 2 3 2, 1 3, 3 1: four right ones said Yes, three 2s said No, three 3s unreadable.
    assert (judge["n"], judge["n_right"], judge["n_with_probability"]) == (10, 4, 7)
    assert judge["accuracy"] == 0.7 and judge["yes_rate"] == 0.4
    assert (judge["recall_yes"], judge["recall_no"], judge["balanced_accuracy"]) == (1, 0.5, 0.75)
    assert (judge["precision_no"], judge["f1_no"]) == (1, pytest.approx(2 / 3))
    assert judge["auroc"] == 1 and judge["brier"] == pytest.approx((4 * 0.1**2 + 3 * 0.2**2) / 7)
    assert judge["ece"] == pytest.approx((4 * 0.1 + 3 * 0.2) / 7)
    assert [(b["count"], b["frequency"]) for b in judge["bins"]] == [(3, 0), (4, 1)]
    # p: 1 against 2, the same both ways; r and s: 1 against 3, A both ways.
    choose = found["pairwise"]
    assert choose == {"accuracy": 4 / 6, "consistency": pytest.approx(1 / 3), "a_rate": pytest.approx(5 / 6), "n": 3}
    # q: 2 -> 1; p and s: 1 -> 4; r had no box.
    assert found["reflection"] == {"fix_rate": 1.0, "n_wrong": 1, "break_rate": 1.0, "n_right": 2}
    # p, s accepted; q: 2 -> 1, accepted; r: none -> 1, accepted.
    assert found["tts"] == {"accuracy": [0.5, 1, 1], "tokens": [10, 10 + (3 * 5 + 20) / 4, 10 + (3 * 5 + 20 + 10) / 4],
                            "fixed": [0, 2, 2], "broken": [0, 0, 0]}
    assert found["majority_vote"]["tokens"] == [10, 20, 30]
    assert found["best_of_n"]["tokens"] == pytest.approx([10, 2 * (10 + 50 / 12), 3 * (10 + 50 / 12)])
    assert found["best_of_n"]["accuracy"][-1] == 3 / 4
    assert set(found["equal_tokens"]) == {"best_of_n", "majority_vote", "weighted_vote"}
    assert found["equal_tokens"]["majority_vote"][0] == pytest.approx(1 / 3)


def figures(said: assessment.Said) -> dict:
    """What results.json holds of them: the figures and their intervals."""
    spans = {name: bootstrap(tally) for name, tally in assessment.tallies([said], 1.0).items()}
    return assessment.figures(said, 1.0) | {"intervals": spans}


def test_tables_by_hand(listen):
    """Guards the cells that are read: each figure in its row, the other methods at the tokens of the row."""
    from spark_lib.evaluation.report import difference_rows, sections

    _, said = listen()
    tables = sections(figures(said))
    with_interval = ("acc", "mean", "maj", "solving", "judging", "choosing")
    cells = [[row[:2] if row[0].startswith(with_interval) else row for row in rows] for rows in tables]
    assert cells == [
        [["solving", "%"], ["accuracy, first answers", "50.0"],
         ["no answer: cut off, or no box", "25.0", "cut off 0.0"],
         ["mean@3: accuracy of samples", "33.3"], ["pass@3: some sample is right", "75.0", ""],
         ["majority vote of 3", "50.0"]],
        [["judging 10 own answers", "%"], ["accuracy", "70.0"], ["balanced accuracy", "75.0", ""],
         ["says Yes", "40.0", "right are 40.0"]],
        [["verdict", "precision", "recall", "F1"], ["Yes", "100.0", "100.0", "100.0"], ["No", "100.0", "50.0", "66.7"]],
        [["probability of Yes", "ECE", "Brier", "AUROC"], ["7 verdicts", "0.143", "0.023", "1.000"]],
        [["choosing in 3 pairs of own answers", "%"], ["accuracy, both orders", "66.7"],
         ["same answer in both orders", "33.3", ""], ["says A", "83.3", ""]],
        [["reflecting on the first answer", "%", "of"], ["wrong answers fixed", "100.0", "1"],
         ["right answers broken", "100.0", "2"]],
        [["rounds of judge + reflect", "tokens", "%", "fixed", "broken", "best of n", "weighted vote", "majority vote"],
         ["0", "10", "50.0", "0", "0", "33.3", "33.3", "33.3"],
         ["1", "19", "100.0", "2", "0", "45.3", "45.3", "40.6"],
         ["2", "21", "100.0", "2", "0", "48.7", "48.7", "42.7"]],
    ]
    solve = {"value": 0.75, "baseline": 0.5, "difference": 0.25, "low": -0.1, "high": 0.4}
    assert difference_rows({"solve": solve}, "ours", "theirs") == [
        ["%", "ours", "theirs", "difference", "95 % interval"],
        ["accuracy, first answers", "75.0", "50.0", "+25.0", "[-10.0, +40.0]"],
    ]


def test_everything_is_greedy_but_the_samples(listen):
    """Guards "greedy": sampled verdicts would be other figures. The greedy answers are asked once for all seeds."""
    script, _ = listen(seed=3)
    assert [stage for stage, _, _, temperature in script.stages if temperature] == ["toy, seed 3: samples"]
    assert script.stages[0] == ("toy: answers", 4, 1, 0.0)


def test_all_is_sampled_where_greedy_is_false(listen):
    """Guards greedy=false: a chain that starts from a greedy answer is ahead of votes by what sampling costs, and one
    that were sampled the same for every seed would show no spread."""
    script, _ = listen(seed=3, greedy=False)
    assert {(stage.split(":")[0], temperature) for stage, _, _, temperature in script.stages} == {("toy, seed 3", 1.0)}
    assert script.stages[0] == ("toy, seed 3: answers", 4, 1, 1.0)
    assert len(script.stages) == len(listen(seed=3)[0].stages)


def test_probability_rule(listen):
    """Guards accept=probability: answers of at least the threshold stand, and no probability is no approval."""
    at_half = assessment.figures(listen(accept="probability", threshold=0.9)[1], 1.0)["tts"]
    assert at_half["accuracy"] == [0.5, 1, 1]  # 1 has exactly 0.9
    higher = assessment.figures(listen(accept="probability", threshold=0.95)[1], 1.0)["tts"]
    assert higher["accuracy"] == [0.5, 0.5, 0]  # p and s: 1 -> 4; q and r: -> 1 -> 4
    assert (higher["fixed"], higher["broken"]) == ([0, 2, 0], [0, 2, 2])
    unreadable = Prediction(PROBLEMS[0], "", True, 0.0, 1)
    assert not assessment.acceptance(Evaluation(accept="probability", threshold=0))(unreadable)


@pytest.mark.parametrize("parts, stages, keys", [
    ([], 1, {"solve"}),
    (["samples"], 2, {"solve", "majority_vote"}),
    (["judge"], 4, {"solve", "majority_vote", "best_of_n", "weighted_vote", "pointwise", "pairwise"}),
    (["reflect"], 6, {"solve", "reflection", "tts"}),
])
def test_only_the_parts_that_are_asked_for(listen, parts, stages, keys):
    """Guards the cost: a part that is left out asks the model nothing, and the tables do without it."""
    from spark_lib.evaluation.report import sections

    script, said = listen(parts=parts)
    found = assessment.figures(said, 1.0)
    assert set(found) == keys
    assert len(script.stages) == stages
    assert sections(figures(said))


def test_pairs_are_shown_in_both_orders_and_the_same_words(listen):
    """Guards position consistency: if the phrasing changed with the order, it would be blamed on the position."""
    _, said = listen()
    assert [len(pair) for pair in said.pairs] == [2, 0, 2, 2]
    for first, second in filter(None, said.pairs):
        shown, turned = first.problem.meta["candidates"], second.problem.meta["candidates"]
        assert shown == turned[::-1] and (first.problem.answer, second.problem.answer) == ("A", "B")
        assert [c.reward for c in shown] == [1, 0]
        before, after = first.problem.prompt, second.problem.prompt
        assert sorted(before) == sorted(after) and before != after


def test_nothing_to_judge(listen):
    """Guards base models: without any box there is no judging to measure, and that is no crash."""
    from spark_lib.evaluation.report import sections

    answers = {"p": ["cut 1"], "q": ["none"], "r": ["none"], "s": ["none"]}
    script = Script(answers, {q: ["none"] * 3 for q in "pqrs"}, {}, {}, {"1": "none", None: "none"})
    said = assessment.listen(PROBLEMS, script, "toy", 0, Evaluation(samples=3), Config())
    found = assessment.figures(said, 1.0)
    assert (found["solve"]["no_answer"], found["solve"]["cut_off"]) == (1, 0.25)
    assert "pointwise" not in found and found["tts"]["accuracy"] == [0, 0, 0]
    assert found["reflection"] == {"fix_rate": None, "n_wrong": 0, "break_rate": None, "n_right": 0}
    assert sections(figures(said))


def test_tallies_are_the_figures(listen):
    """Guards the intervals: the rate of each tally is the figure that the table shows beside it."""
    from spark_lib.evaluation.metrics import rate

    _, said = listen()
    found, tallies = assessment.figures(said, 1.0), assessment.tallies([said], 1.0)
    assert {name: rate(tally) for name, tally in tallies.items()} == pytest.approx({
        "solve": found["solve"]["accuracy"], "mean@k": found["solve"]["mean@k"], "majority": found["solve"]["majority"],
        "pointwise": found["pointwise"]["accuracy"], "pairwise": found["pairwise"]["accuracy"],
        "tts": found["tts"]["accuracy"][-1],
    })
    twice = assessment.tallies([said, said], 1.0)
    assert twice["solve"] == [(2, 2), (0, 2), (0, 2), (2, 2)] and twice["pointwise"][1] == (4, 6)
    assert assessment.figures(assessment.together([said, said]), 1.0)["solve"] == found["solve"]


# --- accuracy against tokens ----------------------------------------------------------------------------------


def story(*kinds: str) -> list[Prediction]:
    """Turns of the kinds with 1, 10, 100 … tokens."""
    return [Prediction(Problem("", "", kind), "", True, 0.0, 10**i) for i, kind in enumerate(kinds)]


@pytest.mark.parametrize("kinds, spent", [
    (("solve",), [1, 1, 1]),
    (("solve", "pointwise"), [1, 11, 11]),
    (("solve", "pointwise", "reflect"), [1, 111, 111]),
    (("solve", "pointwise", "reflect", "pointwise", "reflect"), [1, 111, 11111]),
    (("solve", "pointwise", "reflect", "reflect"), [1, 111, 1111]),  # the first reflection had no box to judge
    (("solve", "reflect", "pointwise"), [1, 11, 111]),  # the answer had none
    (("solve", "reflect", "reflect"), [1, 11, 111]),
    (("solve", "pointwise", "pointwise", "reflect"), [1, 11, 1111]),  # accepted at first, without early stop
])
def test_tokens_are_counted_in_the_round_that_spent_them(kinds, spent):
    """Guards the price in "accuracy against tokens": all tokens so far, a judgement without a reflection included."""
    assert tokens_by_round(story(*kinds), 2) == spent


def candidates(*rows: tuple) -> list[Candidate]:
    """(label, P(Yes), right) of each; an answer has 10 tokens and its judgement 5."""
    return [Candidate(label, p, right, 10, 5) for label, p, right in rows]


def test_curves_by_hand():
    """Guards the methods and their price. One problem with the answers a (right), b, b, of which the judge trusts a;
    with n of 3 samples each run of neighbours counts: ab, bb, ba for n = 2, where of equals the first is taken."""
    samples = [candidates((0, 0.9, True), (1, 0.3, False), (1, 0.4, False))]
    third = pytest.approx(1 / 3)
    assert curve("best_of_n", samples) == {"accuracy": [third, pytest.approx(2 / 3), 1.0], "tokens": [10, 30, 45]}
    assert curve("weighted_vote", samples) == {"accuracy": [third, pytest.approx(2 / 3), 1.0], "tokens": [10, 30, 45]}
    assert curve("majority_vote", samples) == {"accuracy": [third, third, 0.0], "tokens": [10, 20, 30]}


def test_methods_differ_where_they_should():
    """Guards weighted vote against best-of-n: three answers trusted a little outweigh one that is trusted more."""
    samples = [candidates((0, 0.6, False), (1, 0.3, True), (1, 0.3, True), (1, 0.1, True))]
    methods = ("best_of_n", "weighted_vote", "majority_vote")
    assert [curve(name, samples)["accuracy"][-1] for name in methods] == [0, 1, 1]


def test_no_answer_does_not_win():
    """Guards samples that were cut off: they have no vote, and the judge's trust in them is 0."""
    samples = [candidates((None, 0.0, False), (None, 0.0, False), (2, 0.1, True))]
    for name in ("best_of_n", "weighted_vote", "majority_vote"):
        assert curve(name, samples)["accuracy"][-1] == 1.0
    nothing = [candidates((None, 0.0, False), (None, 0.0, False))]
    assert curve("majority_vote", nothing)["accuracy"] == curve("best_of_n", nothing)["accuracy"] == [0.0, 0.0]


def test_equal_tokens():
    """Guards the comparison at the same price: each budget is read off each curve, None beyond its end."""
    curves = {"a": {"tokens": [10, 30], "accuracy": [0.2, 0.6]}, "b": {"tokens": [10, 20], "accuracy": [0.2, 0.3]}}
    assert at_equal_tokens([9, 20, 25], curves) == {"a": [0.2, pytest.approx(0.4), pytest.approx(0.5)],
                                                    "b": [0.2, 0.3, None]}


def said_by(*verdicts: str | None) -> list[Prediction]:
    return [Prediction(Problem("", "A", "pairwise"), "", True, 0.0, 7, verdict) for verdict in verdicts]


def test_a_duel_is_won_in_both_orders():
    """A judge who always says A prefers a place, not an answer: then nobody is beaten."""
    duels = {(0, 2): said_by("A", "B"), (0, 3): said_by("A", "A"), (2, 3): said_by("B", "A")}
    assert beaten(0, duels) == {2: (True, 14), 3: (False, 14)}
    assert beaten(2, duels) == {0: (False, 14), 3: (False, 14)}
    assert beaten(3, duels) == {0: (False, 14), 2: (True, 14)}
    assert beaten(None, duels) == {}


def test_a_tournament_by_hand():
    """Three answers of 10 tokens, the last of them right. It beats the second, which beats the first; nobody has met
    its equal, and an answer that cannot be read never fights. Draws of one, of two, of three."""
    duels = {(0, 1): said_by("B", "A"), (0, 2): said_by("A", "A"), (1, 2): said_by("B", "A")}
    group = [Candidate(label, 0.0, label == 2, 10, 0, beaten(label, duels)) for label in (0, 1, 2)]
    found = curve("tournament", [group])
    assert found["accuracy"] == [pytest.approx(1 / 3), pytest.approx(2 / 3), 1.0]
    # of two: 1 beats 0; 2 beats 1; 2 stays against 0. Of three: 0 1 2 -> 2; 1 2 0 -> 2; 2 0 1 -> 2 stays, stays
    assert [round(x, 6) for x in found["tokens"]] == [10, 34, 58]
    unread = [Candidate(None, 0.0, False, 10, 0), *group[1:]]
    assert curve("tournament", [unread])["accuracy"][-1] == 1.0


def test_every_two_answers_meet_once_in_both_orders():
    samples = [Prediction(Problem("", "3", meta={"question": "1 + 2"}), f"\\boxed{{{x}}}", True, 0.0, 5)
               for x in ("3", "4", "3", "5")]
    asked = duel_problems(samples, [0, 1, 0, 3], "answer", random.Random(0))
    assert list(asked) == [(0, 1), (0, 3), (1, 3)]
    for (first, second), (one, other) in asked.items():
        answers = [extract_boxed(samples[i].text) for i in (first, second)]
        assert [extract_boxed(r.text) for r in one.meta["candidates"]] == answers
        assert [extract_boxed(r.text) for r in other.meta["candidates"]] == answers[::-1]
        assert one.prompt.split("A: ")[0] == other.prompt.split("A: ")[0]  # the same words, or the order is not alone
