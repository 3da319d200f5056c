"""Fields: which field of a record is the question, which the answer or a worked solution, and what stands in them.

Known are the layouts of GSM8K, Spark-Data, ViRL39K and SimpleRL-Zoo and the usual names; `fields` in the config
tells the names of any other.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from spark_lib.config import ConfigError
from spark_lib.model.vision import load_image
from spark_lib.prompts import MARK
from spark_lib.verify import extract_boxed

# Tried in this order; a dot reaches into an object. SimpleRL-Zoo has a "prompt" as well, in one model's template.
NAMES = {
    "prompt": ("question", "problem", "prompt", "message", "messages", "query", "instruction"),
    "answer": ("gt_answer", "answer", "final_answer", "ground_truth", "reward_model.ground_truth", "solution"),
    "image": ("image", "images", "image_path", "decoded_image"),
    "solution": ("solution", "response", "answer"),
}


@dataclass(frozen=True)
class Row:
    """where: e.g. "gsm8k/train.jsonl, line 3"; image: None, a path, the bytes of an image file or a tuple of these;
    split: the official one, None if there is none; solution: a worked one, None if there is none."""

    where: str
    question: str
    answer: str
    image: object = None
    split: str | None = None
    solution: str | None = None


def rows_of_records(
    records: Iterable[tuple[str, object]], source: str, fields: dict[str, str], split: str | None, folder: Path = Path()
) -> Iterator[Row]:
    """Rows of (where, record) pairs; the names of their fields are found once, in the first of them.

    folder: what an image's path is relative to. Raises ConfigError, naming the row, for what is no question or answer.
    """
    names: dict[str, str | None] = {}
    for where, record in records:
        if not isinstance(record, dict):
            raise ConfigError(f"data: {where}: expected an object with a question and an answer, got {record!r:.80}")
        names = names or find_fields(record, fields, where)
        question, images = question_of(value_of(record, names["prompt"]), names["prompt"], where)
        images = images or image_list(names["image"] and value_of(record, names["image"]))
        images = [image_of(image, folder, where) for image in images]
        if len(images) == 1 >= question.count(MARK):  # with several, the marks say which stands where
            question = question.replace(MARK, "").strip()
        image = None if not images else images[0] if len(images) == 1 else tuple(images)
        answer = answer_of(value_of(record, names["answer"]), names["answer"], where)
        solution = solution_of(names["solution"] and value_of(record, names["solution"]), answer)
        yield Row(where, question, answer, image, split, solution)
    if not names:
        raise ConfigError(f"data: {source} has no rows")


def find_fields(record: dict, given: dict[str, str], where: str) -> dict[str, str | None]:
    """{"prompt": name, "answer": name, "image": name or None, "solution": name or None}: as given, else the first of
    NAMES that is there."""
    found = {role: given.get(role) or next((name for name in names if value_of(record, name) is not None), None)
             for role, names in NAMES.items()}
    for role, name in found.items():
        if role in given and value_of(record, name) is None:
            raise ConfigError(f"data: {where} has no '{name}' (fields.{role}); it has {', '.join(map(str, record))}")
        if name is None and role in ("prompt", "answer"):
            raise ConfigError(
                f"data: {where}: cannot tell which field is the {role}; there are {', '.join(map(str, record))}. "
                "Say it: 'fields={prompt: <name>, answer: <name>}'"
            )
    return found


def value_of(record: dict, name: str) -> object:
    """A field, whose name may reach into objects: "reward_model.ground_truth"; None if it is not there."""
    if name in record:
        return record[name]
    value: object = record
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def question_of(value: object, name: str, where: str) -> tuple[str, list]:
    """(text, images) of a question: a text, or a chat as a list or as its JSON text (Spark-Data)."""
    if name in ("message", "messages") and isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise ConfigError(f"data: {where}: '{name}' is not the JSON of a chat: {error}") from error
    images: list = []
    if isinstance(value, list):
        turns = [turn for turn in value if isinstance(turn, dict) and turn.get("role") == "user"]
        if len(turns) != 1:
            raise ConfigError(f"data: {where}: '{name}' should be a chat with one turn of a user, not {len(turns)}")
        parts = turns[0].get("content")
        parts = [{"type": "text", "text": parts}] if isinstance(parts, str) else parts
        if not (isinstance(parts, list) and all(isinstance(part, dict) for part in parts)):
            raise ConfigError(f"data: {where}: the content of '{name}' should be a text or a list, got {parts!r:.80}")
        images = [part.get("image") for part in parts if part.get("type") == "image"]
        texts = {"image": lambda part: MARK, "text": lambda part: str(part.get("text"))}
        value = "\n".join(texts[part["type"]](part) for part in parts if part.get("type") in texts)
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"data: {where}: expected a text as '{name}', got {value!r:.80}")
    return value.strip(), images


def answer_of(value: object, name: str, where: str) -> str:
    r"""The bare answer: what stands after the last `####` (GSM8K), else in the last \boxed{…}, else all of it."""
    if isinstance(value, float) and math.isfinite(value):
        value = str(value).removesuffix(".0")
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"data: {where}: expected a text or a number as '{name}', got {value!r:.80}")
    if "####" in value:
        value = value.rpartition("####")[2].replace(",", "")
    elif (box := extract_boxed(value)) is not None:
        value = box
    if not value.strip():
        raise ConfigError(f"data: {where}: '{name}' ends without an answer")
    return value.strip()


def solution_of(value: object, answer: str) -> str | None:
    r"""A worked solution with a \boxed{answer}; None of a value that is only the answer, or no text.

    GSM8K's `<<48/2=24>>` go and its `#### 72` becomes a box. A box that is there stays, whatever is in it.
    """
    if not isinstance(value, str):
        return None
    solution = re.sub(r"<<[^<>]*>>", "", value.rpartition("####")[0] if "####" in value else value).strip()
    if solution in ("", answer, f"\\boxed{{{answer}}}"):
        return None
    return solution if extract_boxed(solution) is not None else f"{solution} \\boxed{{{answer}}}"


def image_list(value: object) -> list:
    return value if isinstance(value, list) else [] if value in (None, "") else [value]


def image_of(value: object, folder: Path, where: str) -> str | bytes:
    """A path, or the bytes of an image file."""
    if isinstance(value, dict):  # as `datasets` stores an image
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"data: {where}: expected the path of an image, got {value!r:.80}")
    return str(folder / value)


def unreadable(row: Row) -> str | None:
    """What is wrong with the images of a row: one is missing, broken, cut short or absurdly large; else None."""
    images = () if row.image is None else row.image if isinstance(row.image, tuple) else (row.image,)
    if row.question.count(MARK) > len(images):
        return f"{row.where}: the question has {row.question.count(MARK)} {MARK} marks for {len(images)} images"
    for image in images:
        try:
            load_image(image)
        except (OSError, ValueError, SyntaxError) as error:  # PIL's for a broken PNG is a SyntaxError
            name = image if isinstance(image, str) else "the image"
            reason = "there is no such file" if isinstance(error, FileNotFoundError) else str(error) or repr(error)
            return f"{row.where}: {name}: {reason}"
    return None
