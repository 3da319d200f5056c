"""Every evaluation set: a fixture in its real schema, and right and wrong answers of each kind that its rows have."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from conftest import fixture_benchmark as load

from spark_lib import prompts
from spark_lib.config import ConfigError
from spark_lib.evaluation import scoring
from spark_lib.evaluation.benchmarks import (
    BENCHMARKS,
    SUITES,
    chosen,
    inline_options,
    load_benchmark,
    mark,
    notes,
    reachable,
    refuse_without_vision,
    score,
)
from spark_lib.model.vision import images_of, load_image
from spark_lib.verify import number_in

pytestmark = pytest.mark.usefixtures("own_cache")


def box(answer: str) -> str:
    return f"I think about it. So \\boxed{{{answer}}}."


# name: for each problem (right answers, wrong answers), as they stand in the box
CASES = {
    "gsm8k": [
        (["1224", "1,224", r"1224\text{ rolls}"], ["1", "224", "1.224", ""]),
        (["3", "3.0"], ["5", "3 or 5", "2"]),
    ],
    "math500": [
        ([r"\sqrt2", r"\frac{2}{\sqrt{2}}"], ["2", "1.414"]),
        (["x^2+2x+1", "(x+1)^2"], ["x^2+1"]),
        (["(-2, 2)", "-2<x<2"], ["[-2,2]", "(2,-2)"]),
    ],
    "aime24": [(["025", "25"], ["0025.5", "250", "52"]), (["204", "0204"], ["24", "20"])],
    "aime25": [(["70", "070"], ["7"])],
    "amc23": [(["27", "27.0"], ["72", "2.7"]), (["0.125", r"\frac18"], ["0.12", "8"])],
    "mmlu_stem": [
        (["B", "(b)", "Carbon dioxide", "B. Carbon dioxide"], ["A", "Oxygen", "B or C", "B. Oxygen", "1"]),
        (["B", "(B) 8"], ["8", "D"]),  # two options read 8, so that only the letter tells
    ],
    "mathvista": [
        (["4", "4.0", "4.7", r"4\text{ corners}"], ["5", "3.99", "four or five", ""]),
        (["1.2", "1.24", "1.16", r"1.2\text{ m}"], ["1.1", "1.26", "12"]),
        (["C", "(C)", "90°", r"90^\circ"], ["B", "60°", "91"]),
        (["[2007, 2008]", "[2007,2008]"], ["[2008, 2007]", "2007", "[2007]"]),
        (["0.35", "0.351", r"\frac{35}{100}"], ["0.36", "0.3"]),
    ],
    "mathvision": [(["1", "1.0"], ["2", "A"]), (["B", "9", "(B)"], ["A", "12", "6"]), (["E", "(e)"], ["D", "5"])],
    "wemath": [
        (["B", "9", "B. 9"], ["A", "8"]),
        (["A"], ["B"]),
        (["C", "81"], ["D", "No correct answer"]),
        (["B"], ["C"]),
        (["C"], ["D"]),
        (["A"], ["E"]),
    ],
    "mathverse": [(["B", "9"], ["A", "6", "B, A"]), (["B", "9"], ["C", "12"]), ([r"\frac12", "0.5"], ["2", "B"])],
    "dynamath": [
        (["3.142", "3.1415", "3.143", r"\pi", "π"], ["3.144", "3.14", "3.1409", "A", ""]),
        (["A", "(A)", "a", "A. blue"], ["B", "A or B", "blue"]),
        (["blue", "Blue", r"\text{blue}"], ["red", "blue or red", "bleu"]),
        (["6.283", r"2\pi", "6.2825", r"2\,\pi"], ["6.29", r"3\pi"]),
        (["B"], ["A"]),
        (["red"], ["blue"]),
    ],
    "logicvista": [
        (["A, C", "C, A", "AC", "(A) and (C)", "a, c", r"\text{A, C}"], ["A", "C", "A, B, C", "A, D", "all", ""]),
        (["D", "(d)"], ["A, D", "A"]),
    ],
    "mmk12": [
        (["A", "25", "A. 25"], ["D", "5"]),
        (["C", "(C)", "C. gravity"], ["A", "C or A", "A. x C. y", "C. y A. x", "gravity"]),
    ],
    "vl_rewardbench": [
        (["A", "(a)"], ["B", "9", ""]),
        (["A"], ["B"]),
        (["B", r"\text{B}"], ["A", "A or B"]),
        (["B"], ["A"]),
    ],
    "mmbench": [(["A", "square"], ["B", "circle", "C"]), (["C", "blue", "(c)"], ["A", "nan"])],
    "mmstar": [(["A", "square", "A: square"], ["D", "circle"]), (["D", "d."], ["B", "ABCD"])],
    "mmmu": [
        (["B", "the circle's", "(B)"], ["A", "It's a square", "none"]),
        (["0.67", "0.667", "0.6651", r"\frac23"], ["0.66", "0.7", "2"]),
        (["two", "2", "Two", "2.0"], ["three", "3", "['two', '2']"]),
    ],
    "scienceqa": [(["B", "square"], ["A", "circle", "1"])],
    "pope": [
        (["Yes", "yes.", r"\text{yes}"], ["No", "sey", "", "Yes or no"]),
        (["no", "No."], ["yes", "on", "None"]),
    ] * 2,
    "seedbench": [(["B", "circle"], ["A", "square"]), (["D", "it turns round"], ["C"])],
    "realworldqa": [
        (["B", "b."], ["A", "blue", "A or B"]),
        (["1", "1."], ["2", "11"]),
        (["Yes", "yes"], ["no", "maybe"]),
    ],
}


def test_every_set_has_its_cases_and_every_suite_its_sets():
    """Guards the table: the counts of the paper's Tables 1, 2 and 4, and no set without a test of its rule."""
    assert set(CASES) | {"rewardbench2", "mmvet"} == set(BENCHMARKS)
    assert [len(chosen(suite)) for suite in SUITES] == [6, 7, 2, 8]
    assert all(benchmark.prompt in prompts.BENCHMARK for benchmark in BENCHMARKS.values())
    assert all(r"\boxed{" in prompt.format(**dict.fromkeys(["question", "candidate", *"abcd"], "x"))
               for prompt in prompts.BENCHMARK.values())


@pytest.mark.parametrize("name", CASES)
def test_right_and_wrong_answers(name: str):
    """Guards each set's rule on each kind of its rows, from the file to the mark."""
    problems = load(name)
    assert len(problems) == len(CASES[name])
    rows = [(p, box(said), 1.0 * is_right) for p, cases in zip(problems, CASES[name])
            for is_right, answers in zip((True, False), cases) for said in answers]
    marks = mark(name, [row[0] for row in rows], [row[1] for row in rows])
    assert [(row[0].answer, row[1]) for row, got in zip(rows, marks) if got != row[2]] == []
    assert mark(name, problems, ["no box"] * len(problems)) == [0.0] * len(problems)
    result = score(name, problems, [box(cases[0][0]) for cases in CASES[name]])
    assert result["accuracy"] == 1.0 and result["n"] == len(problems)


def test_prompts_show_the_question_and_the_options_and_never_the_answer():
    """Guards against an answer or a neighbouring field that leaks into the prompt, and options left out."""
    (plants, _) = load("mmlu_stem")
    assert plants.prompt.endswith("Which gas do plants take in?\n(A) Oxygen\n(B) Carbon dioxide\n(C) Helium\n(D) Neon")
    assert load("gsm8k")[0].prompt == prompts.SOLVE[0].format(question=load("gsm8k")[0].meta["question"])
    shape, sky = load("mmbench")
    assert "nan" not in shape.prompt and "The sky has it too.\nWhich colour is it?\n(A) red" in sky.prompt
    (corners,) = load("scienceqa")
    assert "Count the corners.\nWhich shape is it?" in corners.prompt
    whole, in_image, _ = load("mathverse")
    assert "The square has side 3" in whole.prompt and "side 3" not in in_image.prompt
    assert "question shown in the image" in in_image.prompt
    assert load("mathvista")[2].prompt.count("(C) 90°") == 1
    assert "Options" in load("mmstar")[0].prompt and load("mmstar")[0].prompt.count("circle") == 1
    assert "A. 8; B. 9" in load("wemath")[0].prompt


@pytest.mark.parametrize("question, options", [
    ("x\nA. 1\nB. 2", ("1", "2")),
    ("x\nOptions: A: a, b, B: c, C: d", ("a, b", "c", "d")),
    ("x\n(A) 1\n(B) 2\n(C) 3", ("1", "2", "3")),
    ("Choose A, B, C or D", ()),
    ("Is A. Smith, B. Jones' friend, here?\nA. yes\nB. no", ("yes", "no")),
    ("x\nA. 1\nC. 2", ()),
    ("x\nA. 1", ()),
    ("", ()),
])
def test_options_that_stand_in_the_question(question, options):
    """Guards the options' texts: a letter in prose is no option, and a gap means that we did not understand."""
    assert inline_options(question) == options


# --- references that no response reaches ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_reference_of_the_fixtures_is_reached(name: str):
    """Guards against problems that are left out though the rule can confirm them, lists and alternatives included."""
    problems = load(name)
    assert reachable(name, problems) == (problems, [])
    assert "".join(notes(name, [])) == BENCHMARKS[name].note


def test_a_reference_out_of_reach_is_told_and_left_out(tmp_path):
    """Guards against a data error that counts as the model's: an open brace, an option that is not listed."""
    (tmp_path / "math500.jsonl").write_text("".join(
        json.dumps({"problem": "x", "answer": answer, "level": 1, "subject": "Algebra"}) + "\n"
        for answer in ("2", r"\frac{1", r"\frac12")
    ))
    problems = load_benchmark("math500", str(tmp_path))
    kept, lost = reachable("math500", problems)
    assert [p.answer for p in kept] == ["2", r"\frac12"] and [p.answer for p in lost] == [r"\frac{1"]
    assert notes("math500", lost) == [
        r"Left out: 1, whose reference answer math500's rule cannot confirm (row 1: '\\frac{1')."
    ]
    (shape,) = load("seedbench")[:1]
    assert reachable("seedbench", [replace(shape, answer="E")])[1]
    assert len(notes("math500", lost * 30)[0].split("row 1")) == 21


# --- images ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in BENCHMARKS if BENCHMARKS[name].images])
def test_image_sets_carry_their_images(name: str):
    """Guards against a vision set that is asked blind: each problem has an image that opens."""
    for problem in load(name):
        assert images_of(problem)
        for image in images_of(problem):
            assert load_image(image).size == (16, 16)


def test_several_images_keep_their_order():
    """Guards MMMU's <image 2> and SEED-Bench's video frames."""
    counts = [len(images_of(p)) for name in ("mmmu", "seedbench") for p in load(name)]
    assert counts == [2, 1, 1, 1, 3]
    colours = [load_image(image).getpixel((8, 8)) for image in load("mmmu")[0].image]
    assert colours == [(255, 0, 0), (0, 0, 255)]


def test_a_model_without_vision_is_refused_in_one_line():
    refuse_without_vision(chosen("text_reasoning") + ["rewardbench2"])
    with pytest.raises(ConfigError, match="^benchmarks: pope, mmmu: images are shown, and this model reads text only"):
        refuse_without_vision(["gsm8k", "pope", "mmmu"])


# --- figures of the sets' own scorers ----------------------------------------------------------------------------


def test_rewardbench2_four_way():
    """Guards the rule of the generative evaluation: 1, 0, or 0.25 for a text without a verdict; mean of subsets."""
    problems = load("rewardbench2", seed=3)
    four = [p for p in problems if "right" not in p.meta]
    for problem in four:
        at = problem.prompt.index(f"\n{problem.answer}: ")
        gold = {"What is the capital of France?": "Paris.", "What is 2+2?": "4", "What is 3*3?": "9"}
        assert problem.prompt[at + 4 :].startswith(gold[problem.meta["question"]] + "\n")
    right = [box(p.answer) for p in four]
    wrong = [box("B" if p.answer == "A" else "A") for p in four]
    for text in ("", "I like them all.", box("A or B"), box("E"), box(""), "A"):
        assert mark("rewardbench2", four, [text] * 3) == [0.25] * 3
    assert score("rewardbench2", four, right)["accuracy"] == 1
    assert score("rewardbench2", four, wrong)["accuracy"] == 0
    found = score("rewardbench2", four, [right[0], wrong[1], ""])  # Factuality, Math, Math
    assert found == {"accuracy": (1 + 0.125) / 2, "n": 3, "subsets": {"Factuality": 1.0, "Math": 0.125}}


def test_rewardbench2_shuffles_the_gold_answer():
    """Guards against a place that gives the gold answer away, and a shuffle that changes from run to run."""
    places = "".join(load("rewardbench2", seed=seed)[1].answer for seed in range(30))
    assert set(places) == set("ABCD")
    assert load("rewardbench2", seed=5)[1].answer == places[5]


def official_ties(scores: dict[str, tuple[list, list]]) -> float:
    """The published formula, written with NumPy: accuracy of both versions, preference, hard preference, margin."""
    stats = {key: (min(r) > max(w), max(r) - min(r), min(r) - max(w)) for key, (r, w) in scores.items()}
    ref, tied = ({k.split(":")[1]: v for k, v in stats.items() if k.startswith(t)} for t in ("ref", "tied"))
    both = sorted(set(ref) & set(tied))
    spread, gap = (np.array([tied[k][i] for k in both], float) for i in (1, 2))
    hard = np.minimum(np.array([ref[k][2] for k in both], float), gap)
    with np.errstate(all="ignore"):
        margin = np.nan_to_num(np.tanh(hard / spread - 1), nan=0.0)
    accuracy = 0.3 * np.mean([v[0] for v in tied.values()]) + 0.3 * np.mean([v[0] for v in ref.values()])
    return accuracy + 0.2 * np.mean(gap > spread) + 0.2 * np.mean(hard > spread) + 0.01 * np.mean(margin)


@pytest.mark.parametrize("seed", range(20))
def test_ties_score_is_the_official_formula(seed: int):
    """Guards the Ties subset, -1 for unreadable ratings and divisions by a spread of 0 included."""
    rng = np.random.default_rng(seed)
    scores = {}
    for n in range(6):
        for version, right in (("tied", 3), ("ref", 1)):
            scores[f"{version}:{n}"] = tuple(list(map(int, rng.choice([-1, 1, 5, 8, 9, 10], k))) for k in (right, 2))
    rated = [({"id": key, "right": side == 0}, value)
             for key, sides in scores.items() for side, values in enumerate(sides) for value in values]
    assert scoring.ties_score(rated) == pytest.approx(official_ties(scores))


def test_ties_are_rated_one_by_one():
    """Guards the whole way of the Ties subset, from the rows to the overall mean."""
    ties = [p for p in load("rewardbench2") if "right" in p.meta]
    assert len(ties) == 4 + 3 and all("1 (bad) to 10 (good)" in p.prompt for p in ties)
    assert "Answer: Blue." in ties[1].prompt and ties[1].meta["right"] and not ties[2].meta["right"]
    ratings = ["9", "8", "3", "1", "10", "2", "1"]
    found = score("rewardbench2", ties, [box(rating) for rating in ratings])
    best = 0.3 + 0.3 + 0.2 + 0.2 + 0.01 * math.tanh(min(8 - 3, 10 - 2) / (9 - 8) - 1)
    assert found["accuracy"] == found["subsets"]["Ties"] == pytest.approx(best)
    assert set(mark("rewardbench2", ties, ["x"] * 7)) == {None}
    unreadable = [scoring.rating(text) for text in (box("0"), box("11"), box("7.5"), box("7 or 8"), "9", box("high"))]
    assert unreadable == [-1] * 6 and scoring.rating(box("10")) == 10


def test_vl_rewardbench_macro_average():
    """Guards the groups: the mean over groups, not over rows."""
    problems = load("vl_rewardbench")
    right = [box(p.answer) for p in problems]
    found = score("vl_rewardbench", problems, [right[0], "", right[2], ""])
    assert found | {"accuracy": 0.5, "reasoning": 0.5, "math": 1.0, "hallucination": 1.0, "general": 0.0} == found
    assert found["macro_average"] == pytest.approx(0.5)
    assert "A: 9\nB: 6" in problems[0].prompt  # 2 characters: as they stand
    assert "A: A shape.\nB: A red square." in problems[3].prompt  # 21 characters: swapped


def test_pope_figures():
    """Guards precision and recall of "yes", and that a text without an answer is no way to dodge a false alarm."""
    problems = load("pope")  # gold: yes, no, yes, no
    found = score("pope", problems, [box("Yes"), box("Yes"), box("No"), "?"])
    assert (found["accuracy"], found["precision"], found["recall"], found["f1"]) == (0.25, 0.5, 0.5, 0.5)
    assert found["yes_rate"] == 0.5 and found["subsets"] == {"adversarial": 0.0, "popular": 0.0, "random": 0.5}
    assert score("pope", problems, [""] * 4)["f1"] == 0.0


def test_dynamath_average_and_worst_case():
    """Guards the worst case: a question counts only if every variant of it is right."""
    problems = load("dynamath")
    texts = [box(cases[0][0]) for cases in CASES["dynamath"]]
    texts[3] = box("0")  # the second variant of question 1
    found = score("dynamath", problems, texts)
    assert (found["accuracy"], found["worst_case"]) == (pytest.approx(5 / 6), pytest.approx(2 / 3))


def test_wemath_strict_and_loose():
    """Guards We-Math's score: mastery 1, only the steps 1/2, the whole without its steps 0."""
    problems = load("wemath")
    right = [box(p.answer) for p in problems]
    cases = [((), 1, 1), ((2, 5), 0.5, 0.5), ((0,), 0.5, 1), ((0, 1), 0.5, 0.5), ((0, 2), 0.5, 0.5)]
    for wrong, strict, loose in cases:
        found = score("wemath", problems, [box("D") if i in wrong else text for i, text in enumerate(right)])
        assert (found["strict"], found["loose"]) == (strict, loose), wrong


def test_mmvet_proxy_is_marked_as_one():
    """Guards against a rule-based figure that passes for the official one, and the <AND> and <OR> of its answers."""
    both, either = load("mmvet")
    texts = {"x is -1 or x is -5": 1.0, "x = -1": 0.5, "x is 1 or 5": 0.0, "x = -15": 0.0, "": 0.0}
    assert {text: mark("mmvet", [both], [text])[0] for text in texts} == texts
    texts = {"A blue circle.": 1.0, "It is ROUND": 1.0, "a disc": 1.0, "a blue square": 0.0, "around": 0.0}
    assert {text: mark("mmvet", [either], [text])[0] for text in texts} == texts
    assert score("mmvet", [both, either], ["-1", "round"]) == {"accuracy": 0.75, "n": 2, "proxy": True}


def test_numbers_in_boxes():
    cases = {"1,234": 1234, r"\frac{1}{2}": 0.5, "5 cm": 5, r"5\text{ apples}": 5, "-3": -3, "50%": 50, "1e3": 1000}
    assert {text: number_in(text) for text in cases} == cases
    assert [number_in(text) for text in ("", "x", "5 or 6", "5 wrong", r"\pi", "9" * 10**6, "\x00")] == [None] * 7


def test_unknown_names_are_told():
    with pytest.raises(ConfigError, match="suite: 'visual' is none of text_reasoning"):
        chosen("visual")
    with pytest.raises(ConfigError, match="benchmarks: there is no 'gsm'; there are gsm8k"):
        chosen(names=["gsm"])
    assert chosen("reward", ["gsm8k"]) == ["gsm8k", "rewardbench2", "vl_rewardbench"]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_no_text_makes_a_rule_raise(name: str):
    """Guards the evaluation against what a model may write."""
    problems = load(name)
    boxes = ["\ud800", "٣", "(((", "9" * 10**5, "*" * 999, r"\text" * 200, "A" * 999, "[" + "'" * 900]
    for text in ("", "\\boxed{", "\x00", "{" * 10**5, *map(box, boxes)):
        assert all(each in (0, 0.25, None) for each in mark(name, problems, [text] * len(problems))), text[:50]
        score(name, problems, [text] * len(problems))
