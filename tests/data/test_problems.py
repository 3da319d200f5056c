"""Problems: the data sets, their splits, and which problems a step sees."""

import json
import random
import re
from collections import Counter

import pytest

from spark_lib import seeds
from spark_lib.config import ConfigError
from spark_lib.data.load import arithmetic, load_problems, problems_of_step, split_of
from spark_lib.problem import Problem

SPLITS = ("train", "validation", "test")


@pytest.fixture
def jsonl(tmp_path):
    """jsonl(lines) -> path of a data file; a dict becomes a line of JSON."""

    def write(*lines) -> str:
        path = tmp_path / "data.jsonl"
        texts = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]
        path.write_text("\n".join(texts) + "\n", encoding="utf-8")
        return str(path)

    return write


def questions(problems: list[Problem]) -> list[str]:
    return [problem.meta["question"] for problem in problems]


# --- splits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "question, split",
    [("10 + 10 + 10 = ?", "test"), ("12 + 34 + 56 = ?", "train"), ("7", "validation"), ("Ist das wahr? äöü", "train")],
)
def test_splits_are_the_same_on_every_machine(question, split):
    """Guards held-out problems: Python's salted hash would put a question into another split in every process."""
    assert split_of(question) == split


def test_arithmetic_splits_are_disjoint():
    """Guards against training on what is evaluated, whatever the seeds of the two."""
    found = [set(questions(arithmetic(split, 500, seed))) for split in SPLITS for seed in (0, 1)]
    train, validation, test = (found[2 * i] | found[2 * i + 1] for i in range(3))
    assert not train & validation and not train & test and not validation & test
    shares = Counter(split_of(f"{i} + 11 + 12 = ?") for i in range(5000))
    assert [round(shares[split] / 5000, 1) for split in SPLITS] == [0.8, 0.1, 0.1]


def test_arithmetic_answers_are_right():
    """Guards the reference answers, which every reward rests on; and that no question comes twice."""
    problems = load_problems("arithmetic", "train", limit=3000, seed=3)
    assert len(set(questions(problems))) == len(problems) == 3000
    for problem in problems:
        a, b, c = map(int, re.fullmatch(r"(\d\d) \+ (\d\d) \+ (\d\d) = \?", problem.meta["question"]).groups())
        assert problem.answer == str(a + b + c)
        assert problem.prompt.endswith("\n" + problem.meta["question"]) and problem.kind == "solve"


def test_loading_is_a_pure_function_of_its_arguments(jsonl):
    """Guards reproducibility: the global random state neither matters nor changes, and another seed is another draw."""
    file = jsonl(*({"prompt": f"{i} + 1", "answer": str(i + 1)} for i in range(50)))
    for spec in ("arithmetic", file):
        random.seed(1)
        state = random.getstate()
        first = load_problems(spec, "train", limit=20, seed=0)
        assert random.getstate() == state
        random.seed(2)
        assert load_problems(spec, "train", limit=20, seed=0) == first
        assert load_problems(spec, limit=20) == first  # the defaults
        assert load_problems(spec, "train", limit=20, seed=1) != first


def test_streams_of_random_numbers_are_named():
    """Guards seeds.py, and with it every seed and split: a name is one stream for ever, another name is another."""
    assert seeds.number("split", "a") == 4039571674136701211  # of SHA-256; a run resumed on another machine agrees
    names = [(0, 1, "solve"), (0, 1, "judge"), (0, 11, "solve"), (1, 1, "solve"), (0, "1", "solve"), (1, "solve"), (0,)]
    assert len({seeds.number(*name) for name in names}) == len({seeds.rng(*name).random() for name in names}) == 7
    assert seeds.rng(0, "a").random() == seeds.rng(0, "a").random()
    assert seeds.generator(0, "a").initial_seed() == seeds.number(0, "a")


# --- files ---------------------------------------------------------------------------------------------------


def test_a_file_is_split_by_question(jsonl):
    """Guards duplicates: the same question must not be in two splits, however often and wherever the file has it."""
    rows = [{"prompt": f"{i} + 1", "answer": str(i + 1)} for i in range(200)]
    file = jsonl(*rows, "", *({**row, "prompt": f" {row['prompt']}\n"} for row in rows))
    loaded = {split: load_problems(file, split) for split in SPLITS}
    found = [question for problems in loaded.values() for question in questions(problems)]
    assert sorted(found) == sorted(row["prompt"] for row in rows)
    for problem in loaded["train"]:
        assert problem.answer == str(int(problem.meta["question"].split()[0]) + 1)
        assert problem.prompt.endswith("\n" + problem.meta["question"])
    assert len(load_problems(file, "train", limit=5)) == 5
    assert load_problems(file, "train", limit=5, seed=1) == load_problems(file, "train", seed=1)[:5]


@pytest.mark.parametrize(
    "bad",
    ["no JSON", '{"prompt": "1 + 1"', '["1 + 1", "2"]', '{"prompt": "1 + 1"}', '{"answer": "2"}',
     '{"prompt": "1 + 1", "answer": {}}', '{"prompt": "1 + 1", "answer": NaN}', '{"prompt": "1 + 1", "answer": ""}',
     '{"prompt": "", "answer": "2"}', '{"prompt": 1, "answer": "2"}', "null"],
)
def test_a_bad_line_is_named(jsonl, bad):
    """Guards data errors: the user is told the file and the line, and nothing is skipped in silence."""
    file = jsonl({"prompt": "1 + 2", "answer": "3"}, "", bad)
    with pytest.raises(ConfigError, match=rf"{re.escape(file)}, line 3\b"):
        load_problems(file)


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"])
def test_a_line_ends_at_a_newline_only(jsonl, separator):
    """Guards texts from the web: JSON keeps these separators as they are, so they do not end a line of the file."""
    file = jsonl(*({"prompt": f"{i}{separator}+ 1", "answer": "2"} for i in range(60)))
    assert len([q for split in SPLITS for q in questions(load_problems(file, split)) if separator in q]) == 60


@pytest.mark.parametrize("row", [{"prompt": "  ", "answer": "2"}, {"prompt": "1 + 1", "answer": "\n"}])
def test_spaces_are_no_question_and_no_answer(jsonl, row):
    """Guards against an empty reference, that no response can match: every group of it would be all wrong."""
    file = jsonl(*({"prompt": f"{i} + 1", "answer": str(i + 1)} for i in range(30)), row)
    with pytest.raises(ConfigError, match="line 31"):
        load_problems(file)


def test_a_file_in_another_encoding_is_named(tmp_path):
    """Guards the user of an old file: one line that names it."""
    path = tmp_path / "latin.jsonl"
    path.write_bytes('{"prompt": "Is it caf\xe9?", "answer": "yes"}\n'.encode("latin-1"))
    with pytest.raises(ConfigError, match="latin.jsonl"):
        load_problems(str(path))


@pytest.mark.parametrize(
    "spec, message", [("aritmetic", "aritmetic"), ("nowhere.jsonl", "nowhere.jsonl"), ("data.csv", "data.csv")]
)
def test_unknown_data_is_refused(spec, message):
    """Guards `data=`: a typo must not train on something else."""
    with pytest.raises(ConfigError, match=rf"data: .*{re.escape(message)}"):
        load_problems(spec)


def test_an_empty_split_is_refused(jsonl):
    """Guards tiny files: without a problem in the split there is nothing to train on or to measure."""
    one = next(f"{i} + 1" for i in range(100) if split_of(f"{i} + 1") == "train")
    with pytest.raises(ConfigError, match="test split"):
        load_problems(jsonl({"prompt": one, "answer": "1"}), "test")


# --- the problems of a step ----------------------------------------------------------------------------------


def steps(size: int, count: int, seed: int, first: int, last: int) -> list[int]:
    problems = [Problem(str(i), str(i)) for i in range(size)]
    return [int(p.answer) for step in range(first, last) for p in problems_of_step(problems, step, count, seed)]


@pytest.mark.parametrize("size, count", [(12, 4), (10, 4), (3, 7), (1, 2), (7, 7)])
def test_every_epoch_covers_every_problem_once(size, count):
    """Guards data order: problems lost or doubled at the end of an epoch, when the step size does not divide it."""
    seen = steps(size, count, seed=0, first=0, last=size * 3)
    for epoch in range(3):
        assert sorted(seen[epoch * size : (epoch + 1) * size]) == list(range(size))


def test_every_epoch_and_seed_has_its_own_order():
    """Guards against the same order for ever, or the same for every seed."""
    first, second = steps(50, 10, 0, 0, 5), steps(50, 10, 0, 5, 10)
    assert first != second
    assert steps(50, 10, 1, 0, 5) not in (first, second)
    assert first != list(range(50))


def test_the_problems_of_a_step_are_a_pure_function():
    """Guards resuming: step 7 of a fresh process is step 7 of one that did the steps before, in any order."""
    expected = {step: steps(50, 10, 0, step, step + 1) for step in range(20)}
    random.seed(3)
    state = random.getstate()
    for step in (7, 19, 0, 12, 7):
        assert steps(50, 10, 0, step, step + 1) == expected[step]
    assert random.getstate() == state


def test_wrong_shapes_are_the_same_questions_with_the_next_picture():
    right, wrong = (load_problems(data, "test", 7, 3) for data in ("shapes", "wrong_shapes"))
    assert [p.prompt for p in right] == [p.prompt for p in wrong]
    assert [p.answer for p in right] == [p.answer for p in wrong]
    shown = [p.image.tobytes() for p in right]
    assert [p.image.tobytes() for p in wrong] == [*shown[1:], shown[0]]
