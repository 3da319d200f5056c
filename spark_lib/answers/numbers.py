r"""Plain numbers, compared exactly: integers, decimals, fractions, mixed numbers, percent, powers of ten, repeating
decimals; and numerals of another base, which are the same only as they are written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

MIN_DIGITS = 6  # significant digits that a decimal must give before it may stand for another value that it rounds
NOISE = 15  # significant digits of a 64-bit float: 0.30000000000000004 is 0.3

_DECIMAL = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
_NUMBER = re.compile(
    rf"([+-]?) ?(?:([0-9]+) (?=[0-9]+ ?/))?(-?{_DECIMAL})(?: ?/ ?({_DECIMAL}))?"  # a mixed number, a fraction
    r"(?:[eE]([+-]?[0-9]{1,3}))? ?(\\%)?"
)
_SPELLINGS = [  # of what the pattern above then reads
    (re.compile(rf"\\frac\{{ ?(-?{_DECIMAL}) ?\}}\{{ ?({_DECIMAL}) ?\}}"), r" \1/\2"),
    (re.compile(r"^([+-]?) ?10(?= ?\^)"), r"\g<1>1*10"),
    (re.compile(r"(?<=[0-9.]) ?(?:\\times|\\cdot|\*|x) ?10 ?\^ ?\{?([+-]?[0-9]{1,3})\}?"), r"e\1"),
]
_REPEATING = re.compile(r"(-?)([0-9]*)\.([0-9]*)(?:\\overline ?\{?([0-9]+)\}?|\\dot ?\{?([0-9])\}?|\(([0-9]+)\))")
_PREFIXED = re.compile(r"-?0(?:x[0-9a-f]+|b[01]+|o[0-7]+)", re.IGNORECASE)  # hexadecimal, binary, octal
_BASED = re.compile(r"\(?(-?[0-9A-Z.]+)\)?_ ?\{ ?\(?([0-9]+|[a-z]{3,})\)? ?\}")  # 1011_{2}, and A_{1}


@dataclass(frozen=True)
class Number:
    """value; step: the last decimal place, 0 where the number is exact; digits: significant ones."""

    value: Fraction
    step: Fraction = Fraction(0)
    digits: int = 0
    percent: bool = False

    def times(self, factor: Fraction) -> Number:
        return Number(self.value * factor, self.step * factor, self.digits, self.percent)


@lru_cache(maxsize=1 << 12)
def number(text: str) -> Number | None:
    """The plain number that a tidied text is; None if it is something else."""
    if repeating := _REPEATING.fullmatch(text):
        sign, whole, first, *groups = repeating.groups()
        period = next(group for group in groups if group)
        value = int(whole + first + period or 0) - int(whole + first or 0)
        value = Fraction(value, (10 ** len(period) - 1) * 10 ** len(first))
        return Number(-value if sign else value)
    for pattern, replacement in _SPELLINGS:
        text = pattern.sub(replacement, text)
    match = _NUMBER.fullmatch(text.strip())
    if not match or (match[4] and not match[4].strip("0.")):
        return None
    sign, whole, top, bottom, exponent, percent = match.groups()
    if sign and top.startswith("-") and not bottom:
        return None  # --5
    if whole and Fraction(top) >= Fraction(bottom):
        return None  # 2 3/2 is no mixed number
    power = Fraction(10) ** int(exponent or 0)
    value = (Fraction(top) / Fraction(bottom or 1) + int(whole or 0)) * power
    decimals = len(top.partition(".")[2]) if "." in top and not bottom else None
    step = power / 10**decimals if decimals is not None else Fraction(0)
    digits = len(top.replace(".", "").strip("-").lstrip("0"))
    return Number(-value if sign == "-" else value, step, digits, bool(percent))


def same_number(number: Number, gold: Number) -> bool:
    """Equal as they stand, or with each percentage as a hundredth: 50% is 50 and 0.5."""
    hundredth = Fraction(1, 100)
    scaled = (each.times(hundredth) if each.percent else each for each in (number, gold))
    return _agree(number, gold) or _agree(*scaled)


def _agree(number: Number, gold: Number) -> bool:
    """Exactly, or the coarser of the two is a decimal that rounds or cuts off the other after MIN_DIGITS or more."""
    if number.value == gold.value or gold.value.denominator == 1:
        return number.value == gold.value
    coarse, fine = (number, gold) if number.step > gold.step else (gold, number)
    difference = abs(number.value - gold.value)
    if fine.digits >= NOISE and fine.step and difference * 10 ** (NOISE - 1) <= abs(gold.value):
        return True
    cut_off = abs(coarse.value) <= abs(fine.value) < abs(coarse.value) + coarse.step
    return coarse.digits >= MIN_DIGITS and (2 * difference <= coarse.step or cut_off and coarse.value * fine.value > 0)


def same_numeral(answer: str, gold: str) -> bool | None:
    """0x1F, and 1011_2: digit by digit, as a number of another base is another answer. None if neither is one."""
    answer, gold = answer.replace(" ", ""), gold.replace(" ", "")
    if _PREFIXED.fullmatch(answer) or _PREFIXED.fullmatch(gold):
        return answer.casefold() == gold.casefold()
    based, gold_based = map(_BASED.fullmatch, (answer, gold))
    if based and gold_based:
        return based.groups() == gold_based.groups()
    if any(each and each[1][-1].isdigit() and each[2] for each in (based, gold_based)):
        return False
    return None
