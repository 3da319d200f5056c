"""Problems: what a model is asked, and the answer that a rule can check.

A judge task is a problem like any other (PAPER: joint training with verifiable rewards), so solving,
judging one answer, comparing two and reflecting on one all share this one type.
"""

import functools
import json
import random
from dataclasses import dataclass, field
from pathlib import Path

from spark_lib import prompts, seeds
from spark_lib.config import ConfigError

KINDS = ("solve", "pointwise", "pairwise", "reflect")


@dataclass(frozen=True)
class Problem:
    """A prompt and a rule-checkable answer.

    prompt: the user's message, without a chat template.
    answer: the reference; never shown to the model.
    kind: "solve", "pointwise", "pairwise" or "reflect".
    image: None, a path or a PIL image.
    choices: texts of the options of a multiple-choice problem; then `answer` is a letter.
    meta: what later steps need: "question" (the bare question), and for recycled problems the
        candidates, their marks and what the report shows. Never part of the prompt.
    """

    prompt: str
    answer: str
    kind: str = "solve"
    image: object = None
    choices: tuple[str, ...] = ()
    meta: dict = field(default_factory=dict)


def solve_problem(question: str, answer: str, rng: random.Random, **fields) -> Problem:
    """A "solve" Problem: the question in one of the phrasings of prompts.py."""
    return Problem(prompts.render("solve", rng, question=question), answer, meta={"question": question}, **fields)


def split_of(question: str) -> str:
    """Which of "train" (80 %), "validation" and "test" (10 % each) a question belongs to, for every seed and
    machine: neither training nor the starter's cold start ever sees a problem that is evaluated."""
    return ("test", "validation", *["train"] * 8)[seeds.number("split", question) % 10]


def arithmetic(split: str, limit: int, seed: int) -> list[Problem]:
    """`limit` different additions a + b + c with 10 <= a, b, c <= 99: the quickstart's task."""
    if limit > 50_000:
        raise ConfigError(f"data: arithmetic has at most 50,000 problems a split, {limit:,} were asked for")
    rng = seeds.rng("arithmetic", split, seed)
    seen: set[str] = set()
    problems = []
    while len(problems) < limit:
        numbers = [rng.randint(10, 99) for _ in range(3)]
        question = "{} + {} + {} = ?".format(*numbers)
        if question not in seen and split_of(question) == split:
            problems.append(solve_problem(question, str(sum(numbers)), rng))
        seen.add(question)
    return problems


def jsonl_file(path: Path, split: str) -> list[Problem]:
    """Problems of a .jsonl file with a "prompt" (the question) and an "answer" per line.

    The split is by a hash of the question, as for arithmetic: the same question is never in two splits. Raises
    ConfigError naming file and line.
    """
    problems, seen = [], set()
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ConfigError(f"data: {path} is not UTF-8 text: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ConfigError(f"data: {path}, line {number} is not JSON: {error}") from error
        fields = (row.get("prompt"), row.get("answer")) if isinstance(row, dict) else (None,)
        if not all(isinstance(value, str) and value.strip() for value in fields):
            raise ConfigError(f'data: {path}, line {number}: expected an object with texts "prompt" and "answer"')
        question = row["prompt"].strip()
        if question not in seen and split_of(question) == split:
            problems.append(solve_problem(question, row["answer"].strip(), seeds.rng(question)))
        seen.add(question)
    return problems


def load_problems(spec: str, split: str | None = None, limit: int | None = None, seed: int = 0) -> list[Problem]:
    """Problems to solve: `spec` is "arithmetic" or the path of a .jsonl file; split "train" (default), "validation"
    or "test" (80, 10 and 10 % by a hash of the question); at most `limit`, shuffled by `seed`. Raises ConfigError.
    """
    split = split or "train"
    if spec == "arithmetic":
        return arithmetic(split, 10_000 if limit is None else limit, seed)
    path = Path(spec)
    if path.suffix != ".jsonl":
        raise ConfigError(f"data: '{spec}' is neither 'arithmetic' nor a .jsonl file")
    if not path.is_file():
        raise ConfigError(f"data: the file {path} does not exist")
    problems = jsonl_file(path, split)
    if not problems:
        raise ConfigError(f"data: {path} has no problems in its {split} split (80/10/10 % by question)")
    seeds.rng("shuffle", seed).shuffle(problems)
    return problems[:limit]


def problems_of_step(problems: list[Problem], step: int, count: int, seed: int) -> list[Problem]:
    """The `count` problems of a step: pass after pass over the data, each pass in its own order.

    A pure function of the step, so that a resumed run goes on with the problems that an uninterrupted one sees.
    """
    chosen = []
    for position in range(step * count, (step + 1) * count):
        epoch, place = divmod(position, len(problems))
        chosen.append(problems[epoch_order(len(problems), epoch, seed)[place]])
    return chosen


@functools.lru_cache(maxsize=2)
def epoch_order(size: int, epoch: int, seed: int) -> list[int]:
    order = list(range(size))
    seeds.rng("epoch", seed, epoch).shuffle(order)
    return order
