"""What a hostile or unlucky text must not do to the verifier: raise, hang, or change another text's verdict.

Each docstring tells the bug that its test guards against.
"""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import mpmath
import pytest
from answers.pairs import pairs

from spark_lib import verify as verifier
from spark_lib.answers import equivalence
from spark_lib.problem import Problem
from spark_lib.verify import same_answer, verify, verify_many

ROOT = Path(__file__).parents[2]
TOWER = "9^{9^{9^9}}"
SLOW = "+".join(rf"3^{{150000}}/7^{{9999{n}}}" for n in range(40))  # one of these in seconds: long division in C


def solve(reference: str) -> Problem:
    return Problem("", reference)


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


def test_slow_answers_are_killed_and_paid_for_once() -> None:
    """A number of this length is computed in one C call, which no signal handler and no exception ends."""
    same_answer("6(x+1)", "6x+6")
    for hostile in (SLOW, TOWER):
        with at_most(2):
            assert not verify(f"\\boxed{{{hostile}}}", solve("5"))
        with at_most(0.5):  # the same text is not paid for again
            assert not any(verify_many([f"\\boxed{{{hostile}}}"] * 64, [solve("5")] * 64))
    with at_most(0.5):  # the next answer gets a new worker, without a new start of mpmath
        assert same_answer("7(x+1)", "7x+7")


def test_batch_equals_one_by_one() -> None:
    """A time limit for a whole batch, or a worker that dies with a neighbour's answer, changes verdicts."""
    rows = [(pair.answer, pair.gold, pair.right) for pair in pairs(count=4, seed=7)]
    rows += [(f"{TOWER}+2", "5", False), (f"{SLOW}+2", "5", False), ("(y+1)^2", "y^2+2y+1", True)]
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
    """Each cost a new start of the library as well, which takes longer than the limit itself."""
    hostile = [f"\\boxed{{{SLOW}+{n}}}" for n in range(2 * equivalence.WORKERS)]
    same_answer("8(x+1)", "8x+8")
    with at_most(2 * equivalence.WORKERS):
        assert not any(verify_many(hostile, [solve("5")] * len(hostile)))


def test_a_slow_start_costs_no_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On a cold disk an import takes seconds; counted as answering, that made the first answer wrong."""
    slow = f"import time\nwhile time.process_time() < {2 * equivalence.CPU_SECONDS}: pass"
    start_with(monkeypatch, tmp_path, slow)
    assert same_answer(r"\sin^2 z + \cos^2 z", "1")


def start_with(monkeypatch: pytest.MonkeyPatch, folder: Path, code: str) -> None:
    """The next answer is the first for which the worker is asked, and its import of mpmath first runs `code`."""
    real = Path(mpmath.__file__)
    (folder / "mpmath").mkdir()
    rest = f"\n__path__ = [{str(real.parent)!r}]\nexec(compile(open({str(real)!r}).read(), __file__, 'exec'))\n"
    (folder / "mpmath" / "__init__.py").write_text(code + rest)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(equivalence, "WORKER", equivalence.Workers())


def test_works_off_the_main_thread() -> None:
    """Limits by signals raise in any other thread, and all rewards were 0 (verl #5635)."""
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
    """Without a worker every such answer would be wrong, and training would go on with rewards of 0."""
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
    code = "import sys, spark_lib.answers.worker; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


PIECES = r"""
    \frac \sqrt \text \boxed \left \right \begin{pmatrix} \end{pmatrix} \pm \pi \infty \cup \in \le \circ \% \$ \\
    \{ \} \mathrm \vec \overline \binom \log \sin \max \mod \pmod{7} \approx \cdot \ldots \angle { } ( ) [ ] | ! ^ _
    + - * / = < > , ; : . ' " & $ ~ # @ ? % 0 1 2 3 10 007 1.5 .5 1e3 1,234 999999 x y A B AB ab sin pi cm km kg m s
    h cents a.m. pm March and or not is if no yes B π √ ½ ² ₂ ° ′ − × ÷ ≤ ∞ ∅ 个 或 ， é ß İ ſ
""".split() + ["\0", "\u202e", "\ud800"]


def noise(rng: random.Random) -> str:
    """Pieces of answers in any order, and answers with a place changed."""
    if rng.random() < 0.5:
        return rng.choice(["", " "]).join(rng.choice(PIECES) for _ in range(rng.randrange(1, 25)))
    pair = rng.choice(SOUND)
    text = list(rng.choice([pair.answer, pair.gold]))
    for _ in range(rng.randrange(1, 5)):
        place = rng.randrange(len(text) + 1)
        text[place : place + rng.randrange(3)] = [rng.choice(PIECES)] * rng.randrange(3)
    return "".join(text)


@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_pieces_over_and_over_take_no_time(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """5个个个… was a quantity of a quantity of …, until Python's stack was full; A1A1A1…! tried 3^300 readings."""
    monkeypatch.setattr(equivalence.Workers, "equivalent", lambda *_: False)
    rng = random.Random(count)
    for _ in range(count):
        piece = rng.choice(["", " "]).join(rng.choices(PIECES, k=rng.randrange(1, 4)))
        text = (piece * 1000)[: rng.randrange(300, 990)] + rng.choice(["", "!", "}", "\\", " x"])
        with at_most(1):
            assert same_answer(text, rng.choice(["5", "x^2", "ABC", r"5\text{ cm}", "(1,2)", "H_2O"])) in (True, False)


SOUND = list(pairs(count=6, seed=11))


@pytest.mark.parametrize("count", [600, pytest.param(10_000, marks=pytest.mark.slow)])
def test_no_text_raises_hangs_or_changes_its_neighbours(count: int) -> None:
    """An exception ends a run that took hours, and a verdict that depends on its batch is noise in the reward."""
    rng = random.Random(0)
    golds = [pair.gold for pair in SOUND]
    tried = [(f"So \\boxed{{{noise(rng)}}}.", solve(rng.choice(golds))) for _ in range(count)]
    tried += [(noise(rng), solve(noise(rng))) for _ in range(count // 10)]
    texts, problems = map(list, zip(*tried, strict=True))
    with at_most(10 + count / 50):
        together = verify_many(texts, problems)
    assert all(verdict in (True, False) for verdict in together)
    verifier._same.cache_clear()
    assert verify_many(texts[::-1], problems[::-1])[::-1] == together
    alone = range(0, len(texts), 7)
    verifier._same.cache_clear()
    assert [verify(texts[i], problems[i]) for i in alone] == [together[i] for i in alone]


def test_thousands_of_plain_numbers_per_second() -> None:
    """A verifier that sends every number to a worker, or starts a process each, is slower than sampling."""
    problem = solve("1,234")
    texts = [f"We add and get \\boxed{{{number}}}." for number in range(2000)]
    started = time.process_time()  # of this process, as other programs may want the core too
    assert sum(verify_many(texts, [problem] * len(texts))) == 1
    assert time.process_time() - started < 1, "0.3 s at most"
