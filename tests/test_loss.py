"""The loss, against straightforward references: NumPy and sums by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import ROWS
from torch.testing import assert_close

from spark_lib.config import Config, Weights
from spark_lib.loss import (
    Row,
    group_advantages,
    joint_loss,
    micro_batches,
    rows_of_demonstrations,
    rows_of_groups,
    token_weights,
    verdict_scales,
)
from spark_lib.model.packing import pack

# --- advantages and weights -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["right or wrong", "fractional"])
def test_advantages_against_numpy(kind):
    """Guards PAPER step 3: population (not sample) deviation, within each group, positive for the better response."""
    rng = np.random.default_rng(0)
    rewards = rng.integers(0, 2, (20, 8)).astype(float) if kind == "right or wrong" else rng.random((20, 8))
    rewards[0] = [1, 0, 0, 0, 0, 0, 0, 0]
    mean = rewards.mean(1, keepdims=True)
    expected = (rewards - mean) / np.sqrt(((rewards - mean) ** 2).mean(1, keepdims=True) + 1e-6)
    advantages = group_advantages(torch.tensor(rewards))
    assert_close(advantages, torch.tensor(expected), atol=1e-12, rtol=1e-12)
    assert advantages[0, 0] > 0 > advantages[0, 1]
    # By hand: mean 1/8, deviation sqrt(7)/8, so (7/8) / (sqrt(7)/8) = sqrt(7); the sample deviation would give 2.47.
    assert advantages[0, 0].item() == pytest.approx(math.sqrt(7), abs=1e-4)


def test_dr_grpo_does_not_divide_by_the_deviation():
    """Guards Dr. GRPO, whose point is that easy and hard questions are not blown up by a small deviation."""
    assert group_advantages(torch.tensor([[1.0, 0, 0, 0]]), scale=False).tolist() == [[0.75, -0.25, -0.25, -0.25]]


def test_token_weights_by_formula():
    """Guards the three ways to average; per-sequence means favour short answers, so it must be a choice."""
    lengths = [1, 4, 5]
    assert token_weights(lengths, "grpo", 10) == pytest.approx([1 / 3, 1 / 12, 1 / 15])
    assert token_weights(lengths, "dapo", 10) == pytest.approx([1 / 10] * 3)
    assert token_weights(lengths, "dr_grpo", 10) == pytest.approx([1 / 30] * 3)


@pytest.fixture
def graded(rollout, arithmetic_problem):
    """graded(kind, rewards, lengths) -> a verified group."""

    def build(kind: str, rewards: list[float], lengths: list[int]):
        problem = arithmetic_problem(kind=kind)
        return [rollout(problem=problem, reward=r, response_ids=[9] * k) for r, k in zip(rewards, lengths)]

    return build


@pytest.mark.parametrize("loss", ["grpo", "dapo", "dr_grpo"])
def test_groups_without_variance_are_dropped_but_counted(graded, loss):
    """Guards the divisor: if it counted the kept groups only, few useful groups would mean a large step."""
    groups = [graded("solve", [1, 1], [2, 3]), graded("solve", [1, 0], [4, 5]), graded("solve", [0, 0], [6, 7])]
    rows = rows_of_groups(groups, Config(loss=loss, max_new_tokens=10))
    assert [row.responses for row in rows] == [[[9] * 4, [9] * 5]]
    assert rows[0].weights == pytest.approx(token_weights([2, 3, 4, 5, 6, 7], loss, 10)[2:4])
    size = 0.5 if loss == "dr_grpo" else 1.0
    assert rows[0].advantages == pytest.approx([size, -size], abs=1e-5)


def test_groups_that_teach_nothing_leave_no_rows(graded):
    """Guards the step in which every group is all right or all wrong: no rows, no error."""
    assert rows_of_groups([graded("solve", [1, 1], [2, 3])], Config()) == []
    assert rows_of_groups([], Config()) == []


def test_fractional_rewards_give_fractional_advantages(graded):
    """Guards partial rewards against rounding: all of these are below one half, and yet the third is the best."""
    (row,) = rows_of_groups([graded("solve", [0.1, 0.1, 0.4, 0.2], [1] * 4)], Config())
    assert row.advantages == pytest.approx([-0.816, -0.816, 1.633, 0.0], abs=1e-3)


def test_kinds_are_weighted_and_a_weight_of_zero_drops_them(graded):
    """Guards the ablations: weights.<kind> scales that kind alone, and weights.solve=0 is the reward-only baseline."""
    kinds = ("solve", "pointwise", "pairwise", "reflect")
    groups = [graded(kind, [1, 0], [1, 1]) for kind in kinds]
    rows = rows_of_groups(groups, Config(weights=Weights(solve=0.0, pointwise=2.0, pairwise=3.0, reflect=0.5)))
    assert [row.weights for row in rows] == [pytest.approx([w / 8] * 2) for w in (2.0, 3.0, 0.5)]


@pytest.fixture
def judged(arithmetic_problem, rollout):
    """judged("pointwise", "No", 3) -> three groups of a right and a wrong verdict where "No" is right."""

    def build(kind: str, answer: str, count: int) -> list[list]:
        problem = replace(arithmetic_problem(kind=kind), answer=answer)
        return [[rollout(problem=problem, reward=r, response_ids=[9]) for r in (1, 0)] for _ in range(count)]

    return build


@pytest.mark.parametrize(("counts", "scales"), [
    # 1 / sqrt(n): 0.5774 and 1, whose mean over the four problems is 0.6830
    ({("pointwise", "No"): 3, ("pointwise", "Yes"): 1},
     {("pointwise", "No"): 0.8453, ("pointwise", "Yes"): 1.4641}),
    # 1/2 and 1/3, mean over the 13 problems 5/13; and A as often as B
    ({("pointwise", "Yes"): 4, ("pointwise", "No"): 9, ("pairwise", "A"): 2, ("pairwise", "B"): 2},
     {("pointwise", "Yes"): 1.3, ("pointwise", "No"): 13 / 15, ("pairwise", "A"): 1.0, ("pairwise", "B"): 1.0}),
    ({("pairwise", "B"): 5, ("solve", "102"): 2, ("reflect", "102"): 1}, {("pairwise", "B"): 1.0}),
    ({}, {}),
])
def test_verdict_scales_by_hand(judged, counts, scales):
    """RL Tango: each verdict weighs by the root of how often it is right, and judging as a whole what it did."""
    groups = [group for (kind, answer), count in counts.items() for group in judged(kind, answer, count)]
    found = verdict_scales(groups)
    assert found == pytest.approx(scales, abs=1e-4)
    for kind in {kind for kind, _ in scales}:
        number = {answer: count for (of, answer), count in counts.items() if of == kind}
        assert sum(n * found[kind, answer] for answer, n in number.items()) == pytest.approx(sum(number.values()))


@pytest.mark.parametrize(("balanced", "expected"), [(True, [0.8453, 0.8453, 1.4641]), (False, [1.0, 1.0, 1.0])])
def test_verdicts_are_balanced_where_that_is_wished(judged, balanced, expected):
    """Through the rows that are learned from: the rarer verdict weighs more, on top of the weight of its kind, solving
    what it did; a group that teaches nothing is counted all the same."""
    groups = [*judged("pointwise", "No", 3), *judged("pointwise", "Yes", 1), *judged("solve", "102", 1)]
    for r in groups[0]:
        r.reward = 1.0
    config = Config(balance_verdicts=balanced, loss="dapo", weights=Weights(solve=1.0, pointwise=2.0))
    *judging, solving = rows_of_groups(groups, config)
    assert [row.weights for row in judging] == [pytest.approx([2 * scale / 10] * 2, abs=1e-5) for scale in expected]
    assert solving.weights == pytest.approx([0.1, 0.1])


def test_no_demonstrations_leave_no_rows():
    """Guards the step without a right response: nothing to imitate is no division by zero."""
    assert rows_of_demonstrations([], 0.3) == []


# --- micro-batches --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_tokens", [1, 9, 12, 20, 45, 10_000])
def test_micro_batches_keep_every_response_within_the_budget(max_tokens):
    """Guards memory, and against responses that are lost, doubled or given another's advantage when rows are split."""

    def responses(rows: list[Row]) -> list[tuple]:
        return sorted(
            (tuple(row.prompt), tuple(response), advantage, weight, row.beta)
            for row in rows
            for response, advantage, weight in zip(row.responses, row.advantages, row.weights, strict=True)
        )

    batches = micro_batches(ROWS, max_tokens)
    assert responses([row for batch in batches for row in batch]) == responses(ROWS)
    for batch in batches:
        alone = len(batch) == len(batch[0].responses) == 1  # no smaller batch is possible
        assert alone or pack(batch).input_ids.numel() <= max_tokens
    if max_tokens == 10_000:
        assert len(batches) == 1


# --- the objective, by hand -----------------------------------------------------------------------------------


def one_token_rows(advantage: float, beta: float = 0.0, weight: float = 1.0):
    return pack([Row([10], [[20]], [advantage], [weight], beta)])


@pytest.mark.parametrize(
    "advantage, ratio, loss, slope, clipped",
    [  # loss = -min(ratio * A, clip(ratio) * A) at clip 0.2; slope is its derivative by the log-prob
        (1.0, 1.0, -1.0, -1.0, 0),
        (1.0, 1.1, -1.1, -1.1, 0),
        (1.0, 1.5, -1.2, 0.0, 1),  # already likelier: no further push
        (1.0, 0.5, -0.5, -0.5, 0),  # still too unlikely: full push
        (-1.0, 1.5, 1.5, 1.5, 0),
        (-1.0, 0.5, 0.8, 0.0, 1),
        (-2.0, 0.9, 1.8, 1.8, 0),
        (2.0, 3.0, -2.4, 0.0, 1),
    ],
)
def test_clipped_ratio_by_hand(advantage, ratio, loss, slope, clipped):
    """Guards the signs and the minimum: a maximum, or a clip on one side only, is right for half of the cases."""
    logprobs = torch.tensor([[-1.0]], requires_grad=True)
    found, metrics = joint_loss(logprobs, logprobs.detach() - math.log(ratio), None, one_token_rows(advantage), 0.2)
    found.backward()
    assert found.item() == pytest.approx(loss, abs=1e-6)
    assert logprobs.grad.item() == pytest.approx(slope, abs=1e-6)
    measured = {name: metrics[name] for name in ("tokens", "clipped", "kl", "nll")}
    assert measured == {"tokens": 1, "clipped": clipped, "kl": 0.0, "nll": 1.0}  # -log-prob of the one token


@pytest.mark.parametrize("difference", [-1.0, -0.1, 0.0, 0.1, 1.0])  # log-probs, reference minus policy
def test_k3_by_hand(difference):
    """Guards the KL estimator exp(d) - d - 1 and its gradient 1 - exp(d): with -d it estimates another divergence."""
    logprobs = torch.tensor([[-2.0]], requires_grad=True)
    batch = one_token_rows(advantage=0.0, beta=0.1, weight=3.0)
    loss, metrics = joint_loss(logprobs, logprobs.detach(), logprobs.detach() + difference, batch, 0.2)
    loss.backward()
    kl = math.exp(difference) - difference - 1
    assert loss.item() == pytest.approx(3.0 * 0.1 * kl, abs=1e-6)
    assert logprobs.grad.item() == pytest.approx(3.0 * 0.1 * (1 - math.exp(difference)), abs=1e-6)
    assert metrics["kl"] == pytest.approx(kl, abs=1e-6)


def test_beta_zero_leaves_no_kl_term():
    """Guards beta=0, where train.py passes no reference: with or without one the loss is the same."""
    batch = one_token_rows(advantage=1.0, beta=0.0)
    logprobs = torch.tensor([[-2.0]])
    with_reference, without = (joint_loss(logprobs, logprobs, ref, batch, 0.2)[0] for ref in (logprobs + 5.0, None))
    assert with_reference == without == -1.0


def test_loss_ignores_what_stands_in_padding():
    """Guards the sums and metrics: log-probs where there is no token (whatever a kernel leaves there) count nothing."""
    batch = pack(ROWS)
    logprobs = torch.randn(batch.valid.shape, generator=torch.Generator().manual_seed(0))
    old, reference = logprobs - 0.1, logprobs + 0.2
    loss, metrics = joint_loss(logprobs, old, reference, batch, 0.2)
    valid = batch.valid
    filled = [torch.where(valid, x, filler) for x, filler in ((logprobs, 3.0), (old, 1.0), (reference, 2.0))]
    assert joint_loss(*filled, batch, 0.2) == (loss, metrics)
    assert metrics["tokens"] == 26
