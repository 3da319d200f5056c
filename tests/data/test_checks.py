"""What is checked of a source's rows; a million of them cost seconds, as what is asked of the verifier is bounded."""

import random

from spark_lib.data import checks
from spark_lib.verify import same_answer


def test_plain_answers_match_themselves():
    """Guards the answers that the verifier is not asked about: whatever PLAIN lets through must be right for itself."""
    rng, alphabet = random.Random(0), "0123456789abcXYZé _.,:/+- "
    answers = {"".join(rng.choice(alphabet) for _ in range(rng.randint(1, 12))).strip() for _ in range(3000)}
    plain = [answer for answer in answers if checks.PLAIN.fullmatch(answer)]
    assert len(plain) > 2000
    assert [answer for answer in plain if not same_answer(answer, answer)] == []


def test_what_cannot_be_reached_is_found():
    bad = ["\\frac{1}{2", "}", "{", "\\boxed{", "$$", "."]
    assert checks.unreachable(["7", "1/2", "\\frac{1}{2}", "x^2", "no", *bad]) == set(bad)


def test_of_many_answers_a_sample_is_asked(monkeypatch):
    """Guards a million formulas: the verifier takes a part of a millisecond for each. Braces are looked at in all."""
    asked = []
    monkeypatch.setattr(checks, "same_answer", lambda a, b: bool(asked.append(a)) or True)
    answers = [f"x^{{{i}}}" for i in range(50_000)] + ["x^{7"] + [str(i) for i in range(50_000)]
    assert checks.unreachable(answers * 2) == {"x^{7"}
    assert checks.MOST_ASKED / 2 < len(asked) <= checks.MOST_ASKED
    places = sorted(answers.index(answer) for answer in asked[:200])
    assert max(b - a for a, b in zip(places, places[1:])) <= 5  # evenly spread, not the first ones


def test_repeated_answers_are_asked_about_once(monkeypatch):
    asked = []
    monkeypatch.setattr(checks, "same_answer", lambda a, b: bool(asked.append(a)) or True)
    checks.unreachable(["\\frac{1}{2}", "7", "\\pi"] * 1000)
    assert sorted(asked) == ["\\frac{1}{2}", "\\pi"]
