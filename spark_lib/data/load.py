"""Problems to solve: generated here, or read from files and hub sets, split, checked and shuffled."""

import functools
import hashlib
import logging
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from spark_lib import prompts, seeds
from spark_lib.config import ConfigError
from spark_lib.data import shapes, sources
from spark_lib.data.checks import confirmed, refuse_sentences, tell_repeated
from spark_lib.data.fields import Row, unreadable
from spark_lib.problem import Problem

HELD_OUT = ("test", "validation")


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


def counting(split: str, limit: int, seed: int) -> list[Problem]:
    """`limit` pictures of coloured shapes with something to count: quickstart_vl's task, see shapes.py."""
    rng = seeds.rng("shapes", split, seed)
    problems = []
    while len(problems) < limit:
        scene = shapes.scene(rng)
        if split_of(scene.key) == split:
            problems.append(solve_problem(scene.question, str(scene.answer), rng, image=shapes.draw(scene, rng)))
    return problems


def exchanged(split: str, limit: int, seed: int) -> list[Problem]:
    """The same questions and answers, each with the next one's picture: a model that looks at pictures is as wrong
    about them as one that guesses."""
    problems = counting(split, limit, seed)
    return [replace(one, image=other.image) for one, other in zip(problems, problems[1:] + problems[:1])]


def load_problems(
    spec: str, split: str | None = None, limit: int | None = None, seed: int = 0, *,
    fields: dict[str, str] | None = None, options: dict | None = None, check: bool = True,
) -> list[Problem]:
    """Problems to solve: at most `limit` of split "train" (default), "validation" or "test", shuffled by `seed`.

    spec: "arithmetic" or "shapes"; a .jsonl, .json, .csv, .tsv or .parquet file or a folder of them;
        "reasoning_gym:<task>";
        a hub id "owner/name", with ":config" or ":file" where the data set has several.
    fields: {"prompt": name, "answer": name, "image": name} where the names cannot be found, see fields.py.
    options: of a reasoning_gym task. check: whether answers must be such that verify.py can confirm them; False
        where a rule of the user's own reads them.

    Raises ConfigError for data that cannot be meant, naming file and row.
    """
    split = split or "train"
    is_task = spec.startswith("reasoning_gym:")
    if options and not is_task:
        raise ConfigError(f"data_options: only a reasoning_gym task has options, and data is '{spec}'")
    if fields and (is_task or spec in GENERATORS):
        raise ConfigError(f"fields: only files and hub sets have fields to name, and data is '{spec}'")
    if spec in GENERATORS:
        make, size = GENERATORS[spec]
        return make(split, size if limit is None else limit, seed)
    rows = sources.read_rows(spec, fields or {}, options or {})
    chosen = rows_of_split(rows, split)
    if check:
        refuse_sentences(rows, spec)
        chosen = confirmed(chosen, rows, spec)
    if not chosen:
        raise ConfigError(f"data: {spec} has no problems in its {split} split; docs/data.md tells how it is split")
    seeds.rng("shuffle", seed).shuffle(chosen)
    chosen = with_readable_images(chosen, limit)
    with sources.many_objects():
        return [problem_of(row) for row in chosen]


def problem_of(row: Row) -> Problem:
    return solve_problem(row.question, row.answer, seeds.rng(row.question), image=row.image, context=row.context,
                         also=row.also)


def with_readable_images(rows: list[Row], limit: int | None) -> list[Row]:
    """The first `limit` rows whose images can be read; says which are left out. All pixels are decoded once, as a file
    that was cut short looks whole at its head. Raises ConfigError if no more than half can be read."""
    kept: list[Row] = []
    lost: list[str] = []
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(rows), 256):
            if limit is not None and len(kept) >= limit:
                break
            part = rows[start : start + 256]
            shown = any(row.image is not None for row in part)
            reasons = list(pool.map(unreadable, part) if shown else map(unreadable, part))
            kept += [row for row, reason in zip(part, reasons) if reason is None]
            lost += [reason for reason in reasons if reason]
    if lost:
        told = "; ".join(lost[:20]) + ("; …" if len(lost) > 20 else "")
        if len(lost) >= len(kept):
            raise ConfigError(f"data: {len(lost):,} of {len(lost) + len(kept):,} problems have images that cannot be "
                              f"read: {told}")
        logging.getLogger(__name__).warning("data: left out %d problems whose images cannot be read: %s",
                                            len(lost), told)
    return kept[:limit]


GENERATORS = {"arithmetic": (arithmetic, 10_000), "shapes": (counting, 5_000),
              "wrong_shapes": (exchanged, 5_000)}  # and how many problems by default


def rows_of_split(rows: list[Row], split: str) -> list[Row]:
    """The rows of one split, without repeated ones and without any whose question is also in another split.

    Official splits stay what they are. A split that has none is taken out of the training data, by split_of. The
    same question in two official splits belongs to the first of test, validation, train. How many rows repeat others is
    told in a line.
    """
    official = {row.split for row in rows}
    parts: dict[str, list[Row]] = {"test": [], "validation": [], "train": []}
    for row in rows:
        part = row.split if row.split in HELD_OUT else split_of(row.asked)
        parts["train" if row.split not in HELD_OUT and part in official else part].append(row)
    taken: dict[bytes, str] = {}
    kept: dict[object, Row] = {}
    repeated: list[tuple[Row, Row]] = []
    chosen: list[Row] = []
    for part, members in parts.items():
        for row in members:
            same = hashlib.blake2b(normal(row.asked).encode(), digest_size=16).digest()
            key = same if row.image is None else (same, row.image)  # two images make two problems of one question
            if taken.setdefault(same, part) != part:
                repeated.append((row, kept.get(key, row)))
            elif (first := kept.setdefault(key, row)) is not row:
                repeated.append((row, first))
            elif part == split:
                chosen.append(row)
    tell_repeated(repeated, rows)
    return chosen


def normal(asked: str) -> str:
    """A question without what makes no difference: spaces and capitals."""
    return " ".join(asked.split()).casefold()


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
