r"""Are two texts the same mathematics? Decided by values: exactly in fractions, or to more digits than they could hide.

Two expressions are the same if they agree wherever both are defined, at many points chosen in advance: fractions and
integers, small and large, of both signs, with real roots and logarithms (complex ones where an i occurs). Rational
values are compared exactly; others in as many digits as the largest and the smallest number on the way need, so that
2^{-98}\pi is not 2^{-99}\pi. Equations are the same if one is a multiple of the other, and sets of real numbers if
they have the same members at and between all their ends.

Here a hostile text can take for ever (equivalence.py ends that).
"""

from __future__ import annotations

import random
import re
from fractions import Fraction
from math import comb, factorial, floor, gcd, lcm

import mpmath
from mpmath import mp

from spark_lib.answers.grammar import Tree, Unreadable, in_one_order, names, parse
from spark_lib.answers.numbers import Number, number, same_number
from spark_lib.answers.spelling import COMMA, fence, split

MAX_BITS = 300_000  # of an exact value; a larger one is not compared
MAX_PRECISION = 40_000  # bits of an approximate value
LITERAL = 89  # denominators from here on are those of the points: x^{1/3} has a real root at -8, (-1)^x none at 1/97
POINTS = 24
ENOUGH = 4  # points at which both sides must be defined

Value = object  # Fraction, mpf, mpc


class Undefined(ArithmeticError):
    """No value at this point: a division by zero, the root of a negative number among real ones."""


def equivalent(gold: str, answer: str) -> bool:
    """Whether two tidied texts are the same expression, equation, inequality or set of real numbers."""
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


# --- expressions ----------------------------------------------------------------------------------------------------


def _tree(text: str) -> Tree:
    plain = number(text)
    return ("number", plain.value / (100 if plain.percent else 1)) if plain else parse(text)


def _same_expression(answer: str, gold: str) -> bool:
    said, meant = _tree(answer), _tree(gold)
    if not _letters(said) | _letters(meant):
        for plain, other in ((number(answer), meant), (number(gold), said)):
            if plain and plain.step:  # a decimal may stand for what it rounds
                return _rounds(plain, _constant(other), gold_is_decimal=plain is not number(answer))
    return _agree(said, meant)


def _rounds(decimal: Number, value: Value, gold_is_decimal: bool) -> bool:
    if isinstance(value, mpmath.mpc):
        return False
    exact = Number(value if isinstance(value, Fraction) else Fraction(*_ratio(value)))
    return same_number(exact, decimal) if gold_is_decimal else same_number(decimal, exact)


def _ratio(value: mpmath.mpf) -> tuple[int, int]:
    sign, mantissa, exponent, _ = value._mpf_
    mantissa = -mantissa if sign else mantissa
    return (mantissa << exponent, 1) if exponent >= 0 else (mantissa, 1 << -exponent)


def _letters(tree: Tree) -> set[str]:
    return names(tree) - {"π", "e", "i", "∞"}


def _constant(tree: Tree) -> Value:
    """Its value to 400 bits, as a fraction where it is one, or is a whole number in all these digits."""
    value = Evaluator({}, "i" in names(tree), 400).value(tree)
    if isinstance(value, mpmath.mpf) and abs(value - mpmath.nint(value)) < mpmath.ldexp(1, -200):
        return Fraction(int(mpmath.nint(value)))
    return value


def _float(value: Value) -> mpmath.mpf:
    return mpmath.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else value


def _agree(said: Tree, meant: Tree) -> bool:
    """Whether two trees have the same value at every point at which both are defined, and there are enough of these."""
    letters = sorted(_letters(said) | _letters(meant))
    is_complex = "i" in names(said) | names(meant)
    defined = 0
    for point in _points(letters):
        try:
            if not _equal_at(said, meant, point, is_complex):
                return False
        except Undefined:
            continue
        defined += 1
    return defined >= (ENOUGH if letters else 1)


def _equal_at(said: Tree, meant: Tree, point: dict[str, Fraction], is_complex: bool) -> bool:
    evaluator = Evaluator(point, is_complex, 200)
    a, b = evaluator.value(said), evaluator.value(meant)
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a == b
    evaluator.float(a), evaluator.float(b)  # their lengths count
    precision = evaluator.needed()
    if precision > MAX_PRECISION:
        raise Undefined("numbers too far apart")
    evaluator = Evaluator(point, is_complex, precision)
    a, b = evaluator.float(evaluator.value(said)), evaluator.float(evaluator.value(meant))
    return abs(a - b) <= mpmath.ldexp(1, evaluator.largest - precision + 60)


def _points(letters: list[str]):
    """Where expressions are compared; always the same points, so that a verdict never changes."""
    rng = random.Random(",".join(letters))
    kinds = [
        lambda: Fraction(rng.randrange(5, 96), 97),
        lambda: Fraction(rng.randrange(100, 400), 101) * rng.choice((1, -1)),
        lambda: Fraction(rng.randrange(1, 13)),
        lambda: Fraction(rng.randrange(-96, 97) or 1, 97),
        lambda: Fraction(rng.randrange(50, 900), 89),
        lambda: Fraction(rng.choice((-1, 1)) * rng.randrange(1, 9)),
        lambda: Fraction(rng.randrange(1, 10**6), rng.choice((97, 1009, 10007))) * rng.choice((1, -1)),
        lambda: Fraction(rng.randrange(3, 40)),
    ]
    for i in range(POINTS if letters else 1):
        yield {letter: kinds[i % len(kinds)]() for letter in letters}


class Evaluator:
    """Values of trees at one point, in fractions as long as these are exact, then in `precision` bits.

    largest, smallest: binary exponents of the approximate values met; bits: length of the longest fraction among them.
    """

    def __init__(self, point: dict[str, Fraction], is_complex: bool, precision: int) -> None:
        self.point, self.is_complex, self.precision = point, is_complex, precision
        self.largest, self.smallest, self.bits = 0, 0, 0
        mp.prec = precision

    def needed(self) -> int:
        return self.largest - self.smallest + 2 * self.bits + 300

    def value(self, tree: Tree) -> Value:
        kind = tree[0]
        if kind == "number":
            return tree[1]
        if kind == "name":
            return self.name(tree[1])
        if kind == "call":
            return self.kept(self.call(tree[1], [self.value(each) for each in tree[2:]]))
        if kind == "neg":
            return -self.value(tree[1])
        a, b = self.value(tree[1]), self.value(tree[2])
        if kind == "pow":
            return self.kept(self.power(a, b))
        if not (isinstance(a, Fraction) and isinstance(b, Fraction)):
            a, b = self.float(a), self.float(b)
        if kind == "div" and abs(b) <= (0 if isinstance(b, Fraction) else mpmath.ldexp(1, self.smallest - 80)):
            raise Undefined("division by zero")
        return self.kept(a + b if kind == "add" else a * b if kind == "mul" else a / b, is_sum=kind == "add")

    def kept(self, value: Value, is_sum: bool = False) -> Value:
        """`value`, its size noted; a sum that is very small is what rounding has left."""
        if isinstance(value, Fraction):
            if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
                raise Undefined("too large")
            return value
        size = abs(value)
        if not mpmath.isfinite(size):
            raise Undefined("infinite")
        if size:
            exponent = mpmath.mag(size)
            self.largest = max(self.largest, int(exponent))
            if not is_sum or exponent > -self.precision + 80 + self.largest:
                self.smallest = min(self.smallest, int(exponent))
        return value

    def float(self, value: Value) -> Value:
        if not isinstance(value, Fraction):
            return value
        self.bits = max(self.bits, value.numerator.bit_length(), value.denominator.bit_length())
        return self.kept(mpmath.mpf(value.numerator) / value.denominator)

    def name(self, name: str) -> Value:
        constants = {"π": lambda: +mp.pi, "e": lambda: +mp.e, "i": lambda: mpmath.mpc(0, 1)}
        if name in constants:
            return self.kept(constants[name]())
        if name == "∞":
            raise Unreadable("infinity is no number")
        return self.point[name]

    def power(self, base: Value, exponent: Value) -> Value:
        if isinstance(exponent, Fraction) and exponent.denominator == 1:
            power = int(exponent)
            if isinstance(base, Fraction):
                size = max(base.numerator.bit_length(), base.denominator.bit_length())
                if size > 1 and abs(power) * (size - 1) > MAX_BITS:
                    raise Undefined("too large")
                if base == 0 and power <= 0:
                    raise Undefined("0^0")
                return base**power
            if abs(power) > MAX_BITS:
                raise Undefined("too large")
            if abs(base) == 0 and power <= 0:
                raise Undefined("0^0")
            return base**power
        if isinstance(exponent, Fraction) and exponent.denominator < LITERAL and not self.is_complex:
            return self.power(self.root(base, exponent.denominator), Fraction(exponent.numerator))
        base, exponent = self.float(base), self.float(exponent)
        if not self.is_complex and base <= 0:
            raise Undefined("a negative base")
        if abs(base) == 0:
            raise Undefined("0^x")
        self.check(exponent * mpmath.log(base))
        return base**exponent

    def check(self, exponent: Value) -> None:
        """e to this power must have an exponent of reasonable length."""
        if abs(exponent) > (2000 if self.point else MAX_PRECISION):
            raise Undefined("too large to tell apart")
        self.smallest = min(self.smallest, -3 * int(abs(exponent)))  # 1 - \tanh 1000 is not 0

    def root(self, value: Value, degree: int) -> Value:
        if degree < 0 or degree > 1000:
            raise Unreadable("root")
        if isinstance(value, Fraction) and value >= 0:
            top, bottom = _exact_root(value.numerator, degree), _exact_root(value.denominator, degree)
            if top is not None and bottom is not None:
                return Fraction(top, bottom)
        value = self.float(value)
        if self.is_complex:
            return mpmath.root(value, degree)
        if value < 0 and degree % 2 == 0:
            raise Undefined("the root of a negative number")
        return -mpmath.root(-value, degree) if value < 0 else mpmath.root(value, degree)

    def call(self, name: str, arguments: list[Value]) -> Value:
        if name[0] == "\0":  # a function that nobody has defined: a value that its arguments alone decide
            key = [mpmath.nstr(self.float(each), 25) for each in arguments]
            return Fraction(random.Random(f"{name}{key}").randrange(1, 10**6), 10**5)
        if name in ("dot", "cross"):
            first, second = sorted(map(str, arguments)) if name == "dot" else map(str, arguments)
            return Fraction(random.Random(f"{name}{first},{second}").randrange(1, 10**6), 10**5)
        if name in ("max", "min", "gcd", "lcm"):
            return self.of_several(name, arguments)
        if name == "root":
            return self.root(arguments[0], int(arguments[1]))
        value = arguments[0]
        if name == "abs":
            return abs(value)
        if name in ("floor", "ceil"):
            return self.rounded(name, value)
        if name in ("factorial", "binom"):
            return self.combinatorial(name, arguments)
        return self.elementary(name, *map(self.float, arguments))

    def of_several(self, name: str, arguments: list[Value]) -> Value:
        if any(isinstance(each, mpmath.mpc) for each in arguments):
            raise Undefined(name)
        if name in ("max", "min"):
            return (max if name == "max" else min)(arguments)
        if not all(isinstance(each, Fraction) and each.denominator == 1 for each in arguments):
            raise Undefined(name)
        return Fraction((gcd if name == "gcd" else lcm)(*map(int, arguments)))

    def rounded(self, name: str, value: Value) -> Value:
        if isinstance(value, mpmath.mpc):
            raise Undefined(name)
        if not isinstance(value, Fraction):
            nearest = mpmath.nint(value)
            if abs(value - nearest) < mpmath.ldexp(1, 60 - self.precision + self.largest):
                value = Fraction(int(nearest))
            else:
                value = Fraction(*_ratio(value))
        return Fraction(floor(value) if name == "floor" else -floor(-value))

    def combinatorial(self, name: str, arguments: list[Value]) -> Value:
        if all(isinstance(each, Fraction) and each.denominator == 1 for each in arguments):
            n, k = (*map(int, arguments), 0)[:2]
            if max(abs(n), abs(k)) > 20_000:
                raise Undefined("too large")
            if n < 0:
                raise Undefined("(-1)!")
            if name == "factorial":
                return Fraction(factorial(n))
            return Fraction(comb(n, k) if k >= 0 else 0)
        values = [self.float(each) for each in arguments]
        if max(abs(each) for each in values) > 50:  # the gamma function is slow further out
            raise Undefined("too large to tell apart")
        return mpmath.factorial(values[0]) if name == "factorial" else mpmath.binomial(*values)

    def elementary(self, name: str, value: Value, *base: Value) -> Value:
        if name in ("ln", "log"):
            if abs(value) == 0 or (not self.is_complex and (value <= 0 or (base and base[0] <= 0))):
                raise Undefined("the logarithm of a negative number")
            bottom = mpmath.log(base[0]) if base else 1
            if abs(bottom) <= mpmath.ldexp(1, 60 - self.precision):
                raise Undefined("base 1")
            return mpmath.log(value) / bottom
        if name in ("exp", "sinh", "cosh", "tanh"):
            self.check(value)
        if name in ("arcsin", "arccos") and not self.is_complex and abs(value) > 1:
            raise Undefined(name)
        if name in ("tan", "sec", "cot", "csc"):
            pole = mpmath.cos(value) if name in ("tan", "sec") else mpmath.sin(value)
            if abs(pole) <= mpmath.ldexp(1, 60 - self.precision):
                raise Undefined(name)
        return getattr(mpmath, name.replace("arc", "a"))(value)


def _exact_root(value: int, degree: int) -> int | None:
    if value < 2:
        return value
    if value.bit_length() > 2000:
        return None
    guess = 1 << -(-value.bit_length() // degree)
    while True:
        following = ((degree - 1) * guess + value // guess ** (degree - 1)) // degree
        if following >= guess:
            return guess if guess**degree == value else None
        guess = following


# --- equations and inequalities -------------------------------------------------------------------------------------

_ORDER = r"\\(?:le|ge)(?![A-Za-z])|[<>]"
_TURNED = {">": "<", r"\ge": r"\le", "<": ">", r"\le": r"\ge"}


def _same_relation(answer: str, gold: str) -> bool:
    """Two equations or inequalities of which one is a multiple of the other."""
    (sides, signs), (gold_sides, gold_signs) = split(answer, rf"=|{_ORDER}"), split(gold, rf"=|{_ORDER}")
    if len(signs) != len(gold_signs) or len(signs) != 1:
        return False
    if signs[0] in (">", r"\ge"):
        sides, signs = sides[::-1], [_TURNED[signs[0]]]
    if gold_signs[0] in (">", r"\ge"):
        gold_sides, gold_signs = gold_sides[::-1], [_TURNED[gold_signs[0]]]
    said, meant = (("add", _tree(a), ("neg", _tree(b))) for a, b in (sides, gold_sides))
    if signs != gold_signs or not _letters(said) or _letters(said) != _letters(meant):
        return False
    for point in _points(sorted(_letters(said))):
        try:
            here = [_substituted(tree, point) for tree in (said, meant)]
            values = [_float(_constant(tree)) for tree in here]
        except Undefined:
            continue
        if 0 not in values:
            break
    else:
        return False
    if signs != ["="] and (values[0] > 0) != (values[1] > 0):
        return False
    return _agree(("mul", said, here[1]), ("mul", meant, here[0]))


def _substituted(tree: Tree, point: dict[str, Fraction]) -> Tree:
    if tree[0] == "name":
        return ("number", point[tree[1]]) if tree[1] in point else tree
    return tuple(_substituted(each, point) if isinstance(each, tuple) else each for each in tree)


# --- sets of real numbers -------------------------------------------------------------------------------------------

_SET = re.compile(rf"{_ORDER}|\\(?:ne|cup|cap|setminus|mathbb|infty|emptyset|in)(?![A-Za-z])")
_JOINED = r"\\cup|\\lor(?![A-Za-z])|(?<![A-Za-z\\])(?:or|OR)(?![A-Za-z])"
_BOTH = r"\\cap|\\land(?![A-Za-z])|(?<![A-Za-z\\])(?:and|AND)(?![A-Za-z])"
_COMPARED = rf"{_ORDER}|\\ne(?![A-Za-z])|="
_VARIABLE = re.compile(r"[A-Za-z]|\\(?:theta|alpha|beta|lambda|phi|mu)")


class RealSet:
    """A set of real numbers: its ends, and whether a place (see `contains`) belongs to it."""

    def __init__(self, text: str) -> None:
        self.ends: list[Tree] = []
        self.variables: set[str] = set()
        self.rule = self.read(text)

    def end(self, text: str) -> int | None:
        """The number of a finite end."""
        if re.fullmatch(r"[+-]? ?\\infty", text):
            return None
        tree = _tree(text)
        if _letters(tree) or "i" in names(tree):
            raise Unreadable("an end with letters")
        self.ends.append(tree)
        return len(self.ends) - 1

    def read(self, text: str) -> Tree:
        text = text.strip()
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
        if text in (r"\mathbb{R}", r"\mathbb R"):
            return ("between", None, False, None, False)
        if text in (r"\emptyset", r"\{\}"):
            return ("points",)
        parts, commas = split(text, COMMA)
        if commas and all(r"\ne" in part for part in parts):
            return ("and", *map(self.read, parts))
        return self.fenced(text) if fence(text) and "<" not in text and ">" not in text else self.related(text)

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
        if signs and signs[0] in (">", r"\ge"):
            parts, signs = parts[::-1], [_TURNED.get(sign, "") for sign in signs[::-1]]
        place = next((i for i, part in enumerate(parts) if _VARIABLE.fullmatch(part)), None)
        if place is None or not 1 <= len(signs) <= 2:
            raise Unreadable("no variable")
        self.variables.add(parts[place])
        if signs in (["="], [r"\ne"]):
            points = ("points", self.end(parts[1 - place]))
            return points if signs == ["="] else ("less", ("between", None, False, None, False), points)
        if not all(sign in ("<", r"\le") for sign in signs) or (len(signs) == 2 and place != 1):
            raise Unreadable("a chain")
        low = self.end(parts[place - 1]) if place else None
        high = self.end(parts[place + 1]) if place + 1 < len(parts) else None
        return ("between", low, bool(place) and signs[place - 1] == r"\le", high, signs[-1] == r"\le")

    def contains(self, rule: Tree, place: int, ranks: list[int]) -> bool:
        """Whether a place belongs to it: 2 r + 1 is the end of rank r, 2 r lies between that and the end before."""
        kind, *rest = rule
        if kind == "points":
            return any(place == 2 * ranks[end] + 1 for end in rest)
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
    if len(said.variables) > 1 or len(meant.variables) > 1 or (said.variables and meant.variables - said.variables):
        return False
    trees = said.ends + meant.ends
    distinct: list[Tree] = []
    which = []
    for tree in trees:
        place = next((i for i, other in enumerate(distinct) if _agree(tree, other)), len(distinct))
        if place == len(distinct):
            distinct.append(tree)
        which.append(place)
    order = sorted(range(len(distinct)), key=lambda i: _float(_constant(distinct[i])))
    ranks = [order.index(place) for place in which]
    split_at = len(said.ends)
    return all(
        said.contains(said.rule, place, ranks[:split_at]) == meant.contains(meant.rule, place, ranks[split_at:])
        for place in range(2 * len(distinct) + 1)
    )
