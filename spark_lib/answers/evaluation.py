r"""Values of trees: exact in fractions as long as they are fractions, then in as many binary digits as are needed.

Two trees are taken for one function if they agree at every point where both are defined, at points chosen in advance:
fractions and integers, tiny to huge, of both signs. Roots and logarithms are real unless an i occurs. Rational values
are compared exactly; others in as many digits as the largest and the smallest number on the way call for, so that
2^{-98}\pi is not 2^{-99}\pi, and 1 - \tanh 1000 is not 0.
"""

from __future__ import annotations

import random
from fractions import Fraction
from math import comb, factorial, floor, gcd, lcm

import mpmath
from mpmath import mp, mpc, mpf

from spark_lib.answers.grammar import Tree, Unreadable, names

MAX_BITS = 300_000  # of an exact value; a larger one is not compared
MAX_PRECISION = 40_000  # bits of an approximate value
LITERAL = 89  # denominators from here on are those of the points: x^{1/3} has a real root at -8, (-1)^x none at 1/97
POINTS = 27
ENOUGH = 4  # points at which both sides must be defined

Value = Fraction | mpf | mpc


class Undefined(ArithmeticError):
    """No value at this point: a division by zero, the root of a negative number among real ones."""


class OnlyAtIntegers(Undefined):
    """(-1)^n says by itself that n is an integer."""


def agree(said: Tree, meant: Tree) -> bool:
    r"""Whether two trees have the same value wherever both have one. Where all letters are positive
    fractions, `said` must have one if `meant` has: x + \sqrt{\cos(2\pi x) - 1} is no x."""
    letters = sorted(letters_in(said) | letters_in(meant))
    is_complex = "i" in names(said) | names(meant)
    defined = 0
    for point in points(letters):
        try:
            Evaluator(point, is_complex, 200).value(meant)
        except Undefined:
            continue
        try:
            if not _equal_at(said, meant, point, is_complex):
                return False
            defined += 1
        except OnlyAtIntegers:
            continue
        except Undefined as reason:
            positive = all(value > 0 and value.denominator > 1 for value in point.values())
            if positive and not isinstance(reason, TooLarge):
                return False
    return defined >= (ENOUGH if letters else 1)


class TooLarge(Undefined):
    """More digits than are compared here."""


def _equal_at(said: Tree, meant: Tree, point: dict[str, Fraction], is_complex: bool) -> bool:
    evaluator = Evaluator(point, is_complex, 200)
    a, b = evaluator.value(said), evaluator.value(meant)
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a == b
    evaluator.approximate(a), evaluator.approximate(b)  # their lengths count
    precision = evaluator.needed()
    if precision > MAX_PRECISION:
        raise TooLarge("numbers too far apart")
    evaluator = Evaluator(point, is_complex, precision)
    a, b = (evaluator.approximate(evaluator.value(tree)) for tree in (said, meant))
    return abs(a - b) <= mpmath.ldexp(1, evaluator.largest - precision + 60)


def points(letters: list[str]):
    """Where functions are compared; always the same points, so that a verdict never changes."""
    rng = random.Random(",".join(letters))
    kinds = [
        lambda: Fraction(rng.randrange(5, 96), 97),
        lambda: Fraction(rng.randrange(100, 400), 101) * rng.choice((1, -1)),
        lambda: Fraction(rng.randrange(1, 13)),
        lambda: Fraction(rng.randrange(-96, 97) or 1, 97),
        lambda: Fraction(rng.randrange(50, 900), 89),
        lambda: Fraction(rng.choice((-1, 1)) * rng.randrange(1, 9)),
        lambda: Fraction(rng.randrange(1, 10 ** rng.randrange(4, 12)), 97) * rng.choice((1, -1)),
        lambda: Fraction(rng.randrange(1, 97), 97 * 10 ** rng.randrange(1, 12)) * rng.choice((1, -1)),
        lambda: Fraction(rng.randrange(3, 40)),
    ]
    for i in range(POINTS if letters else 1):
        yield {letter: kinds[i % len(kinds)]() for letter in letters}


def letters_in(tree: Tree) -> set[str]:
    """The names that are no constants."""
    return names(tree) - {"π", "e", "i", "∞"}


def constant(tree: Tree) -> Value:
    """The value of a tree without letters, to 400 bits; a fraction where it is one, or whole in half of these bits."""
    value = Evaluator({}, "i" in names(tree), 400).value(tree)
    if isinstance(value, mpf) and abs(value - mpmath.nint(value)) < mpmath.ldexp(1, -200):
        return Fraction(int(mpmath.nint(value)))
    return value


def as_fraction(value: Value) -> Fraction:
    """The binary fraction that a real value is."""
    if isinstance(value, Fraction):
        return value
    sign, mantissa, exponent, _ = value._mpf_
    return Fraction(-mantissa if sign else mantissa) * Fraction(2) ** exponent


class Evaluator:
    """Values of trees at one point.

    largest, smallest: binary exponents of the approximate values met; bits: length of the longest fraction among them.
    """

    def __init__(self, point: dict[str, Fraction], is_complex: bool, precision: int) -> None:
        self.point, self.is_complex, self.precision = point, is_complex, precision
        self.largest, self.smallest, self.bits = 0, 0, 0
        mp.prec = precision

    def needed(self) -> int:
        """The precision in bits at which no value met is lost beside another."""
        return self.largest - self.smallest + 2 * self.bits + 300

    def value(self, tree: Tree) -> Value:
        kind, *parts = tree
        if kind == "number":
            return parts[0]
        if kind == "name":
            return self.name(parts[0])
        if kind == "neg":
            return -self.value(parts[0])
        if kind == "call":
            return self.kept(self.call(parts[0], [self.value(each) for each in parts[1:]]))
        a, b = map(self.value, parts)
        if kind == "pow":
            return self.kept(self.power(a, b))
        if not (isinstance(a, Fraction) and isinstance(b, Fraction)):
            a, b = self.approximate(a), self.approximate(b)
        if kind == "div" and (b == 0 or not isinstance(b, Fraction) and self.vanishes(b)):
            raise Undefined("division by zero")
        return self.kept(a + b if kind == "add" else a * b if kind == "mul" else a / b, is_sum=kind == "add")

    def kept(self, value: Value, is_sum: bool = False) -> Value:
        """`value`, its size noted; a sum that is very small is what rounding has left."""
        if isinstance(value, Fraction):
            if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
                raise TooLarge("too large")
            return value
        size = abs(value)
        if not mpmath.isfinite(size):
            raise Undefined("infinite")
        if size:
            exponent = int(mpmath.mag(size))
            self.largest = max(self.largest, exponent)
            if not is_sum or exponent > self.largest - self.precision + 80:
                self.smallest = min(self.smallest, exponent)
        return value

    def approximate(self, value: Value) -> mpf | mpc:
        if not isinstance(value, Fraction):
            return value
        self.bits = max(self.bits, value.numerator.bit_length(), value.denominator.bit_length())
        return self.kept(mpf(value.numerator) / value.denominator)

    def vanishes(self, value: mpf | mpc) -> bool:
        return abs(value) <= mpmath.ldexp(1, self.smallest - 80)

    def name(self, name: str) -> Value:
        if name in ("π", "e", "i"):
            return self.kept(+mp.pi if name == "π" else +mp.e if name == "e" else mpc(0, 1))
        if name == "∞":
            raise Unreadable("infinity is no number")
        return self.point[name]

    # --- powers and roots -----------------------------------------------------------------------------------------

    def power(self, base: Value, exponent: Value) -> Value:
        if isinstance(exponent, Fraction) and exponent.denominator == 1:
            return self.whole_power(base, int(exponent))
        if isinstance(exponent, Fraction) and exponent.denominator < LITERAL and not self.is_complex:
            return self.whole_power(self.root(base, exponent.denominator), exponent.numerator)
        base, exponent = self.approximate(base), self.approximate(exponent)
        if not self.is_complex and base < 0:
            raise OnlyAtIntegers("a negative base")
        if base == 0:
            raise Undefined("0^x")
        self.small_enough(exponent * mpmath.log(base))
        return base**exponent

    def whole_power(self, base: Value, power: int) -> Value:
        size = 2
        if isinstance(base, Fraction):
            size = max(base.numerator.bit_length(), base.denominator.bit_length())
        if size > 1 and abs(power) * (size - 1) > MAX_BITS:
            raise TooLarge("too large")
        if base == 0 and power <= 0:
            raise Undefined("0^0")
        return base**power

    def small_enough(self, exponent: mpf | mpc) -> None:
        """Whether e to this power has a length that can be compared; it counts for the precision."""
        if abs(exponent) > (2000 if self.point else MAX_PRECISION):
            raise TooLarge("too large")
        self.smallest = min(self.smallest, -3 * int(abs(exponent)))

    def root(self, value: Value, degree: int) -> Value:
        if not 0 < degree < 1000:
            raise Unreadable("root")
        if isinstance(value, Fraction) and value >= 0:
            top, bottom = exact_root(value.numerator, degree), exact_root(value.denominator, degree)
            if top is not None and bottom is not None:
                return Fraction(top, bottom)
        value = self.approximate(value)
        if self.is_complex:
            return mpmath.root(value, degree)
        if value < 0 and degree % 2 == 0:
            raise Undefined("the root of a negative number")
        return -mpmath.root(-value, degree) if value < 0 else mpmath.root(value, degree)

    # --- functions ------------------------------------------------------------------------------------------------

    def call(self, name: str, arguments: list[Value]) -> Value:
        value = arguments[0]
        if name[0] == "\0" or name in ("dot", "cross"):
            return self.unknown(name, arguments)
        if name == "root":
            return self.root(value, int(arguments[1]))
        if name == "abs":
            return abs(value)
        if any(isinstance(each, mpc) for each in arguments) and name in ("max", "min", "floor", "ceil"):
            raise Undefined(name)
        if name in ("max", "min"):
            return (max if name == "max" else min)(arguments)
        if name in ("floor", "ceil"):
            return self.rounded(name, value)
        if name in ("gcd", "lcm"):
            if any(not isinstance(each, Fraction) or each.denominator > 1 for each in arguments):
                raise OnlyAtIntegers(name)
            return Fraction((gcd if name == "gcd" else lcm)(*map(int, arguments)))
        if name in ("factorial", "binom"):
            return self.combinatorial(name, arguments)
        return self.elementary(name, *map(self.approximate, arguments))

    def unknown(self, name: str, arguments: list[Value]) -> Fraction:
        """The value of a function that nobody has defined: any, but one that its arguments alone decide."""
        digits = max(15, int(self.precision * 0.3) - 25)
        key = [str(each) if isinstance(each, Fraction) else mpmath.nstr(each, digits) for each in arguments]
        key = sorted(key) if name == "dot" else key
        return Fraction(random.Random(f"{name}{key}").randrange(1, 10**9), 10**8)

    def rounded(self, name: str, value: Fraction | mpf) -> Fraction:
        if isinstance(value, mpf):
            nearest = mpmath.nint(value)
            near = abs(value - nearest) < mpmath.ldexp(1, 60 - self.precision + self.largest)
            value = Fraction(int(nearest)) if near else as_fraction(value)
        return Fraction(floor(value) if name == "floor" else -floor(-value))

    def combinatorial(self, name: str, arguments: list[Value]) -> Value:
        if all(isinstance(each, Fraction) and each.denominator == 1 for each in arguments):
            n, k = (*map(int, arguments), 0)[:2]
            if max(abs(n), abs(k)) > 20_000:
                raise TooLarge("too large")
            if n < 0:
                raise Undefined("(-1)!")
            return Fraction(factorial(n) if name == "factorial" else comb(n, k) if k >= 0 else 0)
        values = [self.approximate(each) for each in arguments]
        if max(abs(each) for each in values) > 50:  # the gamma function is slow further out
            raise TooLarge("too large")
        return mpmath.factorial(values[0]) if name == "factorial" else mpmath.binomial(*values)

    def elementary(self, name: str, value: mpf | mpc, *base: mpf | mpc) -> mpf | mpc:
        if name in ("ln", "log"):
            if value == 0 or not self.is_complex and min((value, *base)) <= 0:
                raise Undefined("the logarithm of a negative number")
            bottom = mpmath.log(base[0]) if base else 1
            if self.vanishes(bottom):
                raise Undefined("base 1")
            return mpmath.log(value) / bottom
        if name in ("exp", "sinh", "cosh", "tanh"):
            self.small_enough(value)
        if name in ("arcsin", "arccos") and not self.is_complex and abs(value) > 1:
            raise Undefined(name)
        if name in ("tan", "sec", "cot", "csc"):
            if self.vanishes(mpmath.cos(value) if name in ("tan", "sec") else mpmath.sin(value)):
                raise Undefined(name)
        return getattr(mpmath, name.replace("arc", "a"))(value)


def exact_root(value: int, degree: int) -> int | None:
    """The integer whose power `value` is, by Newton's method; None if there is none, or it is very long."""
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
