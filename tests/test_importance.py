"""The importance weights of a sampler with other numerics: by hand, and that they take a planted bias out again."""

import math

import pytest
import torch
from torch.testing import assert_close

from spark_lib.config import Config, load_config
from spark_lib.loss import Row, importance_weights, joint_loss, micro_batches, rows_of_demonstrations, rows_of_groups
from spark_lib.model.memory import halves
from spark_lib.model.packing import pack, response_logprobs
from spark_lib.problem import Problem
from spark_lib.rollout import sample

TEMPERATURE = 0.7


def test_weights_by_hand():
    """Guards the direction (trained over sampled, not the reverse), the cap on one side only, and tokens that nobody
    sampled."""
    trained = torch.tensor([0.5, 0.2, 0.9, 0.3, 0.1], dtype=torch.float64).log()
    sampled = torch.tensor([0.5, 0.4, 0.3, 0.15, math.nan], dtype=torch.float64).log()
    expected = torch.tensor([1.0, 0.5, 2.0, 2.0, 1.0], dtype=torch.float64)  # 0.9 / 0.3 = 3 is capped
    assert_close(importance_weights(trained, sampled, 2.0), expected, atol=1e-15, rtol=0)
    assert importance_weights(trained, sampled, math.inf)[2].item() == pytest.approx(3.0)


def test_the_weight_is_exactly_1_where_the_log_probs_agree():
    """Guards runs without a mismatch: not one digit of them may change, whatever the log-prob."""
    logprobs = -torch.rand(1000, generator=torch.Generator().manual_seed(0)) * 30
    assert (importance_weights(logprobs, logprobs.clone(), 1.0) == 1).all()


def two_tokens(sampled: list[float]):
    """The batch that says: tokens 20 and 21 were drawn with these probabilities q, and earned 1 and 0.5.

    Their weights are q itself, so that the loss is its expected value over what the sampler draws, without noise.
    """
    logs = [[math.log(q)] for q in sampled]
    return pack([Row([10], [[20], [21]], [1.0, 0.5], sampled, 0.0, sampled=logs)])


@pytest.mark.parametrize("gap", [0.0, 0.3, -0.5], ids=["none", "small", "larger"])
def test_a_planted_mismatch_biases_the_gradient_and_the_weights_take_the_bias_out(gap):
    """Guards what the correction is for. The policy is p = softmax([x, 0]), the sampler q = softmax([x + gap, 0]), and
    the gradient of the expected reward by x is p0 * p1 * (1 - 0.5), exactly."""
    x = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    exact = (x.sigmoid() * (1 - x.sigmoid()) * 0.5).item()
    q = torch.sigmoid(x + gap).item()
    batch = two_tokens([q, 1 - q])

    def gradient(cap: float | None) -> float:
        logprobs = torch.log_softmax(torch.stack([x, torch.zeros_like(x)]), 0)[:, None]
        loss, _ = joint_loss(logprobs, logprobs.detach(), None, batch, 0.2, cap)
        return -torch.autograd.grad(loss, x)[0].item()

    biased, corrected = gradient(None), gradient(2.0)
    assert corrected == pytest.approx(exact, rel=1e-6)
    assert biased == pytest.approx(exact, rel=1e-6) if gap == 0 else abs(biased - exact) > 0.05 * exact


def test_the_kl_term_and_demonstrations_have_no_weight():
    """Guards what is weighted: the policy-gradient term of sampled tokens, nothing else."""
    logprobs = torch.tensor([[-1.0]], requires_grad=True)
    half = [[-1.0 + math.log(2)]]  # the sampler found the token twice as likely: weight 1/2
    for beta, sampled, expected in ((0.0, half, -0.5), (0.0, None, -1.0), (0.3, half, -0.5 - 0.3 * (math.e - 1))):
        batch = pack([Row([10], [[20]], [1.0], [1.0], beta, sampled=sampled)])
        loss, metrics = joint_loss(logprobs, logprobs.detach(), logprobs.detach() + 1.0, batch, 0.2, 2.0)
        (slope,) = torch.autograd.grad(loss, logprobs)
        assert slope.item() == pytest.approx(expected, abs=1e-6)
        assert metrics["sampled"] == (sampled is not None)
    demonstration = rows_of_demonstrations([([10, 11], [20, 21], None)], 0.3)
    assert pack(demonstration).sampled.isnan().all()


def test_mismatch_and_capped_by_hand():
    """Guards the two figures: means over the sampled tokens, padding and demonstrations left out."""
    rows = [Row([10], [[20, 21, 22], [23]], [1.0, -1.0], [1.0] * 2, 0.0, sampled=[[-1.0, -2.0, -3.0], [-1.5]]),
            Row([10], [[24, 25]], [1.0], [1.0], 0.0)]
    old = torch.tensor([[-1.5, -1.0, -3.0], [-0.5, 0.0, 0.0], [-9.0, -9.0, 0.0]])
    _, metrics = joint_loss(old, old, None, pack(rows), 0.2, cap=2.0)
    assert metrics["sampled"] == 4 and metrics["tokens"] == 6
    assert metrics["mismatch"] == pytest.approx(0.5 + 1.0 + 0.0 + 1.0)
    assert metrics["capped"] == 2  # e^1 twice
    assert joint_loss(old, old, None, pack(rows), 0.2)[1]["capped"] == 0


def test_our_own_sampler_agrees_with_the_forward_pass_at_every_temperature(tiny, tokenizer):
    """Guards the temperature: log-probs of the sampler and of the loss are both those of softmax(logits / T)."""
    model = tiny("llama")
    generator = torch.Generator().manual_seed(0)
    groups = sample(model, tokenizer, [Problem("Why?", ""), Problem("1 + 2 = ?", "3")], 3, 12, TEMPERATURE, generator)
    for group in groups:
        for i, r in enumerate(group):
            r.reward = float(i == 0)
    batch = pack(rows_of_groups(groups, Config()))
    assert not batch.sampled[batch.valid].isnan().any() and batch.sampled[~batch.valid].isnan().all()
    with torch.no_grad():
        for temperature, agrees in ((TEMPERATURE, True), (1.0, False)):
            logprobs = response_logprobs(model, batch, temperature)
            metrics = joint_loss(logprobs, logprobs, None, batch, 0.2)[1]
            assert (metrics["mismatch"] / metrics["sampled"] < 1e-4) == agrees


@pytest.mark.parametrize("max_tokens", [1, 9, 10_000])
def test_responses_keep_their_own_log_probs(max_tokens):
    """Guards rows that are split, by the token budget or where memory runs out: a response with another one's
    log-probs would be weighted at random."""
    rows = [Row([10, 11], [[i] * (i - 19) for i in range(20, 25)], [1.0] * 5, [1.0] * 5, 0.0,
                sampled=[[-float(i)] * (i - 19) for i in range(20, 25)]),
            Row([12], [[30], [31, 31]], [1.0] * 2, [1.0] * 2, 0.0)]
    parts = micro_batches(rows, max_tokens)
    if max_tokens > 9:
        parts += [part for part, _ in halves([(rows, None), ([rows[0]], None)])]
    for part in parts:
        batch = pack(part)
        known = batch.valid & (batch.target < 30)
        assert torch.equal(batch.sampled[known], -batch.target[known].float())
        assert batch.sampled[~known].isnan().all()


def test_the_cap_is_2_where_an_engine_samples_and_nothing_else_is_said(tmp_path):
    """Guards the default: an engine without the correction would train on another distribution than it samples."""
    file = tmp_path / "engine.yaml"
    file.write_text("vllm: http://127.0.0.1:8000\n")
    engine = "vllm=http://127.0.0.1:8000"
    assert load_config([]).importance_cap is None
    assert load_config([engine]).importance_cap == load_config([str(file)]).importance_cap == 2.0
    assert load_config([engine, "importance_cap=1.5"]).importance_cap == 1.5
    assert load_config([str(file), "importance_cap=null"]).importance_cap is None
    assert load_config([str(file), "vllm=null"]).importance_cap is None
    file.write_text("importance_cap: 3.0\n")
    assert load_config([str(file), engine]).importance_cap == 3.0
    (tmp_path / "config.yaml").write_text("vllm: null\nimportance_cap: null\n")  # as a run writes it
    assert load_config([f"resume={tmp_path}"]).importance_cap is None
    assert load_config([f"resume={tmp_path}", engine]).importance_cap == 2.0
    (tmp_path / "config.yaml").write_text("vllm: http://127.0.0.1:8000\nimportance_cap: null\n")
    assert load_config([f"resume={tmp_path}"]).importance_cap is None
