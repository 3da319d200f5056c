r"""A small grammar of school and university mathematics: a tidied text in, a tree out, or Unreadable.

What could be read in two ways is not read at all (1/2x, \sin x/2, 3 4, words): a wrong reading would reward a wrong
answer, and an unreadable answer still counts where it is spelled as the reference. Letters keep their case, and only
single letters are multiplied: AB is one name, \triangle ABC and \vec{a} are too, f(x + 1) is no product.

A tree is a tuple: ("number", Fraction), ("name", text), ("add", a, b), ("mul", a, b), ("div", a, b), ("pow", a, b),
("neg", a), or ("call", function, a, …).
"""

from __future__ import annotations

import re
from fractions import Fraction

from spark_lib.answers.spelling import FUNCTIONS, GREEK

DEPTH = 40  # of brackets, beyond which nobody means it
Tree = tuple


class Unreadable(ValueError):
    """The text is no mathematics that this grammar knows, or could be read in two ways."""


_TOKEN = re.compile(
    r"\\[A-Za-z]+|\\[{}|%]|_ ?\{(?:[^{}]|\{[^{}]*\})*\}|[0-9]+(?:\.[0-9]*)?|\.[0-9]+|[A-Za-z]+|\S"
)
_FUNCTIONS = {*FUNCTIONS} - {"sqrt"}
_DECORATIONS = frozenset("vec hat bar overline widehat tilde dot ddot mathbb mathcal acute breve check".split())
_ACCENTED = frozenset(GREEK) - {"pi"}
# Runs of letters that are words or the names of functions, not products; the last four only in this case.
_WORDS = frozenset(
    "if is of or and not but the for per mod yes any all one two six ten nor non men boy var cov det arg sgn deg dim "
    "ker erf sup inf div curl grad diag rank span Re Im Pr Tr".split()
)
_LIKE_A_WORD = re.compile(r"(?=.*[aeiou])[a-z]{4,}|[A-Za-z]{9,}")
_CLOSING = {"(": ")", "[": "]", "{": "}", r"\lfloor": r"\rfloor", r"\lceil": r"\rceil", r"\langle": r"\rangle"}
# Always functions; other letters where the argument is a single name, x(t); these also of a number, P(2).
_APPLIED = frozenset(("f", "F", r"\Gamma", r"\zeta", r"\phi", r"\varphi", r"\psi", r"\Phi", r"\Psi", r"\chi"))
_FUNCTION_LETTERS = frozenset("ghpquvrsGHPQRSTVNAE")
_ENDS = frozenset((*") ] } | , + - / * ^ !".split(), r"\rfloor", r"\rceil", r"\div", r"\cdot", r"\times", ""))


def parse(text: str) -> Tree:
    """The tree of a tidied text. Raises Unreadable."""
    parser = _Parser(text)
    tree = parser.sum()
    if parser.token:
        raise Unreadable(text)
    return tree


class _Parser:
    """Recursive descent; `token` is the next one, "" at the end."""

    def __init__(self, text: str) -> None:
        self.spaced = [(m[0], m.start() > 0 and text[m.start() - 1] == " ") for m in _tokens(text)]
        self.place, self.depth, self.bars = 0, 0, 0

    @property
    def token(self) -> str:
        return self.spaced[self.place][0] if self.place < len(self.spaced) else ""

    def ahead(self, count: int = 1) -> str:
        return self.spaced[self.place + count][0] if self.place + count < len(self.spaced) else ""

    def take(self, wanted: str = "") -> str:
        token = self.token
        if not token or (wanted and token != wanted):
            raise Unreadable(f"{wanted or 'more'} expected, not {token!r}")
        self.place += 1
        return token

    # --- sums and products ----------------------------------------------------------------------------------------

    def sum(self) -> Tree:
        tree = self.product()
        while self.token in ("+", "-"):
            sign, term = self.take(), self.product()
            tree = ("add", tree, term if sign == "+" else ("neg", term))
        return tree

    def product(self) -> Tree:
        if self.token in ("+", "-"):
            sign = self.take()
            if self.token in ("+", "-"):
                raise Unreadable("3 - -4")
            return ("neg", self.product()) if sign == "-" else self.product()
        tree, divided = self.power(), False
        while True:
            if self.token in ("*", r"\cdot", r"\times"):
                self.take()
                if tree[0] == "name" and tree[1].startswith("vec(") and self.token == r"\vec":
                    sign, other = self.spaced[self.place - 1][0], self.power()
                    tree = ("call", "dot" if sign == r"\cdot" else "cross", tree, other)
                else:
                    tree = ("mul", tree, self.signed())
            elif self.token in ("/", r"\div"):
                self.take()
                tree, divided = ("div", tree, self.signed()), True
            elif self.starts():
                if divided:
                    raise Unreadable("1/2x")
                tree = self.juxtaposed(tree)
            else:
                return tree

    def signed(self) -> Tree:
        """What may follow a sign of multiplication: 2 \\cdot -3."""
        return ("neg", self.power()) if self.token == "-" and self.take() else self.power()

    def starts(self) -> bool:
        """Whether the next token begins a factor."""
        return self.token not in _ENDS or (self.token == "|" and not self.bars)

    def juxtaposed(self, left: Tree) -> Tree:
        token = self.token
        if token[0].isdigit() or token[0] == "." or token in ("{", "["):
            raise Unreadable("two numbers side by side")
        if token == r"\frac" and left[0] == "number":
            right = self.power()
            if right[0] == "div" and right[1][0] == right[2][0] == "number":  # 1\frac{1}{2}
                if left[1].denominator != 1 or not 0 < right[1][1] < right[2][1]:
                    raise Unreadable("2\\frac{3}{2}")
                return ("add", left, right)
            return ("mul", left, right)
        return ("mul", left, self.power())

    # --- powers and atoms -----------------------------------------------------------------------------------------

    def power(self) -> Tree:
        tree = self.postfixed()
        if self.token == "^":
            self.take()
            if self.token == "{" and self.ahead() == "(" and self.ahead(3) == ")" and self.ahead(4) == "}":
                raise Unreadable("x^{(n)}, a derivative")
            tree = ("pow", tree, self.argument())
            if self.token in ("!", "^"):
                raise Unreadable("a^b!")
        return tree

    def postfixed(self) -> Tree:
        tree = self.atom()
        while self.token in ("!", r"\%") or (self.token == "^" and self.ahead() == r"\circ"):
            if self.take() == "!":
                tree = ("call", "factorial", tree)
                if self.token == "!":
                    raise Unreadable("n!!")
            elif self.token == r"\circ":
                self.take()
                if self.token.isalpha():
                    raise Unreadable("an angle or a temperature")
                tree = ("mul", tree, ("div", ("name", "π"), ("number", Fraction(180))))
            else:
                tree = ("div", tree, ("number", Fraction(100)))
        return tree

    def argument(self) -> Tree:
        """What an exponent or a command takes: a group, a signed number, or one token."""
        return ("neg", self.atom()) if self.token == "-" and self.take() else self.atom()

    def group(self) -> Tree:
        """What stands in brackets."""
        found = self.arguments()
        if len(found) > 1:
            raise Unreadable("a tuple")
        return found[0]

    def arguments(self) -> list[Tree]:
        """What stands in brackets, between commas."""
        opening = self.take()
        if opening not in _CLOSING:
            raise Unreadable(opening)
        bars, self.bars = self.bars, 0
        found = [self.sum()]
        while self.token == ",":
            self.take()
            found.append(self.sum())
        self.take(_CLOSING[opening])
        self.bars = bars
        return found

    def atom(self) -> Tree:
        self.depth += 1
        if self.depth > DEPTH:
            raise Unreadable("too deep")
        tree = self.any_atom()
        self.depth -= 1
        return tree

    def any_atom(self) -> Tree:
        token = self.token
        if token in ("(", "[", "{"):
            return self.group()
        if token in (r"\lfloor", r"\lceil"):
            return ("call", "floor" if token == r"\lfloor" else "ceil", self.group())
        if token == "|":
            self.take()
            self.bars += 1
            tree = self.sum()
            self.bars -= 1
            self.take("|")
            return ("call", "abs", tree)
        if token[:1].isdigit() or token[:1] == ".":
            self.take()
            if self.token.startswith(("_", "'", r"\overline", r"\dot")):
                raise Unreadable("a numeral of another base")
            return ("number", Fraction(token.rstrip(".") if token != "." else "x"))
        if token == r"\infty":
            self.take()
            return ("name", "∞")
        if token.lstrip("\\") in _FUNCTIONS:
            return self.function(self.take().lstrip("\\"))
        if token == r"\sqrt" or token == "sqrt":
            return self.root()
        if token in (r"\frac", r"\binom"):
            return self.fraction()
        return self.name()

    def root(self) -> Tree:
        self.take()
        degree = Fraction(2)
        if self.token == "[":
            inner = self.group()
            if inner[0] != "number" or inner[1] == 0 or inner[1].denominator != 1:
                raise Unreadable("root")
            degree = inner[1]
        if self.token not in ("{", "(") and len(self.token) > 1 and self.token[0].isdigit():
            raise Unreadable("\\sqrt 12")
        radicand = self.group() if self.token in ("{", "(") else self.atom()
        return ("call", "root", radicand, ("number", degree))

    def fraction(self) -> Tree:
        command, start = self.take(), self.place
        top = self.argument()
        middle = self.place
        bottom = self.argument()
        if command == r"\binom":
            return ("call", "binom", top, bottom)
        of, by = self.text(start, middle), self.text(middle, self.place)
        if re.match(r"\{(?:d|\\partial)", of) and re.match(r"\{(?:d|\\partial)[\\A-Za-z]", by):
            return ("name", f"d({of})/d({by})")
        return ("div", top, bottom)

    def text(self, start: int, end: int) -> str:
        return "".join(token for token, _ in self.spaced[start:end])

    # --- functions ------------------------------------------------------------------------------------------------

    def function(self, name: str) -> Tree:
        exponent = base = None
        for _ in range(2):
            if self.token == "^" and exponent is None:
                self.take()
                exponent = self.argument()
            elif self.token.startswith("_{") and name == "log" and base is None:
                base = parse(self.take()[2:-1])
        enclosed = self.token in ("(", "{")
        arguments = self.arguments() if enclosed else [self.operand()]
        if name in ("max", "min", "gcd", "lcm"):
            if exponent or not enclosed or len(arguments) < 2:
                raise Unreadable(name)
            return ("call", name, *arguments)
        if len(arguments) != 1 or self.token == "^" or self.token == "!" or (not enclosed and self.token == "/"):
            raise Unreadable("\\sin(x)^2, \\sin x/2")
        name = {"lg": "log", "asin": "arcsin", "acos": "arccos", "atan": "arctan"}.get(name, name)
        if exponent == ("neg", ("number", Fraction(1))) and name in ("sin", "cos", "tan"):
            name, exponent = "arc" + name, None
        if name == "log":
            arguments.append(base or ("number", Fraction(10)))
        tree = ("call", name, *arguments)
        return ("pow", tree, exponent) if exponent else tree

    def operand(self) -> Tree:
        """The argument of a function that stands without brackets: \\sin 2\\pi x, up to the next function or sign."""
        if self.token == "-":
            raise Unreadable("\\sin -x")
        tree = self.power()
        while self.starts() and self.token.lstrip("\\") not in _FUNCTIONS:
            spaced = self.spaced[self.place][1] and self.spaced[self.place - 1][0].isalpha() and self.token.isalpha()
            if self.token in ("(", "[") or spaced:
                raise Unreadable("\\sin 2(x + 1), \\ln a b")
            tree = self.juxtaposed(tree)
        return tree

    # --- names ----------------------------------------------------------------------------------------------------

    def name(self) -> Tree:
        token = self.token
        command = token.lstrip("\\")
        if token in (r"\angle", r"\triangle", r"\odot", r"\square"):
            self.take()
            letters = self.take()
            if not letters.isupper():
                raise Unreadable(token)
            if token == r"\angle" and len(letters) == 3:
                letters = min(letters, letters[::-1])  # the same angle
            return ("name", f"{command} {letters}")
        if token.startswith("\\") and command in _DECORATIONS:
            self.take()
            inner = self.take() if self.token != "{" else (self.take(), self.take(), self.take("}"))[1]
            if not inner.isalpha():
                raise Unreadable(token)
            return self.applied(f"{command}({inner})")
        if token.startswith("\\") and command in _ACCENTED or token == r"\pi":
            self.take()
            return ("name", "π") if token == r"\pi" else self.applied(token)
        if token.isalpha() and token.isascii():
            return self.applied(self.take())
        raise Unreadable(token)

    def applied(self, name: str) -> Tree:
        """A name with its index and primes, and its argument if it is a function."""
        if self.token.startswith("_{"):
            name += self.take().replace(" ", "")
        while self.token == "'":
            name += self.take()
        if name in ("e", "i"):
            return ("name", name)
        if self.token == "(" and not name.startswith(("vec", "hat")):
            letter, primes = name.partition("_")[0].rstrip("'"), name.endswith("'")
            single = self.ahead(2) == ")" and (letter in _FUNCTION_LETTERS or not self.ahead().isdigit())
            if letter in _APPLIED or primes or single or self.ahead(2) == ",":
                return ("call", "\0" + name, *self.arguments())
        return ("name", name)


def _tokens(text: str):
    """Letters side by side are taken apart, but for functions and for capitals that make one name: AB, ABC."""
    for match in _TOKEN.finditer(text):
        run = match[0]
        if not run.isalpha() or run in _FUNCTIONS or run == "sqrt":
            yield match
        elif {run, run.lower()} & _WORDS or _LIKE_A_WORD.fullmatch(run):
            raise Unreadable(run)
        elif run.isupper() and len(run) > 1:
            yield match
        else:
            yield from re.compile(r"[A-Za-z]").finditer(text, match.start(), match.end())


def names(tree: Tree) -> set[str]:
    """The names in a tree, functions' included."""
    if tree[0] == "name":
        return {tree[1]}
    if tree[0] == "number":
        return set()
    found = {tree[1]} if tree[0] == "call" and tree[1][0] == "\0" else set()
    return found.union(*(names(each) for each in tree[1:] if isinstance(each, tuple)))
