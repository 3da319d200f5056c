r"""Are two texts the same mathematics: the same expression, equation, inequality or set of real numbers?

Expressions are compared by their values (evaluation.py). Equations are the same if one is a multiple of the other, and
sets of real numbers if they have the same members at and between all their ends.

Here a hostile text can take very long (equivalence.py ends that).
"""

from __future__ import annotations

import re
from fractions import Fraction

from mpmath import mpc

from spark_lib.answers.evaluation import (
    Evaluator,
    Undefined,
    Value,
    agree,
    as_fraction,
    constant,
    letters_in,
    points,
)
from spark_lib.answers.grammar import Tree, Unreadable, names, parse
from spark_lib.answers.notation import in_one_order
from spark_lib.answers.numbers import Number, number, same_number
from spark_lib.answers.spelling import COMMA, ORDER, TURNED, fence, split


def equivalent(gold: str, answer: str) -> bool:
    """Whether two tidied texts are the same mathematics; False where either is none that can be read."""
    try:
        if not in_one_order(answer, gold):
            return False
        if _SET.search(answer) or _SET.search(gold):
            try:
                return _same_set(answer, gold)
            except Unreadable:
                return _same_relation(answer, gold)
        if "=" in answer or "=" in gold:
            return _same_relation(answer, gold)
        return _same_expression(answer, gold)
    except (Unreadable, Undefined, ZeroDivisionError, OverflowError):
        return False


def _tree(text: str) -> Tree:
    plain = number(text)
    return ("number", plain.value / (100 if plain.percent else 1)) if plain else parse(text)


def _same_expression(answer: str, gold: str) -> bool:
    said, meant = _tree(answer), _tree(gold)
    if not letters_in(said) | letters_in(meant):  # a decimal may stand for what it rounds
        if (decimal := number(answer)) and decimal.step:
            return (value := _exact(meant)) is not None and same_number(decimal, value)
        if (decimal := number(gold)) and decimal.step:
            return (value := _exact(said)) is not None and same_number(value, decimal)
    return agree(said, meant)


def _exact(tree: Tree) -> Number | None:
    value = constant(tree)
    return None if isinstance(value, mpc) else Number(as_fraction(value))


# --- equations and inequalities -------------------------------------------------------------------------------------


def _same_relation(answer: str, gold: str) -> bool:
    """Two equations or inequalities of which one is a multiple of the other, in the same letters."""
    (said, sign), (meant, gold_sign) = _difference(answer), _difference(gold)
    if sign != gold_sign or not letters_in(said) or letters_in(said) != letters_in(meant):
        return False
    for point in points(sorted(letters_in(said))):
        here = [_substituted(tree, point) for tree in (said, meant)]
        try:
            values = [constant(tree) for tree in here]
        except Undefined:
            continue
        if 0 not in values:
            break
    else:
        return False
    if sign != "=" and (values[0] > 0) != (values[1] > 0):
        return False
    return agree(("mul", said, here[1]), ("mul", meant, here[0]))


def _difference(text: str) -> tuple[Tree, str]:
    """(left side minus right side, the sign between them), turned so that the sign is =, < or \\le."""
    sides, signs = split(text, rf"=|{ORDER}")
    if len(signs) != 1:
        raise Unreadable("no equation, or a chain")
    if signs[0] in TURNED:
        sides, signs = sides[::-1], [TURNED[signs[0]]]
    return ("add", _tree(sides[0]), ("neg", _tree(sides[1]))), signs[0]


def _substituted(tree: Tree, point: dict[str, Fraction]) -> Tree:
    if tree[0] == "name":
        return ("number", point[tree[1]]) if tree[1] in point else tree
    return tuple(_substituted(each, point) if isinstance(each, tuple) else each for each in tree)


# --- sets of real numbers -------------------------------------------------------------------------------------------

_SET = re.compile(rf"{ORDER}|\\(?:ne|cup|cap|setminus|mathbb|infty|emptyset|in)(?![A-Za-z])")
_JOINED = r"\\cup|\\lor(?![A-Za-z])|(?<![A-Za-z\\])(?:or|OR)(?![A-Za-z])"
_BOTH = r"\\cap|\\land(?![A-Za-z])|(?<![A-Za-z\\])(?:and|AND)(?![A-Za-z])"
_COMPARED = rf"{ORDER}|\\ne(?![A-Za-z])|="
_VARIABLE = re.compile(r"[A-Za-z]|\\(?:theta|alpha|beta|lambda|phi|mu)")
_BUILDER = re.compile(rf"\\\{{ ?({_VARIABLE.pattern})(?: ?\\in ?\\mathbb\{{R\}})? ?(?:\\mid|[:|]) ?(.*?) ?\\\}}")
_ALL = ("between", None, False, None, False)


class RealSet:
    """A set of real numbers: trees of its ends, the names it is told of, and the rule that says what belongs to it.

    Rules: ("between", low, closed, high, closed) and ("points", …) with the numbers of ends, None for infinity;
    ("or", …), ("and", …), ("less", rule, …) of other rules.
    """

    def __init__(self, text: str) -> None:
        self.ends: list[Tree] = []
        self.variables: set[str] = set()
        self.rule = self.read(text)

    def end(self, text: str) -> int | None:
        if re.fullmatch(r"-? ?\\infty", text):
            return None
        tree = _tree(text)
        if letters_in(tree) or "i" in names(tree):
            raise Unreadable("an end with letters")
        self.ends.append(tree)
        return len(self.ends) - 1

    def read(self, text: str) -> Tree:
        for pattern, kind in ((_JOINED, "or"), (_BOTH, "and"), (r"\\setminus", "less")):
            parts, signs = split(text, pattern)
            if signs:
                return (kind, *map(self.read, parts))
        members, signs = split(text, r"\\in(?![A-Za-z])")
        if signs:
            if len(members) != 2 or not _VARIABLE.fullmatch(members[0]):
                raise Unreadable("membership")
            self.variables.add(members[0])
            return self.read(members[1])
        if builder := _BUILDER.fullmatch(text):
            self.variables.add(builder[1])
            return self.read(builder[2])
        if text in (r"\mathbb{R}", r"\mathbb R"):
            return _ALL
        if text in (r"\emptyset", r"\{\}"):
            return ("points",)
        parts, commas = split(text, COMMA)
        if commas and all(r"\ne" in part for part in parts):
            return ("and", *map(self.read, parts))
        return self.fenced(text) if fence(text) else self.related(text)

    def fenced(self, text: str) -> Tree:
        opening, inner, closing = fence(text)
        items = split(inner, COMMA)[0]
        if opening == r"\{":
            return ("points", *map(self.end, items))
        if len(items) != 2:
            raise Unreadable("an interval has two ends")
        low, high = (self.end(item) for item in items)
        if (low is None and not items[0].startswith("-")) or (high is None and items[1].startswith("-")):
            raise Unreadable("an interval from infinity")
        return ("between", low, opening == "[", high, closing == "]")

    def related(self, text: str) -> Tree:
        parts, signs = split(text, _COMPARED)
        if signs and signs[0] in TURNED:
            parts, signs = parts[::-1], [TURNED.get(sign, "") for sign in signs[::-1]]
        place = next((i for i, part in enumerate(parts) if _VARIABLE.fullmatch(part)), None)
        if place is None or not 1 <= len(signs) <= 2:
            raise Unreadable("no variable")
        self.variables.add(parts[place])
        if signs in (["="], [r"\ne"]):
            only = ("points", self.end(parts[1 - place]))
            return only if signs == ["="] else ("less", _ALL, only)
        if not all(sign in ("<", r"\le") for sign in signs) or (len(signs) == 2 and place != 1):
            raise Unreadable("a chain")
        low = self.end(parts[place - 1]) if place else None
        high = self.end(parts[place + 1]) if place + 1 < len(parts) else None
        return ("between", low, bool(place) and signs[place - 1] == r"\le", high, signs[-1] == r"\le")

    def contains(self, rule: Tree, place: int, ranks: list[int]) -> bool:
        """Whether a place belongs to it: 2 r + 1 is the end of rank r, 2 r lies between that and the end before."""
        kind, *rest = rule
        if kind == "points":
            return any(place == 2 * ranks[end] + 1 for end in rest if end is not None)
        if kind == "between":
            low, low_in, high, high_in = rest
            above = low is None or place > 2 * ranks[low] + 1 or low_in and place == 2 * ranks[low] + 1
            below = high is None or place < 2 * ranks[high] + 1 or high_in and place == 2 * ranks[high] + 1
            return above and below
        found = [self.contains(each, place, ranks) for each in rest]
        return any(found) if kind == "or" else all(found) if kind == "and" else found[0] and not any(found[1:])


def _same_set(answer: str, gold: str) -> bool:
    """Whether two sets have the same members: at each end of either, and between each two ends."""
    said, meant = RealSet(answer), RealSet(gold)
    if max(len(said.variables), len(meant.variables)) > 1 or len(said.variables | meant.variables) > 1:
        return False
    distinct: list[Tree] = []
    which = []
    for tree in said.ends + meant.ends:
        place = next((i for i, other in enumerate(distinct) if agree(tree, other)), len(distinct))
        distinct[place:] = distinct[place:] or [tree]
        which.append(place)
    order = sorted(range(len(distinct)), key=lambda i: as_fraction(_value(distinct[i])))
    ranks = [order.index(place) for place in which]
    own, other = ranks[: len(said.ends)], ranks[len(said.ends) :]
    return all(
        said.contains(said.rule, place, own) == meant.contains(meant.rule, place, other)
        for place in range(2 * len(distinct) + 1)
    )


def _value(tree: Tree) -> Value:
    return Evaluator({}, False, 4000).value(tree)
