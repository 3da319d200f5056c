r"""Recycling: labels, balance and leaks of the problems that are made from verified groups.

Groups are written by hand: `group(right, wrong)` has that many finished responses boxing 102 and, each another, 9xx.
"""

import copy
import random
from collections import Counter

import pytest

from spark_lib.config import Config, Recycle
from spark_lib.problem import Problem
from spark_lib.recycle import about, candidates, compare, demonstration, draw, recycle, recycle_kind
from spark_lib.verify import extract_boxed, verify

KINDS = ["pointwise", "pairwise", "reflect"]
CUT_OFF = {"text": "On and on: \\boxed{102} and", "finished": False, "reward": 0.0}
NO_BOX = {"text": "It is 102.", "reward": 0.0}
NEVER_CLOSED = {"text": "Half a box: \\boxed{102", "reward": 0.0}


@pytest.fixture
def group(rollout, arithmetic_problem):
    """group(right, wrong, *fields of unusable ones, numbers=...) -> a verified group."""

    def build(right: int, wrong: int, *unusable: dict, numbers=(12, 34, 56)):
        problem = arithmetic_problem(numbers)
        answers = [problem.answer] * right + [str(900 + i) for i in range(wrong)]
        made = [rollout(a, problem, reward=float(a == problem.answer), response_ids=[i]) for i, a in enumerate(answers)]
        return made + [rollout(problem=problem, **fields) for fields in unusable]

    return build


@pytest.fixture
def groups(group):
    """Ten different questions, each with right, wrong and unusable responses."""
    return [group(3, 3, CUT_OFF, NO_BOX, NEVER_CLOSED, numbers=(10 + i, 40, 52 + i)) for i in range(10)]


def settings(problems: int = 60, judge_loss: str = "grpo", **recycle_settings) -> Config:
    """A Config whose judge_share pays for `problems` recycled problems."""
    config = Config(problems_per_step=problems, group_size=4, judge_group_size=4, judge_share=0.5,
                    judge_loss=judge_loss, recycle=Recycle(**recycle_settings))
    assert config.judge_problems == problems
    return config


def of_kind(kind: str, problems: list[Problem]) -> list[Problem]:
    return [problem for problem in problems if problem.kind == kind]


# --- labels --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", ["answer", "trace", "both"])
def test_labels_are_the_candidates_own_marks(groups, rng, view):
    """Guards the labels, which nobody checks later: a shifted one trains the judge on the opposite."""
    problems = recycle(groups, rng, settings(view=view))
    assert len(problems) == 60
    for problem in problems:
        shown = problem.meta["candidates"]
        source = shown[0].problem
        assert problem.meta["question"] == source.meta["question"] and problem.prompt.endswith(source.meta["question"])
        if problem.kind == "pointwise":
            assert problem.answer == ("Yes" if shown[0].reward == 1 else "No")
        elif problem.kind == "pairwise":
            a, b = shown
            assert (a.reward, b.reward) == ((1, 0) if problem.answer == "A" else (0, 1))
            assert a.problem is b.problem
            assert problem.prompt.index("A: " + text_of(a, problem)) < problem.prompt.index("B: " + text_of(b, problem))
        else:
            assert problem.answer == source.answer
        assert all(text_of(r, problem) in problem.prompt for r in shown)


def text_of(candidate, problem: Problem) -> str:
    return candidate.text if problem.meta["view"] == "trace" else extract_boxed(candidate.text)


@pytest.mark.parametrize("right_at, expected", [(1.0, [1.0]), (0.5, [0.5, 0.7, 1.0]), (0.6, [0.7, 1.0])])
def test_fractional_rewards_are_right_from_right_at_on(rollout, rng, right_at, expected):
    """Guards partial rewards of an own verifier: `reward == 1` or rounding would mark the others wrong, or 0.5 even."""
    rewards = [0.0, 0.4, 0.5, 0.7, 1.0]
    group = [rollout(str(i), reward=reward) for i, reward in enumerate(rewards)]
    right, wrong = candidates([group], right_at)
    assert [r.reward for r in right[0]] == expected
    assert [r.reward for r in wrong[0]] == [r for r in rewards if r not in expected]
    for problem in recycle([group], rng, settings(right_at=right_at)):
        marks = [r.reward in expected for r in problem.meta["candidates"]]
        if problem.kind == "pointwise":
            assert (problem.answer == "Yes") == marks[0]
        elif problem.kind == "pairwise":
            assert marks == [problem.answer == "A", problem.answer == "B"]


def test_only_solve_groups_are_recycled(rollout, arithmetic_problem, rng):
    """Guards against judges of judges: a verdict's box (Yes) is no answer to the question."""
    verdicts = [[rollout("Yes", arithmetic_problem(kind="pointwise"), reward=1.0)]]
    assert recycle(verdicts, rng, settings()) == []


# --- who is shown, and what of it ----------------------------------------------------------------------------


@pytest.mark.parametrize("view", ["answer", "trace", "both"])
@pytest.mark.parametrize("unusable", [CUT_OFF, NO_BOX, NEVER_CLOSED], ids=["cut off", "no box", "box not closed"])
def test_unusable_responses_are_never_shown(group, rng, unusable, view):
    """Guards a shortcut: "there is no answer, so No" teaches nothing about judging. A cut-off trace has a box here."""
    problems = recycle([group(2, 1, *[unusable] * 8)], rng, settings(view=view))
    assert len(problems) == 60
    for problem in problems:
        assert all(r.finished and r.text != unusable["text"] for r in problem.meta["candidates"])
        assert unusable["text"] not in problem.prompt + problem.meta["demonstration"]
    assert recycle([group(0, 0, *[unusable] * 8)], rng, settings(view=view)) == []


@pytest.mark.parametrize("view", ["answer", "trace"])
def test_the_view_decides_what_is_shown(groups, rng, view):
    """Guards the ablation answer | trace: the answer view must hide the reasoning, the trace view must show it."""
    problems = recycle(groups, rng, settings(view=view))
    assert {problem.meta["view"] for problem in problems} == {view}
    for problem in problems:
        assert problem.prompt.count("I add up.") == (len(problem.meta["candidates"]) if view == "trace" else 0)


@pytest.mark.parametrize("kind", ["pointwise", "reflect"])
def test_of_a_reflection_only_the_answer_is_shown(rollout, rng, kind):
    """Its text speaks of an answer that its judge does not see; showing it cost the second round more than the round
    mended."""
    first = rollout("121")
    reflection = rollout("141", about("reflect", [first], "141", "trace", rng))
    assert "I add up" in about(kind, [first], "Yes", "trace", rng).prompt
    again = about(kind, [reflection], "Yes", "trace", rng)
    assert "I add up" not in again.prompt and "141" in again.prompt and again.meta["view"] == "answer"


def test_both_views_are_mixed_half_and_half(groups, rng):
    """Guards PAPER Table 6, where mixing is best: `both` is a coin per problem, and one coin for a pair."""
    problems = recycle(groups, rng, settings(400))
    views = Counter(problem.meta["view"] for problem in problems)
    assert abs(views["trace"] - views["answer"]) < 80  # 4 standard deviations
    for problem in of_kind("pairwise", problems):
        assert problem.prompt.count("I add up.") in (0, 2)


def test_nothing_leaks_into_the_answer_view(groups, rng):
    """Guards the label: no prompt about a wrong answer holds the reference, and right and wrong ones differ in nothing
    but the candidate, so no wording, order or mark tells them apart."""
    problems = recycle(groups, rng, settings(400, view="answer", kinds=["pointwise", "reflect"]))
    shapes: dict[str, set] = {"Yes": set(), "No": set()}
    for problem in problems:
        (shown,) = problem.meta["candidates"]
        if shown.reward == 0:
            assert shown.problem.answer not in problem.prompt
        for word in ("reward", "1.0", "0.0", "True", "False", "Rollout", "demonstration"):
            assert word not in problem.prompt
        if problem.kind == "pointwise":
            bare = problem.prompt.replace(problem.meta["question"], "<question>")
            shapes[problem.answer].add(bare.replace(extract_boxed(shown.text), "<candidate>", 1))
    assert shapes["Yes"] == shapes["No"] and len(shapes["Yes"]) == 3  # the three phrasings


def test_an_empty_box_does_not_show_the_trace(rollout, rng):
    r"""Guards the answer view against \boxed{}: its reasoning would be shown, and copied into the demonstration."""
    group = [rollout("102", reward=1.0), rollout("", reward=0.0)]
    for problem in recycle([group], rng, settings(view="answer")):
        assert "I add up." not in problem.prompt


def test_images_and_choices_go_where_they_belong(rollout, rng):
    """Guards multiple choice and vision: a judge sees the image too, but its answer is no option of the question."""
    problem = Problem("Which?", "B", image="a.png", choices=("x", "y"), meta={"question": "Which?"})
    group = [rollout("B", problem, reward=1.0), rollout("A", problem, reward=0.0)]
    for made in recycle([group], rng, settings()):
        assert made.image == "a.png"
        assert made.choices == (("x", "y") if made.kind == "reflect" else ())


# --- balance -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("count", [1, 2, 7, 10, 33])
@pytest.mark.parametrize("kind", ["pointwise", "reflect"])
def test_the_share_of_right_candidates_is_as_configured(groups, kind, count, share):
    """Guards against judges that collapse to one verdict: classes are balanced within one, and on average exactly."""
    numbers = []
    for seed in range(40):
        config = Recycle(pointwise_right=share, reflect_right=share)
        problems = recycle_kind(kind, count, groups, random.Random(seed), config)
        right = sum(problem.meta["candidates"][0].reward == 1 for problem in problems)
        assert len(problems) == count and abs(right - count * share) < 1
        numbers.append(right)
    assert sum(numbers) / len(numbers) == pytest.approx(count * share, abs=0.3)


def test_the_defaults_balance_pointwise_and_show_some_right_answers_to_reflect_on():
    """Guards two faults of the public code: a drifting Yes-rate, and reflections in which disagreeing always pays."""
    assert Recycle().pointwise_right == 0.5
    assert 0 < Recycle().reflect_right < 1


@pytest.mark.parametrize("count", [2, 10, 60])
def test_a_and_b_are_right_equally_often(groups, count):
    """Guards against a position that pays: pairwise judges learn it at once."""
    for seed in range(20):
        problems = recycle_kind("pairwise", count, groups, random.Random(seed), Recycle())
        assert Counter(problem.answer for problem in problems) == {"A": count // 2, "B": count // 2}


@pytest.mark.parametrize("count", [1, 3])
def test_a_and_b_are_right_equally_often_at_odd_counts(groups, count):
    """Guards small steps: what one step cannot balance, the next ones must."""
    steps = [recycle_kind("pairwise", count, groups, random.Random(seed), Recycle()) for seed in range(200)]
    rate = sum(problem.answer == "A" for problems in steps for problem in problems) / (200 * count)
    assert 0.4 < rate < 0.6


@pytest.mark.parametrize("right, wrong, kinds", [(3, 0, {"pointwise", "reflect"}), (0, 3, {"pointwise", "reflect"})])
def test_a_missing_class_is_not_filled_up_with_the_other(group, rng, right, wrong, kinds):
    """Guards balance as accuracy rises: all right gives only its share of Yes, and a pair needs one of each."""
    problems = recycle([group(right, wrong)], rng, settings())
    assert {problem.kind for problem in problems} == kinds
    count = {kind: len(of_kind(kind, problems)) for kind in kinds}
    assert count["pointwise"] == 10
    assert count["reflect"] == (4 if right else 16)
    assert {p.answer for p in of_kind("pointwise", problems)} == {"Yes" if right else "No"}
    assert all(("demonstration" in p.meta) == bool(right) for p in problems)


@pytest.mark.parametrize("kinds", [KINDS, ["pointwise"], ["pairwise", "reflect"]])
def test_counts_follow_judge_share(groups, rng, kinds):
    """Guards the budget: the number of problems is what judge_share pays for, shared out equally by default."""
    made = Counter(p.kind for p in recycle(groups, rng, settings(12, kinds=kinds)))
    assert made == {kind: 12 // len(kinds) for kind in kinds}


def test_shares_divide_the_budget(groups, rng):
    """Guards recycle.shares: relative to each other, 0 leaves a kind out."""
    shares = {"pointwise": 3.0, "pairwise": 1.0, "reflect": 0.0}
    made = Counter(p.kind for p in recycle(groups, rng, settings(12, shares=shares)))
    assert made == {"pointwise": 9, "pairwise": 3}


@pytest.mark.parametrize("problems", [1, 2, 4, 5])
def test_small_budgets_are_spent_to_the_last_problem(groups, rng, problems):
    """Guards small steps: a budget that check() accepted must not round down to policy-only training."""
    assert len(recycle(groups, rng, settings(problems))) == problems


def test_groups_take_turns(groups, rng):
    """Guards variety: no question is used twice before each was used once."""
    counts = Counter(p.meta["question"] for p in recycle_kind("pairwise", 20, groups, rng, Recycle()))
    assert set(counts.values()) == {2} and len(counts) == 10
    assert sorted(draw([3, 4, 5], 7, rng)[:6]) == [3, 3, 4, 4, 5, 5]
    assert draw([], 7, rng) == []


# --- purity --------------------------------------------------------------------------------------------------


def test_the_same_rng_makes_the_same_problems_and_touches_nothing_else(groups):
    """Guards resuming bit for bit: no global random state is read or written, and the groups stay as they are."""
    before = copy.deepcopy(groups)
    state = random.getstate()
    first = recycle(groups, random.Random(7), settings())
    assert random.getstate() == state
    random.seed(1)
    assert recycle(groups, random.Random(7), settings()) == first
    assert recycle(groups, random.Random(8), settings()) != first
    assert groups == before


def test_nothing_to_recycle(group, rng):
    """Guards the empty cases: no groups, or policy-only training; neither may divide by zero."""
    assert recycle([], rng, settings()) == []
    assert recycle([group(2, 2)], rng, settings(kinds=[])) == []


# --- demonstrations (judge_loss: sft) ------------------------------------------------------------------------


@pytest.mark.parametrize("view", ["answer", "trace"])
def test_demonstrations_end_in_a_box_that_the_verifier_accepts(groups, rng, view):
    """Guards imitation: a target that its own verifier rejects would teach wrong verdicts, silently."""
    problems = recycle(groups, rng, settings(judge_loss="sft", view=view, kinds=[*KINDS, "solve"]))
    assert {p.kind for p in problems} == {*KINDS, "solve"}
    for problem in problems:
        text = problem.meta["demonstration"]
        assert text.endswith("}") and verify(text, problem), (problem, text)
        assert text.startswith("I add up. So \\boxed{1")  # a right solution: the wrong ones box 9xx


def test_a_demonstration_does_not_copy_the_candidate_that_it_judges(rollout, rng):
    """Guards against teaching to repeat: with another right response at hand, that one is the solution."""
    group = [rollout(text=f"Way {i}. \\boxed{{102}}", reward=1.0, response_ids=[i]) for i in range(2)]
    for problem in recycle_kind("pointwise", 20, [group], rng, Recycle(pointwise_right=1.0)):
        shown = problem.meta["candidates"][0].text
        other = "Way 0." if "Way 1." in shown else "Way 1."
        assert problem.meta["demonstration"].startswith(other)


@pytest.mark.parametrize("comparison", ["characters", "words"])
@pytest.mark.parametrize("kind", ["pointwise", "pairwise"])
def test_no_demonstration_where_marks_part_what_says_the_same(rollout, rng, kind, comparison):
    """Guards against "The proposed answer is 102, not 102. No", where the marks are a vote's, a noisy verifier's, or a
    rule's of one's own: the problem stands, without a text to imitate; where the other answer says so, it has one."""
    group = [rollout(reward=mark, response_ids=[i], text=f"\\boxed{{{answer}}}")
             for i, (answer, mark) in enumerate([("102", 1.0), ("102", 0.0), ("92", 0.0)])]
    problems = recycle_kind(kind, 40, [group], rng, Recycle(comparison=comparison, pointwise_right=0.0))
    assert {p.answer for p in problems} == ({"No"} if kind == "pointwise" else {"A", "B"})
    for problem in problems:
        first = extract_boxed(problem.meta["candidates"][0].text)
        contradicts = first == "102" and problem.answer in ("No", "B")
        assert ("demonstration" in problem.meta) == (not contradicts)
    assert 0 < sum("demonstration" in p.meta for p in problems) < 40


@pytest.mark.parametrize("key", ["B", "No"])
def test_a_reflection_whose_answer_looks_like_a_verdict_has_its_demonstration(rollout, rng, key):
    """Guards multiple choice and yes/no questions: their answer is no verdict that a demonstration could contradict."""
    problem = Problem("Which?", key, meta={"question": "Which?"})
    group = [rollout(problem=problem, reward=1.0, response_ids=[i], text=f"\\boxed{{{key}}}") for i in range(3)]
    problems = recycle_kind("reflect", 10, [group], rng, Recycle(reflect_right=1.0))
    assert problems and all("demonstration" in p.meta for p in problems)


@pytest.mark.parametrize("kind", [*KINDS, "solve"])
def test_demonstrations_of_the_likeliest_response(rollout, rng, kind):
    """Guards recycle.likeliest: the summed log-probs decide, a right response has them, and any candidate is shown."""
    logprobs = {"Short": [-0.5], "Likely": [-0.1] * 4, "Long": [-0.05] * 20, "Wrong": [-0.01]}
    made = [rollout(text=f"{name}. \\boxed{{{92 if name == 'Wrong' else 102}}}", reward=float(name != "Wrong"),
                    logprobs=logprobs[name]) for name in logprobs]
    for one, starts in ((True, {"Likely"}), (False, {"Short", "Likely", "Long"})):
        settings = Recycle(likeliest=one, pointwise_right=0.5, reflect_right=0.5)
        problems = [p for _ in range(20) for p in recycle_kind(kind, 2, [made], rng, settings)]
        assert {p.meta["demonstration"].split(".")[0] for p in problems} == starts
        if kind != "solve":
            assert len({r.text for p in problems for r in p.meta["candidates"]}) == 4


@pytest.mark.parametrize(
    "kind, answers, verdict, expected",
    [
        ("pointwise", ["102"], "Yes", r" The proposed answer is 102: 1 1 same, 0 0 same, 2 2 same. \boxed{Yes}"),
        ("pointwise", ["112"], "No", r" The proposed answer is 112: 1 1 same, 0 1 differ. \boxed{No}"),
        ("pairwise", ["102", "92"], "A", r" Answer A is 102: 1 1 same, 0 0 same, 2 2 same. \boxed{A}"),
        ("pairwise", ["92", "102"], "B", r" Answer A is 92: 1 9 differ. \boxed{B}"),
        ("reflect", ["92"], "102", ""),
    ],
)
def test_demonstrations_compare_in_writing(kind, answers, verdict, expected):
    """Guards the written comparison, without which imitation taught nothing (SCHEDULES.md)."""
    assert demonstration(kind, "So \\boxed{102} ", answers, verdict) == "So \\boxed{102}" + expected


@pytest.mark.parametrize(
    "kind, answers, verdict, expected",
    [
        ("pointwise", ["102"], "Yes", r"The proposed answer is 102, the same. \boxed{Yes}"),
        ("pointwise", ["112"], "No", r"The proposed answer is 112, not 102. \boxed{No}"),
        ("pairwise", ["102", "92"], "A", r"Answer A is 102, the same. \boxed{A}"),
        ("pairwise", ["92", "102"], "B", r"Answer A is 92, not 102. \boxed{B}"),
    ],
)
@pytest.mark.parametrize(
    "solution, kept",
    [
        ("97 + 5 = 102. \\boxed{102} ", "97 + 5 = 102. "),
        ("So it is \\boxed{102}.", "So it is 102. "),
        ("\\boxed{102}", "102. "),
        ("97 + 5 is about 102 - 1, so \\boxed{102}", "97 + 5 is about 102 - 1, so 102. "),
        ("The answer is $\\boxed{102}$.", "The answer is 102. "),
        ("Thus \\[ \\boxed{102} \\]", "Thus 102. "),
        ("So \\(\\boxed {102}\\)", "So 102. "),
        ("So \\\\boxed{102}", "So 102. "),
        ("So \\boxed{102}, and \\boxed{9", "So 102. "),
        ("97 + 5 = 1102, no: \\boxed{102}", "97 + 5 = 1102, no: 102. "),
        ("97 + 5 = 1102. \\boxed{102}", "97 + 5 = 1102. 102. "),
        ("Not \\boxed{9} but $97 + 5 = 102$. \\boxed{102} Done.", "Not \\boxed{9} but $97 + 5 = 102$. "),
    ],
)
def test_demonstrations_compare_in_words(kind, answers, verdict, expected, solution, kept):
    """Guards that the answer's box is gone: a model that always ends in it would stop there; and that the answer that
    is compared stands before the comparison."""
    text = demonstration(kind, solution, answers, verdict, "words")
    assert text == kept + expected and extract_boxed(text) == verdict


@pytest.mark.parametrize("comparison, word", [("words", ", not "), ("characters", " differ")])
def test_the_comparison_of_the_config_reaches_both_judgements(groups, rng, comparison, word):
    """Guards recycle.comparison, for a judgement of one answer as for that of two."""
    problems = recycle(groups, rng, settings(kinds=["pointwise", "pairwise"], comparison=comparison))
    told = {problem.answer: problem.meta["demonstration"] for problem in problems}
    assert {answer: word in text for answer, text in told.items()} == {"Yes": False, "No": True, "A": False, "B": True}


@pytest.mark.parametrize(
    "own, other, agrees, expected",
    [
        ("141", "131", False, "131: 1 1 same, 4 3 differ."),
        ("141", "141", True, "141: 1 1 same, 4 4 same, 1 1 same."),
        ("14", "141", False, "141: 1 1 same, 4 4 same, length differ."),
        ("141", "14", False, "14: 1 1 same, 4 4 same, length differ."),
        ("1/2", "0.5", True, "0.5: the same."),  # equal, though not by spelling
        ("x", "x" * 13, False, "x" * 13 + ": different."),
        ("x" * 13, "x" * 13, True, "x" * 13 + ": the same."),
        ("", "5", False, "5: length differ."),
    ],
)
def test_compare(own, other, agrees, expected):
    """Guards the comparison's last word, which must agree with the verdict that follows it."""
    assert compare(own, other, agrees) == expected
