"""Fields: which field of a record is the question, which the answer or a worked solution, and what stands in them.

Known are the layouts of GSM8K, Spark-Data, ViRL39K, SimpleRL-Zoo, Alpaca and ShareGPT and the usual names; `fields` in
the config tells the names of any other. Chats are read in chats.py.
"""

import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from spark_lib.config import ConfigError
from spark_lib.data.chats import NAMES as CHATS
from spark_lib.data.chats import Chat, chat_of, named, reply_of, shown, text_of
from spark_lib.model.vision import load_image
from spark_lib.problem import Turn
from spark_lib.prompts import MARK
from spark_lib.verify import extract_boxed

# Tried in this order; a dot reaches into an object. SimpleRL-Zoo has a "prompt" as well, in one model's template.
NAMES = {
    "prompt": ("question", "problem", "prompt", "message", "messages", "conversations", "conversation", "query",
               "instruction", "input"),
    "answer": ("gt_answer", "answer", "final_answer", "ground_truth", "reward_model.ground_truth", "solution",
               "completion", "output", "response"),
    "image": ("image", "images", "image_path", "decoded_image"),
    "solution": ("solution", "completion", "output", "response", "answer"),
    "system": ("system", "system_prompt"),
    "history": ("history",),
}
BOOLEANS = {"true": ("Yes", "True"), "false": ("No", "False")}


class Row(NamedTuple):
    """where: e.g. "gsm8k/train.jsonl, line 3"; image: None, a path, the bytes of an image file or a tuple of these;
    split: the official one, None if there is none; solution: a worked one, None if there is none; context: the turns
    before the question; also: other answers that are as right."""

    where: str
    question: str
    answer: str
    image: object = None
    split: str | None = None
    solution: str | None = None
    context: tuple[Turn, ...] = ()
    also: tuple[str, ...] = ()

    @property
    def asked(self) -> str:
        """All that is asked: the context and the question."""
        return "\n".join([*(text for _, text in self.context), self.question]) if self.context else self.question


def rows_of_records(
    records: Iterable[tuple[str, object]], source: str, fields: dict[str, str], split: str | None, folder: Path = Path()
) -> Iterator[Row]:
    """Rows of (where, record) pairs; the names of question and answer are found once, in the first of them.

    folder: what an image's path is relative to. Raises ConfigError, naming the row, for what is no question or answer.
    """
    names: dict[str, str | None] = {}
    beside: dict[tuple, dict[str, tuple]] = {}  # by the names of a record: a record may have what the first one lacks
    for where, record in records:
        if not isinstance(record, dict):
            raise ConfigError(f"data: {where}: expected an object with a question and an answer, got {shown(record)}")
        names = names or find_fields(record, fields, where)
        if (has := beside.get(key := tuple(record))) is None:
            has = beside[key] = find_beside(record, fields)
        chat = chat_of(value_of(record, names["prompt"]), names["prompt"], where)
        question, context = chat.question, chat.context
        if has["system"] or has["history"]:
            context = context_of(first_of(record, has["system"]), first_of(record, has["history"]), context, where)
        if names["prompt"] == "instruction" and record.get("input") not in (None, ""):  # Alpaca
            question += "\n\n" + text_of(record["input"], "input", where)
        image = None
        if images := list(chat.images) or image_list(first_of(record, has["image"])):
            images = [image_of(image, folder, where) for image in images]
            marks = question.count(MARK) + sum(text.count(MARK) for _, text in context)
            if len(images) == 1 >= marks and MARK in question:  # with several, the marks say which stands where
                question = question.replace(MARK, "").strip()
            image = images[0] if len(images) == 1 else tuple(images)
        answer, *also = answers_of(record, names["answer"], chat, where)
        worked = reply_of(first_of(record, has["solution"]), "solution", where)
        solution = solution_of(worked, answer) or solution_of(chat.reply, answer)
        yield Row(where, question, answer, image, split, solution, context, tuple(also))
    if not names:
        raise ConfigError(f"data: {source} has no rows")


def find_fields(record: dict, given: dict[str, str], where: str) -> dict[str, str | None]:
    """{"prompt": name, "answer": name, None where only a chat can hold it}: as given, else the first of NAMES that is
    there."""
    for role, name in given.items():
        if value_of(record, name) is None:
            raise ConfigError(f"data: {where} has no '{name}' (fields.{role}); it has {named(record)}")
    found = {role: given.get(role) or next((name for name in NAMES[role] if value_of(record, name) is not None), None)
             for role in ("prompt", "answer")}
    is_reply = found["prompt"] in CHATS or isinstance(value_of(record, found["prompt"] or ""), list)
    if is_reply and found["answer"] == found["prompt"]:
        found["answer"] = None
    for role, name in found.items():
        if name is None and not (role == "answer" and is_reply):
            raise ConfigError(
                f"data: {where}: cannot tell which field is the {role}; there are {named(record)}. "
                "Say it: 'fields={prompt: <name>, answer: <name>}'"
            )
    return found


def value_of(record: dict, name: str) -> object:
    """A field, whose name may reach into objects: "reward_model.ground_truth"; None if it is not there."""
    if name in record or "." not in name:
        return record.get(name)
    value: object = record
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def find_beside(record: dict, given: dict[str, str]) -> dict[str, tuple[str, ...]]:
    """The names in a record of what may stand beside question and answer, by role."""
    return {role: (given[role],) if role in given else tuple(name for name in NAMES[role] if name in record)
            for role in ("image", "solution", "system", "history")}


def first_of(record: dict, names: tuple[str, ...]) -> object:
    """The first field that holds something, None if there is none."""
    for name in names:
        if (value := value_of(record, name)) is not None:
            return value
    return None


def context_of(system: object, history: object, turns: tuple[Turn, ...], where: str) -> tuple[Turn, ...]:
    """The turns before a question: those of its chat, or of LLaMA-Factory's history; first the system's of a field of
    its own, where the chat has none."""
    if isinstance(history, list) and not turns:
        pairs = [pair for pair in history if isinstance(pair, list | tuple) and len(pair) == 2]
        if len(pairs) < len(history):
            raise ConfigError(f"data: {where}: expected pairs of a question and an answer as 'history', got "
                              f"{shown(history)}")
        turns = tuple((role, text_of(text, "history", where)) for pair in pairs
                      for role, text in zip(("user", "assistant"), pair))
    if isinstance(system, str) and system.strip() and not any(role == "system" for role, _ in turns):
        turns = (("system", text_of(system, "system", where)), *turns)
    return turns


def answers_of(record: dict, name: str | None, chat: Chat, where: str) -> list[str]:
    """The answer, then others that count as much: a list's, and True beside Yes."""
    if name is None:
        if chat.reply is None:
            raise ConfigError(f"data: {where}: no field is an answer, and the assistant says nothing after the user's "
                              "last turn; where one is, name it: 'fields={answer: <name>}'")
        name, value = "assistant", chat.reply
    else:
        value = reply_of(value_of(record, name), name, where)
    if not isinstance(value, list):
        return answer_of(value, name, where)
    if not value:
        raise ConfigError(f"data: {where}: expected an answer as '{name}', got an empty list")
    return list(dict.fromkeys(answer for each in value for answer in answer_of(each, name, where)))


def answer_of(value: object, name: str, where: str) -> list[str]:
    r"""The bare answer: what stands after the last `####` (GSM8K), else in the last \boxed{…}, else all of it.

    A boolean's is Yes or No, and True or False is as right.
    """
    if isinstance(value, bool):
        return list(BOOLEANS[str(value).lower()])
    if isinstance(value, float) and math.isfinite(value):
        value = str(value).removesuffix(".0")
    if isinstance(value, int):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"data: {where}: expected a text or a number as '{name}', got {shown(value)}")
    if "####" in value:
        value = value.rpartition("####")[2].replace(",", "")
    elif "boxed" in value and (box := extract_boxed(value)) is not None:
        value = box
    if not value.strip():
        raise ConfigError(f"data: {where}: '{name}' ends without an answer")
    value = text_of(value, name, where)
    return [value, *BOOLEANS.get(value.lower(), ())[:1]]  # a CSV's True


def solution_of(value: object, answer: str) -> str | None:
    r"""A worked solution with a \boxed{answer}; None of a value that is only the answer, or no text.

    GSM8K's `<<48/2=24>>` go and its `#### 72` becomes a box. A box that is there stays, whatever is in it.
    """
    if not isinstance(value, str) or value == answer:
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
        raise ConfigError(f"data: {where}: expected the path of an image, got {shown(value)}")
    return str(folder / value)


def unreadable(row: Row) -> str | None:
    """What is wrong with the images of a row: one is missing, broken, cut short or absurdly large; else None."""
    images = () if row.image is None else row.image if isinstance(row.image, tuple) else (row.image,)
    if (marks := row.asked.count(MARK)) > len(images):
        return f"{row.where}: the question has {marks} {MARK} marks for {len(images)} images"
    for image in images:
        try:
            load_image(image)
        except (OSError, ValueError, SyntaxError) as error:  # PIL's for a broken PNG is a SyntaxError
            name = named([image]) if isinstance(image, str) else "the image"
            reason = "there is no such file" if isinstance(error, FileNotFoundError) else str(error) or repr(error)
            return f"{row.where}: {name}: {reason}"
    return None
