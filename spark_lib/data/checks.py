"""Checks: what is wrong with the rows of a source, and is told before a run rests on them."""

import functools
import itertools
import logging
import re
from collections.abc import Iterable

from spark_lib.config import ConfigError
from spark_lib.data.fields import Row
from spark_lib.verify import extract_boxed, same_answer

MOST_ASKED = 20_000  # answers that the verifier is asked about, a few seconds' worth
PLAIN = re.compile(r"[ .,:/+-]*\w[\w .,:/+-]{0,98}")  # neither braces nor a backslash: it reads as itself
SENTENCE = 10  # words; a rule-checkable answer has fewer
REMEDY = ("name the field of the final answer, 'fields={answer: <name>}', or mark answers by a rule of your own, "
          "verifier=<file.py>:<function>")


@functools.lru_cache(maxsize=256)
def tell(text: str) -> None:
    """Say it once: training and held-out problems come from the same rows."""
    logging.getLogger(__name__).warning(text)


def confirmed(chosen: list[Row], rows: list[Row], spec: str) -> list[Row]:
    """The chosen ones of all rows whose answer the verifier can confirm: on the others no response could be right.

    Says which are left out. Raises ConfigError if they are more than 5 % of all rows: then the answers are probably
    not what they seem.
    """
    bad = unreachable(row.answer for row in rows)
    lost = [row for row in rows if row.answer in bad and not any(same_answer(gold, gold) for gold in row.also)]
    if len(lost) > 0.05 * len(rows):
        raise ConfigError(f"data: the verifier cannot confirm {len(lost):,} of the {len(rows):,} answers of {spec}, "
                          f"at most 5 % may be left out: {listed(lost)}")
    places = {row.where for row in lost}
    if left_out := [row for row in chosen if row.where in places]:
        tell(f"data: left out {len(left_out)} of {len(chosen)} problems, whose answers the verifier cannot confirm: "
             + listed(left_out))
    return [row for row in chosen if row.where not in places] if places else chosen


def unreachable(answers: Iterable[str]) -> set[str]:
    """Those of the answers that no response can match, not even one that repeats them.

    What is written in letters, digits and plain signs is known to match itself. Of the others at most MOST_ASKED are
    put to the verifier, evenly spread; of the rest only the braces are looked at.
    """
    distinct = [answer for answer in dict.fromkeys(answers) if not PLAIN.fullmatch(answer)]
    asked = set(distinct if len(distinct) <= MOST_ASKED else distinct[:: -(-len(distinct) // MOST_ASKED)])
    return {answer for answer in distinct if (answer in asked and not same_answer(answer, answer))
            or extract_boxed(f"\\boxed{{{answer}}}") != answer}


def refuse_sentences(rows: list[Row], spec: str) -> None:
    """Tell where more than a few answers are sentences, which no response repeats to the letter. Raises ConfigError
    where they are more than half of all: open-r1's `solution` is a worked one without a box."""
    found = [row for row in rows if is_sentence(row.answer)]
    if len(found) <= max(3, len(rows) // 100):
        return
    text = (f"data: {len(found):,} of the {len(rows):,} answers of {spec} are sentences, and a response is right only "
            f"if it repeats one to the letter; {REMEDY}: {listed(found, 3)}")
    if len(found) > len(rows) / 2:
        raise ConfigError(text)
    tell(text)


def is_sentence(answer: str) -> bool:
    """Whether an answer is running text: SENTENCE words or more, of two letters or more, and no LaTeX commands."""
    if len(answer) < 3 * SENTENCE - 1:
        return False
    words = re.finditer(r"(?<![\\\w])[^\W\d_]{2,}(?![\w{])", answer)
    return sum(1 for _ in itertools.islice(words, SENTENCE)) == SENTENCE


def tell_repeated(repeated: list[tuple[Row, Row]], rows: list[Row]) -> None:
    """repeated: rows that are left out, each with the one that asks the same and stays."""
    if not repeated:
        return
    others = sum(row.answer != kept.answer for row, kept in repeated)
    told = f", {others:,} of them with another answer" if others else ""
    hint = "; is the whole question in one field? 'fields={prompt: <name>}' names it" if others > len(rows) / 2 else ""
    places = ", ".join(row.where for row, _ in repeated[:3]) + (", …" if len(repeated) > 3 else "")
    tell(f"data: {len(repeated):,} of {len(rows):,} rows ask what another row asks and are left out{told} ({places})"
         + hint)


def listed(rows: list[Row], most: int = 20) -> str:
    return ("; ".join(f"{row.where}: {row.answer!r:.60}" for row in rows[:most])
            + ("; …" if len(rows) > most else ""))
