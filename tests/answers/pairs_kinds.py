"""The kinds of pairs.py: each takes a random generator and gives (gold, a right spelling, a wrong answer)."""

import random
from collections.abc import Callable
from fractions import Fraction

LETTERS = "abcdkmnpqrstuvwxyz"
WORDS = "increase decrease north south profit loss heads tails positive negative acute obtuse parallel rhombus".split()
NAMES = "Alice Bruno Clara David Evelyn Farid Greta Hiro Ingrid Jonas Karim Lena".split()
MONTHS = "January February March April May June July August September October November December".split()


def other(rng: random.Random, value: int, spread: int = 9) -> int:
    """An integer that is not `value`, but near."""
    return value + rng.choice([d for d in range(-spread, spread + 1) if d])


def two(rng: random.Random, choices: str | list[str]) -> list[str]:
    return rng.sample(list(choices), 2)


def swapped(text: str, rng: random.Random) -> str:
    """The letters of `text` in another order."""
    if len(set(text)) == 1:
        return text + text[0]
    while True:
        letters = list(text)
        rng.shuffle(letters)
        if "".join(letters) != text:
            return "".join(letters)


# --- kinds: rng -> (gold, a right spelling, a wrong answer) -----------------------------------------------------------


def integers(rng):
    n = rng.randrange(-(10**6), 10**7)
    spellings = [f"{n:,}", f"{n:,}".replace(",", "{,}"), f"{n}.0", f"x = {n}", f"${n}$", rf"\text{{{n}}}", f"**{n}**"]
    wrong = [
        str(other(rng, n)),
        str(-n or 1),
        f"{n}.5",
        f"{n}.0000001",
        f"{n}, {other(rng, n)}",
        f"{n}{rng.randrange(10)}",
    ]
    return str(n), rng.choice(spellings), rng.choice(wrong)


def decimals(rng):
    value = Fraction(rng.randrange(1, 10**5), 1000)
    text = f"{float(value):.3f}"
    spellings = [
        text + "0",
        rf"\frac{{{value.numerator}}}{{{value.denominator}}}",
        f"{float(value * 100):.1f}%",
        f"+{text}",
    ]
    return (
        text,
        rng.choice(spellings),
        rng.choice([f"{float(value) + 0.001:.3f}", f"-{text}", text[:-1] + "99", f"{text}01"]),
    )


def repeating(rng):
    whole, first, period = rng.randrange(10), rng.choice(["", str(rng.randrange(10))]), str(rng.randrange(1, 9))
    value = Fraction(int(f"{whole}{first}{period}") - int(f"{whole}{first}"), 9 * 10 ** len(first))
    gold = rf"\frac{{{value.numerator}}}{{{value.denominator}}}"
    written = rf"{whole}.{first}\overline{{{period}}}"
    return (
        gold,
        rng.choice([written, f"{float(value):.9f}"]),
        rng.choice(
            [f"{whole}.{first}{period}", rf"{whole}.{first}\overline{{{int(period) % 8 + 1}}}", f"{float(value):.3f}"]
        ),
    )


def fractions(rng):
    a, b, k = rng.randrange(1, 60), rng.randrange(61, 99), rng.randrange(2, 9)
    spellings = [
        f"{a}/{b}",
        rf"\frac{{{a * k}}}{{{b * k}}}",
        rf"\dfrac{{{a}}}{{{b}}}",
        rf"\frac{{-{a}}}{{-{b}}}",
        rf"{a}\div {b}",
    ]
    wrong = [
        rf"\frac{{{b}}}{{{a}}}",
        rf"\frac{{{a + 1}}}{{{b}}}",
        f"{a}/{b + 1}",
        rf"-\frac{{{a}}}{{{b}}}",
        f"{a / b + 0.002:.3f}",
    ]
    return rf"\frac{{{a}}}{{{b}}}", rng.choice(spellings), rng.choice(wrong)


def mixed_numbers(rng):
    whole, bottom = rng.randrange(1, 9), rng.choice([3, 7, 11, 13])
    top = rng.randrange(1, bottom)
    spellings = [
        rf"{whole}\frac{{{top}}}{{{bottom}}}",
        f"{whole}+{top}/{bottom}",
        rf"\frac{{{whole * bottom + top}}}{{{bottom}}}",
    ]
    wrong = [
        f"{whole}{top}/{bottom}",
        rf"\frac{{{whole + top}}}{{{bottom}}}",
        rf"{whole}\cdot\frac{{{top}}}{{{bottom}}}",
        str(whole),
    ]
    return f"{whole} {top}/{bottom}", rng.choice(spellings), rng.choice(wrong)


def tiny_values(rng):
    n, base = rng.randrange(40, 400), rng.choice([2, 3, 10])
    forms = [
        (f"{base}^{{-{n}}}", rf"\frac{{1}}{{{base}^{{{n}}}}}", rf"\frac{{1}}{{{base}^{{{n + 1}}}}}"),
        (
            f"1-{base}^{{-{n}}}",
            rf"\frac{{{base}^{{{n}}}-1}}{{{base}^{{{n}}}}}",
            rng.choice([f"1-{base}^{{-{n - 1}}}", "1"]),
        ),
        (rf"\frac{{1}}{{{n}!}}", rf"({n}!)^{{-1}}", rf"\frac{{1}}{{{n + 1}!}}"),
        (rf"\pi\cdot {base}^{{-{n}}}", rf"\frac{{\pi}}{{{base}^{{{n}}}}}", rf"\pi\cdot {base}^{{-{n - 1}}}"),
        (rf"3\times10^{{-{n}}}", f"3e-{n}", rf"3\times10^{{-{n - 1}}}"),
        (rf"\sqrt{{2}}+{base}^{{-{n}}}", rf"{base}^{{-{n}}}+\sqrt{{2}}", r"\sqrt{2}"),
    ]
    return rng.choice(forms)


def roots(rng):
    a, b, c = rng.randrange(2, 9), rng.choice([2, 3, 5, 6, 7]), rng.randrange(2, 30)
    forms = [
        (rf"{a}\sqrt{{{b}}}", rf"\sqrt{{{a * a * b}}}", rf"{b}\sqrt{{{a}}}" if a != b else rf"{a}\sqrt{{{b + 1}}}"),
        (rf"\frac{{\sqrt{{{b}}}}}{{{b}}}", rf"\frac{{1}}{{\sqrt{{{b}}}}}", rf"\sqrt{{{b}}}"),
        (rf"{c}+{a}\sqrt{{{b}}}", rf"{a}\sqrt{{{b}}}+{c}", rf"{c}-{a}\sqrt{{{b}}}"),
        (rf"\frac{{{c}\pi}}{{{a}}}", rf"{c}\pi/{a}", rf"\frac{{{c}}}{{{a}\pi}}"),
        (rf"{c}\pi", f"{c}π", f"{c * 3.14159:.2f}"),
    ]
    return rng.choice(forms)


def polynomials(rng):
    a, b, x = rng.randrange(1, 9), rng.randrange(1, 9), rng.choice(LETTERS)
    gold = f"{x}^2+{a + b}{x}+{a * b}"
    right = rng.choice([f"({x}+{a})({x}+{b})", f"{a * b}+{x}^2+{a + b}{x}", rf"({x}+{b})\cdot({x}+{a})"])
    wrong = [
        f"({x}+{a})({x}-{b})",
        f"{x}^2+{a + b}{x}-{a * b}",
        f"{x}^2+{a + b + 1}{x}+{a * b}",
        gold.replace(x, x.upper(), 1),
    ]
    return gold, right, rng.choice(wrong)


def cases_of_letters(rng):
    x, k = rng.choice("bdghkmnpqrtvwxyz"), rng.randrange(2, 9)
    big = x.upper()
    forms = [
        (rf"\pi {x}^{k}", rf"{x}^{k}\pi", rf"\pi {big}^{k}"),
        (f"{big}-{x}", f"-{x}+{big}", rng.choice(["0", f"{x}-{big}"])),
        (rf"\frac{{{big}}}{{{x}}}", f"{big}/{x}", rng.choice(["1", rf"\frac{{{x}}}{{{big}}}"])),
        (f"{k}{x}", rf"{k}\cdot {x}", f"{k}{big}"),
        (f"{x}+{big}", f"{big}+{x}", f"2{x}"),
        (f"{x}_{k}", f"{x}_{{{k}}}", f"{big}_{k}"),
        (rf"\vec{{{x}}}", rf"\mathbf{{{x}}}", rf"\vec{{{big}}}"),
    ]
    return rng.choice(forms)


def letters_as_units(rng):
    k, x, unit = rng.randrange(2, 40), rng.choice("abcxyz"), rng.choice("mgshL")
    forms = [
        (rf"\pi {x}^2", rf"{x}^2\pi", rf"\pi {x}^2 {unit}"),
        (f"{x}+{k}", f"{k}+{x}", f"({x}+{k}){unit}"),
        (f"{k}{unit}", rf"{unit}\cdot {k}", str(k)),
        (f"2^{{{x}}}", f"2^{x}", f"2^{{{x}}} {unit}"),
        (f"y={k}", str(k), f"y={k}{unit}"),
        (rf"\sqrt{{{k}}}", f"√{k}", rf"\sqrt{{{k}}} {unit}"),
        (rf"\frac{{{x}}}{{{k}}}", f"{x}/{k}", rf"\frac{{{x}}}{{{k}}}{unit}"),
    ]
    return rng.choice(forms)


UNITS = [
    ("km", "m", 1000, "kilometers"), ("m", "cm", 100, "meters"), ("kg", "g", 1000, "kilograms"),
    ("h", "min", 60, "hours"), ("min", "s", 60, "minutes"), ("L", "mL", 1000, "liters"), ("ft", "in", 12, "feet"),
    ("kW", "W", 1000, "kilowatts"), ("days", "hours", 24, "days"), ("weeks", "days", 7, "weeks"),
    ("dollars", "cents", 100, "USD"), ("cm", "mm", 10, "centimeters"),
]  # fmt: skip
APART = [("cm^2", "cm^3"), ("m", "s"), ("kg", "m"), ("m/s", "m/s^2"), ("J", "W"), ("km", "kg"), ("N", "Pa"), ("L", "g")]


def units(rng):
    k = rng.randrange(2, 900)
    large, small, factor, name = rng.choice(UNITS)
    gold = rf"{k}\text{{ {large}}}"
    if rng.random() < 0.3:
        one, another = rng.choice(APART)
        return rf"{k}\text{{ {one}}}", rf"{k}\ \mathrm{{{one}}}", rf"{k}\text{{ {another}}}"
    right = rng.choice(
        [rf"{k * factor}\text{{ {small}}}", f"{k} {name}", rf"{k}\ \mathrm{{{large}}}", str(k), f"{k * factor} {small}"]
    )
    wrong = rng.choice([rf"{k}\text{{ {small}}}", f"{k} {small}", f"{k * factor} {name}", rf"{k + 1}\text{{ {large}}}"])
    return gold, right, wrong


def words_behind_numbers(rng):
    k = rng.randrange(1, 90)
    first, second = two(rng, WORDS)
    change = rng.choice(
        "is wrong|not|at most|or more|minus one|or less|squared|hundred|per cent off|if x > 0|mod 7|at least".split("|")
    )
    forms = [
        (rf"{k}\text{{ {first}}}", f"{k} {first}", rf"{k}\text{{ {second}}}"),
        (str(k), rf"\text{{{k}}}", rf"{k}\text{{ {change}}}"),
        (str(k), f"{k}.", f"{k} {change}"),
        (
            rf"{k}\text{{ a.m.}}" if k < 13 else f"{k} BC",
            f"{k} am" if k < 13 else rf"{k}\text{{ BC}}",
            f"{k} pm" if k < 13 else f"{k} AD",
        ),
    ]
    return rng.choice(forms)


def words(rng):
    first, second = two(rng, WORDS + NAMES)
    gold = rng.choice([first, f"{first} {second}", rf"\text{{{first}}}"])
    plain = gold.removeprefix(r"\text{").removesuffix("}")
    right = rng.choice([plain.upper(), rf"\text{{{plain}}}", f"{plain}.", rf"\textbf{{{plain}}}", f"  {plain} "])
    return (
        gold,
        right,
        rng.choice(
            [second, swapped(first, rng), f"not {plain}", f"{plain} or {second}", first + "s", f"{second} {first}"]
        ),
    )


def names(rng):
    run = "".join(rng.sample("ABCDEFGHKLMNPQRST", 3))
    turned = run[0] + run[2] + run[1]
    forms = [
        (rf"\triangle {run}", f"△{run}", rf"\triangle {turned}"),
        (rf"\angle {run}", rf"∠{run}", rf"\angle {turned}"),
        (rf"\overline{{{run[:2]}}}", rf"\overline{{ {run[:2]} }}", rf"\overline{{{run[:1] + run[2]}}}"),
        (run, " ".join(run), turned),
        ("-".join(run), "–".join(run), "-".join(turned)),
        (rf"{run[0]}{run[1]}^{{-1}}", rf"{run[0]} {run[1]}^{{-1}}", rf"{run[1]}^{{-1}}{run[0]}"),
        (rf"\frac{{{run[:2]}}}{{{run[1:]}}}", f"{run[:2]}/{run[1:]}", rf"\frac{{{run[0]}}}{{{run[2]}}}"),
        (
            f"{run[0]}_2{run[1]}_3",
            f"{run[0]}₂{run[1]}₃",
            rng.choice([f"{run[0]}_3{run[1]}_2", f"{run[1]}_3{run[0]}_2"]),
        ),
        (rf"{run[0]} \subset {run[1]}", f"{run[0]}⊂{run[1]}", rf"{run[1]} \subset {run[0]}"),
    ]
    return rng.choice(forms)


def order(rng):
    a, b = two(rng, "abpquvwxy")
    forms = [
        (rf"\frac{{d{a}}}{{d{b}}}", rf"\dfrac{{d{a}}}{{d{b}}}", rf"\frac{{d{b}}}{{d{a}}}"),
        (rf"\vec{{{a}}}\times\vec{{{b}}}", rf"\mathbf{{{a}}} \times \mathbf{{{b}}}", rf"\vec{{{b}}}\times\vec{{{a}}}"),
        (rf"\vec{{{a}}}\cdot\vec{{{b}}}", rf"\vec{{{b}}} \cdot \vec{{{a}}}", rf"\vec{{{a}}}\times\vec{{{b}}}"),
        (rf"{a} \in {b}", f"{a}∈{b}", rf"{b} \in {a}"),
        (rf"{a} \to {b}", rf"{a} \rightarrow {b}", rf"{b} \to {a}"),
        (rf"{a} \land {b}", rf"{b} \wedge {a}", rf"{a} \lor {b}"),
        (rf"\neg {a}", rf"\lnot {a}", a),
        (rf"{a} \mid {b}", rf"{a}∣{b}", rf"{b} \mid {a}"),
        (f"{a}^{b}", f"{a}^{{{b}}}", f"{b}^{a}"),
        (f"f({a}+{b})", f"f({b}+{a})", f"f({a})+f({b})"),
        (f"{a} < {b}", f"{b} > {a}", f"{b} < {a}"),
    ]
    return rng.choice(forms)


def times(rng):
    hour, minute = rng.randrange(1, 12), rng.randrange(10, 60)
    forms = [
        (f"{hour}:{minute}", f"{hour}{{:}}{minute}", f"{2 * hour}:{2 * minute}"),
        (f"{hour}:{minute} AM", rf"{hour}:{minute}\text{{ a.m.}}", f"{hour}:{minute} PM"),
        (f"{hour}:{minute} PM", f"{hour + 12}:{minute}", f"{hour}:{minute} AM"),
        (f"{hour}:0{hour % 10}", f"{hour:02}:0{hour % 10}", f"{hour}:{hour % 10}"),
        (f"{hour}:{minute}", rf"\text{{{hour}:{minute}}}", f"{minute}:{hour}"),
        (f"{hour} p.m.", f"{hour} PM", f"{hour} a.m."),
    ]
    return rng.choice(forms)


def dates(rng):
    month, day, year = rng.randrange(1, 13), rng.randrange(1, 29), rng.randrange(1900, 2030)
    gold = f"{year}-{month:02}-{day:02}"
    right = rng.choice(
        [f"{MONTHS[month - 1]} {day}, {year}", f"{day} {MONTHS[month - 1]} {year}", f"{year}/{month}/{day}"]
    )
    moved = f"{year}-{month:02}-{day % 28 + 1:02}"
    return (
        gold,
        right,
        rng.choice(
            [
                moved,
                str(year - month - day),
                f"{MONTHS[month % 12]} {day}, {year}",
                f"{year - 1}-{month + 1:02}-{day:02}",
            ]
        ),
    )


def ratios(rng):
    a, b = rng.sample(range(2, 10), 2)
    k = rng.randrange(2, 9)
    while Fraction(a, b).denominator != b:
        a += 1
    forms = [
        (
            f"{a}:{b}",
            rng.choice([rf"{a}\colon {b}", f"{a} : {b}", rf"\frac{{{a}}}{{{b}}}", f"{a}{{:}}{b}"]),
            rng.choice([f"{b}:{a}", f"{a + 1}:{b}"]),
        ),
        (f"{a}:{b}:{a + b}", f"{a * k}:{b * k}:{(a + b) * k}", rng.choice([f"{a}:{a + b}:{b}", f"{b}:{a}:{a + b}"])),
    ]
    return rng.choice(forms)


def bases(rng):
    digits, base = "".join(rng.choice("1234") for _ in range(4)), rng.randrange(5, 10)
    return (
        f"{digits}_{base}",
        f"{digits}_{{{base}}}",
        rng.choice([digits, f"{digits}_{base + 1}", f"{digits}1_{base}", str(int(digits, base))]),
    )


def lists(rng):
    items = rng.sample(range(-20, 40), 3)
    a, b, c = items
    forms = [
        (
            f"{a}, {b}, {c}",
            rng.choice([f"{c}, {a}, {b}", f"{b},{a} and {c}", rf"\{{{a},{b},{c}\}}"]),
            rng.choice([f"{a}, {b}", f"{a}, {b}, {c}, {c}", f"{a}, {b}, {other(rng, c, 2)}"]),
        ),
        (
            f"({a}, {b})",
            rng.choice([rf"\left({a},{b}\right)", f"({a}.0,{b})", f"x = {a}, y = {b}"]),
            rng.choice([f"({b}, {a})", f"[{a}, {b}]", f"({a}, {b}, {c})", rf"\{{{a}, {b}\}}", f"x = {b}, y = {a}"]),
        ),
        (
            rf"\{{{a}, {b}\}}",
            rf"\{{{b}, {a}, {a}\}}",
            rng.choice([f"({a}, {b})", rf"\{{{a}\}}", rf"\{{{a}, {a + b + 99}, {b}\}}"]),
        ),
        (rf"\pm {abs(a) + 1}", f"{abs(a) + 1}, -{abs(a) + 1}", str(abs(a) + 1)),
        (rf"{a} \pm \sqrt{{7}}", rf"{a}+\sqrt7 \text{{ or }} {a}-\sqrt7", rf"{a} + \sqrt{{7}}"),
        (f"x = {a} \\text{{ or }} x = {b}", f"x={b}, x={a}", f"x = {a}"),
    ]
    return rng.choice(forms)


def intervals(rng):
    a = rng.randrange(-20, 10)
    b = a + rng.randrange(1, 20)
    forms = [
        (
            f"[{a}, {b})",
            rng.choice([f"{a} \\le x < {b}", f"{b} > x \\ge {a}", rf"\left[{a},{b}\right)"]),
            rng.choice([f"({a}, {b})", f"[{a}, {b}]", f"{a} < x \\le {b}"]),
        ),
        (
            f"x > {b}",
            rng.choice([rf"({b}, \infty)", f"{b} < x", rf"x \in ({b}, +\infty)"]),
            rng.choice([f"x \\ge {b}", f"x < {b}", rf"(-\infty, {b})"]),
        ),
        (
            rf"(-\infty, {a}) \cup ({b}, \infty)",
            f"x < {a} \\text{{ or }} x > {b}",
            rng.choice([f"({a}, {b})", f"x < {a} \\text{{ and }} x > {b}", rf"(-\infty, {a}] \cup ({b}, \infty)"]),
        ),
        (
            rf"\mathbb{{R}} \setminus \{{{a}\}}",
            rng.choice([f"x \\ne {a}", rf"(-\infty, {a}) \cup ({a}, \infty)"]),
            rng.choice([r"\mathbb{R}", f"x = {a}"]),
        ),
    ]
    return rng.choice(forms)


def equations(rng):
    a, b, c = rng.randrange(2, 9), rng.randrange(2, 9), rng.randrange(10, 30)
    forms = [
        (
            str(c),
            rng.choice([f"x = {c}", f"{c} = x", f"x = {c - a} + {a} = {c}", f"f({a}) = {c}"]),
            rng.choice(
                [
                    rf"\sqrt{{x}} = {c}",
                    f"{a}x = {c}",
                    f"x = {c} = {c + 1}",
                    f"x^2 = {c}",
                    f"{c + 1} = {c}",
                    f"x = {c}, x = {a}",
                    f"x > {c}",
                ]
            ),
        ),
        (
            f"x = {c}",
            rng.choice([str(c), f"x={c}.0", f"{c}=x"]),
            rng.choice([f"y = {c}", f"x = {c + 1}", f"{a}x + {b} = {a * c + b}", f"X = {c}"]),
        ),
        (
            f"y = {a}x + {b}",
            rng.choice([f"y = {b} + {a}x", f"{a}x - y + {b} = 0", f"{a}x + {b}"]),
            rng.choice([f"y = {a}x - {b}", f"y = {b}x + {a + 1}", f"y = {a}X + {b}", f"x = {a}y + {b}"]),
        ),
        (f"{a}x^2 + {b}y^2 = {c}", f"{2 * a}x^2 + {2 * b}y^2 - {2 * c} = 0", f"{a}x^2 - {b}y^2 = {c}"),
    ]
    return rng.choice(forms)


def matrices(rng):
    a, b, c, d = (rng.randrange(-9, 10) for _ in range(4))
    d += (b == c) * 0
    gold = rf"\begin{{pmatrix}}{a}&{b}\\{c}&{d}\end{{pmatrix}}"
    right = rng.choice(
        [
            rf"\begin{{bmatrix}} {a} & {b} \\ {c} & {d} \end{{bmatrix}}",
            rf"\frac12\begin{{pmatrix}}{2 * a}&{2 * b}\\{2 * c}&{2 * d}\end{{pmatrix}}",
        ]
    )
    wrong = [
        rf"\begin{{pmatrix}}{a}&{b}\\{c}&{d + 1}\end{{pmatrix}}",
        rf"\begin{{pmatrix}}{a}&{b}&{c}&{d}\end{{pmatrix}}",
        rf"\begin{{vmatrix}}{a}&{b}\\{c}&{d}\end{{vmatrix}}",
    ]
    if b != c:
        wrong.append(rf"\begin{{pmatrix}}{a}&{c}\\{b}&{d}\end{{pmatrix}}")
    return gold, right, rng.choice(wrong)


def functions(rng):
    x, k = rng.choice("xtuyθ"), rng.randrange(2, 9)
    forms = [
        (rf"\sin^2 {x}", rf"1-\cos^2 {x}", rf"\sin {x}^2"),
        (rf"\sin(2{x})", rf"2\sin {x}\cos {x}", rf"2\sin {x}"),
        (rf"\ln {x}^{k}", rf"{k}\ln {x}", rf"(\ln {x})^{k}"),
        (rf"\log_{k} {x}", rf"\frac{{\ln {x}}}{{\ln {k}}}", rf"\log_{{{k + 1}}} {x}"),
        (f"e^{{{k}{x}}}", rf"(e^{{{x}}})^{k}", f"e^{{{x}}}{k}".replace(f"}}{k}", f"}}+{k}")),
        (r"\binom{n}{2}", r"\frac{n(n-1)}{2}", rf"\binom{{n}}{{{k + 1}}}"),
        (r"(n+1)!", r"(n+1)\cdot n!", r"n\cdot n!"),
        (rf"|{x}-{k}|", rf"|{k}-{x}|", f"{x}-{k}"),
        (rf"\sqrt{{{x}^2}}", rf"|{x}|", f"{x}"),
        (rf"\lfloor {x} \rfloor", rf"⌊{x}⌋", rf"\lceil {x} \rceil"),
        (rf"\tan {x}", rf"\frac{{\sin {x}}}{{\cos {x}}}", rf"\tan {k}{x}"),
        (f"{x}^{{1/3}}", rf"\sqrt[3]{{{x}}}", rf"\sqrt{{{x}}}"),
    ]
    return rng.choice(forms)


KINDS: dict[str, Callable] = {
    each.__name__.replace("_", " "): each
    for each in (
        integers, decimals, repeating, fractions, mixed_numbers, tiny_values, roots, polynomials, functions,
        cases_of_letters, letters_as_units, units, words_behind_numbers, words, names, order, times, dates, ratios,
        bases, lists, intervals, equations, matrices,
    )
}  # fmt: skip
