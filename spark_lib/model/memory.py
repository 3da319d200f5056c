"""GPU memory: what a run will need, before anything is loaded, and what to do when a step needs more than there is.

The plan asks the model itself. It is built from its configuration without weights (on PyTorch's meta device), its
forward pass is followed without computing, and the tensors that training would keep are counted. It is for the longest
texts that the settings allow: a question of QUESTION tokens, judge problems that show whole responses, and with each
prompt of a vision-language model an image of `max_pixels`, read by a frozen vision tower.
"""

import copy
import gc
import re
from dataclasses import dataclass, fields, replace

import torch
from peft.tuners.lora import LoraLayer
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    DynamicCache,
)
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from spark_lib import progress
from spark_lib.config import Config, ConfigError
from spark_lib.loss import Row
from spark_lib.model.kinds import refuse_kind
from spark_lib.model.lean import lean_lora
from spark_lib.model.load import add_adapter, shape_of
from spark_lib.model.optimizers import STATE_BYTES
from spark_lib.model.packing import hidden_states, logit_chunk, pack
from spark_lib.model.vision import PARTS, image_size, sees_images
from spark_lib.model.weights import compute_dtype

GIB = 2**30
QUESTION = 256  # tokens of a question, as planned
CUDA = 0.6 * GIB  # the driver's context, the libraries' kernels and workspaces
LOGIT_BYTES = {"sampling": 18, "learning": 18}  # per logit at the peak: bf16, then fp32 copies, forward and backward


# --- out of memory --------------------------------------------------------------------------------------------


def until_it_fits(attempt, halve):
    """attempt(); where the GPU runs out of memory, halve(), say what it returns, and try again.

    attempt must change nothing before it succeeds, or halve must undo it; halve raises ConfigError at its end.
    """
    while True:
        try:
            return attempt()
        except torch.OutOfMemoryError:
            pass  # not in here: the error holds the frames that hold the tensors
        progress.say(f"note: out of GPU memory; {halve()}, and the step is repeated (docs/models.md, \"Will it fit?\")")
        gc.collect()
        torch.cuda.empty_cache()


def halves(batches: list[tuple[list[Row], torch.Tensor | None]]) -> list[tuple[list[Row], torch.Tensor | None]]:
    """Micro-batches and what is known of their responses' tokens (N, R), each in two: by rows, or a single row by its
    responses. Raises ConfigError if nothing is left to part."""
    halved = []
    for rows, known in batches:
        middle, row = len(rows) // 2, rows[0]
        if middle:
            parts = [rows[:middle], rows[middle:]]
        elif middle := len(row.responses) // 2:
            parts = [[row.part(slice(middle))], [row.part(slice(middle, None))]]
        else:
            parts = [rows]
        start = 0
        for part in parts:
            lengths = [len(response) for row in part for response in row.responses]
            own = slice(start, start + len(lengths))
            halved.append((part, None if known is None else known[own, : max(lengths)]))
            start = own.stop
    if len(halved) == len(batches):
        raise ConfigError("the update of a single response does not fit the GPU's memory; lower max_new_tokens, or set "
                          "activation_checkpointing=true or quantization=nf4 (plan=true shows what each saves)")
    return halved


# --- the plan -------------------------------------------------------------------------------------------------


@dataclass
class Plan:
    """Bytes by part. `always` is there all the time, then either `sampling` or `learning` on top of it."""

    always: dict[str, float]
    sampling: dict[str, float]
    learning: dict[str, float]

    @property
    def peak(self) -> float:
        return sum(self.always.values()) + max(sum(self.sampling.values()), sum(self.learning.values()))

    def text(self, card: float | None) -> str:
        """A table in GiB, and whether it fits a card of `card` bytes."""
        lines = [f"{'planned GPU memory in GiB':62s}"]
        for title in ("always", "sampling", "learning"):
            parts = getattr(self, title)
            lines.append(f"  {title:60s} {sum(parts.values()) / GIB:6.2f}")
            lines += [f"    {name:58s} {size / GIB:6.2f}" for name, size in parts.items()]
        lines.append(f"  {'peak: always and the larger of the others':60s} {self.peak / GIB:6.2f}")
        if card is None:
            return "\n".join(lines + ["there is no GPU here; card=24GB, say, compares it with one"])
        spare = (card - self.peak) / GIB
        sampling = sum(self.sampling.values()) > sum(self.learning.values())
        advice = f"lower {'max_rows' if sampling else 'micro_batch_tokens'}, or see docs/models.md"
        verdict = f"fits, with {spare:.1f} to spare" if spare >= 0 else f"lacks {-spare:.1f}; {advice}"
        return "\n".join([*lines, f"a card of {card / GIB:.0f} GB: {verdict}"])


def card_bytes(config: Config) -> float | None:
    """The memory of the named card, or of the GPU that is here; cards sold with 24 GB have 24 GiB."""
    if config.card:
        return float(re.match(r"[\d.]+", config.card)[0]) * GIB
    return torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else None


def plan(config: Config) -> Plan:
    """Reads the model's configuration and nothing else. Raises ConfigError."""
    return plan_of(shape_of(config.model), config)


def plan_of(shape, config: Config, dtype: torch.dtype | None = None) -> Plan:
    """The plan for a transformers configuration, e.g. Qwen2Config(hidden_size=896, …).
    dtype: that is computed with; None: a GPU's."""
    refuse_kind(shape)
    shape = copy.deepcopy(shape)  # the model keeps it and writes its type and its attention there
    dtype = dtype or (compute_dtype("cuda") if torch.cuda.is_available() else torch.bfloat16)
    with torch.device("meta"):
        auto = AutoModelForImageTextToText if sees_images(shape) else AutoModelForCausalLM
        model = auto.from_config(shape, dtype=dtype)
        model = add_adapter(model.requires_grad_(False), config) if config.lora else model
    lean_lora(model)
    base = model.get_base_model() if config.lora else model
    learned = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    linear, packed = linear_sizes(base, config.quantization, dtype)

    always = {"CUDA's context and workspaces": CUDA}
    if config.lora:
        name = f"frozen weights, {frozen / 1e6:,.0f} M, quantization {config.quantization}"
        always[name] = packed + (frozen - linear) * dtype.itemsize
    elif config.beta or config.recycle.from_start:
        always["frozen copy of the starting model (none at beta 0)"] = learned * dtype.itemsize
    always[f"weights that learn, {learned / 1e6:,.1f} M in fp32"] = 4 * learned
    always[f"state of {config.optimizer}"] = STATE_BYTES[config.optimizer] * learned

    sampling = {"on the vLLM server": 0.0} if config.vllm else sampling_parts(base, config)
    if config.lora is None:
        sampling["weights in bf16"] = learned * dtype.itemsize
        model = base = base.float()  # computed with in dtype all the same, see kept_bytes
    elif config.quantization != "none" and config.dense_sampling and not config.vllm:
        sampling["dense copy of the quantised layers (dense_sampling)"] = linear * dtype.itemsize
    learning = {"gradients": 4 * learned} | learning_parts(model, base, config, dtype)
    if config.quantization != "none":
        head = base.get_output_embeddings()  # stays dense
        largest = max(m.weight.numel() for m in base.modules() if isinstance(m, torch.nn.Linear) and m is not head)
        learning["one layer, dequantised"] = largest * dtype.itemsize
    return Plan(always, sampling, learning)


def linear_sizes(base, quantization: str, dtype: torch.dtype) -> tuple[int, float]:
    """(parameters, bytes) of the layers that are quantised: all linear layers but the head and a vision tower's.

    NF4 in blocks of 64 with an 8-bit scale each and an fp32 scale per 256 of these; int8 with an fp32 scale per row.
    """
    head = base.get_output_embeddings()
    layers = [m.get_base_layer() if isinstance(m, LoraLayer) else m for name, m in base.named_modules()
              if ".lora_" not in name and ".base_layer" not in name and not set(name.split(".")) & set(PARTS)]
    layers = [m for m in layers if isinstance(m, torch.nn.Linear) and m is not head]
    count, rows = sum(m.weight.numel() for m in layers), sum(m.out_features for m in layers)
    sizes = {"none": count * dtype.itemsize, "nf4": count * (1 / 2 + 1 / 64 + 4 / 64 / 256), "int8": count + 4 * rows}
    return count, sizes[quantization]


def tower_bytes(base, patches: int) -> float:
    """What the vision tower needs while it reads: of each patch some eight vectors of its width and three of its MLP's,
    in the two bytes of bf16."""
    if not patches:
        return 0.0
    tower = base.config.vision_config
    return patches * 2 * (8 * tower.hidden_size + 3 * tower.intermediate_size)


def texts(config: Config, shape) -> list[tuple[int, int, int]]:
    """(prompt tokens, responses to a prompt, responses in all) at the longest: of solving, then of judging."""
    question = QUESTION + image_size(shape, config)[1]
    solve = (question, config.group_size, config.problems_per_step * config.group_size)
    if not config.recycle.kinds or config.judge_loss == "sft":
        return [solve]
    shown = 0 if config.recycle.view == "answer" else 2 if "pairwise" in config.recycle.kinds else 1
    judge = question + shown * config.max_new_tokens
    return [solve, (judge, config.judge_group_size, config.judge_problems * config.judge_group_size)]


def sampling_parts(base, config: Config) -> dict[str, float]:
    """The KV cache of a batch of responses, and the larger of reading their prompts and drawing a token for each."""
    dtype, vocabulary = base.dtype, base.get_output_embeddings().weight.shape[0]
    sizes = []
    patches, _ = image_size(base.config, config)
    for prompt, n, responses in texts(config, base.config):
        rows = min(responses, max(1, config.max_rows // n) * n)
        total = prompt + config.max_new_tokens
        with torch.no_grad():
            cache = DynamicCache(config=base.config)
            base.get_decoder()(input_ids=torch.zeros(1, total, dtype=torch.long, device="meta"),
                               past_key_values=cache, use_cache=True)
        row = sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers) * dtype.itemsize
        kept, _ = kept_bytes(base, longest_rows(prompt, 1, 1, 0), dtype)
        reading = kept / base.config.get_text_config().num_hidden_layers * (rows // n)
        drawing = rows * vocabulary * LOGIT_BYTES["sampling"]
        parts = f"prompts, {rows // n} x {prompt:,}, or logits, {rows} x {vocabulary:,}"
        looking = tower_bytes(base, patches * (rows // n))  # before the prompts are read
        sizes.append({f"KV cache, {rows} rows x {total:,} tokens": row * rows,
                      f"images, {parts}" if patches else parts: max(looking, reading, drawing)})
    return max(sizes, key=lambda parts: sum(parts.values()))


def longest_rows(prompt: int, response: int, n: int, max_tokens: int) -> list[Row]:
    """A micro-batch of texts of these lengths, as full as max_tokens allows; n: responses to a prompt, at most."""
    rows, left = [], max_tokens
    while left >= prompt + response or not rows:
        count = max(1, min(n, (left - prompt) // response))
        rows.append(Row([0] * prompt, [[0] * response] * count, [1.0] * count, [1.0] * count, 0.0))
        left -= len(rows[-1])
    return rows


def learning_parts(model, base, config: Config, dtype: torch.dtype) -> dict[str, float]:
    """What the largest micro-batch of the longest texts needs: its activations, its masks, a chunk of logits, and where
    the weights are fp32 (lora: null) the head's copy in the dtype that it is computed with."""
    head, text = base.get_output_embeddings().weight, base.config.get_text_config()
    vocabulary = head.shape[0]
    sizes = []
    for prompt, n, _ in texts(config, base.config):
        rows = longest_rows(prompt, config.max_new_tokens, n, config.micro_batch_tokens)
        tokens, responses = sum(map(len, rows)), sum(len(row.responses) for row in rows)
        kept, masks = kept_bytes(model, rows, dtype)
        if config.activation_checkpointing:  # one layer's, the input of every layer, and autocast's copies of weights
            kept = (kept / text.num_hidden_layers
                    + text.num_hidden_layers * tokens * text.hidden_size * base.dtype.itemsize
                    + linear_sizes(base, "none", dtype)[1] * (base.dtype != dtype))
        chunk = min(responses * config.max_new_tokens, logit_chunk(vocabulary))
        sizes.append({f"activations, {tokens:,} tokens, {responses} responses to {len(rows)} prompts": kept,
                      "masks": masks,
                      f"logits, {chunk:,} x {vocabulary:,}": chunk * vocabulary * LOGIT_BYTES["learning"]
                      + head.numel() * dtype.itemsize * (base.dtype != dtype)})
    return max(sizes, key=lambda parts: sum(parts.values()))


class KernelMemory(torch.autograd.Function):
    """Attention that computes nothing and keeps what the memory-efficient kernel keeps for its backward pass."""

    @staticmethod
    def forward(ctx, query, key, value):
        rows, heads, tokens, _ = query.shape
        out = query.new_empty(rows, tokens, heads, value.shape[-1]).transpose(1, 2)  # laid out as the kernels do
        ctx.save_for_backward(query, key, value, out, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return out


def kernel_memory(module, query, key, value, attention_mask, **kwargs):
    """KernelMemory as transformers calls it: with a mask, keys and values are repeated for every query head."""
    query, key = query.to(value.dtype), key.to(value.dtype)  # as autocast does
    groups = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(groups, 1) if groups > 1 else x for x in (key, value))
    return KernelMemory.apply(query, key, value).transpose(1, 2).contiguous(), None


class ExpertsMemory(torch.autograd.Function):
    """The product of every token with its expert's matrix, of which nothing is computed on the meta device."""

    @staticmethod
    def forward(ctx, tokens, weight):
        ctx.save_for_backward(tokens, weight)
        return tokens.new_empty(len(tokens), weight.shape[-1])


class OnMeta(TorchFunctionMode):
    """What the meta device does not do. Linear layers compute in `dtype`, on copies of fp32 weights, as under
    torch.autocast; experts (grouped_mm) compute in the type of their weights, which autocast leaves alone."""

    def __init__(self, dtype: torch.dtype):
        super().__init__()
        self.dtype = dtype

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch._grouped_mm:
            return ExpertsMemory.apply(*args[:2])
        if function is torch.nn.functional.linear:
            args = [x.to(self.dtype) if isinstance(x, torch.Tensor) else x for x in args]
        return function(*args, **(kwargs or {}))


def kept_bytes(model, rows: list[Row], dtype: torch.dtype) -> tuple[float, float]:
    """(bytes that the decoder's forward pass over the packed rows keeps for the backward pass, without its weights;
    bytes of its masks). The model is on the meta device, and so is all that is computed, in `dtype`."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    weights = {p.untyped_storage()._cdata for p in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = tensor  # held, so that its address is not used again
        return tensor

    batch = pack(rows)
    tensors = {f.name: getattr(batch, f.name) for f in fields(batch)}
    batch = replace(batch, masks={}, **{name: tensor.to("meta") for name, tensor in tensors.items()
                                        if isinstance(tensor, torch.Tensor)})
    decoder = base.get_decoder()
    usual = decoder.config._attn_implementation
    if usual == "sdpa":
        AttentionInterface.register("kernel_memory", kernel_memory)
        AttentionMaskInterface.register("kernel_memory", ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
        decoder.set_attn_implementation("kernel_memory")
    with torch.enable_grad(), saved_tensors_hooks(keep, lambda tensor: tensor), OnMeta(dtype):
        hidden_states(base, batch)
    decoder.set_attn_implementation(usual)
    masks = [mask for pair in batch.masks.values() for mask in pair]
    sizes = [sum(tensor.untyped_storage().nbytes() for tensor in part) for part in (kept.values(), masks)]
    return sizes[0], sizes[1]
