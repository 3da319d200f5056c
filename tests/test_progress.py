"""What the user sees while waiting: bars in a terminal, plain lines in a file."""

import io
import os
import pty
import re
import subprocess
import sys
import termios
from pathlib import Path

import pytest
import torch

from spark_lib import progress, report
from spark_lib.config import INVISIBLE
from spark_lib.problem import Problem
from spark_lib.rollout import sample

REPO = Path(__file__).parents[1]
SHORT = [sys.executable, str(REPO / "train.py"), "max_steps=1", "problems_per_step=4", "eval.limit=4", "eval.rounds=0"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch):
    """terminal() -> one in stderr's place. (A function, as pytest puts its own there when a test begins.)"""

    def put() -> Terminal:
        screen = Terminal()
        monkeypatch.setattr(sys, "stderr", screen)
        return screen

    return put


def environment() -> dict:
    return os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def test_a_run_into_a_file_writes_plain_lines(tmp_path):
    """Logs used to get every state of a bar, a line of thousands of characters with carriage returns in it, and a
    warning of a library that reads like an error."""
    done = subprocess.run(SHORT, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=300)
    assert done.returncode == 0
    log = done.stdout.decode()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", log) and max(map(len, log.splitlines())) < 250
    assert "Failed to load" not in log
    wanted = ("judge set: candidates, 16 responses\n", "before: answers, 4 responses\n", "before: verdicts, ",
              "before training, % right of 4", "Reading the log", "step   0  solve", "after: answers, 4 responses\n")
    places = [log.index(words) for words in wanted]
    assert places == sorted(places)


def test_a_run_in_a_terminal_draws_bars(tmp_path):
    """The first minute used to be silent: each evaluation now says what it is and how far."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    drawn = environment() | {"TQDM_MININTERVAL": "0"}  # else a fast machine is through before a bar is drawn again
    process = subprocess.Popen(SHORT, cwd=tmp_path, env=drawn, stdout=theirs, stderr=theirs)
    os.close(theirs)
    screen = b""
    while True:
        try:
            screen += os.read(ours, 65536)
        except OSError:  # how Linux says that the other side is closed
            break
    assert process.wait() == 0
    for what in ("judge set: candidates", "before: answers", "before: verdicts", "training", "after: answers"):
        assert re.search(rf"\r{what}: +\d+%\|".encode(), screen), what
    assert b"of 16 responses, " in screen and b" tokens" in screen
    assert b"before: answers, 4 responses" not in screen  # the plain line is for files


def test_what_is_counted_is_what_was_sampled(tiny, tokenizer):
    """A bar that ends at 90 %, or runs over, tells of an estimate that is wrong all the way."""
    counts = []
    problems = [Problem("1 + 1 = ?", "2"), Problem("a much longer question: 12 + 34 = ?", "46")]
    generator = torch.Generator().manual_seed(0)
    groups = sample(tiny("llama"), tokenizer, problems, 24, 40, 1.5, generator, 32, count=lambda *c: counts.append(c))
    lengths = [len(r.response_ids) for group in groups for r in group]
    assert min(lengths) < 40 and max(lengths) == 40  # some end, some are cut off
    tokens, ended, came = map(sum, zip(*counts))
    assert (tokens, ended) == (sum(lengths), len(lengths))
    assert came == pytest.approx(len(lengths))
    assert all(c[2] > 0 for c in counts)


def test_a_bar_shows_tokens_and_responses(terminal):
    screen = terminal()
    with progress.bar("before: answers", 4, "response") as bar:
        bar.count(4, 0, 1.0)
        bar.count(4, 2, 2.0)
        bar.refresh()
        assert "before: answers:  75%|" in screen.getvalue()
        assert "2 of 4 responses, 8 tokens" in screen.getvalue()
        bar.restart()  # memory ran out: all of it is sampled again
        bar.count(4, 1, 1.0)
        bar.refresh()
    assert "before: answers:  25%|" in screen.getvalue() and "1 of 4 responses, 4 tokens" in screen.getvalue()


def test_a_bar_that_is_not_needed_for_long_is_not_drawn(terminal):
    """Guards the bars of a step's sampling, which would flicker by in a small model."""
    screen = terminal()
    with progress.bar("sampling: solve", 4, "response", delay=60, announce=False) as bar:
        bar.count(4, 4, 4.0)
    assert screen.getvalue() == ""


@pytest.mark.parametrize("announce, rank, total, expected", [
    (True, "0", 1200, "warm-up, 1,200 steps\n"), (True, "0", 1, "warm-up, 1 step\n"),
    (False, "0", 12, ""), (True, "1", 12, ""), (True, "0", 0, ""),
])
def test_without_a_terminal_there_is_a_line_or_nothing(capsys, monkeypatch, announce, rank, total, expected):
    """Guards logs, also against a line from each of several processes."""
    monkeypatch.setenv("RANK", rank)
    with progress.bar("warm-up", total, "step", announce=announce) as bar:
        bar.update(total)
    written = capsys.readouterr()
    assert (written.out, written.err) == (expected, "")


def test_what_a_model_says_cannot_command_the_terminal():
    """A response is untrusted text: an escape sequence in it could clear the screen or rename the window, and a
    response without a space be one line of thousands of characters."""
    said = "clear\x1b[2J and \x9b1m \x07 \u202egnorw " + "9" * 1000 + "\n  indented\tand\u00a0kept"
    turns = [{"kind": "solve", "text": said, "right": False}]
    lines = report.transcript({"question": "?", "answer": "1", "turns": turns, "pictures": []})
    text = "\n".join(lines)
    assert not INVISIBLE.search(text) and "\N{REPLACEMENT CHARACTER}[2J" in text
    assert max(map(len, lines)) < 200 and text.count("9") == 1000
    assert "  indented" in text and "and\u00a0kept" in text
