"""The weights that learn, those that are compared with, and those that are sampled with.

Three sets are told apart. The policy is what is trained: a frozen base (dense, NF4 or int8) and a LoRA adapter in fp32
(QLoRA, arXiv 2305.14314), or with `lora: null` every weight. The reference model is the policy before training: the
adapter switched off, or without one a frozen copy. Sampling may use the adapter added into dense weights.
"""

import contextlib
import copy

import bitsandbytes as bnb
import torch
from peft.tuners.lora import LoraLayer
from peft.utils.integrations import dequantize_bnb_weight
from transformers.modeling_layers import GradientCheckpointingLayer

from spark_lib.config import Config


def base_of(model):
    """The model without its adapter's wrapper."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def compute_dtype(device: torch.device | str) -> torch.dtype:
    """bf16 where the hardware has it, else fp32: fp16 overflows in models that were trained in bf16."""
    device = torch.device(device)
    if device.type == "cpu" or device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float32
    return torch.bfloat16


def trainable(model) -> list[torch.nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def lora_layers(model) -> list[LoraLayer]:
    return [layer for layer in model.modules() if isinstance(layer, LoraLayer)]


@contextlib.contextmanager
def learning(model):
    """Within this block the adapter's dropout is on and layers may drop their activations to compute them again, if
    config.activation_checkpointing says so. Nothing else changes: the base stays as it samples."""
    dropouts = [layer.lora_dropout for layer in lora_layers(model)]
    checkpointed = [layer for layer in model.modules() if isinstance(layer, GradientCheckpointingLayer)]
    for dropout in dropouts:
        dropout.train()
    for layer in checkpointed:
        layer.training = True  # of this module alone: train() would switch on the dropout inside it
    try:
        yield
    finally:
        for dropout in dropouts:
            dropout.eval()
        for layer in checkpointed:
            layer.training = False


def frozen_start(model, config: Config):
    """A copy of the policy as it is now, in compute_dtype, where the starting model is needed later and there is no
    adapter to switch off: for the KL term, and for the paper's policy&reward baseline. Else None."""
    if config.lora or not (config.beta or config.recycle.from_start):
        return None
    device = next(model.parameters()).device
    return copy.deepcopy(model).to(compute_dtype(device)).requires_grad_(False)


@contextlib.contextmanager
def starting_model(model, frozen=None):
    """Yields the model before training: `frozen` of frozen_start, or the policy with its adapter off."""
    if frozen is not None:
        yield frozen
    else:
        with model.disable_adapter():
            yield model


def is_quantised(layer: torch.nn.Module) -> bool:
    return isinstance(getattr(layer, "weight", None), bnb.nn.Params4bit | bnb.nn.Int8Params)


@torch.no_grad()
def dense_weight(layer: torch.nn.Module, dtype: torch.dtype) -> torch.Tensor:
    """A new tensor: the layer's weight, dequantised and with the adapter's part added, summed in fp32."""
    adapted = isinstance(layer, LoraLayer)
    base = layer.get_base_layer() if adapted else layer
    weight = base.weight.data
    if is_quantised(base):
        weight = dequantize_bnb_weight(base.weight, state=getattr(base, "state", None))
    if adapted:
        weight = weight.float() + layer.get_delta_weight("default")
    return weight.to(dtype, copy=True)


def dense_layer(layer: LoraLayer, dtype: torch.dtype) -> torch.nn.Linear:
    """A plain layer that computes what the quantised layer and its adapter do."""
    base = layer.get_base_layer()
    plain = torch.nn.Linear(base.in_features, base.out_features, bias=False, device="meta")
    plain.weight, plain.bias = torch.nn.Parameter(dense_weight(layer, dtype), requires_grad=False), base.bias
    return plain


@contextlib.contextmanager
def merged(model, dense: bool = True):
    """Within this block the model samples with dense weights that hold the adapter, in compute_dtype.

    The policy's own weights are set aside and put back, not subtracted again: no rounding adds up over the steps. Of a
    quantised base a dense copy is made (peft's merge would quantise anew and drift with every step); with dense=False,
    or without an adapter, it samples as it is.
    """
    layers = lora_layers(model)
    quantised = any(map(is_quantised, model.modules()))
    if quantised and not (dense and layers):
        yield model
    elif quantised:
        bases = [layer.base_layer for layer in layers]
        for layer in layers:
            layer.base_layer = dense_layer(layer, model.dtype)
        try:
            with model.disable_adapter():
                yield model
        finally:
            for layer, base in zip(layers, bases):
                layer.base_layer = base
    else:
        parameters = [layer.get_base_layer().weight for layer in layers] or list(model.parameters())
        kept = [parameter.data for parameter in parameters]
        dtype = model.dtype if layers else compute_dtype(model.device)
        for parameter, layer in zip(parameters, layers or parameters):
            parameter.data = dense_weight(layer, dtype) if layers else parameter.data.to(dtype)
        try:
            with model.disable_adapter() if layers else contextlib.nullcontext():
                yield model
        finally:
            for parameter, data in zip(parameters, kept):
                parameter.data = data
