"""Packed rows: their log-probs, loss and gradient are those of one ordinary forward pass per response."""

from dataclasses import replace

import pytest
import torch
from conftest import EOS, PAD, ROWS, add_lora
from torch.testing import assert_close
from transformers import AutoConfig, AutoModelForCausalLM

from spark_lib.config import ConfigError
from spark_lib.loss import Row, joint_loss, micro_batches, rows_of_demonstrations
from spark_lib.model import packing
from spark_lib.model.packing import pack, response_logprobs

TEMPERATURE = 0.7
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


@pytest.mark.parametrize("name", CLASSES)
def test_logits_in_chunks_give_the_same(tiny, name, monkeypatch):
    """Guards the path that real vocabularies take: logits made again in the backward pass, a few tokens at a time."""
    model = add_lora(tiny(name)).double()
    expected_loss = accumulated(model, ROWS, 10_000)
    expected = gradients(model)
    monkeypatch.setattr(packing, "LOGIT_CHUNK", 3)
    assert_close(accumulated(model, ROWS, 10_000), expected_loss, atol=1e-7, rtol=1e-6)
    assert_same_gradients(gradients(model), expected)


def test_demonstrations_follow_their_likelihood(model):
    """Guards judge_loss=sft: the gradient is that of weight x token-mean negative log-likelihood, without any KL."""
    pairs = [([10, 11], [20, 21, EOS]), ([12], [22, 23, 24, 25, EOS]), ([10, 11], [26, EOS])]
    rows = rows_of_demonstrations([(*pair, None) for pair in pairs], weight=0.3)
    accumulated(model, rows, 12)
    found = gradients(model)
    likelihoods = torch.cat([plain_logprobs(model, prompt, target) for prompt, target in pairs])
    (-0.3 * likelihoods.mean()).backward()
    assert_same_gradients(found, gradients(model))


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
