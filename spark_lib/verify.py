"""The rule-based verifier: is the answer in the last \\boxed{…} the reference answer?

It gives the reward of every task (PAPER: reinforcement learning with verifiable rewards): solving,
reflecting and judging, where the answer is "Yes"/"No" or "A"/"B". It is the only teacher, and what it rewards
wrongly a policy finds. So three decisions shape it:

- Only the last balanced box counts, and one that holds two answers is wrong: else a policy learns to hedge.
- Each kind of answer has its rule (RULES, in answers/): numbers, units, times, lists, equations, words. What no rule
  can read in one way only is the same answer only if it is spelled the same.
- What is exact is compared exactly. docs/verifier.md says what counts as the same.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING

from spark_lib.answers import equivalence, notation, numbers, structure, units
from spark_lib.answers.spelling import plain, same_text, tidy

if TYPE_CHECKING:  # for its name only
    from spark_lib.problem import Problem

MAX_LENGTH = 1000  # characters; a longer answer is wrong unless it is the reference, character by character


def extract_boxed(text: str) -> str | None:
    """The content of the last box, without surrounding spaces; None if there is none."""
    box = last_box(text)
    return text[box].strip() if box else None


def last_box(text: str) -> slice | None:
    r"""Where the content of the last balanced \boxed{…} stands; None if there is none.

    "Last" is the one that closes last, so of `\boxed{\boxed{3}}` it is the outer. A box that is never closed
    is no box: in `\boxed{3} … \boxed{4` the 3 counts. Nor is one in a thought that has not ended: what follows a
    <think> without its </think> is not read. One pass over the braces, without recursion.
    """
    begun = text.rfind("<think>")
    if begun > text.rfind("</think>"):
        text = text[:begun]
    box = None
    open_braces: list[int | None] = []  # for a box the place where its content starts, else None
    # `\\.` steps over escaped braces: \{1, 2\} is a set. Two backslashes before "boxed" are escaped JSON.
    for token in re.compile(r"(\\{1,2}boxed\s*)?\{|\}|\\.", re.DOTALL).finditer(text):
        if token[1] or token[0] == "{":
            open_braces.append(token.end() if token[1] else None)
        elif token[0] == "}" and open_braces and (start := open_braces.pop()) is not None:
            box = slice(start, token.start())
    return box


def verify(text: str, problem: Problem) -> bool:
    """Whether the last balanced box of `text` holds an answer of `problem`. No text makes it raise."""
    box = extract_boxed(text) if isinstance(text, str) else None
    return box is not None and any(same_answer(box, gold, problem) for gold in (problem.answer, *problem.also))


def verify_many(texts: list[str], problems: list[Problem]) -> list[bool]:
    """`verify` for each pair. No verdict depends on its neighbours, and a hostile text holds up only one worker."""
    pairs = zip(texts, problems, strict=True)
    with ThreadPoolExecutor(equivalence.WORKERS) as pool:
        return list(pool.map(lambda pair: verify(*pair), pairs))


def same_answer(answer: str, reference: str, problem: Problem | None = None) -> bool:
    """Whether two box contents are the same answer, by the rules of the problem's kind.

    `same_answer(gold, gold, problem)` is False for a gold answer that no model can reach: unbalanced braces,
    a letter without an option, a judge's verdict that is neither word. Drop such problems when loading.
    """
    if not (isinstance(answer, str) and isinstance(reference, str)):
        return False
    if extract_boxed(f"\\boxed{{{reference}}}") != reference.strip():
        return False
    if max(len(answer), len(reference)) > MAX_LENGTH:
        return answer.strip() == reference.strip()
    answer, reference = tidy(answer), tidy(reference)
    if problem and problem.kind in _VERDICTS:
        return _word(answer) == _word(reference) and _word(reference) in _VERDICTS[problem.kind]
    try:
        if problem and problem.choices:
            return _same_choice(answer, reference, [tidy(choice) for choice in problem.choices])
        return _same(answer, reference)
    except RecursionError:  # brackets in brackets, hundreds deep
        return False


def number_in(answer: str) -> Fraction | None:
    """The plain number that a box content is, its unit dropped (50% is 50); None if it is something else."""
    number = numbers.number(units.value(tidy(answer))) if len(answer) <= MAX_LENGTH else None
    return number.value if number else None


# What follows sees at most MAX_LENGTH characters, so that no pattern can take long.
_VERDICTS = {"pointwise": ("yes", "no"), "pairwise": ("a", "b")}
_CHOICE = re.compile(
    r"(?:(?:the )?(?:correct )?(?:option|choice|answer)(?: is)?:? ?)?[(\[]? ?([a-z]) ?"
    r"(?:[)\].:]+ ?(.*)|[-=] ?(.*)|\((.*)\))?",
    re.IGNORECASE,
)


def _word(text: str) -> str:
    return re.sub(r"[\s.\"'()\[\]{}*]|\\vec|\\[{}]", "", plain(text)).casefold()


def _same_choice(answer: str, reference: str, options: list[str]) -> bool:
    """A letter, a letter with its option's text, or the text alone if no other option reads the same."""
    by_letter = dict(zip("abcdefghijklmnopqrstuvwxyz", options))
    gold = _word(reference)
    if gold not in by_letter:
        return False
    lettered = _CHOICE.fullmatch(plain(re.sub(r"\\vec ?\{(\w)\}", r"\1", answer)))
    if lettered and lettered[1].lower() in by_letter:
        text = next((text.strip() for text in lettered.groups()[1:] if text), "")
        return lettered[1].lower() == gold and (not text or _same(text, by_letter[gold]))
    alike = [option for option in options if _same(answer, option) or _same(option, answer)]
    if len(alike) > 1:  # of 5 and 5 cm, the one that is spelled so; of 8 and 8.0 neither
        alike = [option for option in alike if bool(units.quantity(option)) == bool(units.quantity(answer))]
    return alike == [by_letter[gold]] and _same(answer, by_letter[gold])


# The rules in the order in which they are asked: the first that knows such answers decides, the others say None.
RULES = (
    structure.same_set, notation.same_residue, notation.same_time, structure.same_list, structure.same_equation,
    units.same_quantity, notation.same_words, structure.same_fence, structure.same_matrix, structure.same_operation,
)  # fmt: skip


@lru_cache(maxsize=1 << 14)
def _same(answer: str, reference: str) -> bool:
    """Whether two tidied answers are the same. Cached, so that a text which takes for ever is paid for once."""
    if not answer or not reference:
        return False
    number, gold = numbers.number(plain(answer)), numbers.number(plain(reference))
    if number and gold:
        return numbers.same_number(number, gold)
    if same_text(answer, reference):
        return True
    if gold and not re.search(r"[0-9\\]|^e$", answer):
        return False  # plain words are no number
    if (same := numbers.same_numeral(plain(answer), plain(reference))) is not None:
        return same
    for rule in RULES:
        if (same := rule(answer, reference, _same)) is not None:
            return same
    return equivalence.WORKER.equivalent(reference, answer)
