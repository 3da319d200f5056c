"""The verifier's rules, as a table of answers, and what a hostile or unlucky answer must not do to it.

Nothing here needs a model. Each docstring tells the bug that its test guards against.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from spark_lib.answers import equivalence
from spark_lib import verify as verifier
from spark_lib.problems import Problem
from spark_lib.verify import extract_boxed, same_answer, verify, verify_many

ROOT = Path(__file__).parents[1]
TOWER = "9^{9^{9^9}}"

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


@contextmanager
def at_most(seconds: float):
    """Fails if the block takes longer, stretched by how much longer this machine takes now than an idle one."""
    wall, cpu = time.monotonic(), time.process_time()
    while time.process_time() - cpu < 0.05:
        pass
    started = time.monotonic()
    stretch = (started - wall) / 0.05
    yield
    elapsed = time.monotonic() - started
    assert elapsed < seconds * max(1, stretch), f"{elapsed:.2f} s, on a machine {stretch:.1f} times slower than idle"


def solve(reference: str, **fields) -> Problem:
    return Problem("", reference, **fields)


@pytest.mark.parametrize("answer, reference, same", ROWS)
def test_table_of_answers(answer: str, reference: str, same: bool) -> None:
    """Each row was read wrongly by some verifier: anagrams, units in golds, tiny constants, lost signs, …"""
    assert same_answer(answer, reference) is same
    assert verify(f"so \\boxed{{{answer}}}.", solve(reference)) is same


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


MB = 10**6
HOSTILE = {
    "no text": None,
    "bytes": b"\\boxed{3}",
    "open braces": "\\boxed{" + "{" * MB,
    "open boxes": "\\boxed{" * (MB // 7),
    "nested boxes": "\\boxed{" * (MB // 8) + "3" + "}" * (MB // 8),
    "boxed without braces": "\\boxed" * (MB // 6),
    "boxed and spaces": "\\boxed" + " " * MB,
    "backslashes": "\\boxed{" + "\\" * MB,
    "closing braces": "\\boxed{3}" + "}" * MB + "\\boxed{",
    "digits": "\\boxed{" + "9" * MB + "}",
    "digits, short": "\\boxed{" + "9" * 999 + "}",
    "huge exponent": "\\boxed{1e999999999}",
    "huge power of ten": "\\boxed{10^{999999999}}",
    "texts": "\\boxed{1" + r" \text{a}" * 100 + "!}",
    "blank texts": "\\boxed{1" + r"\text{ }" * 120 + "!}",
    "words": "\\boxed{1" + " abcd" * 50 + "!}",
    "nested brackets": "\\boxed{" + "(" * 200 + "3" + ")" * 200 + "x}",
    "NULs": "\\boxed{\x003\x00}",
    "a lone surrogate": "\\boxed{\ud800}",
    "other scripts' digits": "\\boxed{٣}",
    "control characters": "\\boxed{3\x1b[2J\r\n\x08}",
    "code": "\\boxed{__import__('os').abort()}",
    "commands": r"\boxed{\input{/etc/passwd}\write18{id}}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_wrong_and_cheap(name: str) -> None:
    """Quadratic searches for braces, int() of a million digits, recursion, patterns that backtrack."""
    same_answer("2(x+1)", "2x+2")  # starts the worker, which is no text's fault
    with at_most(2):
        assert not verify(HOSTILE[name], solve("3.5"))


def test_long_answers_count_only_if_identical() -> None:
    """The length cap must not mark a long gold answer's own text wrong."""
    long = "x+" * 1000 + "1"
    assert verify(f"\\boxed{{{long}}}", solve(long))
    assert not verify(f"\\boxed{{{long}+1}}", solve(long))


def test_power_towers_are_killed_and_paid_for_once() -> None:
    """SymPy computes the tower in one C call, which no signal handler and no exception ends."""
    same_answer("6(x+1)", "6x+6")
    with at_most(2):
        assert not verify(f"\\boxed{{{TOWER}}}", solve("5"))
    with at_most(0.5):  # the same text is not paid for again
        assert not any(verify_many([f"\\boxed{{{TOWER}}}"] * 64, [solve("5")] * 64))
    with at_most(0.5):  # the next answer gets a new worker, without a new start of SymPy
        assert same_answer("7(x+1)", "7x+7")


def test_batch_equals_one_by_one() -> None:
    """A time limit for a whole batch, or a worker that dies with a neighbour's answer, changes verdicts."""
    rows = [*ROWS[::3], (f"{TOWER}+2", "5", False), ("(y+1)^2", "y^2+2y+1", True)]
    texts = [rf"\boxed{{{answer}}}" for answer, _, _ in rows]
    problems = [solve(reference) for _, reference, _ in rows]
    alone = [verify(text, problem) for text, problem in zip(texts, problems, strict=True)]
    verifier._same.cache_clear()
    assert verify_many(texts[::-1], problems[::-1]) == alone[::-1]
    assert alone == [same for _, _, same in rows]
    with pytest.raises(ValueError):
        verify_many(["", ""], [solve("3")])


def test_a_hostile_answer_does_not_hold_up_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """One after another, each cost its time limit while everyone else's answers waited."""
    usual = {f"{n}(x+1)" for n in range(60, 80)}
    left, all_answered = set(usual), threading.Event()

    def equivalent(reference: str, answer: str) -> bool:
        if answer not in usual:
            return not all_answered.wait(10)  # hangs for as long as any neighbour waits
        left.remove(answer)
        if not left:
            all_answered.set()
        return True

    monkeypatch.setattr(equivalence.WORKER, "equivalent", equivalent)
    texts = [f"\\boxed{{{answer}}}" for answer in [TOWER + "+3", *usual]]
    assert verify_many(texts, [solve("2x")] * len(texts)) == [False] + [True] * len(usual)


def test_hostile_answers_run_side_by_side() -> None:
    """Each cost a new start of SymPy as well, which takes longer than the limit itself."""
    hostile = [f"\\boxed{{{TOWER}+{n}}}" for n in range(2 * equivalence.WORKERS)]
    same_answer("8(x+1)", "8x+8")
    with at_most(2 * equivalence.WORKERS):
        assert not any(verify_many(hostile, [solve("5")] * len(hostile)))


def test_a_slow_start_costs_no_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On a cold disk SymPy takes seconds to import; counted as answering, that made the first wrong."""
    slow = f"import time\nwhile time.process_time() < {2 * equivalence.CPU_SECONDS}: pass"
    start_with(monkeypatch, tmp_path, slow)
    assert same_answer(r"\sin^2 z + \cos^2 z", "1")


def start_with(monkeypatch: pytest.MonkeyPatch, folder: Path, code: str) -> None:
    """The next answer is the first that math-verify is asked, and importing math-verify first runs `code`."""
    import math_verify

    (folder / "math_verify").mkdir()
    real = f"__path__ = [{os.path.dirname(math_verify.__file__)!r}]\n"
    (folder / "math_verify" / "__init__.py").write_text(real + code)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(equivalence, "WORKER", equivalence.Workers())


def test_works_off_the_main_thread() -> None:
    """math-verify's own limits raise in any other thread, and all rewards were 0 (verl #5635)."""
    pairs = [(f"{n}(x+1)", f"{n}x+{n + wrong}", not wrong) for n in range(20, 25) for wrong in (0, 1)]
    found = {}

    def ask(answer: str, reference: str) -> None:
        found[reference] = verify(f"\\boxed{{{answer}}}", solve(reference))

    threads = [threading.Thread(target=ask, args=pair[:2]) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {reference: same for _, reference, same in pairs}


def children(pid: int) -> list[int]:
    return list(map(int, subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True).stdout.split()))


@pytest.mark.parametrize("victim", ["a child between answers", "a child during an answer", "all"])
def test_a_killed_worker_is_replaced(victim: str, monkeypatch) -> None:
    """The system kills processes when memory is short. That is no verdict: the answer is asked again."""
    monkeypatch.setattr(equivalence, "WORKER", equivalence.Workers())  # none that another test left
    assert same_answer(f"30(x+{len(victim)})", f"30x+30*{len(victim)}")
    parent = equivalence.WORKER.processes[-1].pid
    victims = children(parent)
    assert victims
    if victim == "a child during an answer":
        for pid in victims:
            os.kill(pid, signal.SIGSTOP)  # so that it is surely killed before it answers
            threading.Timer(0.3, os.kill, (pid, signal.SIGKILL)).start()
    else:
        if victim == "all":
            os.kill(parent, signal.SIGKILL)
            equivalence.WORKER.processes[-1].wait()  # or it might fork another child yet
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
    assert same_answer(f"31(x+{len(victim)})", f"31x+31*{len(victim)}")
    assert (equivalence.WORKER.processes[-1].pid == parent) is (victim != "all"), "a child is replaced by its parent"


def test_an_interrupted_answer_leaves_no_reply_behind() -> None:
    """After Ctrl-C in a notebook the unread reply became the verdict of the next answer."""
    assert same_answer("40(x+1)", "40x+40")
    idle = equivalence.WORKER.idle.queue

    class Interrupted:
        def __init__(self, channel) -> None:
            self.write, self.flush = channel.write, channel.flush

        def readline(self) -> str:
            raise KeyboardInterrupt

    idle[-1] = Interrupted(idle[-1])
    with pytest.raises(KeyboardInterrupt):
        same_answer("41(x+1)", "41x+41")
    assert len(idle) == equivalence.WORKERS
    assert not same_answer("42(x+1)", "42x+41")


def test_a_worker_that_cannot_start_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without math-verify every answer would be wrong, and training would go on with rewards of 0."""
    start_with(monkeypatch, tmp_path, "raise SystemExit(1)")
    with pytest.raises(RuntimeError, match="did not start"):
        same_answer("50(x+1)", "50x+50")


def test_scripts_without_a_main_guard_forks_and_exits(tmp_path: Path) -> None:
    """Spawned pools run the script again; a forked child read its parent's replies; workers outlived both."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from spark_lib import verify\n"
        "pid = lambda: verify.equivalence.WORKER.processes[-1].pid\n"
        "print('started', verify.same_answer('2(x+1)', '2x+2'), pid(), flush=True)\n"
        "if not os.fork():\n"
        "    print('child', verify.same_answer('3(x+1)', '3x+3'), pid(), flush=True)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "print('parent', verify.same_answer('4(x+1)', '4x+4'), pid(), flush=True)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    lines = [line.split() for line in done.stdout.splitlines()]
    verdicts = [" ".join(line[:2]) for line in lines]
    assert verdicts == ["started True", "child True", "parent True"], done.stderr
    assert lines[0][2] == lines[2][2] != lines[1][2]
    deadline = time.monotonic() + 10
    while any(_runs(int(line[2])) for line in lines) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(_runs(int(line[2])) for line in lines)


def _runs(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout
    return bool(state.strip()) and not state.startswith("Z")


def test_the_worker_does_not_import_torch() -> None:
    """Each worker imported PyTorch through problems.py: two more seconds and hundreds of MB each."""
    code = "import sys, spark_lib.answers.equivalence; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_thousands_of_plain_numbers_per_second() -> None:
    """A verifier that sends every number through SymPy, or starts a process each, is slower than sampling."""
    problem = solve("1,234")
    texts = [f"We add and get \\boxed{{{number}}}." for number in range(2000)]
    started = time.process_time()  # of this process, as other programs may want the core too
    assert sum(verify_many(texts, [problem] * len(texts))) == 1
    assert time.process_time() - started < 1, "0.3 s at most"
