"""Data files at random: each gives problems or one line that names the file, never a traceback, never a hang.

Half of the files are nonsense of some kind, the others are good ones with something wrong at a random place. Seeded, so
that a case that fails is found again by its number.
"""

import codecs
import contextlib
import gzip
import io
import json
import os
import random
import signal
from collections import Counter
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from spark_lib.config import ConfigError
from spark_lib.data.fields import NAMES
from spark_lib.data.files import SUFFIXES
from spark_lib.data.load import load_problems
from spark_lib.problem import Problem
from spark_lib.rollout import encode_prompt

SECONDS = 20  # for one file; a hang is a failure
KEYS = [*(name for names in NAMES.values() for name in names), "role", "content", "from", "value", "type", "x", ""]
WORDS = ["1 + 1?", "2", "", " ", "\0", "\ufeff", "\ud800", "äöü", "\\boxed{", "\\boxed{2}", "#### ", "#### 5",
         "<image>", "user", "gpt", "system", "tool", '[{"role"', "x" * 300, "true", "\u2028", "\r", "\n", '"', "'", ";",
         "\t", ",", "|", "{", "}", "\\", "NaN", "data:image/png;base64,@", "a.png", "/dev/null", "text", "image", "🙂"]


def value(rng: random.Random, depth: int = 0):
    """A JSON value of any type, mostly short; the deeper, the flatter."""
    kind = rng.randrange(12 if depth < 4 else 8)
    if kind < 4:
        return "".join(rng.choice(WORDS) for _ in range(rng.randint(1, 3)))
    if kind < 8:
        return rng.choice([None, True, False, 0, -1, 10**30, 1e-7, 2.0, float("nan"), float("inf"), 1e308])
    if kind < 9:
        return [value(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind < 11:
        return {rng.choice(KEYS): value(rng, depth + 1) for _ in range(rng.randrange(5))}
    return [turn(rng, depth) for _ in range(rng.randrange(4))]


def turn(rng: random.Random, depth: int = 0) -> dict:
    role, content = rng.choice([("role", "content"), ("from", "value")])
    said = rng.choice(["1 + 1?", "It is \\boxed{2}.", [{"type": "text", "text": "1 + 1?"}], value(rng, depth + 1)])
    return {role: rng.choice(["system", "user", "human", "assistant", "gpt", "tool", value(rng, 4)]), content: said}


def record(rng: random.Random, i: int):
    """A row: good, or with one field replaced, dropped or added, or no row at all."""
    row = rng.choice([
        {"question": f"{i} + 1?", "answer": str(i + 1)}, {"problem": f"{i}?", "solution": f"So \\boxed{{{i}}}."},
        {"messages": [turn(rng) for _ in range(rng.randint(1, 4))], "answer": i},
        {"conversations": [{"from": "human", "value": f"{i}?"}, {"from": "gpt", "value": f"#### {i}"}]},
        {"instruction": f"{i}?", "input": "", "output": str(i)}, {"question": f"{i}?", "answer": [str(i), "x"]},
    ])
    fault = rng.randrange(60)
    if fault == 0:
        row.pop(rng.choice(list(row)))
    elif fault == 1:
        row[rng.choice(list(row))] = value(rng)
    elif fault == 2:
        row[rng.choice(KEYS)] = value(rng)
    return value(rng) if fault == 3 else row


def deep(rng: random.Random) -> str:
    depth = rng.choice([50, 900, 5_000, 100_000])
    opening, closing = rng.choice([("[", "]"), ('{"question":', "}"), ('[{"role":', "}]")])
    return opening * depth + "1" + closing * (depth if rng.random() < 0.7 else 0)


def text(rng: random.Random, suffix: str) -> str:
    rows = [record(rng, i) for i in range(rng.randint(1, 8) if rng.random() < 0.9 else 0)]
    kind = rng.randrange(16)
    if kind == 0:
        return deep(rng)
    if kind == 1:
        return "".join(rng.choice(WORDS) for _ in range(rng.randrange(40)))
    if kind == 2:
        return '{"question": "a?", "question": "b?", "answer": "1", "answer": NaN}'
    if kind == 3:
        return json.dumps({"question": "1?" + "x" * 2_000_000, "answer": "9" * rng.choice([10, 5_000, 200_000])})
    if suffix.startswith((".csv", ".tsv")):
        delimiter = rng.choice(",;\t|")
        header = rng.sample(KEYS, rng.randint(1, 4)) if rng.random() < 0.3 else ["question", "answer"]
        odd = rng.random() < 0.5
        lines = [header] + [[str(value(rng, 4)) if odd else f"{i} + {name}?" for name in header]
                            + ["x"] * (rng.random() < 0.05) for i in range(len(rows))]
        quoted = ['"{}"'.format(cell.replace('"', '""')) for line in lines for cell in line]
        cells = iter(quoted if rng.random() < 0.7 else [cell for line in lines for cell in line])
        return "\n".join(delimiter.join(next(cells) for _ in line) for line in lines)
    if suffix == ".json":
        return json.dumps(rng.choice([rows, {"data": rows}, rows[:1], value(rng)]))
    return "\n".join(json.dumps(row, ensure_ascii=rng.random() < 0.5) for row in rows)


def content(rng: random.Random, suffix: str) -> bytes:
    """The bytes of a file: what the suffix promises, another format, or noise; then perhaps damaged."""
    kind = rng.randrange(10)
    if kind == 0:
        data = rng.randbytes(rng.choice([0, 1, 2, 4, 100, 5_000]))
    elif kind == 1 or suffix == ".parquet":
        one_layout = rng.randrange(1_000)  # columns of one type each, or no table at all
        rows = [row for i in range(rng.randint(1, 8)) if isinstance(row := record(random.Random(one_layout), i), dict)]
        file = io.BytesIO()
        try:
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
            data = file.getvalue()
        except (pyarrow.ArrowException, ValueError, TypeError, OverflowError):  # no table has such columns
            data = b"PAR1" + rng.randbytes(50) + b"PAR1"
    else:
        data = text(rng, suffix).encode(rng.choice(["utf-8"] * 20 + ["utf-16", "utf-32", "utf-16-le"]), "surrogatepass")
        data = codecs.BOM_UTF8 * (rng.random() < 0.1) + data
    if (rng.random() < 0.97) == suffix.endswith(".gz"):
        data = gzip.compress(data)
    fault = rng.randrange(12)
    if fault == 0:
        data = data[: rng.randrange(len(data) + 1)]
    elif fault == 1 and data:
        place = rng.randrange(len(data))
        strange = rng.choice([b"\0", b"\xff", b"\xef\xbb\xbf", b'"', b"\r", rng.randbytes(3)])
        data = data[:place] + strange + data[place:]
    return data


def damaged_parquet(rng: random.Random) -> bytes:
    file = io.BytesIO()
    rows = [{"question": f"{i} + 1?", "answer": str(i + 1)} for i in range(rng.choice([3, 3000]))]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    data = file.getvalue()
    return data[: rng.randrange(len(data))] if rng.random() < 0.7 else data[rng.randrange(len(data)):]


@contextlib.contextmanager
def limit(seconds: int):
    def late(*_):
        raise AssertionError(f"no answer in {seconds} seconds")

    previous = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def load_any_split(file: str, **options) -> list[Problem]:
    """The problems of the first split that has some: a few rows may all be of one."""
    for split in ("train", "validation", "test"):
        try:
            return load_problems(file, split, **options)
        except ConfigError as error:
            if "has no problems" not in str(error) or split == "test":
                raise


def outcome(path: Path, rng: random.Random, tokenizer) -> str:
    """"problems", or "one line"; anything else raises."""
    named = [{"prompt": "question"}, {"answer": "x"}, {"prompt": "messages", "answer": "a.b"}]
    fields = rng.choice([None] * 12 + named)
    check = rng.random() < 0.8
    with limit(SECONDS):
        try:
            problems = load_any_split(str(path), fields=fields, check=check)
        except ConfigError as error:
            told = str(error)
            assert told.startswith("data: ") and len(told.splitlines()) == 1 and len(told) < 4000, told
            assert path.name.split(".")[0] in told or "problems have images" in told, told
            return "one line"
        for p in problems:
            assert isinstance(p, Problem) and p.answer.strip() and p.prompt.strip()
            for each in (p.prompt, p.answer, *p.also, *(text for _, text in p.context)):
                each.encode()  # what cannot be written down would end in a traceback at the first checkpoint or report
            if len(p.prompt) < 1000:
                assert encode_prompt(tokenizer, p.prompt, p.context)
    return "problems"


def fuzz(numbers: range, folder: Path, tokenizer) -> Counter:
    """How the files of these numbers ended, by suffix; each is written, read and deleted again."""
    found: Counter = Counter()
    for number in numbers:
        rng = random.Random(number)
        suffix = rng.choice([*SUFFIXES, *SUFFIXES, ".jsonl.gz", ".csv.gz"])
        path = folder / f"case{number}{suffix}"
        path.write_bytes(damaged_parquet(rng) if number % 10 == 0 and suffix == ".parquet" else content(rng, suffix))
        try:
            found[suffix, outcome(path, rng, tokenizer)] += 1
        except BaseException as error:
            error.add_note(f"the file of number {number}, {path}")
            raise
        path.unlink()
    return found


def test_random_files(tmp_path, tokenizer):
    """Both ends must be there in every format: a fuzzer whose files are all nonsense tries the first check only."""
    found = fuzz(range(600), tmp_path, tokenizer)
    assert sum(found.values()) == 600
    for suffix in SUFFIXES:
        assert found[suffix, "problems"] >= 5 and found[suffix, "one line"] >= 5, found


@pytest.mark.slow
def test_many_random_files(tmp_path, tokenizer):
    """docs/reliability.md gives the counts of these."""
    found = fuzz(range(600, 20_600), tmp_path, tokenizer)
    assert sum(found.values()) == 20_000


# --- files and folders that cannot be read -------------------------------------------------------------------


def test_folders_and_links_of_every_kind(tmp_path):
    """Guards against a hang on a link to itself, a pipe or a device, and against a traceback at a folder's name."""
    (tmp_path / "loop.jsonl").symlink_to(tmp_path / "loop.jsonl")
    (tmp_path / "gone.csv").symlink_to(tmp_path / "nowhere.csv")
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "circle").mkdir()
    (tmp_path / "circle" / "again").symlink_to(tmp_path / "circle")
    for name in ("loop.jsonl", "gone.csv", "zero.json", "pipe.jsonl", "empty", "folder.jsonl", "circle", "nul\0.jsonl",
                 "x" * 300 + ".jsonl"):
        with limit(SECONDS), pytest.raises(ConfigError, match="^data: ") as error:
            load_problems(str(tmp_path / name))
        shown = Path(name).name[:9].replace("\0", "\N{REPLACEMENT CHARACTER}")  # nothing that a terminal would obey
        assert len(str(error.value).splitlines()) == 1 and shown in str(error.value), name
    (tmp_path / "circle" / "a.jsonl").write_text('{"question": "12 + 34 + 56 = ?", "answer": "102"}')
    with limit(SECONDS):
        assert len(load_problems(str(tmp_path / "circle"))) == 1


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    """By a refused `open`, as tests may run as root, who may read everything."""
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", "a")

    for name in ("a.jsonl", "a.json", "a.csv", "a.jsonl.gz", "a.parquet"):
        (tmp_path / name).write_text("x")
        with monkeypatch.context() as patch:
            patch.setattr("builtins.open", refuse)
            patch.setattr(gzip, "open", refuse)
            patch.setattr(pyarrow.parquet, "ParquetFile", refuse)
            with pytest.raises(ConfigError, match=f"{name} cannot be read.*Permission denied"):
                load_problems(str(tmp_path / name))
