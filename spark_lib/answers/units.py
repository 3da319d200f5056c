r"""Quantities: a value and a known unit. What is not in the table is no unit, whatever stands behind a number.

5\text{ km} is 5000\text{ m}, 5\text{ m/s} is 5\text{ m}\cdot\text{s}^{-1}, 5 cm is not 5 m, and where only one side
has a unit it is dropped. The table is our own because each spelling must be wanted: a general library takes "at" or
"h" for units as well, and the factors are the smaller part.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache

from spark_lib.answers.numbers import number, same_number
from spark_lib.answers.spelling import plain

_PREFIXES = {"k": 3, "M": 6, "G": 9, "c": -2, "d": -1, "m": -3, "μ": -6, "u": -6, "n": -9, "": 0}
_LONG = {"kilo": 3, "mega": 6, "giga": 9, "centi": -2, "deci": -1, "milli": -3, "micro": -6, "nano": -9, "": 0}
# Each: symbol, prefixes it takes, name (plural with s), the unit as a factor of those before it.
_METRIC = """
m   kcdmμun   meter|metre    1 length
g   kmμuc     gram|gramme    1/1000 mass
s   mμun      second         1 time
L   mcd       liter|litre    1/1000 length^3
l   mcdk      -              1/1000 length^3
N   kMm       newton         1 mass length time^-2
J   kMGm      joule          1 mass length^2 time^-2
W   kMGm      watt           1 mass length^2 time^-3
Pa  kMG       pascal         1 mass length^-1 time^-2
Hz  kMG       hertz          1 time^-1
A   mμu       ampere|amp     1 current
C   mμun      coulomb        1 current time
V   kmμu      volt           1 mass length^2 time^-3 current^-1
Ω   kM        ohm            1 mass length^2 time^-3 current^-2
F   mμun      farad          1 mass^-1 length^-2 time^4 current^2
H   mμu       henry          1 mass length^2 time^-2 current^-2
T   m         tesla          1 mass time^-2 current^-1
Wb  m         weber          1 mass length^2 time^-2 current^-1
mol mk        mole           1 amount
eV  kMGm      electronvolt   1 electronvolt
cal k         calorie        523/125 mass length^2 time^-2
bar m         -              100000 mass length^-1 time^-2
K   m         kelvin         1 kelvin
B   kMG       byte           8 bit
rad m         radian         1 radian
"""
# Each: names (| for or; a final (s) or (es) may be left off), the factor and the base units.
_OTHERS = """
in|inch(es)                   = 127/5000 length
ft|foot|feet                  = 381/1250 length
yd|yard(s)                    = 1143/1250 length
mi|mile(s)                    = 201168/125 length
acre(s)                       = 316160658/78125 length^2
ha|hectare(s)                 = 10000 length^2
cc|ccm                        = 1/1000000 length^3
gal|gallon(s)                 = 473176473/125000000000 length^3
qt|quart(s)                   = 473176473/500000000000 length^3
pint(s)                       = 473176473/1000000000000 length^3
cup(s)                        = 473176473/2000000000000 length^3
lb|lbs|pound(s)               = 45359237/100000000 mass
oz|ounce(s)                   = 45359237/1600000000 mass
tonne(s)                      = 1000 mass
ton(s)                        = 1 ton
sec|secs                      = 1 time
min|mins|minute(s)|分钟         = 60 time
h|hr|hrs|hour(s)|小时           = 3600 time
day(s)|天|日                    = 86400 time
week(s)|wk|周                  = 604800 time
month(s)|mo|月                 = 1 month
yr|yrs|year(s)|年              = 12 month
decade(s)                     = 120 month
century|centuries             = 1200 month
years old|year old|岁          = 12 month
°|deg|degree(s)|度             = 1 degree
arcminute(s)                  = 1/60 degree
°C|degree(s) Celsius|Celsius  = 1 celsius
°F|degree(s) Fahrenheit|Fahrenheit = 1 fahrenheit
mph                           = 1397/3125 length time^-1
kph|kmph|kmh                  = 5/18 length time^-1
rpm                           = 1 revolution
kWh                           = 3600000 mass length^2 time^-2
atm                           = 101325 mass length^-1 time^-2
mmHg                          = 1 mmhg
M                             = 1000 amount length^-3
$|dollar(s)|USD|US$           = 1 dollar
¢|cent(s)                     = 1/100 dollar
€|euro(s)|EUR                 = 1 euro
£|GBP                         = 1 sterling
¥|yen|yuan|CNY|RMB|JPY|元      = 1 yuan
rupee(s)|Rs|INR|₹             = 1 rupee
bit(s)                        = 1 bit
kg|Kg|KG|千克|公斤                = 1 mass
cm|厘米                         = 1/100 length
m|米                           = 1 length
km|千米|公里                      = 1000 length
mm|毫米                         = 1/1000 length
g|克                           = 1/1000 mass
L|升                           = 1/1000 length^3
mL|毫升                         = 1/1000000 length^3
s|秒                           = 1 time
cm^2|平方厘米                     = 1/10000 length^2
m^2|平方米                       = 1 length^2
unit(s)                       = 1 unit
person|people|persons|人       = 1 people
men                           = 1 men
point(s)|pts                  = 1 point
个                             = 1 个
只                             = 1 只
种                             = 1 种
次                             = 1 次
条                             = 1 条
本                             = 1 本
块                             = 1 块
"""

# What word problems count; as a unit each is only itself. Dropped where it is marked as a text.
_COUNTED = """
animal apple arrangement bag ball banana basket bead bike bird block boat bolt book bottle bowl box(es) boy brick bucket
bus(es) button cake can candle car card carton cat chair chicken child|children circle class(es) coin combination corner
cookie cow crate crayon cube customer desk digit dog doll duck edge egg employee face fish flight flower friend game
gift girl glass(es) goat grape group guest hat horse house integer jar lap leaf|leaves leg lesson letter lion marble
match(es) meal member mouse|mice muffin nail orange outcome packet package page painting pancake parrot passenger path
patient pen pencil permutation piece pie pig pill pizza plant plate player possibility|possibilities potato(es) problem
puppy|puppies question rabbit ring roll room rose sandwich(es) seat serving shell shirt shoe slice sock solution step
sticker stone student subset table teacher team term test ticket tile toy tree triangle trip truck vehicle visitor vote
way wheel window woman|women word worker
"""

Unit = tuple[Fraction, tuple[tuple[str, int], ...]]  # a factor and the powers of base units, in order of their names


def _power(unit: Unit, exponent: int) -> Unit:
    return unit[0] ** exponent, tuple((name, power * exponent) for name, power in unit[1])


def _times(a: Unit, b: Unit) -> Unit:
    powers = dict(a[1])
    for name, power in b[1]:
        powers[name] = powers.get(name, 0) + power
    return a[0] * b[0], tuple(sorted((name, power) for name, power in powers.items() if power))


def _unit(factor: str, bases: list[str]) -> Unit:
    unit = (Fraction(factor), ())
    for name, _, power in (base.partition("^") for base in bases):
        unit = _times(unit, (Fraction(1), ((name, int(power or 1)),)))
    return unit


@cache
def known() -> dict[str, Unit]:
    """Every spelling of every unit."""
    units = {}
    for line in _METRIC.strip().splitlines():
        symbol, prefixes, names, factor, *bases = line.split()
        unit = _unit(factor, bases)
        for prefix in ("", *prefixes):
            units[prefix + symbol] = _times(unit, (Fraction(10) ** _PREFIXES[prefix], ()))
        for prefix, power in _LONG.items():
            for name in names.split("|") if names != "-" else ():
                scaled = _times(unit, (Fraction(10) ** power, ()))
                units[prefix + name] = units[prefix + name + "s"] = scaled
    for line in _OTHERS.strip().splitlines():
        names, _, meaning = line.partition("=")
        factor, *bases = meaning.split()
        for name in names.strip().split("|"):
            stem = re.sub(r"\(e?s\)", "", name)
            units[stem] = units[re.sub(r"[()]", "", name)] = _unit(factor, bases)
    for names in _COUNTED.split():
        stem = names.split("|")[0].partition("(")[0]
        plural = names.partition("|")[2] or names.replace("(", "").replace(")", "")
        units[stem] = units[plural if plural != stem else stem + "s"] = _unit("1", [f"count_of_{stem}"])
    return units


_TOKEN = re.compile(
    r" *(\^ ?-?[0-9]|/|\*|\(|\)|(?:per|square|sq|cubic|cu|squared|cubed)\b\.?"
    r"|(?:years?|degrees?) (?:old|Celsius|Fahrenheit)|°[CF]?|[^\W\d_]+|[$¢€£¥₹])"
)
_CJK = re.compile(r"[\u4e00-\u9fff]+")
_SIGNS = {r"\cdot": "*", r"\times": "*", "·": "*", r"\$": "$", r"\Omega": "Ω", r"\mu ": "μ", r"\mu": "μ"}


@lru_cache(maxsize=1 << 12)
def unit(text: str) -> Unit | None:
    r"""The unit that `m/s^{2}`, `square feet` or `miles per hour` is; None if any part of it is unknown."""
    text = re.sub(r"\^ ?\\circ ?", "°", text)
    for command, sign in _SIGNS.items():
        text = text.replace(command, sign)
    text = re.sub(r"\^ ?\{ ?(-?[0-9]) ?\}", r"^\1", text)
    text = re.sub(r"\\text ?\{([^{}]*)\}", r" \1 ", text)
    text = re.sub(r"\\frac ?\{([^{}]*)\}\{([^{}]*)\}", r"(\1)/(\2)", text)
    text = re.sub(r"(?<=[a-z])\.(?=\W|$)", "", text).strip()
    result, sign, power, last, place = (Fraction(1), ()), 1, 1, None, 0
    stack: list[tuple[Unit, int]] = []
    while place < len(text):
        token = _TOKEN.match(text, place)
        if not token:
            return None
        word, place = token[1].rstrip("."), token.end()
        if word in ("/", "per"):
            sign = -1
        elif word in ("square", "sq", "cubic", "cu"):
            power = 2 if word.startswith("sq") else 3
        elif word[0] == "^" or word in ("squared", "cubed"):
            if last is None:
                return None
            exponent = {"squared": 2, "cubed": 3}.get(word) or int(re.sub(r"[^0-9-]", "", word))
            result, last = _times(result, _power(last, exponent - 1)), None  # once is in the result already
        elif word == "(":
            stack.append((result, sign))
            result, sign, last = (Fraction(1), ()), 1, None
        elif word == ")":
            if not stack:
                return None
            outer, sign = stack.pop()
            result, sign, last = _times(outer, _power(result, sign)), 1, None
        elif word != "*":
            found = known().get(word) or known().get(word.lower() if len(word) > 3 else word)
            if found is None:
                return None
            last = _power(_power(found, power), sign)
            result, sign, power = _times(result, last), 1, 1
    return result if not stack and sign == power == 1 and (result[1] or last) else None


@dataclass(frozen=True)
class Quantity:
    """value: a tidied text; unit; marked: whether the unit can be nothing else (a text, a word, a degree)."""

    value: str
    unit: Unit
    marked: bool


_MONEY = re.compile(r"(-?) ?(\\\$|[€£¥₹]|USD|US\\\$|Rs\.?) ?(?=[0-9.]|\\(?:frac|sqrt))")
_START = re.compile(
    r" ?/? ?(?:\\text ?\{|\\frac ?\{ ?\\text|\^\\circ|\\Omega|\\mu|(?<![A-Za-z\\])[^\W\d_]|\\\$|[$¢€£¥₹])"
)
_NO_VALUE = re.compile(r"\\text|\^\\circ|\\\$|[$¢€£¥₹\u4e00-\u9fff]")
_CONSTANT = re.compile(r"(?:[-+0-9.,/*^!(){} ]|\\(?:frac|sqrt|pi|cdot|times)(?![a-z]))+")
_LETTER = re.compile(r" ?(?:[mghsLl]|m\^\{[23]\}|m ?/ ?s(?:\^\{2\})?|[kc]?m ?/ ?(?:s|h|min))")  # dropped unmarked


@lru_cache(maxsize=1 << 12)
def quantity(text: str) -> Quantity | None:
    """The value and the unit of a tidied text; None if it does not end in a known unit (or begin with a currency)."""
    if money := _MONEY.match(text):
        rest = text[money.end() :]
        behind = quantity(rest)  # \$5\text{ per hour}
        per = behind.unit if behind and behind.unit[1] and all(power < 0 for _, power in behind.unit[1]) else None
        if behind and not per:
            return None
        currency = known()[money[2].replace("\\", "").rstrip(".")]
        return Quantity(money[1] + (behind.value if per else rest), _times(currency, per or (Fraction(1), ())), True)
    for start in _START.finditer(text):
        value, rest = text[: start.start()].strip(), text[start.start() :]
        if not value or len(rest) > 80 or any(value.count(a) != value.count(b) for a, b in ("{}", "()")):
            continue
        if _NO_VALUE.search(value):
            return None  # 5 m 3 cm, 5°°°
        found = unit(rest.strip())
        if found is None:
            continue
        marked = bool(re.match(r" ?/? ?(?:\\text|\\frac|\^|\\\$|[$¢€£¥₹])", rest)) or bool(_CJK.match(rest.strip()))
        if marked:
            return Quantity(value, found, True)
        if not _CONSTANT.fullmatch(value) or not re.search(r"(?:[0-9)}!.]|\\pi)$", value):
            continue
        letters = re.sub(r"\^ ?\{[^{}]*\}", "", rest)
        single = all(len(word) == 1 for word in re.findall(r"[^\W\d_]+", letters))
        if single and number(value) is None:
            continue
        counted = any(name.startswith("count_of") for name, _ in found[1])
        return Quantity(value, found, marked=not counted and not single)
    return None


def same_quantity(answer: str, gold: str, same) -> bool | None:
    """Both with units: the same amount. One with a unit: the same value. None if there is nothing to say here."""
    said, meant = quantity(answer), quantity(gold)
    if said and meant:
        if said.unit[1] != meant.unit[1]:
            return False if said.marked or meant.marked else None
        ratio = said.unit[0] / meant.unit[0]
        if ratio == 1:
            return same(said.value, meant.value)
        value = number(said.value)
        if value and number(meant.value):
            return same_number(value.times(ratio), number(meant.value))
        return same(rf"\frac{{{ratio.numerator}}}{{{ratio.denominator}}}\cdot ({said.value})", meant.value)
    if (said or meant) and answer.endswith(r"\%") != gold.endswith(r"\%"):
        return False
    if said and (said.marked or _LETTER.fullmatch(answer[len(said.value) :])):
        return same(said.value, gold) or None
    if meant and (meant.marked or re.fullmatch(r" m ?/ ?s(?:\^\{2\})?", gold[len(meant.value) :])):
        return same(answer, meant.value) or None
    return None


def value(text: str) -> str:
    """A tidied text without its unit, where that can be dropped."""
    found = quantity(text)
    return plain(found.value if found and (found.marked or _LETTER.fullmatch(text[len(found.value) :])) else text)
