"""What the verifier gets wrong of seeded pairs, by kind: the table of docs/verifier.md.

    python tests/perf/verifier_pairs.py [--count 100] [--seed 0] [--show]

Of each kind the number of right answers that were refused, and of wrong ones that were rewarded; `--show` lists them.
"""

import argparse
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS)]

from answers.pairs import failures  # noqa: E402
from answers.pairs_kinds import KINDS  # noqa: E402


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
