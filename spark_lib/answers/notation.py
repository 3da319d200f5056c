r"""What looks like arithmetic or algebra and is none: words, names, times, dates, ratios, residues.

Read as mathematics, "on" is "no", `\triangle ADE` is `\triangle AED` and 2020-03-04 is 2013. Here they are compared as
what they are: the same words in the same order, the same time of day, proportional ratios.
"""

from __future__ import annotations

import re
from fractions import Fraction

from spark_lib.answers.numbers import number
from spark_lib.answers.spelling import PAIRS, plain, split, tokens

# --- words and names ------------------------------------------------------------------------------------------------

_WORDS = re.compile(r"(?:[^\W\d_]|[ '\".,/&!?()-])*[^\W\d_](?:[^\W\d_]|[ '\".,/&!?()-])*")
_NAMES_IN_ORDER = re.compile(r"[A-Z](?:-[A-Z]){2,}|[A-Z]{2}(?:-[A-Z]{2})+")  # A-B-C: a path, no difference
_UNQUOTED = re.compile(r"[\"()\[\]{}*]|(?<=\w)\.|^'(?=.*'$)|(?<=\w{2})'$")


def is_words(text: str) -> bool:
    """Whether a tidied text is words, or one name: no algebra. `ab` may be a product, `Ag`, `no` and `cab` may not."""
    text = plain(text)
    if _NAMES_IN_ORDER.fullmatch(text):
        return True
    if not _WORDS.fullmatch(text):
        return False
    if not re.search(r"[^\W\d_]{3}", text) and re.search(r"[-/]|[^\W\d_]\(", text):
        return False  # f(x), AB/CD, A-Ar
    if text[0] in "([" and "," in text:
        return False  # a tuple or an interval
    runs = re.findall(r"[^\W\d_]+", text)
    joined = "".join(runs) if all(len(run) == 1 for run in runs) else max(runs, key=len)
    if len(joined) == 1:
        return bool(re.fullmatch(r"\(?[A-J]\)?|[^\x00-\x7f]", text))
    return len(joined) > 2 or not joined.islower() or joined in PAIRS or not joined.isascii()


def same_words(answer: str, gold: str, same) -> bool | None:
    """None if neither is words. Of one letter only an option's name "(c)" is C; c is another variable than C."""
    if not (is_words(gold) or is_words(answer)):
        return None
    said, meant = (_UNQUOTED.sub("", plain(text)).strip(" .") for text in (answer, gold))
    if len(meant) == 1:
        return said in (meant, meant.lower() if plain(answer) != said and meant.isupper() else meant)
    return bool(meant) and tokens(said) == tokens(meant)


_LETTER = re.compile(r"([A-Za-z])((?:_\{[^{}]*\}|'|\^\{[^{}]*\})*) ?")
_TIMES = re.compile(r"\\cdot ?|\\times ?|\*")
_ELEMENT = re.compile(r"(?<![A-Za-z\\])(A[glsu]|Br|C[alru]|Fe|H[eg]|N[aei]|P[bt]|S[in]|Zn)(?![a-z])")  # 2Ag is no 2gA
_INVERSE = re.compile(r"\^\{(?:-1|T|\\top|\*)\}")


def in_one_order(a: str, b: str) -> bool:
    r"""Whether two texts have their capitals in one order where letters stand side by side.

    Capitals side by side may be atoms, matrices, points or sets, whose order tells: NO_2 and O_2N, A^{-1}B and BA^{-1}.
    Small letters are numbers: GMm is GmM. A text with both AB and BA is no arithmetic, nor is one with A^{-1}B.
    """
    runs = [run for text in (a, b) for run in _runs(text)]
    if any(_INVERSE.search(letter) for run in runs for letter in run):
        return False
    for one, other in ((a, b), (b, a)):
        if any(symbol not in other and symbol[::-1] in other for symbol in _ELEMENT.findall(one)):
            return False
    orders: dict[tuple, set] = {}
    for run in runs:
        orders.setdefault(tuple(sorted(run)), set()).add(run)
    return all(len(found) == 1 for found in orders.values())


def _runs(text: str) -> list[tuple[str, ...]]:
    """The capitals of each row of adjoining letters, where there are several: [("C_{2}", "H_{6}", "O")]."""
    found, run, place = [], [], 0
    if _INVERSE.search(text):
        text = _TIMES.sub("", text)
    masked = re.sub(r"\\angle ?[A-Z]{3}|\\[A-Za-z]+ ?", lambda m: "#" * len(m[0]), text)
    while place <= len(masked):
        if atom := _LETTER.match(masked, place):
            run.append(atom[1] + atom[2])
            place = atom.end()
            continue
        capitals = tuple(each for each in run if each[0].isupper())
        if len(set(capitals)) > 1:
            found.append(capitals)
        run, place = [], place + 1
    return found


# --- times, dates, ratios -------------------------------------------------------------------------------------------

_TIME = re.compile(r"([0-9]{1,2})(?::([0-9]{2}))?(?::([0-9]{2}))? ?(?:([ap])\.? ?m\b\.?)?", re.IGNORECASE)
_CLOCK = re.compile(r"[0-9]{1,2}:[0-5][0-9](?::[0-5][0-9])?(?![0-9:])")
_MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
_MONTH = (
    r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?"
    r"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_DAY, _YEAR = r"(?P<day>[0-9]{1,2})(?:st|nd|rd|th)?", r"(?:,? (?P<year>[0-9]{4}))?"
_DATES = [
    re.compile(r"(?P<year>[0-9]{4})[-/.](?P<month>[0-9]{1,2})[-/.](?P<day>[0-9]{1,2})"),
    re.compile(rf"{_MONTH} {_DAY}{_YEAR}", re.IGNORECASE),
    re.compile(rf"{_DAY} (?:of )?{_MONTH}{_YEAR}", re.IGNORECASE),
]
_DASHED = re.compile(r"[0-9]+([-/.])[0-9]+(?:\1[0-9]+)+|0[0-9]+(?:-[0-9]+)+")  # telephone numbers, …
_RANGE = re.compile(r"[0-9]+-[0-9]+")
_HALF = re.compile(r"[0-9] ?[ap]\.? ?m\b", re.IGNORECASE)  # of a day
_FRACTION = re.compile(r"-?(?:[0-9.]+ ?/ ?[0-9.]+|\\frac\{[^{}]*\}\{[^{}]*\})")


def _date(text: str) -> tuple[int, int, int] | None:
    for pattern in _DATES:
        if match := pattern.fullmatch(text):
            month = match["month"]
            month = int(month) if month.isdigit() else _MONTHS.index(month[:3].lower()) + 1
            return int(match["year"] or 0), month, int(match["day"])
    return None


def _time(text: str) -> tuple[int, int, int, bool] | None:
    """(hour, minute, second, whether "a.m." or "p.m." says which half of the day), an afternoon's hour from 12 on."""
    match = _TIME.fullmatch(text)
    if not match or not (match[2] or match[4]):
        return None
    hour, half = int(match[1]), (match[4] or "").lower()
    if half:
        hour = hour % 12 + 12 * (half == "p") if 1 <= hour <= 12 else hour
    return hour, int(match[2] or 0), int(match[3] or 0), bool(half) or hour > 12


def same_time(answer: str, gold: str, same) -> bool | None:
    """Times, dates and ratios. None if neither is one."""
    said, meant = plain(answer), plain(gold)
    dates = _date(said), _date(meant)
    if any(dates):
        return dates[0] == dates[1]
    if _DASHED.fullmatch(said) or _DASHED.fullmatch(meant) or _RANGE.fullmatch(meant):
        return said == meant
    said_parts, meant_parts = split(said, ":")[0], split(meant, ":")[0]
    has_half = bool(_HALF.search(said) or _HALF.search(meant))
    if len(said_parts) == len(meant_parts) == 1 and not has_half:
        return None
    # 10:20 is a time of day; as an answer to 1:2 it may be a ratio, but 10:05 may not.
    if has_half or _CLOCK.match(meant) or re.search(r":0[0-9]", f"{said} {meant}"):
        times = _time(said), _time(meant)
        return None not in times and times[0] == times[1]
    return _same_ratio(said_parts, meant_parts, same)


def _same_ratio(said: list[str], meant: list[str], same) -> bool:
    """Proportional: 6:4 is 3:2, as is the fraction 3/2."""
    said, meant = ([_number(part) for part in _as_ratio(parts)] for parts in (said, meant))
    if len(said) != len(meant) or len(said) < 2:
        return False
    if all(isinstance(part, Fraction) for part in said + meant):
        if 0 in said + meant:
            return said == meant
        scales = {a / b for a, b in zip(said, meant, strict=True)}
        return len(scales) == 1 and min(scales) > 0
    return all(same(str(a), str(b)) for a, b in zip(said, meant, strict=True))


def _as_ratio(parts: list[str]) -> list[str]:
    if len(parts) == 1 and _FRACTION.fullmatch(parts[0]) and (value := number(parts[0])):
        return [str(value.value.numerator), str(value.value.denominator)]
    return parts


def _number(part: str) -> Fraction | str:
    found = number(part)
    return found.value if found and not found.percent else part


_RESIDUE = re.compile(r"(?:(.*?) ?\\equiv )?(.*?),? ?\\pmod\{([0-9]+)\}")


def same_residue(answer: str, gold: str, same) -> bool | None:
    r"""3 \pmod 7 is x \equiv 10 \pmod 7. None if neither has a modulus."""
    said, meant = _RESIDUE.fullmatch(plain(answer)), _RESIDUE.fullmatch(plain(gold))
    if not (said and meant):
        return False if r"\pmod" in answer + gold else None
    if said[3] != meant[3] or (said[1] and meant[1] and tokens(said[1]) != tokens(meant[1])):
        return False
    values = number(said[2]), number(meant[2])
    if None not in values and all(value.value.denominator == 1 for value in values):
        return (values[0].value - values[1].value) % int(meant[3]) == 0 if int(meant[3]) else False
    return same(said[2], meant[2])
