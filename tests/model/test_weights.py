"""Weights: quantised, adapted or all of them; what is sampled with, and what the policy starts from."""

import weakref
from pathlib import Path

import pytest
import torch
from policies import ROWS, gradients, greedy, logits, policy
from torch.testing import assert_close

from spark_lib.config import Config
from spark_lib.model.checkpoints import load_trained
from spark_lib.model.load import load_base, load_model
from spark_lib.model.packing import pack, response_logprobs
from spark_lib.model.weights import (
    dense_weight,
    frozen_start,
    is_quantised,
    learning,
    lora_layers,
    merged,
    starting_model,
    trainable,
)


def dequantised(model, checkpoint: Path):
    """A dense policy with the same adapter, on the weights that the quantised base stands for."""
    dense, _ = policy(checkpoint)
    for layer, plain in zip(lora_layers(model), lora_layers(dense), strict=True):
        plain.get_base_layer().weight.data = dense_weight(layer.get_base_layer(), torch.float32)
    return dense


# --- quantisation ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_only_the_linear_layers_are_quantised(checkpoint, quantization):
    """Guards memory: peft's prepare_model_for_kbit_training makes embeddings and head fp32, at a 151k vocabulary
    gigabytes. And precision: an adapter in bf16 loses Adam's small steps."""
    model, _ = load_model(Config(model=str(checkpoint), quantization=quantization))
    base = model.get_base_model()
    dtypes = {name: p.dtype for name, p in model.named_parameters()}
    model_16, _ = load_base(str(checkpoint), quantization=quantization, dtype=torch.bfloat16)
    assert model_16.model.embed_tokens.weight.dtype == model_16.lm_head.weight.dtype == torch.bfloat16
    assert base.lm_head.weight is base.model.embed_tokens.weight and type(base.lm_head) is torch.nn.Linear
    adapted = [layer.get_base_layer() for layer in lora_layers(model)]
    assert len(adapted) == 2 * 7 and all(map(is_quantised, adapted))
    assert {p.requires_grad for name, p in model.named_parameters() if "lora_" not in name} == {False}
    assert {dtype for name, dtype in dtypes.items() if "lora_" in name} == {torch.float32}


@pytest.mark.parametrize("dense_sampling", [True, False])
def test_sampling_leaves_the_quantised_weights_and_their_gradients_alone(checkpoint, monkeypatch, dense_sampling):
    """On a CPU with AVX512-BF16, bitsandbytes 0.50 packs NF4 weights anew in the first forward pass in eval mode. After
    that gradients miss the base layers and dequantising returns garbage. Such a CPU is pretended here."""
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: True)
    model, tokenizer = policy(checkpoint, quantization="nf4")
    expected = gradients(dequantised(model, checkpoint))
    before = [layer.get_base_layer().weight.data.clone() for layer in lora_layers(model)]
    texts = []
    for _ in range(2):
        with merged(model, dense_sampling):
            texts.append(greedy(model, tokenizer))
        with torch.no_grad(), starting_model(model):
            logits(model)
        found = gradients(model)
        for name, grad in expected.items():
            assert (found[name] - grad).norm() <= 1e-4 * grad.norm(), name
    assert texts[0] == texts[1]
    for layer, weight in zip(lora_layers(model), before):
        assert torch.equal(layer.get_base_layer().weight.data, weight)


def test_int8_gradients_are_those_of_the_dequantised_weights(checkpoint):
    """int8 rounds activations too, so only to a few per cent."""
    model, tokenizer = policy(checkpoint, quantization="int8")
    expected = gradients(dequantised(model, checkpoint))
    for _ in range(2):
        with merged(model, dense=False):
            greedy(model, tokenizer)
        found = gradients(model)
        for name, grad in expected.items():
            assert (found[name] - grad).norm() <= 0.1 * grad.norm(), name


@pytest.mark.parametrize("quantization", ["none", "nf4", "int8"])
def test_what_is_sampled_with_is_the_policy_and_the_base_does_not_drift(checkpoint, quantization):
    """peft's merge on a 4-bit layer quantises anew: the base would drift with every step. Here the adapted weights are
    separate, and after any number of steps the policy is bit for bit what it was."""
    model, _ = policy(checkpoint, quantization=quantization)
    before = logits(model)
    for _ in range(3):
        with merged(model):
            assert not any(is_quantised(layer.get_base_layer()) for layer in lora_layers(model))
            sampled_with = logits(model)
    assert torch.equal(logits(model), before)
    error = (sampled_with - before).norm() / before.norm()
    assert error < (0.05 if quantization == "int8" else 1e-5)
    with starting_model(model) as start:
        assert not torch.allclose(logits(start), before, atol=1e-2)
    with pytest.raises(RuntimeError), merged(model):  # put back even if sampling fails
        raise RuntimeError
    assert torch.equal(logits(model), before)


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_a_quantised_model_without_an_adapter_samples_as_it_is(checkpoint, quantization):
    """evaluate.py quantization=nf4: packed weights are no numbers that a cast could make dense."""
    model, tokenizer = load_trained(str(checkpoint), quantization=quantization)
    expected = logits(model)
    with merged(model):
        assert torch.equal(logits(model), expected)
        greedy(model, tokenizer)
    assert torch.equal(logits(model), expected)


def test_the_dense_copy_is_gone_after_sampling(checkpoint):
    """Guards memory while learning: nothing may hold on to the dense weights."""
    model, _ = policy(checkpoint, quantization="nf4")
    with merged(model):
        dense = [weakref.ref(layer.get_base_layer()) for layer in lora_layers(model)]
    assert len(dense) == 14 and not any(reference() for reference in dense)


# --- the adapter, or all weights ------------------------------------------------------------------------------


def test_activation_checkpointing_changes_nothing_but_memory(checkpoint, monkeypatch):
    """The base stays in eval mode, where transformers ignores the setting: layers must drop their activations all the
    same, with the same gradients, and the cache must work while sampling (trl #3683)."""
    model, tokenizer = policy(checkpoint, activation_checkpointing=True)
    plain, _ = policy(checkpoint)
    calls = []
    for layer in model.get_base_model().model.layers:
        layer.mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    with learning(model):
        assert not any(layer.self_attn.training for layer in model.get_base_model().model.layers)  # no dropout inside
        found = gradients(model)
    assert len(calls) == 2 * 2  # each layer forward twice
    for name, grad in gradients(plain).items():
        assert_close(found[name], grad)
    assert not any(module.training for module in model.modules())
    assert greedy(model, tokenizer) == greedy(plain, tokenizer)


def test_without_an_adapter_the_start_is_a_frozen_copy(checkpoint):
    """Guards the KL term of full fine-tuning: a reference that learns along makes it 0 for ever."""
    config = Config(model=str(checkpoint), lora=None)
    model, _ = load_model(config)
    frozen, before = frozen_start(model, config), logits(model)
    with torch.no_grad():
        trainable(model)[0].add_(0.1)
    with starting_model(model, frozen) as start:
        assert torch.equal(logits(start), before) and not trainable(start)
    assert not torch.equal(logits(model), before)
    assert frozen_start(model, Config(lora=None, beta=0.0)) is None
    assert frozen_start(model, Config()) is None
    config = Config(lora=None, beta=0.0)
    config.recycle.from_start = True
    assert frozen_start(model, config) is not None


def test_full_fine_tuning_keeps_fp32_weights_and_samples_in_the_compute_dtype(checkpoint, monkeypatch):
    """On a GPU the weights that learn are fp32 and everything is computed in bf16; here with bf16 on the CPU."""
    monkeypatch.setattr("spark_lib.model.weights.compute_dtype", lambda device: torch.bfloat16)
    config = Config(model=str(checkpoint), lora=None)
    model, tokenizer = load_model(config)
    assert model.dtype == torch.float32 and frozen_start(model, config).dtype == torch.bfloat16
    before = [p.detach().clone() for p in trainable(model)]
    with merged(model):
        assert model.dtype == torch.bfloat16
        greedy(model, tokenizer)
    assert all(torch.equal(p, kept) for p, kept in zip(trainable(model), before))


def test_packed_rows_under_autocast(checkpoint, monkeypatch):
    """fp32 weights, computed with in bf16 (lora: null on a GPU): but for rounding the log-probs and gradients of
    fp32, logits in chunks included. The mask has the kernel's type, else it would be cast for every layer and kept."""
    monkeypatch.setattr("spark_lib.model.packing.LOGIT_CHUNK", 4)
    model, _ = load_model(Config(model=str(checkpoint), lora=None))

    def learned(dtype: torch.dtype) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        batch = pack(ROWS)
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            logprobs = response_logprobs(model, batch, 1.0)
        (logprobs * batch.weights).sum().backward()
        found = {name: p.grad.clone() for name, p in model.named_parameters()}
        model.zero_grad()
        assert {mask.dtype for mask in batch.masks[None]} == {dtype} and logprobs.dtype == torch.float32
        return logprobs.detach(), found

    (exact, expected), (rounded, found) = learned(torch.float32), learned(torch.bfloat16)
    assert 0 < (rounded - exact).norm() < 0.02 * exact.norm()
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= 0.1 * gradient.norm(), name


def test_the_rows_of_a_mask_lie_a_multiple_of_8_apart(checkpoint):
    """PyTorch's memory-efficient kernel copies any other mask for every layer and keeps the copies."""
    batch = pack(ROWS)
    response_logprobs(load_base(str(checkpoint))[0], batch, 1.0)
    for mask, width in zip(batch.masks[None], (3, 7), strict=True):
        assert mask.shape[-1] == width and mask.stride() == (8 * mask.shape[2], 8 * mask.shape[2], 8, 1)
