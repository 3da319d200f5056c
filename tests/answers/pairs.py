"""Seeded pairs for the verifier, by kind: a value in two spellings is right, one that differs in a place is wrong.

The kinds are in pairs_kinds.py; perf/verifier_pairs.py counts by kind what comes out wrong.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from answers.pairs_kinds import KINDS

from spark_lib.verify import same_answer


@dataclass(frozen=True)
class Pair:
    kind: str
    answer: str
    gold: str
    right: bool


def pairs(count: int, seed: int) -> Iterator[Pair]:
    """`count` right and `count` wrong pairs of each kind."""
    for kind, make in KINDS.items():
        rng = random.Random(f"{kind} {seed}")
        for _ in range(count):
            gold, right, wrong = make(rng)
            yield Pair(kind, right, gold, True)
            yield Pair(kind, wrong, gold, False)


def failures(count: int, seed: int) -> list[Pair]:
    """The pairs that the verifier gets wrong."""
    tried = list(pairs(count, seed))
    with ThreadPoolExecutor(4) as pool:
        verdicts = list(pool.map(lambda pair: same_answer(pair.answer, pair.gold), tried))
    return [pair for pair, verdict in zip(tried, verdicts, strict=True) if verdict != pair.right]
