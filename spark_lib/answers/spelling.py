r"""One spelling for what LaTeX, Unicode and Markdown spell in many ways.

Everything here is a table of rewrites that keep the meaning; what is not in a table is left as it is, and the rules
that come later compare it character by character. Nothing changes the case or the order of letters.
"""

from __future__ import annotations

import re
from functools import lru_cache

_SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n", strict=True))
_SUBSCRIPTS = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋ₙ", "0123456789+-n", strict=True))
_FRACTIONS = dict(zip("½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞", "12 13 23 14 34 15 25 35 45 16 56 18 38 58 78".split(), strict=True))
_GREEK = dict(
    zip(
        "αβγδεζηθικλμνξρστυφχψωΓΔΘΛΞΠΣΦΨΩπϕ",
        "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi chi psi "
        "omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega pi phi".split(),
        strict=True,
    )
)
GREEK = sorted({*_GREEK.values(), "varepsilon", "varphi", "vartheta", "varrho", "varsigma", "hbar", "ell"})
_SYMBOLS = {
    "×": "times", "·": "cdot", "⋅": "cdot", "∙": "cdot", "÷": "div", "∞": "infty", "≤": "le", "≥": "ge", "≠": "ne",
    "≈": "approx", "≡": "equiv", "∪": "cup", "∩": "cap", "∈": "in", "∉": "notin", "⊂": "subset", "⊆": "subseteq",
    "√": "sqrt", "∅": "emptyset", "±": "pm", "∓": "mp", "¬": "neg", "∧": "land", "∨": "lor", "→": "to",
    "⇒": "Rightarrow", "⇔": "iff", "∠": "angle", "△": "triangle", "⊥": "perp", "∥": "parallel", "∣": "mid",
    "⟨": "langle", "⟩": "rangle", "〈": "langle", "〉": "rangle", "⌊": "lfloor", "⌋": "rfloor", "⌈": "lceil",
    "⌉": "rceil", "∘": "circ", "…": "ldots", "ℏ": "hbar", "∖": "setminus", "≅": "cong", "∼": "sim",
}  # fmt: skip
_CHARACTERS = str.maketrans(
    {character: f"\\{name} " for character, name in (_SYMBOLS | _GREEK).items()}
    | {character: rf"\frac{{{name[0]}}}{{{name[1]}}}" for character, name in _FRACTIONS.items()}
    | {chr(0xFF01 + i): chr(0x21 + i) for i in range(94)}  # the full-width forms of East Asian fonts
    | {"−": "-", "–": "-", "‐": "-", "⁄": "/", "%": r"\%", "′": "'", "″": "''", "’": "'", "‘": "'", "“": '"', "”": '"'}
    | {"°": r"^\circ ", "º": r"^\circ ", "℃": r"^\circ C", "℉": r"^\circ F", "µ": r"\mu ", "、": ",", "。": "."}
    | {"`": "", "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}"} | dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff")  # of no width
)  # fmt: skip

# Commands with one meaning and several names: {the name kept: the others}.
_NAMES = {
    "frac": "dfrac tfrac cfrac", "binom": "dbinom tbinom", "le": "leq leqslant", "ge": "geq geqslant", "ne": "neq",
    "neg": "lnot", "land": "wedge", "lor": "vee", "emptyset": "varnothing", "to": "rightarrow longrightarrow",
    "Rightarrow": "implies Longrightarrow", "iff": "Leftrightarrow Longleftrightarrow leftrightarrow",
    "ldots": "dots cdots dotsc dotsb", "setminus": "backslash smallsetminus", "tan": "tg", "cot": "ctg",
    "arctan": "arctg", "infty": "infin", "triangle": "vartriangle bigtriangleup", "vec": "overrightarrow",
    "widehat": "overarc", "mid": "divides",
    "text": "textbf textit textrm textsf texttt textnormal textup mathrm mathsf mathit mathtt mbox operatorname "
    "underline emph ce",
    "vec ": "mathbf boldsymbol bm",  # of one letter: a vector; of anything else: a text, see below
}  # fmt: skip
_ALIAS = {other: kept for kept, others in _NAMES.items() for other in others.split()}
# Commands for a character, and commands that change only how things look.
_PLAIN = {
    "lt": "<", "gt": ">", "colon": ":", "ratio": ":", "lbrace": r"\{", "rbrace": r"\}", "lbrack": "[", "rbrack": "]",
    "lparen": "(", "rparen": ")", "lvert": "|", "rvert": "|", "vert": "|", "lVert": r"\Vert ", "rVert": r"\Vert ",
    "ast": "*", "cdotp": r"\cdot ", "bullet": r"\cdot ", "prime": "'", "percent": r"\%", "R": r"\mathbb{R}",
    "degree": r"^\circ ", "textdegree": r"^\circ ", "dollar": r"\$", "textdollar": r"\$", "pounds": "£", "euro": "€",
    **dict.fromkeys("quad qquad thinspace enspace".split(), " "),
    **dict.fromkeys("displaystyle textstyle limits nobreak left right middle boldmath".split(), ""),
    **dict.fromkeys("Large large small huge bf rm it tt".split(), ""),
    **{big + side: "" for big in ("big", "Big", "bigg", "Bigg") for side in ("", "l", "r")},
}  # fmt: skip
FUNCTIONS = (
    "sin cos tan cot sec csc sinh cosh tanh arcsin arccos arctan asin acos atan ln log lg exp max min gcd lcm sqrt"
).split()

_FUNCTION = "|".join(FUNCTIONS)
# Rewrites in the order in which they are made, (pattern, replacement); of each group the first comment says what for.
_REWRITES = [
    # Space, and what only looks like text or mathematics: Markdown's bold, \left., punctuation in \text, \(…\).
    (r"\s+", " "),
    (r"(?<![\w)}\]*])\*\*(?=\S)([^*]+?)(?<=\S)\*\*(?![\w(*])", r"\1"),
    (r"(\\[({\[] *)?\\(?:left|right|middle) ?\.", r"\1"),
    (r"\\text ?\{([^A-Za-z{}\\\x80-\uffff]*)\}", r"\1"),
    (r" ?\{ ?([,:]) ?\} ?", r"\1"),  # 1{,}234 and 3{:}30
    (r"(?:^|(?<=[(=]))\s*~", r"\\neg "),  # ~p, but 5~cm
    (r"(?:(?<!\\)\\[,;:> ]|~)", " "),
    (r"\\!|\\/", ""),
    (r"\\[()]|(?<!\\)\\[\[\]](?![0-9.]+[a-z]+\])", " "),
    (r"\\[hv]space ?\{[^{}]*\}", " "),
    (r"\\(?:text)?color ?\{[^{}]*\}|(?<![\\}])\{ ?\}", ""),
    # Signs that programs write.
    (r"\*\*", "^"),
    (r"<=+|=<", r"\\le "),
    (r">=", r"\\ge "),
    (r"!=|\\not ?=", r"\\ne "),
    (r"=>", r"\\Rightarrow "),
    (r"<->", r"\\iff "),
    (r"->", r"\\to "),
    (r"==+", "="),
    (rf"(?<![A-Za-z\\])({_FUNCTION})(?= ?[(^_{{])", r"\\\1"),
    (r"(?<![A-Za-z\\])pi(?![A-Za-z])", r"\\pi "),
    (r"(?<![A-Za-z\\])infinity(?![A-Za-z])", r"\\infty"),
    (r"(?<![A-Za-z\\])d([a-z]) ?/ ?d([a-z])(?![A-Za-z])", r"\\frac{d\1}{d\2}"),
    # Texts that are mathematics, mathematics that is text.
    (r"\\text ?\{ ?(and|or|AND|OR) ?\}", r" \1 "),
    (rf"\\text ?\{{ ?({_FUNCTION}) ?\}}(?! ?[/^]|$)(?=.*[(A-Za-z0-9{{\\])", r"\\\1 "),
    (r"\\text ?\{ ?([ei]) ?\}", r" \1 "),
    (r"\\vec ? ?(?:\{ ?([A-Za-z]) ?\}|([A-Za-z])(?![A-Za-z]))", r"\\vec{\1\2}"),  # a bold letter is a vector
    (r"\\vec (?= ?\{)", r"\\text"),
    (r"\\math(bb|cal) ?([A-Z])", r"\\math\1{\2}"),
    (r"\^ ?(?:\\circ(?![A-Za-z])|\{ ?\\circ ?\})", r"^\\circ "),
    (r"\\+%|(?<=[0-9}]) ?(?:percent|pct)\b|\\text ?\{ ?(?:percent|pct) ?\}", r"\\%"),
    (r"\(? ?\\text ?\{ ?\(? ?mod ?\}? ?([0-9]+) ?[)}]*|\( ?\\?mod ?\{?([0-9]+)\}? ?\)", r"\\pmod{\1\2}"),
    (r"\\[bp]?mod ?\{?([0-9]+)\}?| mod ([0-9]+)", r"\\pmod{\1\2}"),
    # Matrices: `\\[4pt]`, an array in brackets, \\ at the end.
    (r"\\\\\[[0-9.]+[a-z]+\]", r"\\\\"),
    (r"[\[(] ?\\begin ?\{array\} ?\{[lcr ]*\}(.*?)\\end ?\{array\} ?[\])]", r"\\begin{matrix}\1\\end{matrix}"),
    (r"\{(?:[pb]|small)matrix\}", "{matrix}"),
    (r"(?:\\\\ ?)+(?=\\end|$)", ""),
    # What may stand before or around an answer.
    (r"^ ?(?:\\approx|\\therefore|=) ?", ""),
    (r"^<([^<>=]*,[^<>=]*)>$", r"\\langle \1\\rangle"),
    (r"^ *(?:\"([^\"]*)\"|\*([^*]*)\*|_([^_]*)_) *$", r"\1\2\3"),
    # Arguments in braces. 1,234 is a number; (1,234) is a pair, and 1,23 and 1, 234 are lists.
    (r"\+ ?(?=\\infty)", ""),
    (r"(?<![\d,.([{])\d{1,3}(,| )\d{3}(\1\d{3})*(?![\d,)\]}])", lambda m: re.sub(r"\D", "", m[0])),
    (r"\{ ?([^{}]*?) ?\\choose ?([^{}]*?) ?\}", r"\\binom{\1}{\2}"),
    (rf"([\^_]) ?\\(infty|{'|'.join(GREEK)})(?![A-Za-z])", r"\1{\\\2}"),
    (r"\\frac ?(\{[^{}]*\}|[0-9A-Za-z]) ?(\{[^{}]*\}|[0-9A-Za-z])", lambda m: rf"\frac{_group(m[1])}{_group(m[2])}"),
    (r"\\sqrt ?(?=[0-9]\b|[A-Za-z](?![A-Za-z]))([0-9A-Za-z])", r"\\sqrt{\1}"),
    (r"([\^_]) ?(?:([+-]?[0-9]+|[+-]?[A-Za-z])|\{ ?([^{} ]*) ?\})", r"\1{\2\3}"),  # x^10 is meant as x^{10}
    (r" +", " "),
]
_COMPILED = [(re.compile(pattern), replacement) for pattern, replacement in _REWRITES]
_RUN = re.compile(rf"[{''.join(_SUPERSCRIPTS)}]+|[{''.join(_SUBSCRIPTS)}]+")


def _group(text: str) -> str:
    return text if text.startswith("{") else f"{{{text}}}"


@lru_cache(maxsize=1 << 12)  # references and options come again and again
def tidy(text: str) -> str:
    r"""`text` in one spelling. What is in a font for words, and may be a unit, stays marked as `\text{…}`."""
    while inner := re.fullmatch(r"\s*\\boxed\s*\{(.*)\}\s*", text, re.DOTALL):
        text = inner[1]
    text = re.sub("√ ?([0-9.]+)", r"\\sqrt{\1}", text)
    text = _RUN.sub(_script, text).translate(_CHARACTERS)
    text = re.sub(r"\\([$])", "\x01", text)
    # Unescaped dollars come in pairs around mathematics; a single one is money.
    text = text.replace("$", "\x01" if text.count("$") == 1 else " ").replace("\x01", r"\$ ")
    text = re.sub(r"\\+(?=[A-Za-z])", lambda m: "\\" if len(m[0]) % 2 else m[0], text)
    text = re.sub(r"\\([A-Za-z]+)\*?", _command, text)
    for pattern, replacement in _COMPILED:
        text = pattern.sub(replacement, text)
    for _ in range(3):
        text = _trimmed(re.sub(r"\\text ?\{ ?\\text ?\{([^{}]*)\} ?\}", r"\\text{\1}", text))
        if text.startswith("{") and text.endswith("}") and closes(text) == len(text):
            text = text[1:-1] if len(split(text[1:-1], ",")[0]) == 1 else rf"\{text[:-1]}\}}"
    return re.sub(r"^(?:the )?(?:final |correct )?answer(?: is(?: ?:)?| ?:) ?", "", text, flags=re.IGNORECASE)


def _script(match: re.Match) -> str:
    table, mark = (_SUPERSCRIPTS, "^") if match[0][0] in _SUPERSCRIPTS else (_SUBSCRIPTS, "_")
    return f"{mark}{{{''.join(table[c] for c in match[0])}}}"


def _command(match: re.Match) -> str:
    name = match[1]
    return _PLAIN[name] if name in _PLAIN else f"\\{_ALIAS.get(name, name)}{match[0][len(name) + 1 :]}"


def plain(text: str) -> str:
    r"""A tidied text with its `\text{…}` marks taken off."""
    return _trimmed(re.sub(" +", " ", re.sub(r"\\text ?\{((?:[^{}]|\{[^{}]*\})*)\}", r"\1", text)))


def _trimmed(text: str) -> str:
    return text.lstrip(" ,;:").rstrip(" .,;:")


# --- the same characters --------------------------------------------------------------------------------------------

_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|[^\W\d_]+|[0-9]+(?:\.[0-9]+)?|\S")
_FORMULA = re.compile(r"[\\^_={}+*<>|]|^ ?-|[A-Za-z]'?\(")
# Words, whose letters are no product; the first of them in either case: "NO" is "no" before it is an oxide.
_FOLDED_PAIRS = frozenset("no ok up to of or we my by do go".split())
PAIRS = _FOLDED_PAIRS.union("it is if so us at an as am be he hi in me on ox".split())


@lru_cache(maxsize=1 << 13)
def tokens(text: str) -> tuple[str, ...]:
    """A tidied text as its words, numbers and signs. Single letters stand together: `A B` is AB; "the rapist" stays."""
    found = _TOKEN.findall(plain(text))
    fold = not _FORMULA.search(plain(text))
    merged: list[str] = []
    for token in found:
        single = len(token) == 1 and token.isalpha() and token.isascii()
        if single and merged and merged[-1][0] == "\0":
            merged[-1] += token
        else:
            merged.append("\0" + token if single else _folded(token) if fold else token)
    if any(len(token) > 2 and token.isalpha() for token in merged):  # World War II
        merged = [token.lower() if re.fullmatch("[IVXivx]{2,4}", token) else token for token in merged]
    return tuple(token.lstrip("\0") for token in merged)


def _folded(word: str) -> str:
    """A word in lower case, but not a name that its case tells: Co and CO, NaCl, XYZ."""
    if not word.isalpha() or (len(word) < 3 and word.lower() not in _FOLDED_PAIRS):
        return word
    consecutive = len(word) == 3 and all(ord(b) - ord(a) == 1 for a, b in zip(word.lower(), word.lower()[1:]))
    shaped = word.islower() or word.isupper() or word.istitle()
    vowels = not word.isascii() or re.search("[aeiouy]", word.lower())
    return word.casefold() if shaped and vowels and not consecutive else word


_CHEMICAL = re.compile(r"\d*(?:(?:[A-Z][a-z]?|[()])(?:_\{\d+\}|\d+)? ?)+(?:\^ ?\{[0-9]*[+-]\})?")  # H_2O, H2O, CaCO3


def same_text(answer: str, gold: str) -> bool:
    """Whether two tidied texts are the same, but for spaces, fonts and the case of words."""
    if tokens(answer) == tokens(gold):
        return True
    if not all(_CHEMICAL.fullmatch(plain(text)) for text in (answer, gold)):
        return False
    said, meant = (re.sub(r"[_{}]| (?=[A-Z(])", "", plain(text)) for text in (answer, gold))
    return said == meant


# --- brackets -------------------------------------------------------------------------------------------------------

_OPEN, _CLOSE = r"\\begin|\\\{|\\langle|\\lfloor|\\lceil|[({\[]", r"\\end|\\\}|\\rangle|\\rfloor|\\rceil|[)}\]]"
COMMA = r"[,;，；]|\\\\"
ORDER = r"\\(?:le|ge)(?![A-Za-z])|[<>]"
TURNED = {">": "<", r"\ge": r"\le"}


@lru_cache(maxsize=64)
def _scanner(pattern: str) -> re.Pattern:
    return re.compile(rf"({pattern})|({_OPEN})|({_CLOSE})|\\[A-Za-z]+|\\.|.", re.DOTALL)


def split(text: str, pattern: str) -> tuple[list[str], list[str]]:
    """(the parts of `text` between the matches of `pattern` outside all brackets, those matches)."""
    depth, start, parts, found = 0, 0, [], []
    for token in _scanner(pattern).finditer(text):
        if token[1] and depth == 0:
            parts.append(text[start : token.start()].strip())
            found.append(token[1].strip())
            start = token.end()
        elif token[0] and not token[1]:
            depth += bool(token[2]) - bool(token[3])
    return [*parts, text[start:].strip()], found


def closes(text: str) -> int:
    """Where the bracket that `text` begins with is closed: the index after it; -1 if it never is."""
    depth = 0
    for token in _scanner("(?!)").finditer(text):
        depth += bool(token[2]) - bool(token[3])
        if depth <= 0:
            return token.end()
    return -1


def fence(text: str) -> tuple[str, str, str] | None:
    r"""("(", "1,2", "]") of the text (1,2]; None if it is not one pair of brackets. Angle brackets count as round."""
    opened, closed = re.match(r"\\\{|\\langle|[(\[]", text), re.search(r"(\\\}|\\rangle|[)\]])$", text)
    if not (opened and closed) or opened.end() > closed.start():
        return None
    if closes(text) != len(text):
        return None
    opening, closing = opened[0].replace(r"\langle", "("), closed[0].replace(r"\rangle", ")")
    return opening, text[opened.end() : closed.start()].strip(), closing
