"""Figures of merit against scikit-learn, SciPy and plain enumeration."""

import itertools
import random

import numpy
import pytest
from scipy import stats
from sklearn import metrics as reference
from sklearn.calibration import calibration_curve

from spark_lib.evaluation import metrics


@pytest.mark.parametrize("n", [1, 2, 5, 6])
def test_pass_at_k_is_the_share_of_all_draws(n):
    """Guards the estimator: 1 - (1 - c/n)^k, which draws with putting back, is biased low (HumanEval, equation 1)."""
    for right, k in itertools.product(range(n + 1), range(1, n + 1)):
        draws = list(itertools.combinations([True] * right + [False] * (n - right), k))
        assert metrics.pass_at_k(n, right, k) == pytest.approx(sum(map(any, draws)) / len(draws))


def test_pass_at_k_is_unbiased():
    """Guards the word: its mean over samples of n is the true chance that one of k independent samples is right."""
    p, n, k = 0.3, 7, 4
    estimate = sum(stats.binom.pmf(c, n, p) * metrics.pass_at_k(n, c, k) for c in range(n + 1))
    assert estimate == pytest.approx(1 - (1 - p) ** k)


@pytest.mark.parametrize("seed", range(5))
def test_binary_agrees_with_scikit_learn(seed):
    """Guards precision, recall and F1 of both classes, with unreadable verdicts as a class that is never the gold."""
    rng = random.Random(seed)
    gold = [rng.random() < 0.7 for _ in range(60)]
    said = [rng.choice([g, g, True, False, None]) for g in gold]
    found = metrics.binary(gold, said)
    y, z = [str(g) for g in gold], [str(s) for s in said]
    precision, recall, f1, _ = reference.precision_recall_fscore_support(y, z, labels=["True", "False"])
    for i, name in enumerate(("yes", "no")):
        assert found[f"precision_{name}"] == pytest.approx(precision[i])
        assert found[f"recall_{name}"] == pytest.approx(recall[i])
        assert found[f"f1_{name}"] == pytest.approx(f1[i])
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(y, z))
    assert found["balanced_accuracy"] == pytest.approx(recall.mean())
    assert found["yes_rate"] == z.count("True") / 60


def test_binary_without_a_class():
    """Guards a judge that always says Yes, and answers that are all right: no figure is made up."""
    always = metrics.binary([True, False, True], [True] * 3)
    assert always["balanced_accuracy"] == 0.5 and always["precision_no"] is None and always["f1_no"] == 0
    all_right = metrics.binary([True, True], [True, None])
    assert all_right["recall_yes"] == 0.5 and all_right["recall_no"] is None and all_right["f1_no"] is None
    assert all_right["balanced_accuracy"] is None
    assert metrics.binary([], [])["accuracy"] is None


def made_up(seed: int, n: int = 300) -> tuple[list[float], list[bool]]:
    """Probabilities, many of them equal and some at the ends, and outcomes that follow them loosely."""
    rng = random.Random(seed)
    probabilities = [rng.choice([0.0, 1.0, round(rng.random(), 1), rng.random()]) for _ in range(n)]
    return probabilities, [rng.random() < 0.2 + 0.6 * p for p in probabilities]


@pytest.mark.parametrize("seed", range(3))
def test_calibration_agrees_with_scikit_learn(seed):
    """Guards Brier, AUROC (with ties) and the bins, from which the ECE is a weighted mean."""
    p, y = made_up(seed)
    assert metrics.brier(p, y) == pytest.approx(reference.brier_score_loss(y, p))
    assert metrics.auroc(p, y) == pytest.approx(reference.roc_auc_score(y, p))
    bins = metrics.reliability(p, y)
    frequency, probability = calibration_curve(y, p, n_bins=15, strategy="uniform")
    assert [b["frequency"] for b in bins] == pytest.approx(frequency)
    assert [b["probability"] for b in bins] == pytest.approx(probability)
    counts = numpy.histogram([q - 1e-12 for q in p], bins=15, range=(-1e-12, 1))[0]
    assert [b["count"] for b in bins] == [count for count in counts if count]
    assert all(b["low"] < b["high"] and (b["low"] <= b["probability"] <= b["high"]) for b in bins)
    assert metrics.ece(bins) == pytest.approx(sum(counts[counts > 0] / len(p) * abs(frequency - probability)))


def test_calibration_by_hand():
    """Guards the ends of the scale: 0 and 1 belong to the first and the last bin."""
    bins = metrics.reliability([0.0, 1.0, 1.0, 0.5], [False, True, False, True])
    assert [(round(b["low"] * 15), b["count"], b["probability"], b["frequency"]) for b in bins] == [
        (0, 1, 0.0, 0.0), (7, 1, 0.5, 1.0), (14, 2, 1.0, 0.5),
    ]
    assert metrics.ece(bins) == pytest.approx((0 + 0.5 + 2 * 0.5) / 4)
    assert metrics.ece([]) is metrics.brier([], []) is metrics.auroc([], []) is None
    assert metrics.auroc([0.3, 0.4], [True, True]) is None


def test_rate():
    assert metrics.rate([(2, 4), (0, 0), (1.5, 2)]) == pytest.approx(3.5 / 6)
    assert metrics.rate([(0, 0)]) is None


def test_bootstrap_agrees_with_scipy():
    """Guards the interval of one accuracy and of a paired difference against SciPy's percentile bootstrap."""
    rng = numpy.random.default_rng(1)
    first = (rng.random(150) < 0.7).astype(float)
    second = numpy.where(rng.random(150) < 0.8, first, rng.random(150) < 0.4)
    tallies = [[(mark, 1) for mark in marks] for marks in (first, second)]
    settings = {"method": "percentile", "n_resamples": 10_000, "rng": 2}
    expected = stats.bootstrap((first,), numpy.mean, **settings).confidence_interval
    assert metrics.bootstrap(tallies[0]) == pytest.approx(expected, abs=0.01)
    expected = stats.bootstrap((first - second,), numpy.mean, **settings).confidence_interval
    assert metrics.bootstrap(*tallies) == pytest.approx(expected, abs=0.01)


def test_bootstrap_is_paired_and_by_problem():
    """Guards the point of it. The same marks differ by exactly 0. Marks of one problem go together: 100 equal marks on
    each of 4 problems are worth 4, and problems count by their marks."""
    rng = random.Random(0)
    marks = [(float(rng.random() < 0.5), 1) for _ in range(50)]
    assert metrics.bootstrap(marks, marks) == (0.0, 0.0)
    low, high = metrics.bootstrap([(100, 100), (0, 100), (100, 100), (0, 100)])
    assert (low, high) == (0.0, 1.0)
    assert metrics.bootstrap([(1, 1), (30, 90)])[0] == pytest.approx(1 / 3)
    assert metrics.bootstrap(marks) == metrics.bootstrap(marks)  # the same at every look
    low, high = metrics.bootstrap([(1, 1), (0, 0), (0, 1)])  # some draws have no mark at all
    assert (low, high) == (0.0, 1.0)


def test_interpolate():
    """Guards the budgets: between two numbers of samples on the line, and never beyond what was measured."""
    assert metrics.interpolate(15, [10, 20, 40], [0.5, 0.7, 0.8]) == pytest.approx(0.6)
    assert metrics.interpolate(40, [10, 20, 40], [0.5, 0.7, 0.8]) == 0.8
    assert metrics.interpolate(5, [10, 20], [0.5, 0.7]) == 0.5
    assert metrics.interpolate(41, [10, 20, 40], [0.5, 0.7, 0.8]) is None
