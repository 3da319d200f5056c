"""Seeded pairs for the verifier, by kind: a value in two spellings is right, one that differs in a place is wrong.

    python tests/pairs.py [--count 100] [--seed 0] [--show]

prints the table of docs/verifier.md: of each kind how many right answers were refused and how many wrong ones were
rewarded. `--show` lists those. The kinds are in pairs_kinds.py.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from pairs_kinds import KINDS  # noqa: E402

from spark_lib.verify import same_answer  # noqa: E402


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100, help="right and wrong pairs of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", action="store_true", help="list the pairs that come out wrong")
    args = parser.parse_args()
    failed = failures(args.count, args.seed)
    print("| kind | right | refused | wrong | rewarded |\n|---|---|---|---|---|")
    rows = [(kind, [p for p in failed if p.kind == kind]) for kind in KINDS] + [("all", failed)]
    for kind, found in rows:
        tried = args.count * (len(KINDS) if kind == "all" else 1)
        refused = sum(pair.right for pair in found)
        print(f"| {kind} | {tried} | {refused} | {tried} | {len(found) - refused} |")
    for pair in failed if args.show else ():
        print("refused " if pair.right else "REWARDED", repr(pair.answer), "for", repr(pair.gold))


if __name__ == "__main__":
    main()
