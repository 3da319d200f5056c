"""The verifier's rules, as tables of answers; answers/test_verify_kinds.py has one for each kind of mistake.

Nothing here needs a model. Each docstring tells the bug that its test guards against.
"""

import json
from pathlib import Path

import pytest

from spark_lib.problem import Problem
from spark_lib.verify import extract_boxed, same_answer, verify

CASES = [json.loads(line) for line in (Path(__file__).parent / "fixtures" / "verify.jsonl").read_text().splitlines()]

# (answer, reference, whether they are the same)
ROWS = [
    # integers, signs, thousands
    ("42", "42", True),
    (" 42 . ", "42", True),
    ("007", "7", True),
    ("+5", "5", True),
    ("-5", "5", False),
    ("−5", "-5", True),
    ("1,234", "1234", True),
    ("1{,}234{,}567", "1,234,567", True),
    (r"12\,345", "12345", True),
    ("1,23", "123", False),
    ("1 2", "12", False),
    ("$42$", "42", True),
    (r"\(42\)", "42", True),
    ("**42**", "42", True),
    (r"\text{42}", "42", True),
    (r"\boxed{42}", "42", True),
    ("9" * 900, "9", False),
    # decimals and fractions
    ("0.5", r"\frac{1}{2}", True),
    (".5", "1/2", True),
    ("5.", "5.00", True),
    (r"\dfrac12", "0.5", True),
    (r"-\frac{1}{2}", r"\frac{-1}{2}", True),
    (r"1\frac{1}{2}", "1.5", True),
    ("1 1/2", r"\frac{3}{2}", True),
    ("0.333333", r"\frac13", True),
    ("0.33", r"\frac13", False),
    ("3.14159265", "3.141593", True),
    ("3.14", r"\pi", False),
    ("1/0", "5", False),
    (r"\frac{0}{0}", "5", False),
    # other bases: as they are written
    ("0x95ad", "0xC4832d6", False),
    ("0x95AD", "0x95ad", True),
    ("0x10", "0", False),
    ("0b101", "0b110", False),
    ("4343_6", "4343_5", False),
    ("4343_{5}", "4343_5", True),
    ("434_5", "4343_5", False),
    ("A3_{16}", "A3_{15}", False),
    # percent: as it stands, or as a hundredth
    ("50%", "0.5", True),
    (r"50\%", "50", True),
    ("50", r"50\%", True),
    ("50 percent", "50%", True),
    ("0.5", "50", False),
    ("5%", "0.5", False),
    # scientific notation
    ("1.5e3", "1500", True),
    (r"1.5 \times 10^{3}", "1500", True),
    ("1.5×10^3", "1500", True),
    ("10^{3}", "1000", True),
    ("210^3", "2000", False),
    (r"6.6\times10^{-34}", r"5\times10^{-34}", False),
    ("1e-7", "2e-7", False),
    # units and currencies
    ("5 cm", "5", True),
    (r"5\text{ cm}^2", "5", True),
    (r"5\,\mathrm{m}/\mathrm{s}", "5", True),
    ("5 square feet", "5", True),
    ("60 miles per hour", "60", True),
    ("5 hours", "5", True),
    ("105 proposed answer", "105", False),
    ("5 wrong", "5", False),
    ("5 apples", "5", False),
    ("5 apples", "5 apples", True),
    (r"5\text{个}", "5", True),
    (r"\$1,234.50", "1234.5", True),
    (r"90^\circ", "90", True),
    ("20°", "20", True),
    (r"25\pi\text{ cm}^2", r"25\pi", True),
    ("5 million", "5", False),
    ("5x", "5", False),
    (r"5\mathrm{i}", "5", False),
    ("2t", "2", False),
    # LaTeX equivalence
    ("(x+1)^2", "x^2+2x+1", True),
    ("(x+1)^2", "x^2+2x+2", False),
    ("x**2", "x^2", True),
    (r"\frac{\sqrt3}{3}", r"\frac{1}{\sqrt{3}}", True),
    ("2√3", r"\sqrt{12}", True),
    (r"2\cdot\pi", "2π", True),
    ("3!", "6", True),
    (r"\log_2 8", "3", True),
    (r"\log_2(8)", "3", True),
    ("2i+1", "1+2i", True),
    ("2(3)+1", "7", True),
    ("2(3)+1", "6", False),
    ("(3)(4)", "12", True),
    (r"3\left(4\right)", "7", False),
    ("f'(x)", "f(x)", False),
    ("f'(x)=2x", "f(x)=2x", False),
    ("f'(x)=2x", "2x", True),
    # equations
    ("x=3", "3", True),
    ("3", "x = 3", True),
    ("y=3", "x=3", False),
    ("f(2) = 5", "5", True),
    (r"x = \frac{6}{2} = 3", "3", True),
    ("y = 1 + 2x", "y=2x+1", True),
    ("7", "2x+3=7", False),
    (r"\frac13 \approx 0.33", "1/3", True),
    ("f(3) = 2(3)+1 = 7", "7", True),
    (r"A = \pi r^2 = 4\pi", r"4\pi", True),
    (r"\lim_{x \to 0} f(x) = 3", "3", True),
    (r"P(A \mid B) = \frac12", "0.5", True),
    ("x = max = 3", "3", True),
    # tuples, intervals, sets, lists, matrices
    ("(1, 2)", "(1,2)", True),
    ("(2,1)", "(1,2)", False),
    (r"\left(\frac12, 3\right)", "(0.5,3)", True),
    ("[1,2]", "(1,2)", False),
    ("(1,2]", "[1,2]", False),
    (r"(3,4]\cup[1,2)", r"[1,2)\cup(3,4]", True),
    ("x<3", r"(-\infty,3)", True),
    (r"x\le3", r"(-\infty,3)", False),
    (r"\{2,1\}", r"\{1,2\}", True),
    (r"\{1,2\}", "(1,2)", False),
    (r"\{1,2,3\}", r"\{1,2\}", False),
    ("2 and 1", "1, 2", True),
    ("3, -3", r"\pm 3", True),
    (r"x=1 \text{ or } x=2", "1,2", True),
    (r"x=1 \lor x=2", "1,2", True),
    (r"x \ne 2", r"x\neq2", True),
    (r"p \land q", r"p\wedge q", True),
    ("v = (1, 2)", "(1,2)", True),
    ("x=1, y=(2,3)", "(2,3)", False),
    (r"\begin{bmatrix}1&2\\3&4\end{bmatrix}", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", True),
    (r"\begin{pmatrix}1&2\\3&5\end{pmatrix}", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", False),
    (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", True),
    (r"A^{-1} = \begin{bmatrix} 0.5 \\ 2 \end{bmatrix}", r"\begin{pmatrix} \frac12 \\[4pt] 2 \end{pmatrix}", True),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 3 \end{pmatrix}", False),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 2 \\ 1 \end{pmatrix}", False),
    (r"\begin{pmatrix}1\end{pmatrix} \lor \begin{pmatrix}2\end{pmatrix}", r"\begin{pmatrix}2\end{pmatrix}", False),
    # words and letters
    ("evelyn", r"\text{Evelyn}", True),
    ("Evelny", "Evelyn", False),
    ("new  york.", "New York", True),
    ("Paris, London", "Paris", False),
    ("(c)", "C", True),
    (r"\textbf{(C)}", "C", True),
    ("C", r"\text{(C)}", True),
    ("D", "C", False),
    ("C, A", "A, C", True),
    ("A", "A, C", False),
    ("", "5", False),
]

HEDGES = [
    *("3 or 4", "3, 4", "4, 3", "3;4", "3 and 4", "3 OR 4", "3，4", "3/4", "3:4", "3|4", "3 4", r"3\quad4"),
    *("4=3", "3=4", "x=4=3", "x=3, x=4", r"\pm3", r"4 \approx 3", r"\{3,4\}", "[3,4]", r"3\lor4", r"3\\4"),
    *(r"3\text{ or }4", r"3\text{ or }4\text{ cm}", r"3\text{ (or 4)}", r"3\text{ maybe }\frac{4}{1}"),
    *(r"\boxed{3} or \boxed{4}", r"\boxed{4}\boxed{3}", r"3\text{或}4", r"4, but the final answer is $3$"),
    *("4 where x=3", "4 cm = 3 cm", "3'4", r"x=4 \lor x=3", r"4\to x=3", "x=4 if x=3", "x=4 x=3", "(x=4)(x=3)"),
    *("y=4 or x=3", r"4 \wedge x=3", r"4 & x=3", r"4\ne x=3", r"4 \Rightarrow 3=3", r"4 \not= 3", r"4 \iff x=3"),
    *(r"3 \\ 4", r"3 \quad 4", r"3 \: 4", "{3}{4}", "3{4}", "3[4]", "(3)[4]", r"3\ldots4", r"3\phantom{0}4", "$3$$4$"),
    r"4 \text{ and the final answer is } $3$",
]

BOXES = [
    (r"so \boxed{3}", "3"),
    (r"so \boxed {3} or \boxed  { 4 }.", "4"),
    (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
    (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
    (r"\boxed{[0, 1\}}", r"[0, 1\}"),
    (r"\boxed{\boxed{3}}", r"\boxed{3}"),
    (r"\boxed{\boxed{3}", "3"),
    (r"\boxed{3} then \boxed{4", "3"),
    (r"\boxed{a{b} then \boxed{4}", "4"),
    (r"} \boxed{3} }", "3"),
    (r"x \\\boxed{3}", "3"),
    ("\\\\boxed{3}", "3"),
    (r"\boxed{}", ""),
    ("\\boxed{3\n}", "3"),
    (r"\fbox{3} boxed{3} \boxed 3", None),
    (r"\boxed{3", None),
    ("3", None),
    ("", None),
]


def solve(reference: str, **fields) -> Problem:
    return Problem("", reference, **fields)


@pytest.mark.parametrize("answer, reference, same", ROWS)
def test_table_of_answers(answer: str, reference: str, same: bool) -> None:
    """Each row was read wrongly by some verifier: anagrams, units in golds, tiny constants, lost signs, …"""
    assert same_answer(answer, reference) is same
    assert verify(f"so \\boxed{{{answer}}}.", solve(reference)) is same


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['text'][:40]} for {case['gold'][:30]}")
def test_cases_of_public_bug_reports(case: dict) -> None:
    """Letters of the other case, letters as units, tiny values, words behind numbers: 124 of these came out wrong."""
    problem = solve(case["gold"], choices=tuple(case["choices"]))
    assert verify(case["text"], problem) is case["right"]


def test_gold_answers_confirm_themselves() -> None:
    """Data loading drops a problem whose gold answer does not confirm itself: no good one may be lost."""
    for _, reference, _ in ROWS:
        assert same_answer(reference, reference), reference
    assert same_answer(r"\boxed{3}", r"\boxed{3}"), "ViRL39K stores its gold answers in a box"


@pytest.mark.parametrize(
    "problem",
    [
        solve(""),
        solve(r"\frac{1"),
        solve("3\\"),
        solve("E", choices=("1", "2", "3", "4")),
        solve("Maybe", kind="pointwise"),
        solve("Yes", kind="pairwise"),
        solve(None),
        solve(3),
    ],
)
def test_gold_answers_out_of_reach_do_not_confirm_themselves(problem: Problem) -> None:
    """An unreadable gold answer is a data error; rewarding its own echo hides that (open-r1 #293)."""
    assert not same_answer(problem.answer, problem.answer, problem)


@pytest.mark.parametrize("text, content", BOXES)
def test_extract_boxed(text: str, content: str | None) -> None:
    """A regular expression stops at the first brace; counting braces is thrown off by \\{ or a stray one."""
    assert extract_boxed(text) == content


@pytest.mark.parametrize("answer", HEDGES)
def test_a_box_with_two_answers_gets_no_credit(answer: str) -> None:
    """math-verify reads "3 4" as 7, "4 = 3" as 3, "3\\text{ or }4\\text{ cm}" as 3: policies learn it."""
    assert not any(same_answer(answer, reference) for reference in ("3", "7", "34"))


def test_only_the_last_box_counts() -> None:
    """math-verify falls back to an earlier match when the last box does not parse: a way to answer twice."""
    assert not verify(r"\boxed{3} … no, \boxed{4}", solve("3"))
    assert not verify(r"\boxed{3} … no, \boxed{\frac{}}", solve("3"))
    assert not verify(r"\boxed{3} … no, \boxed{}", solve("3"))
    assert not verify("The answer is 3.", solve("3"))
    assert verify(r"\boxed{3} … and then \boxed{4", solve("3"))


@pytest.mark.parametrize(
    "kind, reference, right, wrong",
    [
        (
            "pointwise",
            "Yes",
            ["Yes", "yes", " YES. ", r"\text{Yes}", "(Yes)", "**Yes**"],
            ["No", "Yes or No", "Yes, correct", "Y", "sey", "", "True", "1", r"\text{Yes}\text{No}"],
        ),
        ("pointwise", "No", ["no", r"\text{No}."], ["Yes", "on", "Not", "0"]),
        (
            "pairwise",
            "A",
            ["A", "a", "(A)", "[A]", "{A}", "A.", r"\text{A}", r"\textbf{(A)}", r"\mathrm{A}"],
            ["B", "AB", "A or B", "A, B", "Response A", "A = B", "B = A", "1", ""],
        ),
    ],
)
def test_verdicts_are_one_word(kind: str, reference: str, right: list[str], wrong: list[str]) -> None:
    """As mathematics "on" is "no" (n·o) and "B = A" is A; a judge may not answer both ways."""
    problem = solve(reference, kind=kind)
    for answer in right:
        assert verify(f"\\boxed{{{answer}}}", problem), answer
    for answer in wrong:
        assert not verify(f"\\boxed{{{answer}}}", problem), answer


def test_choices_by_letter_or_by_text() -> None:
    """The text of an option that stands there twice names no option, and a letter outranks an equal text."""
    problem = solve("B", choices=("1/2", "12 cm", "Paris", "Rome"))
    for answer in ("B", "(b)", "B.", "Option B", "12 cm", r"12\text{ cm}", "B. 12 cm", "(B) 12", "x = 12"):
        assert verify(f"\\boxed{{{answer}}}", problem), answer
    for answer in ("A", "B or C", "B, C", "A. 12 cm", "B. Paris", "0.5", "12, Paris", "E", ""):
        assert not verify(f"\\boxed{{{answer}}}", problem), answer
    assert not verify(r"\boxed{0.5}", solve("A", choices=("1/2", r"\frac12", "2")))
    assert verify(r"\boxed{A}", solve("A", choices=("1/2", r"\frac12", "2")))
    assert not verify(r"\boxed{B}", solve("A", choices=("B", "A")))


def test_an_option_that_reads_like_another_without_its_unit() -> None:
    """Both 5 and 5 cm were 5, so that neither option could be told by its text; 8 and 8.0 cannot be told."""
    problem = solve("B", choices=("5", "5 cm", "5 m", "8", "8.0"))
    for answer in ("5 cm", r"5\text{ cm}", "B. 5 cm", r"\textbf{(B)}\ 5\text{ cm}", r"\textbf{\text{(B)}}", "{B}"):
        assert verify(f"\\boxed{{{answer}}}", problem), answer
    for answer in ("5", "5 m", "B. 5 m", "A. 5 cm", "50 mm or 5 cm", "not B", "A = 5 cm"):
        assert not verify(f"\\boxed{{{answer}}}", problem), answer
    assert verify(r"\boxed{5}", solve("A", choices=problem.choices))
    assert not verify(r"\boxed{8}", solve("D", choices=problem.choices))
    assert not verify(r"\boxed{5}", solve("A", choices=("5 cm", "5 m")))  # it may be either


@pytest.mark.parametrize(
    "text, content",
    [
        (r"<think> so \boxed{3} perhaps", None),
        (r"\boxed{2} <think> or \boxed{3}", "2"),
        (r"<think> \boxed{3} </think> It is \boxed{4}.", "4"),
        (r"<think> \boxed{3} </think> So it is 3.", "3"),
        (r"so \boxed{3} </think> It is \boxed{4}.", "4"),  # the template's own <think> stands in the prompt
        (r"<think> a </think> \boxed{3} <think> \boxed{4}", "3"),
        (r"<think> \boxed{3} </think> \boxed{4", "3"),
    ],
)
def test_a_thought_that_has_not_ended_holds_no_answer(text: str, content: str | None) -> None:
    """A box that stood only inside an unfinished thought was rewarded: the model had not answered yet."""
    assert extract_boxed(text) == content
