"""The rule-based verifier: is the answer in the last \\boxed{…} the reference answer?

It gives the reward of every task (PAPER: reinforcement learning with verifiable rewards): solving,
reflecting and judging, where the answer is "Yes"/"No" or "A"/"B". Three decisions shape it:

- Only the last balanced box counts, and one that holds two answers is wrong: else a policy learns to hedge.
- Cheap exact rules come first. What they leave open ("(x+1)^2" against "x^2+2x+1") is asked of math-verify,
  in a process that the system kills when it takes too long (equivalence.py).
- A number's unit is dropped, and "50%" equals both 0.5 and 50, as in math-verify and the usual benchmarks.
  A decimal equals a fraction or a longer decimal if they agree to six places.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING

from spark_lib import equivalence

if TYPE_CHECKING:  # problems.py imports more than a rule needs
    from spark_lib.problem import Problem

MAX_LENGTH = 1000  # characters; a longer answer is wrong unless it is the reference, character by character


def extract_boxed(text: str) -> str | None:
    r"""The content of the last balanced \boxed{…}, without surrounding spaces; None if there is none.

    "Last" is the one that closes last, so of `\boxed{\boxed{3}}` it is the outer. A box that is never closed
    is no box: in `\boxed{3} … \boxed{4` the 3 counts. One pass over the braces, without recursion.
    """
    box = None
    open_braces: list[int | None] = []  # for a box the place where its content starts, else None
    # `\\.` steps over escaped braces: \{1, 2\} is a set. Two backslashes before "boxed" are escaped JSON.
    for token in re.compile(r"(\\{1,2}boxed\s*)?\{|\}|\\.", re.DOTALL).finditer(text):
        if token[1] or token[0] == "{":
            open_braces.append(token.end() if token[1] else None)
        elif token[0] == "}" and open_braces and (start := open_braces.pop()) is not None:
            box = slice(start, token.start())
    return text[box].strip() if box else None


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
    answer, reference = _tidy(answer), _tidy(reference)
    if problem and problem.kind in _VERDICTS:
        return _word(answer) == _word(reference) and _word(reference) in _VERDICTS[problem.kind]
    if problem and problem.choices:
        return _same_choice(answer, reference, [_tidy(choice) for choice in problem.choices])
    return _same(answer, reference)


def number_in(answer: str) -> Fraction | None:
    """The plain number that a box content is, its unit dropped (50% is 50); None if it is something else."""
    number = _number(_plain(_without_units(_tidy(answer)))) if len(answer) <= MAX_LENGTH else None
    return number[0] if number else None


# What follows sees at most MAX_LENGTH characters, so that no pattern can take long.
_VERDICTS = {"pointwise": ("yes", "no"), "pairwise": ("a", "b")}
_CHARACTERS = str.maketrans(
    {"−": "-", "–": "-", "°": "", "%": r"\%", "×": r"\times ", "·": r"\cdot ", "π": r"\pi ", "∞": r"\infty "}
    | {"≤": r"\le ", "≥": r"\ge ", "∪": r"\cup ", "√": r"\sqrt ", "≈": r"\approx "}
)
_REWRITES = [
    # `\\` ends a row of a matrix, also before a space.
    (r"(?:(?<!\\)\\[,;: ]|~|\$\$|\\q?quad(?![A-Za-z])|\\displaystyle(?![A-Za-z])|\s)+", " "),
    (r"\\\\\[[0-9.]+[a-z]+\]", r"\\\\"),
    (r"\\(?:lor|vee)(?![A-Za-z])", " or "),
    (r"\\(?:land|wedge)(?![A-Za-z])", " and "),
    (r"^ *(?:\*\*(.*)\*\*|\\\((.*)\\\)|\\\[(.*)\\\])[ .]*$", r"\1\2\3"),  # Markdown's bold, math delimiters
    (r"\\?\$|[£€¥]|\\!|\\(?:left|right|[bB]igg?[lr]?)(?![A-Za-z])\.?", ""),
    (r"\*\*", "^"),
    (r"\\+%|(?<=[0-9]) ?percent\b|\\text ?\{ ?percent ?\}", r"\\%"),
    (r"\^ ?(?:\\circ|\{ ?\\circ ?\})|\\degree(?![A-Za-z])", ""),
    (r"\\[dtc]frac", r"\\frac"),
    (r"\\frac ?([0-9]) ?([0-9])", r"\\frac{\1}{\2}"),
    (r"(?<=[0-9})]) ?\\approx.*|^ ?\\approx", ""),  # "1/3 \approx 0.333" answers 1/3
    # 1,234 is a number; (1,234) is a pair, and 1,23 and 1, 234 are lists.
    (r"(?<![\d,.([{])\d{1,3}(,|\{,\}| )\d{3}(\1\d{3})*(?![\d,)\]}])", lambda m: re.sub(r"\D", "", m[0])),
    (r"(?<![_^.\w])([0-9]+|\( ?[0-9]+ ?\)) ?(?=\( ?[0-9]+ ?\))", r"\1\\cdot "),  # 2(3) is a product, not a sum
    (r"^ +|[ .]+$", ""),
]
_TEXT = re.compile(r"\\(?:text(?:bf|it|rm|sf|normal)?|math(?:rm|bf|it|sf)|mbox) ?\{([^{}]*)\}")
# A unit is a \text{…} or a known word after a number, at the end. Words that change the number are no units.
_VALUE = r"(?:dozen|hundred|thousand|[a-z]+illion|half|halves|thirds?|squared|cubed|times|[百千万亿])\b"
_UNITS = (
    r"(?:kilo|centi|milli)?(?:met(?:er|re)|gram|lit(?:er|re))s?|inch(?:es)?|foot|feet|(?:yard|mile|acre|pound|ounce|ton|"
    r"gallon|quart|pint|cup|second|minute|hour|day|week|month|year|degree|radian|dollar|cent|euro|unit|point)s?|people|"
    r"[kcm]?m|[km]?g|in|ft|yd|mi|lbs?|oz|m?[lL]|hrs?|h|s|min|sec|mph|men|deg|USD"
)
_UNIT = re.compile(
    rf"(?:(?<=[0-9}})%])|(?<=\\pi)(?![a-z]))(?:(?: ?/)? ?\\(?:text(?:rm|bf)?|mathrm|mbox) ?"
    rf"\{{(?! ?{_VALUE}| ?[ie] ?\}})(?:[^\W\d_]|[ ./-])*\}}"
    rf"| ?(?:(?:sq|cu|square|cubic)\.? )?(?:{_UNITS})(?:(?: ?/ ?| per )(?:{_UNITS}))?)"
    r"(?: ?\^ ?(?:[0-9]|\{-?[0-9]\}))?$"
)
_WORDS = re.compile(r"[^\W\d_]{3}|[^\x00-\x7f]|^\(?[A-J]\)?$")
_FORMULA = re.compile(r"[0-9\\^_={}+*<>]|^-|[A-Za-z]\(")
_PREFIXED = re.compile(r"-?0(?:x[0-9a-f]+|b[01]+|o[0-7]+)", re.IGNORECASE)  # hexadecimal, binary, octal
_BASED = re.compile(r"(-?[0-9A-Z.]+)_(?:([0-9]+)|\{([0-9]+)\})")  # 1011_2, and x_1
# What separates two answers, and the groups in which it separates something else.
_SEVERAL = (
    r"[,;，、；或&]|\\\\|\b(?:and|or|AND|OR)\b"
    r"|\\(?:to|implies|iff|neq?|(?:[Ll]eft)?[Rr]ightarrow)(?![A-Za-z])"
)
_GROUP = re.compile(r"\\begin.*\\end ?\{\w+\}|\\\{.*?\\\}|[(\[].*?[)\]]|_ ?\{[^{}]*\}")
_CHOICE = re.compile(r"(?:(?:option|choice|answer):? ?)?[(\[]? ?([a-z]) ?(?:[)\].:]+ ?(.*))?", re.IGNORECASE)
_FENCED = re.compile(r"(\\\{|[(\[])[^()\[\]]*(\\\}|[)\]])")  # a set, tuple or interval
_MISREAD = re.compile(
    r"\\boxed|\\fbox|\\text|\\mbox|dots|phantom|[0-9]['\"]+ ?[0-9]|(?<![_^0-9])[0-9]+ [0-9]|[0-9}] (?!and )[A-Za-z]{3}"
    r"|(?<![_^.\w])[0-9]+ ?[{\[] ?[0-9]+ ?[}\]]|^(?:\( ?[0-9]+ ?\)|\{ ?[0-9]+ ?\}) ?[{\[]? ?[0-9]"
)
_PRIME = re.compile(r"[A-Za-z)]'")
_EQUALS = re.compile(r"(?<![<>!])(?<!\\not)(?<!\\not )=|\\approx|\\equiv")
_NUMERIC = re.compile(r"(?:[-0-9.+*/^!(){} ]|\\(?:frac|cdot|times|div|sqrt|pi|binom)(?![a-z]))+")
_NAME = re.compile(r"(?:[A-Za-z\\'(){} ]|_(?:\w|\{\w+\}))+")  # x, a_1, f(x), \angle ABC, but not 2x
_DECIMAL = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
_NUMBER = re.compile(
    rf"([+-]?) ?(?:([0-9]+) (?=[0-9]+ ?/))?(-?{_DECIMAL})(?: ?/ ?({_DECIMAL}))?"  # a mixed number, a fraction
    r"(?:[eE]([+-]?[0-9]{1,3}))? ?(\\%)?"
)


@lru_cache(maxsize=1 << 12)  # references and options come again and again
def _tidy(text: str) -> str:
    """One spelling for what LaTeX and Unicode spell in many ways; only degrees and currencies are lost."""
    while inner := re.fullmatch(r"\s*\\boxed\s*\{(.*)\}\s*", text, re.DOTALL):
        text = inner[1]
    text = text.translate(_CHARACTERS)
    for pattern, replacement in _REWRITES:
        text = re.sub(pattern, replacement, text)
    return text


def _plain(text: str) -> str:
    return re.sub(" +", " ", _TEXT.sub(r"\1", text)).strip()


def _without_units(text: str) -> str:
    return _UNIT.sub("", _UNIT.sub("", text))


def _word(text: str) -> str:
    return re.sub(r"[\s.\"'“”‘’(){}\[\]*]", "", _plain(text)).casefold()


def _same_choice(answer: str, reference: str, options: list[str]) -> bool:
    """A letter, a letter with its option's text, or the text alone if no other option reads the same."""
    by_letter = dict(zip("abcdefghijklmnopqrstuvwxyz", options))
    gold = _word(reference)
    if gold not in by_letter:
        return False
    lettered = _CHOICE.fullmatch(_plain(answer))
    if lettered and lettered[1].lower() in by_letter:
        return lettered[1].lower() == gold and (not lettered[2] or _same(lettered[2], by_letter[gold]))
    return _same(answer, by_letter[gold]) and sum(_same(answer, option) for option in options) == 1


@lru_cache(maxsize=1 << 14)
def _same(answer: str, reference: str) -> bool:
    """Whether two tidied answers are the same. Cached, so that a text which hangs SymPy is paid for once."""
    plain, gold = _plain(answer), _plain(reference)
    squeezed, gold_squeezed = (re.sub(r"(?<!\d) | (?!\d)", "", side) for side in (plain, gold))  # 12 ≠ 1 2
    if not squeezed or squeezed == gold_squeezed:
        return bool(squeezed)
    if _PREFIXED.fullmatch(squeezed) or _PREFIXED.fullmatch(gold_squeezed):
        return squeezed.casefold() == gold_squeezed.casefold()  # math-verify reads 0x1F as 0 times x1F, which is 0
    based, gold_based = map(_BASED.fullmatch, (squeezed, gold_squeezed))
    if based and gold_based:  # of which math-verify drops the bases
        return based[1] == gold_based[1] and (based[2] or based[3]) == (gold_based[2] or gold_based[3])
    if _WORDS.search(gold) and not _FORMULA.search(gold):
        return _word(plain) == _word(gold)  # SymPy would read a product of letters: "Evelyn" is "Evelny"
    separators = len(re.findall(_SEVERAL, _GROUP.sub("", plain)))
    if separators and not re.search(_SEVERAL + r"|\\pm", gold):
        return False
    answer, reference = (_plain(_without_units(text)) for text in (answer, reference))
    number, gold_number = _number(answer), _number(reference)
    if number and gold_number:
        return _same_number(number, gold_number)
    if gold_number and not re.search(r"[0-9\\]", answer):
        return False  # plain words are no number; the worker need not be asked
    # Misread by math-verify: "3 4" and {3}{4} as the sum 7, any word as a unit, f' as f, the set {1, 2} as a point.
    fences = {fence.groups() for fence in map(_FENCED.fullmatch, (answer, reference)) if fence}
    if len(fences) == 2 or _MISREAD.search(answer):
        return False
    # x = 6/2 = 3 is 3, but 4 = 3 is not: the last side and every number before it must be the answer.
    sides, gold_sides = ([side.strip() for side in _EQUALS.split(text)] for text in (answer, reference))
    if len(sides) > 1 and len(gold_sides) == 1 and not separators:
        if _NAME.fullmatch(sides[0]) and re.search(rf"(?<![A-Za-z\\]){re.escape(sides[0])}(?![A-Za-z])", answer[1:]):
            return False  # x = 3 if x = 4
        values = [side for side in sides[:-1] if _NUMERIC.fullmatch(_UNIT.sub("", side))]
        return all(_same(side, reference) for side in [*values, sides[-1]])
    if len(sides) == 1 and len(gold_sides) == 2 and _NAME.fullmatch(gold_sides[0]):
        return _same(answer, gold_sides[1])
    if len(_PRIME.findall(answer)) != len(_PRIME.findall(reference)):
        return False
    return len(sides) <= max(len(gold_sides), 2 + separators) and equivalence.WORKER.equivalent(reference, answer)


@lru_cache(maxsize=1 << 12)
def _number(text: str) -> tuple[Fraction, bool, bool] | None:
    """(value, whether in percent, whether it has a decimal point), or None if `text` is no plain number."""
    text = re.sub(rf"\\frac ?\{{(-?{_DECIMAL})\}} ?\{{({_DECIMAL})\}}", r" \1/\2", text).strip()
    text = re.sub(r"^([+-]?) ?10(?= ?\^)", r"\g<1>1*10", text)
    text = re.sub(r"(?<=[0-9.]) ?(?:\\times|\\cdot|\*|x) ?10 ?\^ ?\{?([+-]?[0-9]{1,3})\}?", r"e\1", text)
    match = _NUMBER.fullmatch(text)
    if not match or (match[4] and not match[4].strip("0.")):
        return None
    sign, whole, top, bottom, exponent, percent = match.groups()
    value = (Fraction(top) / Fraction(bottom or 1) + int(whole or 0)) * Fraction(10) ** int(exponent or 0)
    return (-value if sign == "-" else value), bool(percent), "." in text


def _same_number(number: tuple[Fraction, bool, bool], gold_number: tuple[Fraction, bool, bool]) -> bool:
    (value, percent, point), (gold, gold_percent, gold_point) = number, gold_number
    scaled = (value / 100 if percent else value, gold / 100 if gold_percent else gold)
    tolerance = Fraction(1, 10**6) if point or gold_point else 0  # below, also relative: 1e-7 is not 2e-7
    return any(a == b or abs(a - b) < min(tolerance, abs(b) / 10**4) for a, b in ((value, gold), scaled))
