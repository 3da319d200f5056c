"""The loss, against straightforward references: NumPy, sums by hand, and one ordinary forward pass per response."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import add_lora
from torch.testing import assert_close
from transformers import AutoConfig, AutoModelForCausalLM

from spark_lib.config import Config, ConfigError, Weights
from spark_lib.loss import (
    Row,
    group_advantages,
    joint_loss,
    micro_batches,
    rows_of_demonstrations,
    rows_of_groups,
    token_weights,
)
from spark_lib.model import packing
from spark_lib.model.packing import pack, response_logprobs

TEMPERATURE = 0.7
PAD, EOS = 0, 4  # of the tiny models; also found in the middle of responses below
ROWS = [
    Row([10, 11, 12], [[20, 21, EOS], [22, EOS], [23, 24, 25, 26, 27, EOS]], [1.0, -2.0, 0.5], [0.1, 0.2, 0.3], 0.05),
    Row([13], [[EOS], [PAD, EOS, 28, PAD, 29]], [-1.0, 1.5], [0.4, 0.1], 0.05),
    Row([14, PAD, 15, EOS, 16, 17, 18], [[30, 30, 30], [31, 32, 33, 34, EOS], [35]], [0.7, -0.7, 2.0], [0.2] * 3, 0.05),
]
CLASSES = ["llama", "qwen2", "gpt2"]


@pytest.fixture(params=CLASSES)
def model(request, tiny):
    """A model with a LoRA adapter that changes it, in float64: no tolerance below is spent on rounding."""
    return add_lora(tiny(request.param)).double()


def plain_logprobs(model, prompt: list[int], response: list[int], temperature: float = TEMPERATURE) -> torch.Tensor:
    """(response tokens) from the model's ordinary causal forward pass over one text, and the full softmax."""
    logits = model(input_ids=torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
    return (logits / temperature).log_softmax(-1)[range(len(response)), response]


def plain_loss(model, rows: list[Row], clip: float = 0.2, old_shift: float = 0.0) -> torch.Tensor:
    """The step's loss by the formula in loss.py, one response and one token after the other."""
    total = torch.zeros((), dtype=torch.float64)
    for row in rows:
        for response, advantage, weight in zip(row.responses, row.advantages, row.weights):
            now = plain_logprobs(model, row.prompt, response)
            with torch.no_grad(), model.disable_adapter():
                reference = plain_logprobs(model, row.prompt, response)
            old = now.detach() + old_shift
            for logp, logp_old, logp_ref in zip(now, old, reference):
                ratio = (logp - logp_old).exp()
                gain = min(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
                kl = (logp_ref - logp).exp() - (logp_ref - logp) - 1
                total = total + weight * (-gain + row.beta * kl)
    return total


def accumulated(model, rows: list[Row], max_tokens: int, old_shift: float = 0.0) -> torch.Tensor:
    """The step's loss as train.py computes it: micro-batch by micro-batch, gradients added up."""
    total = 0.0
    for batch in (pack(part) for part in micro_batches(rows, max_tokens)):
        logprobs = response_logprobs(model, batch, TEMPERATURE)
        with torch.no_grad(), model.disable_adapter():
            reference = response_logprobs(model, batch, TEMPERATURE)
        loss, _ = joint_loss(logprobs, logprobs.detach() + old_shift, reference, batch, clip=0.2)
        loss.backward()
        total += loss.detach()
    return total


def gradients(model) -> dict[str, torch.Tensor]:
    """The gradients of the adapter, which are then forgotten."""
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}
    model.zero_grad()
    assert found and all(grad.norm() > 0 for grad in found.values())
    return found


def assert_same_gradients(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """To 1e-5 of each parameter's gradient."""
    assert found.keys() == expected.keys()
    for name, grad in expected.items():
        assert (found[name] - grad).norm() <= 1e-5 * grad.norm(), name


# --- advantages and weights ----------------------------------------------------------------------------------


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


# --- the packed row ------------------------------------------------------------------------------------------


def test_packed_logprobs_are_those_of_plain_forward_passes(model):
    """Guards mask and positions of a packed row, the temperature in the loss, and padding.

    Masks go by length: the rows hold <|pad|> and <|end|> inside prompts and responses, and the stop token counts.
    """
    batch = pack(ROWS)
    with torch.no_grad():
        found = response_logprobs(model, batch, TEMPERATURE)
        texts = [(row.prompt, response) for row in ROWS for response in row.responses]
        for (prompt, response), logprobs, valid in zip(texts, found, batch.valid, strict=True):
            assert valid.sum() == len(response)
            expected = plain_logprobs(model, prompt, response)
            assert_close(logprobs[: len(response)].double(), expected, atol=1e-5, rtol=1e-5)
            assert (logprobs[len(response) :] == 0).all()


@pytest.mark.parametrize("name", ["mistral", "gemma3", "gemma2", "granite"])
@torch.no_grad()
def test_packed_logprobs_of_models_with_windows_and_scaled_logits(tiny, name):
    """Guards models whose layers look back only so far, or whose logits are capped or scaled after the head."""
    model = tiny(name).double()
    responses = [list(range(20, 32)), list(range(30, 35))]
    rows = [Row(list(range(10, 10 + length)), responses, [1.0, -1.0], [1.0, 1.0], 0.0) for length in (3, 12)]
    batch = pack(rows)
    found = response_logprobs(model, batch, TEMPERATURE)[batch.valid]
    expected = torch.cat([plain_logprobs(model, row.prompt, response) for row in rows for response in row.responses])
    assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_other_forward_passes_are_what_they_were(model):
    """Guards sampling, which uses the same model: training installs its own attention, for packed rows alone."""
    ids, mask = torch.tensor([[PAD, PAD, 10, 11, 12], [10, 11, 12, 13, 14]]), torch.ones(2, 5, dtype=torch.long)
    mask[0, :2] = 0
    before = model(input_ids=ids, attention_mask=mask).logits
    response_logprobs(model, pack(ROWS), TEMPERATURE)
    assert torch.equal(model(input_ids=ids, attention_mask=mask).logits[mask.bool()], before[mask.bool()])


@torch.no_grad()
@pytest.mark.parametrize("name", ["Bloom", "Lfm2"])
def test_a_model_that_mixes_tokens_in_its_own_way_is_refused(name):
    """Guards against silence: alibi (Bloom) or convolutions (Lfm2) would let responses see each other."""
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 8}
    lfm2 = {"layer_types": ["conv"], "num_hidden_layers": 1} | heads
    size = {"Bloom": {"n_layer": 1, "n_head": 2}, "Lfm2": lfm2}[name]
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(name.lower(), vocab_size=64, hidden_size=8, **size))
    with pytest.raises(ConfigError, match=f"{name}ForCausalLM mixes tokens in a way of its own"):
        response_logprobs(model, pack(ROWS), TEMPERATURE)


@pytest.mark.parametrize("old_shift", [0.0, 0.3, -0.3], ids=["on-policy", "ratio 0.74", "ratio 1.35"])
def test_loss_and_gradient_of_packed_rows_are_those_of_plain_forward_passes(model, old_shift):
    """Guards the whole path from tokens to gradient, against a loss written without packing, padding or chunks."""
    loss = accumulated(model, ROWS, 10_000, old_shift)
    found = gradients(model)
    expected = plain_loss(model, ROWS, old_shift=old_shift)
    expected.backward()
    assert_close(loss.double(), expected.detach(), atol=1e-6, rtol=1e-5)
    assert_same_gradients(found, gradients(model))


@pytest.mark.parametrize("max_tokens", [1, 12, 20, 45])
def test_gradient_does_not_depend_on_the_micro_batch(model, max_tokens):
    """Guards against a mean within a micro-batch: memory settings would then change what is learned."""
    expected_loss = accumulated(model, ROWS, 10_000)
    expected = gradients(model)
    assert_close(accumulated(model, ROWS, max_tokens), expected_loss, atol=1e-6, rtol=1e-5)
    assert_same_gradients(gradients(model), expected)


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


def test_padding_never_changes_results(model):
    """Guards short rows beside long ones: a row's log-probs and gradient must be the same alone and in a batch."""
    short, long = ROWS[1], replace(ROWS[2], responses=[[36] * 40, [37], [38]])
    alone, together = pack([short]), pack([short, long])
    n, r = alone.valid.shape
    results = []
    for batch in (alone, together):
        logprobs = response_logprobs(model, batch, TEMPERATURE)[:n]
        logprobs.sum().backward()
        results.append((logprobs.detach()[:, :r], gradients(model)))
    assert_close(results[0][0], results[1][0], atol=1e-6, rtol=1e-5)
    assert_same_gradients(results[1][1], results[0][1])


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


@pytest.mark.parametrize("name", CLASSES)
def test_logits_in_chunks_give_the_same(tiny, name, monkeypatch):
    """Guards the path that real vocabularies take: logits made again in the backward pass, a few tokens at a time."""
    model = add_lora(tiny(name)).double()
    expected_loss = accumulated(model, ROWS, 10_000)
    expected = gradients(model)
    monkeypatch.setattr(packing, "LOGIT_CHUNK", 3)
    assert_close(accumulated(model, ROWS, 10_000), expected_loss, atol=1e-7, rtol=1e-6)
    assert_same_gradients(gradients(model), expected)


# --- the objective, by hand ----------------------------------------------------------------------------------


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
    assert metrics == {"tokens": 1, "clipped": clipped, "kl": 0.0, "nll": 1.0}  # -log-prob of the one token


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


def test_demonstrations_follow_their_likelihood(model):
    """Guards judge_loss=sft: the gradient is that of weight x token-mean negative log-likelihood, without any KL."""
    pairs = [([10, 11], [20, 21, EOS]), ([12], [22, 23, 24, 25, EOS]), ([10, 11], [26, EOS])]
    rows = rows_of_demonstrations([(*pair, None) for pair in pairs], weight=0.3)
    accumulated(model, rows, 12)
    found = gradients(model)
    likelihoods = torch.cat([plain_logprobs(model, prompt, target) for prompt, target in pairs])
    (-0.3 * likelihoods.mean()).backward()
    assert_same_gradients(found, gradients(model))


def test_no_demonstrations_leave_no_rows():
    """Guards the step without a right response: nothing to imitate is no division by zero."""
    assert rows_of_demonstrations([], 0.3) == []


def test_an_update_makes_the_better_response_likelier(model):
    """Guards the sign of everything together: after a step along -gradient, A > 0 is likelier and A < 0 less likely."""
    row = Row([10, 11, 12], [[20, 21, EOS], [22, EOS]], [1.0, -1.0], [1.0, 1.0], 0.0)
    with torch.no_grad():
        before = [plain_logprobs(model, row.prompt, response).sum() for response in row.responses]
    accumulated(model, [row], 10_000)
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-4).step()
    with torch.no_grad():
        after = [plain_logprobs(model, row.prompt, response).sum() for response in row.responses]
    assert after[0] > before[0] and after[1] < before[1]
