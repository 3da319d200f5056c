"""Figures of merit as pure functions: plain lists in, fractions out; None where there is nothing to measure.

docs/metrics.md names the source of every formula.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence

import numpy

BINS = 15  # of equal width, as in Guo et al. 2017


def mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def pass_at_k(n: int, right: int, k: int) -> float:
    """Chance that k of n samples, drawn without putting back, hold at least one of the `right` ones; k <= n.

    The unbiased estimator of Chen et al. 2021 (arXiv 2107.03374), equation 1.
    """
    return 1 - math.comb(n - right, k) / math.comb(n, k)


def binary(gold: Sequence[bool], said: Sequence[bool | None]) -> dict[str, float | None]:
    """What a judge's verdicts are worth. said: True for Yes, False for No, None for an unreadable verdict, which is
    wrong whatever the gold."""
    scores = {"accuracy": mean([g == s for g, s in zip(gold, said, strict=True)])}
    recalls = {}
    for name, yes in (("yes", True), ("no", False)):
        hits = sum(g == s == yes for g, s in zip(gold, said))
        predicted, actual = list(said).count(yes), list(gold).count(yes)
        recalls[name] = hits / actual if actual else None
        scores[f"precision_{name}"] = hits / predicted if predicted else None
        scores[f"recall_{name}"] = recalls[name]
        scores[f"f1_{name}"] = 2 * hits / (predicted + actual) if predicted + actual else None
    scores["balanced_accuracy"] = None if None in recalls.values() else sum(recalls.values()) / 2
    scores["yes_rate"] = mean([s is True for s in said])
    return scores


def reliability(probabilities: Sequence[float], outcomes: Sequence[bool], bins: int = BINS) -> list[dict]:
    """The non-empty of `bins` bins of equal width, closed on the right: {"low", "high", "count", "probability" (their
    mean), "frequency" (share of true outcomes)}."""
    edges = [i / bins for i in range(bins + 1)]
    members: list[list[tuple[float, bool]]] = [[] for _ in range(bins)]
    for p, outcome in zip(probabilities, outcomes, strict=True):
        members[bisect_left(edges, p, 1, bins) - 1].append((p, outcome))
    return [
        {"low": edges[i], "high": edges[i + 1], "count": len(inside), "probability": mean([p for p, _ in inside]),
         "frequency": mean([outcome for _, outcome in inside])}
        for i, inside in enumerate(members) if inside
    ]


def ece(bins: list[dict]) -> float | None:
    """Expected calibration error of `reliability`'s bins: mean gap between probability and frequency, by count."""
    total = sum(b["count"] for b in bins)
    gaps = [b["count"] * abs(b["probability"] - b["frequency"]) for b in bins]
    return sum(gaps) / total if total else None


def brier(probabilities: Sequence[float], outcomes: Sequence[bool]) -> float | None:
    """Mean squared distance of the probability from what came out (1 or 0)."""
    return mean([(p - outcome) ** 2 for p, outcome in zip(probabilities, outcomes, strict=True)])


def auroc(scores: Sequence[float], outcomes: Sequence[bool]) -> float | None:
    """Chance that a true outcome has a higher score than a false one, a tie counting half; from the ranks (Mann and
    Whitney). None where all outcomes are the same."""
    order = sorted(range(len(scores)), key=scores.__getitem__)
    ranks, start = [0.0] * len(scores), 0
    while start < len(order):
        end = start
        while end < len(order) and scores[order[end]] == scores[order[start]]:
            end += 1
        for i in order[start:end]:
            ranks[i] = (start + 1 + end) / 2  # the mean rank of equals
        start = end
    positive = [rank for rank, outcome in zip(ranks, outcomes, strict=True) if outcome]
    pairs = len(positive) * (len(scores) - len(positive))
    return (sum(positive) - len(positive) * (len(positive) + 1) / 2) / pairs if pairs else None


Tally = Sequence[tuple[float, int]]  # per problem: the sum of its marks, and how many they are


def rate(tally: Tally) -> float | None:
    """Sum of all marks over their number."""
    count = sum(n for _, n in tally)
    return sum(s for s, _ in tally) / count if count else None


def bootstrap(first: Tally, second: Tally | None = None, resamples: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """95 % interval of rate(first), or of rate(first) - rate(second), by the percentiles of the bootstrap.

    Problems are drawn with putting back, both tallies at the same problems: what makes a problem hard for both then
    cancels out (Efron and Tibshirani 1993, sections 10 and 13). Draws without any mark are left out; NaN if all are.
    """
    generator = numpy.random.default_rng(seed)
    tallies = [numpy.asarray(tally, dtype=float) for tally in (first, second) if tally is not None]
    n, values = len(tallies[0]), []
    for start in range(0, resamples, 500):  # some at a time, for memory
        drawn = generator.integers(0, n, (min(500, resamples - start), n))
        with numpy.errstate(invalid="ignore"):  # 0 / 0 where no problem of a draw has a mark
            rates = [sums / counts for sums, counts in (tally[drawn].sum(1).T for tally in tallies)]
        values.append(rates[0] - rates[1] if len(rates) == 2 else rates[0])
    low, high = numpy.nanpercentile(numpy.concatenate(values), [2.5, 97.5])
    return float(low), float(high)


def interpolate(x: float, xs: Sequence[float], ys: Sequence[float]) -> float | None:
    """The value at x of the line through points of rising xs; the first y left of them, None right of them.

    For budgets: mixing two neighbouring points at random spends and scores, on average, exactly what the line says.
    """
    if x > xs[-1]:
        return None
    return float(numpy.interp(x, xs, ys))
