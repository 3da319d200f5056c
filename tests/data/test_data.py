"""Data of one's own: every format and layout gives the same problems, and what cannot be meant is named by its row."""

import csv
import io
import json
import logging
import re
import time
from decimal import Decimal
from pathlib import Path

import datasets
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image
from rows import SPLITS, load_all, questions, sums

import evaluate
import train
from spark_lib.config import ConfigError, load_config
from spark_lib.data import sources
from spark_lib.data.load import load_problems, split_of
from spark_lib.evaluation.settings import Evaluation
from spark_lib.model.vision import load_image

# Layouts of public data sets, each field as it is there; then the question, answer and image to be found.
LAYOUTS = {
    "GSM8K": (
        {"question": "How many clips?", "answer": "48/2 = <<48/2=24>>24 clips.\n#### 1,224"},
        ("How many clips?", "1224", None),
    ),
    "Spark-Data": (
        {"message": json.dumps([{"role": "user", "content": [
            {"type": "image", "image": "images/7.png"}, {"type": "text", "text": "How large is the angle?"}]}]),
         "answer": "40"},
        ("How large is the angle?", "40", "images/7.png"),
    ),
    "ViRL39K": (
        {"question": "<image>\nFind x.", "answer": "\\boxed{\\frac{1}{2}}", "category": "Geometry", "source": "a",
         "qid": "b-1", "image": ["images/1.png"], "PassRate_32BTrained": 0.5, "PassRate_7BBase": -1.0},
        ("Find x.", "\\frac{1}{2}", "images/1.png"),
    ),
    "ViRL39K without an image": ({"question": "Find x.", "answer": "\\boxed{3}", "image": []}, ("Find x.", "3", None)),
    "ViRL39K with two images": (
        {"question": "<image> or <image>?", "answer": "\\boxed{A}", "image": ["1.png", "2.png"]},
        ("<image> or <image>?", "A", ("1.png", "2.png")),
    ),
    "SimpleRL-Zoo": (
        {"prompt": [{"role": "user", "content": "<|im_start|>user\n1 + 1?"}], "question": "1 + 1?", "gt_answer": "2",
         "answer": "not this one", "level": 3, "subject": "Algebra"},
        ("1 + 1?", "2", None),
    ),
    "MATH": ({"problem": "1 + 1?", "solution": "First \\boxed{1}, so \\boxed{2}."}, ("1 + 1?", "2", None)),
    "DAPO": (
        {"prompt": [{"role": "system", "content": "Think."}, {"role": "user", "content": "1 + 1?"}],
         "reward_model": {"ground_truth": "2"}},
        ("1 + 1?", "2", None),
    ),
    "an integer": ({"prompt": "1 + 1?", "answer": 2}, ("1 + 1?", "2", None)),
    "a float": ({"prompt": "1 / 8?", "answer": 0.125}, ("1 / 8?", "0.125", None)),
    "a whole float": ({"prompt": "1 + 1?", "answer": 2.0}, ("1 + 1?", "2", None)),
    "a tiny float": ({"prompt": "1e-7?", "answer": 1e-07}, ("1e-7?", "1e-07", None)),
    "zero": ({"prompt": "1 - 1?", "answer": 0}, ("1 - 1?", "0", None)),
}


@pytest.fixture
def write(tmp_path):
    """write(name, rows) -> path of a data file in the format that its name says; a text is written as it is."""

    def as_csv(rows: list[dict]) -> str:
        lines = csv.DictWriter(out := io.StringIO(newline=""), rows[0])
        lines.writeheader()
        lines.writerows(rows)
        return out.getvalue()

    def build(name: str, rows) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet":
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
            return str(path)
        if not isinstance(rows, str):
            formats = {".json": json.dumps, ".csv": as_csv, ".jsonl": lambda rows: "\n".join(map(json.dumps, rows))}
            rows = formats[path.suffix](rows)
        path.write_text(rows, encoding="utf-8", newline="")
        return str(path)

    return build


def only_problem(file: str, **options):
    """The one problem of a file with one row, whatever split it is in."""
    for split in SPLITS:
        try:
            return load_problems(file, split, **options)[0]
        except ConfigError as error:
            assert "has no problems" in str(error)


# --- formats and layouts -------------------------------------------------------------------------------------


def test_every_format_gives_the_same_problems(write):
    """Guards the formats: an answer is what is written there, so "007", "None" and "1,5" must not become 7 or NaN."""
    rows = sums(range(60)) + [{"question": f'A "hard",\none: {a}', "answer": a} for a in ("007", "None", "NA", "1,5")]
    expected = load_all(write("a.jsonl", rows))
    assert sum(map(len, expected.values())) == 64
    assert {"007", "None", "NA", "1,5"} <= {p.answer for problems in expected.values() for p in problems}
    for name in ("a.json", "a.csv", "a.parquet", "a.PARQUET"):
        assert load_all(write(name, rows) if name != "a.PARQUET" else write("a.parquet", rows)) == expected, name
    assert load_all(write("b.json", json.dumps({"version": 1, "data": rows}))) == expected
    assert load_all(write("c.json", "\n".join(map(json.dumps, rows)))) == expected  # JSON lines by a wrong name
    bom = "\ufeff" + open(write("a.csv", rows), newline="").read()  # as Excel writes it
    assert load_all(write("d.csv", bom)) == expected


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_fields_of_known_layouts_are_found(write, tmp_path, layout, suffix):
    """Guards BENCHMARKS' training data: their fields are found without a word in the config."""
    row, (question, answer, image) = LAYOUTS[layout]
    (tmp_path / "images").mkdir()
    for name in [image] if isinstance(image, str) else image or []:
        Image.new("RGB", (4, 3)).save(tmp_path / name)
    problem = only_problem(write(f"a.{suffix}", [row]))
    paths = [str(tmp_path / name) for name in ([image] if isinstance(image, str) else image or [])]
    expected = None if not paths else paths[0] if len(paths) == 1 else tuple(paths)
    assert (problem.meta["question"], problem.answer, problem.image) == (question, answer, expected)
    assert problem.prompt.endswith("\n" + question) and problem.kind == "solve"


def test_fields_can_be_named(write, tmp_path):
    """Guards `fields`: named ones win over those that would be found, and reach into objects."""
    row = {"question": "no", "answer": "0", "q": "2 + 2?", "extra": {"key": "4"}, "picture": "p.png"}
    Image.new("RGB", (4, 3)).save(tmp_path / "p.png")
    file = write("a.jsonl", [row])
    fields = {"prompt": "q", "answer": "extra.key", "image": "picture"}
    problem = only_problem(file, fields=fields)
    assert (problem.meta["question"], problem.answer) == ("2 + 2?", "4") and problem.image.endswith("p.png")
    config = load_config(["fields={prompt: q, answer: extra.key}", "fields.image=picture"])
    assert config.fields == fields
    with pytest.raises(ConfigError, match="fields: there is no 'question'"):
        load_config(["fields.question=q"])
    with pytest.raises(ConfigError, match=r"line 1 has no 'qq' \(fields.prompt\); it has question, answer, q, extra"):
        load_problems(file, fields={"prompt": "qq"})


def test_images_are_opened_from_parquet(tmp_path):
    """Guards vision data: the hub stores images inside parquet; two images are two problems of one question."""
    rows = {"question": ["<image>Which colour?"] * 3, "answer": ["red", "blue", "red"],
            "image": [Image.new("RGB", (4, 3), name) for name in ("red", "blue", "red")]}
    features = datasets.Features(question=datasets.Value("string"), answer=datasets.Value("string"),
                                 image=datasets.Image())
    datasets.Dataset.from_dict(rows, features).to_parquet(tmp_path / "a.parquet")
    split = split_of("Which colour?")
    problems = load_problems(str(tmp_path / "a.parquet"), split)
    loaded = [(p.answer, load_image(p.image)) for p in problems]
    assert sorted((answer, image.size, image.getpixel((0, 0))) for answer, image in loaded) == [
        ("blue", (4, 3), (0, 0, 255)), ("red", (4, 3), (255, 0, 0))]


def test_images_that_cannot_be_read_are_left_out_and_named(tmp_path, caplog):
    """Guards a run on real data: one lost file among thousands must neither stop it nor be shown as something else."""
    whole = io.BytesIO()
    Image.effect_noise((60, 60), 50).save(whole, "png")
    Image.new("1", (10_000, 10_000)).save(tmp_path / "huge.png")
    Image.new("L", (3000, 4)).save(tmp_path / "narrow.png")
    (tmp_path / "cut.png").write_bytes(whole.getvalue()[:-1000])
    (tmp_path / "text.png").write_text("no image")
    good = [f"{i}.png" for i in range(40)]
    for name in good:
        (tmp_path / name).write_bytes(whole.getvalue())
    bad = ["huge.png", "narrow.png", "cut.png", "text.png", "none.png"]

    def trained(question: str) -> str:
        return next(q for i in range(1000) if split_of(q := f"{question} {i}?") == "train")

    rows = [{"question": trained(name), "answer": "1", "image": name} for name in bad + good]
    rows += [{"question": trained("<image> and <image>"), "answer": "1", "image": ["0.png"]}]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    problems = load_problems(str(tmp_path / "a.json"))
    assert {Path(p.image).name for p in problems} == set(good)
    for row, reason in enumerate(["10,000 x 10,000 pixels are too many", "3,000 x 4 pixels are too long and narrow",
                                  "truncated", "cannot identify image file", "none.png: there is no such file"], 1):
        assert re.search(f"a.json, row {row}: .*{reason}", caplog.text), reason
    assert "row 46: the question has 2 <image> marks for 1 images" in caplog.text
    (tmp_path / "a.json").write_text(json.dumps(rows[:3]))
    with pytest.raises(ConfigError, match=r"^data: 3 of 3 problems have images that cannot be read: .*row \d: "):
        load_problems(str(tmp_path / "a.json"))


@pytest.mark.parametrize("image", [5, {"bytes": None, "path": None}])
def test_an_image_is_a_path_or_a_file(write, image):
    with pytest.raises(ConfigError, match="line 1: expected the path of an image"):
        load_problems(write("a.jsonl", [{"question": "x?", "answer": "1", "image": image}]))


def test_bytes_that_are_no_image_are_named(write):
    """Guards a broken vision set: an error when it is loaded, not in the middle of the training."""
    file = write("a.parquet", [{"question": f"{i}?", "answer": "1", "image": {"bytes": b"no"}} for i in range(30)])
    with pytest.raises(ConfigError, match=r"a.parquet, row \d+: the image: cannot identify image file"):
        load_problems(file)


# --- mistakes ------------------------------------------------------------------------------------------------


GOOD = '{"question": "1 + 1?", "answer": "2"}'


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("a.jsonl", "", "a.jsonl has no rows"),
        ("a.json", "[]", "a.json has no rows"),
        ("a.csv", "question,answer\n", "a.csv has no rows"),
        ("a.json", "", "a.json is not JSON"),
        ("a.json", '[{"question": 1,\n', r"a.json is not JSON: .*line 2"),
        ("a.json", "3", "a.json: expected a list of objects"),
        ("a.json", f"[{GOOD}, 5]", "a.json, row 2: expected an object"),
        ("a.jsonl", "9" * 5000, "a.jsonl, line 1 is not JSON"),
        ("a.jsonl", "[" * 100_000, "a.jsonl, line 1 is not JSON"),
        ("a.jsonl", GOOD + '\n{"question": "2 + 2?"}', "a.jsonl, line 2: expected a text or a number as 'answer'"),
        ("a.jsonl", GOOD + '\n{"question": null, "answer": "2"}', "line 2: expected a text as 'question', got None"),
        ("a.jsonl", GOOD + '\n{"question": "x?", "answer": {"a": 2}}', "line 2: expected .* as 'answer', got {'a': 2}"),
        ("a.jsonl", GOOD + '\n{"question": "x?", "answer": "so\\n#### "}', "line 2: 'answer' ends without an answer"),
        ("a.jsonl", '{"q": "x?", "a": "2"}', r"line 1: cannot tell .* the prompt; there are q, a\. Say .*'fields="),
        ("a.jsonl", '{"problem": "x?", "a": "2"}', "cannot tell which field is the answer; there are problem, a"),
        ("a.jsonl", '{"message": "[{", "answer": "2"}', "line 1: 'message' is not the JSON of a chat"),
        ("a.jsonl", '{"message": "[]", "answer": "2"}', "line 1: 'message' should be a chat with a turn of the user"),
        ("a.jsonl", '{"messages": [{"role": "user", "content": 3}], "answer": "2"}', "line 1: the content of 'mess"),
        ("a.csv", "question,answer\n1?,2\n2?,3,4\n", "a.csv, line 3: 3 values for the columns question, answer"),
        ("a.csv", 'question,answer\n"1\n?",2\n2?,\n', "a.csv, line 4: expected a text or a number as 'answer', got ''"),
        ("a.csv", 'question,answer\n"1?,2\n', "a.csv, line 2 is not CSV"),
        ("a.parquet.csv", "PAR1", "a.parquet.csv has no rows"),
    ],
)
def test_a_mistake_is_named_by_file_and_row(write, name, text, message):
    """Guards the user's time: one line that tells the file, the row and what was expected there."""
    with pytest.raises(ConfigError, match=message) as error:
        load_problems(write(name, text))
    assert str(error.value).startswith("data: ") and "\n" not in str(error.value)


def test_mistakes_in_parquet_are_named(write, tmp_path):
    (tmp_path / "b.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(ConfigError, match="b.parquet cannot be read as parquet"):
        load_problems(str(tmp_path / "b.parquet"))
    with pytest.raises(ConfigError, match="a.parquet, row 1: expected a text or a number as 'answer', got Decimal"):
        load_problems(write("a.parquet", [{"question": "1?", "answer": Decimal("1.5")}]))


def test_a_folder_without_data_and_a_missing_file_are_named(tmp_path):
    (tmp_path / "notes.txt").write_text("no data")
    with pytest.raises(ConfigError, match="there is no .jsonl, .json, .csv, .tsv, .parquet file in the folder"):
        load_problems(str(tmp_path))
    with pytest.raises(ConfigError, match="the file some/where.jsonl does not exist"):
        load_problems("some/where.jsonl")


# --- splits --------------------------------------------------------------------------------------------------


def test_official_test_rows_are_the_test_split(write, tmp_path):
    """Guards GSM8K's test set: never trained on, whole, and validation comes out of the training rows."""
    write("main/train-00000-of-00002.parquet", sums(range(100)))
    write("main/train-00001-of-00002.parquet", sums(range(100, 200)))
    write("main/test-00000-of-00001.parquet", sums(range(190, 230)))  # ten of them are in train as well
    write(".cache/left_over.jsonl", "broken")
    write("dataset_infos.json", "{}")
    found = {split: questions(problems) for split, problems in load_all(str(tmp_path)).items()}
    assert found["test"] == {row["question"] for row in sums(range(190, 230))}
    rest = {row["question"] for row in sums(range(190))}
    assert found["validation"] == {q for q in rest if split_of(q) == "validation"} and len(found["validation"]) > 5
    assert found["train"] == rest - found["validation"]


def test_official_validation_rows_are_the_validation_split(write, tmp_path):
    write("train.jsonl", sums(range(100)))
    write("dev.csv", sums(range(100, 120)))
    found = {split: questions(problems) for split, problems in load_all(str(tmp_path)).items()}
    assert found["validation"] == {row["question"] for row in sums(range(100, 120))}
    assert found["test"] == {r["question"] for r in sums(range(100)) if split_of(r["question"]) == "test"}
    assert len(found["train"]) == 100 - len(found["test"])


def test_files_without_a_split_in_their_name_are_split_by_question(write, tmp_path):
    write("algebra.jsonl", sums(range(100)))
    write("latest.jsonl", sums(range(50, 150)))  # "test" within a word is no split
    for split, problems in load_all(str(tmp_path)).items():
        assert questions(problems) == {r["question"] for r in sums(range(150)) if split_of(r["question"]) == split}


@pytest.mark.parametrize("name, split", [
    ("data/test-00000-of-00001.parquet", "test"), ("test_suite/train.jsonl", "train"), ("train/Val.csv", "validation"),
    ("latest.jsonl", None), ("trainer/a.jsonl", None),
])
def test_the_last_word_that_names_a_split_counts(name, split):
    """Guards "test_suite/train.jsonl": a folder's name must not make its training file a held-out one."""
    assert sources.split_named(name) == split


def test_the_same_question_in_other_spaces_or_capitals_is_in_one_split(write):
    """Guards held-out problems: the hash of "What is  1?" is another one than that of "what is 1?"."""
    rows = [{"question": text, "answer": "1"} for i in range(100) for text in (f"What is {i}?", f" what  is\n{i}?")]
    assert len({split_of(f"What is {i}?") == split_of(f"what  is\n{i}?") for i in range(100)}) == 2
    found = [" ".join(q.split()).lower() for problems in load_all(write("a.jsonl", rows)).values()
             for q in questions(problems)]
    assert len(found) == len(set(found)) == 100


def test_only_held_out_rows_leave_nothing_to_train_on(write, tmp_path):
    write("test.jsonl", sums(range(50)))
    assert len(load_problems(str(tmp_path), "test")) == 50
    with pytest.raises(ConfigError, match="no problems in its train split"):
        load_problems(str(tmp_path), "train")


# --- gold answers --------------------------------------------------------------------------------------------


def test_answers_that_no_response_can_reach_are_left_out(write, caplog):
    """Guards groups that could only be all wrong: unbalanced braces are never what a box holds. Each is named."""
    rows = sums(range(200))
    for i in (7, 30):
        rows[i]["answer"] = "\\frac{1}{2"
    file = write("a.jsonl", rows)
    with caplog.at_level(logging.WARNING):
        found = {split: questions(problems) for split, problems in load_all(file).items()}
    assert set.union(*found.values()) == {row["question"] for i, row in enumerate(rows) if i not in (7, 30)}
    text = "\n".join(record.getMessage() for record in caplog.records)
    assert len(re.findall("left out", text)) == len({split_of(rows[i]["question"]) for i in (7, 30)})
    assert f"{file}, line 8: " in text and f"{file}, line 31: " in text and text.count("line") == 2
    unchecked = load_all(file, check=False)  # for a rule of the user's own
    assert set.union(*map(questions, unchecked.values())) == {row["question"] for row in rows}


@pytest.mark.parametrize("bad, stops", [(5, False), (6, True)])
def test_many_bad_answers_stop_the_run(write, bad, stops):
    """Guards a wrong `fields.answer`: with more than 5 % of such rows the whole column is in doubt."""
    rows = sums(range(100))
    for row in rows[:bad]:
        row["answer"] = "}"
    file = write("a.jsonl", rows)
    if not stops:
        assert len(load_all(file)["train"]) > 60
        return
    for split in SPLITS:  # counted over all rows, not by the luck of a small split
        with pytest.raises(ConfigError, match="cannot confirm 6 of the 100 answers .*a.jsonl, line 1: '}'; .*line 6"):
            load_problems(file, split)


def test_loading_is_quick(write):
    """Guards 40,000 rows in seconds: no answer goes to the verifier's worker, however it looks."""
    forms = ("{}", "\\frac{{{}}}{{7}}", "x^2+{}x-1", "\\text{{about {}}}", "x \\in [{}, \\infty)")
    file = write("a.jsonl", [{"problem": f"What is {i}?", "answer": forms[i % 5].format(i)} for i in range(4000)])
    start = time.process_time()
    load_problems(file)
    assert time.process_time() - start < 3  # 0.3 s; the worker would need a minute


def test_options_and_fields_are_refused_where_they_mean_nothing(write):
    """Guards a setting that would be ignored."""
    for spec in ("arithmetic", "reasoning_gym:gcd"):
        with pytest.raises(ConfigError, match="fields: only files and hub sets have fields"):
            load_problems(spec, fields={"prompt": "a"})
    for spec in ("arithmetic", write("a.jsonl", sums(range(9)))):
        with pytest.raises(ConfigError, match="data_options: only a reasoning_gym task"):
            load_problems(spec, options={"size": 3})


# --- the two programs ----------------------------------------------------------------------------------------


class Asked(Exception):
    pass


@pytest.mark.parametrize(
    "words, expected",
    [
        ([], [("arithmetic", "train", {}, {}, True), ("arithmetic", "test", {}, {}, True)]),
        (["eval.split=validation", "data=reasoning_gym:gcd", "data_options={size: 9}", "verifier=a.py:f"],
         [("reasoning_gym:gcd", split, {}, {"size": 9}, False) for split in ("train", "validation")]),
        (["data=a.csv", "fields={prompt: q, answer: a}", "eval.split=test"],
         [("a.csv", split, {"prompt": "q", "answer": "a"}, {}, True) for split in ("train", "test")]),
    ],
)
def test_train_and_evaluate_load_what_the_config_says(monkeypatch, words, expected):
    """Guards eval.split: what is tuned on validation must not look at test; answers for an own rule are not checked."""
    asked = []

    def record(spec, split, limit=None, seed=0, *, fields, options, check):
        asked.append((spec, split, fields, options, check))
        return []

    def stop(*_):
        raise Asked

    monkeypatch.setattr(train, "load_problems", record)
    monkeypatch.setattr(train, "Spark", stop)
    with pytest.raises(Asked):
        train.main(words)
    assert asked == expected
    asked.clear()
    monkeypatch.setattr(evaluate, "load_problems", record)
    config = load_config(words)
    evaluate.problem_sets(Evaluation(split=config.eval.split), config)
    assert asked == expected[1:]
