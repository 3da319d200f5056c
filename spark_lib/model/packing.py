"""Packing: training rows as tensors, and the log-probs of their responses.

A group is one training row: the prompt once, and its responses, each seeing the prompt and itself. Rows are laid out
without padding; attention alone knows which token belongs to which text (packed_attention).
"""

import sys
from dataclasses import dataclass, field
from functools import partial

import torch
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from spark_lib.config import ConfigError
from spark_lib.loss import Row
from spark_lib.model.vision import Seen, packed_positions, token_embeddings
from spark_lib.model.weights import base_of

LOGIT_CHUNK = 2048  # response tokens whose logits (tokens x vocabulary) exist at a time, or fewer:
LOGIT_NUMBERS = 2**26  # so that there are no more than these; at the peak each costs some 18 bytes


@dataclass
class Batch:
    """Tensors of some rows: T tokens, P of the longest prompt; N responses, R tokens of the longest response.

    input_ids, positions: (1, T) all prompts, then all responses, without padding; a response's positions go on from
        its prompt's end. With M-RoPE and images positions are (3, 1, T).
    prompts, responses: (rows, P), (N, R) columns of their tokens, padded with 0 at the end.
    prompt_of, start: (N,) a response's row and its first position.
    back: (T,) where each token is among the prompts and then the responses, padded.
    source, target, valid: (N, R) column whose output predicts the token; that token; true for real tokens.
    advantages, weights, beta: (N, 1).
    sampled: (N, R) the sampler's log-prob of every token; nan where there is none.
    masks: filled by packed_attention, per sliding window.
    seen, places: of the prompts with images; the columns that all their images' vectors take.
    """

    input_ids: torch.Tensor
    positions: torch.Tensor
    prompts: torch.Tensor
    responses: torch.Tensor
    prompt_of: torch.Tensor
    start: torch.Tensor
    back: torch.Tensor
    source: torch.Tensor
    target: torch.Tensor
    valid: torch.Tensor
    advantages: torch.Tensor
    weights: torch.Tensor
    beta: torch.Tensor
    sampled: torch.Tensor
    masks: dict[int | None, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    places: torch.Tensor | None = None


def pack(rows: list[Row], device="cpu") -> Batch:
    """Lay out rows as tensors.

    A prompt `p q` with responses `a b` and `c` becomes

        column      0 1 2 3 4        prompts     0 1
        token       p q a b c        responses   2 3
        position    0 1 2 3 2                    4 ·        source of a, b, c: 1, 2, 1
    """
    flat = [(i, response) for i, row in enumerate(rows) for response in row.responses]
    ids = [token for row in rows for token in row.prompt] + [token for _, response in flat for token in response]
    prompts_seen = [(len(row.prompt), row.seen) for row in rows]
    positions = packed_positions(prompts_seen, [(i, len(response)) for i, response in flat])

    def tensor(values: list) -> torch.Tensor:
        return torch.tensor(values, device=device)

    def columns(lengths: list[int], first: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(columns, which of them are real) of texts of these lengths, the first of which begins at `first`."""
        length = tensor(lengths)
        begin = first + length.cumsum(0) - length
        offset = torch.arange(max(lengths), device=device)
        real = offset < length[:, None]
        return torch.where(real, begin[:, None] + offset, 0), real

    prompts, real = columns([len(row.prompt) for row in rows], 0)
    responses, valid = columns([len(response) for _, response in flat], sum(len(row.prompt) for row in rows))
    back = torch.cat([real.flatten().nonzero(), real.numel() + valid.flatten().nonzero()]).squeeze(1)
    prompt_of = tensor([i for i, _ in flat])
    last = (prompts.max(1).values[prompt_of])[:, None]  # the prompt's last token predicts the response's first
    sampled = torch.full(valid.shape, torch.nan)
    for i, known in enumerate(one for row in rows for one in row.sampled or [[]] * len(row.responses)):
        sampled[i, : len(known)] = torch.tensor(known)
    shown = [(prompts[i, 0].item(), row.seen) for i, row in enumerate(rows) if row.seen]
    return Batch(
        tensor([ids]), positions.to(device), prompts, responses, prompt_of, real.sum(1)[prompt_of], back,
        source=torch.cat([last, responses[:, :-1]], 1), target=tensor(ids)[responses], valid=valid,
        advantages=tensor([[a] for row in rows for a in row.advantages]),
        weights=tensor([[w] for row in rows for w in row.weights]),
        beta=tensor([[rows[i].beta] for i, _ in flat]), sampled=sampled.to(device),
        seen=[seen for _, seen in shown],
        places=torch.cat([first + seen.places for first, seen in shown]).to(device) if shown else None,
    )


def response_logprobs(model, batch: Batch, temperature: float) -> torch.Tensor:
    """(N, R) log-prob of every response token under softmax(logits / temperature); 0 where there is none.

    Logits are made only where a response token is predicted, and in chunks that are made again in the backward
    pass: at a 151k vocabulary they, not the weights, are what runs out of memory.
    """
    base = base_of(model)
    hidden = hidden_states(base, batch)
    hidden = hidden[0, batch.source[batch.valid]]  # (response tokens, width)
    target = batch.target[batch.valid]

    def logprobs(hidden: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        logits = to_logits(base, hidden).float() / temperature
        return logits.gather(1, target[:, None]).squeeze(1) - logits.logsumexp(1)

    chunk = logit_chunk(base.config.get_text_config().vocab_size)
    chunks = zip(hidden.split(chunk), target.split(chunk))
    if len(target) <= chunk:
        flat = logprobs(hidden, target)
    else:
        flat = torch.cat([checkpoint(logprobs, h, t, use_reentrant=False) for h, t in chunks])
    return flat.new_zeros(batch.valid.shape).masked_scatter(batch.valid, flat)


def hidden_states(base, batch: Batch) -> torch.Tensor:
    """(1, T, width) what the decoder makes of the packed tokens, before the head."""
    see_shared_prompts(base)
    # A mask of four dimensions is handed on to the layers as it is, so none is made. packed_attention has its own, made
    # of the batch that this one carries: some models (StableLM, Nemotron) hand nothing else on to their layers.
    carrier = torch.zeros(1, 1, 1, 1, device=batch.input_ids.device)
    carrier.packed = batch
    read = {"input_ids": batch.input_ids}
    if batch.seen:
        read = {"inputs_embeds": token_embeddings(base, batch.input_ids, batch.seen, batch.places)}
    return base.get_decoder()(
        **read, position_ids=batch.positions, attention_mask=carrier, use_cache=False
    ).last_hidden_state


def logit_chunk(vocabulary: int) -> int:
    return max(1, min(LOGIT_CHUNK, LOGIT_NUMBERS // vocabulary))


def to_logits(base, hidden: torch.Tensor) -> torch.Tensor:
    """What the model's own forward makes of hidden states: the head, then Cohere's and Granite's scale, Gemma's cap."""
    logits = base.get_output_embeddings()(hidden)
    logits = logits * getattr(base.config, "logit_scale", 1.0) / getattr(base.config, "logits_scaling", 1.0)
    cap = getattr(base.config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


# --- attention in which responses share their prompt ---------------------------------------------------------


def see_shared_prompts(base) -> None:
    """From now on the model's attention understands a mask that carries a Batch; else it is what it was.

    Raises ConfigError for a model whose attention cannot be told; see also fit.refuse_leaks.
    """
    config = base.config.get_text_config()
    own = config._attn_implementation
    if own.startswith("packed_"):
        return
    AttentionInterface.register(f"packed_{own}", partial(packed_attention, own))
    AttentionMaskInterface.register(f"packed_{own}", ALL_MASK_ATTENTION_FUNCTIONS[own])
    base.get_decoder().set_attn_implementation(f"packed_{own}")
    other = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if other or config._attn_implementation != f"packed_{own}":
        raise ConfigError(
            f"model: {type(base).__name__} mixes tokens in a way of its own; training needs a model whose layers "
            "all go through transformers' AttentionInterface (Llama, Qwen, Mistral, Gemma and most others). "
            "evaluate.py takes this one with parts=[samples]"
        )


def packed_attention(
    own: str, module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: torch.Tensor | None,
    sliding_window: int | None = None, **kwargs,
) -> tuple[torch.Tensor, None]:
    """One layer's attention, in the form that transformers asks for. query, key, value: (1, heads, T, width).

    Everything else in the model works on single tokens, so it needs no padding and reads a prompt once. Here, and only
    here, texts matter: prompts are a padded batch, and so are responses, each behind a copy of its prompt's keys and
    values. The cost grows linearly with the number of responses; a mask over the whole row would make it quadratic.
    """
    eager = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    attend = ALL_ATTENTION_FUNCTIONS.get_interface(own, eager)
    packed: Batch | None = getattr(attention_mask, "packed", None)
    if packed is None:
        return attend(module, query, key, value, attention_mask, sliding_window=sliding_window, **kwargs)
    if sliding_window not in packed.masks:
        p, r = packed.prompts.shape[1], packed.responses.shape[1]
        packed.masks[sliding_window] = (
            # in the values' type: under autocast rotated queries and keys are fp32 until the kernel casts them
            behind_prompt(packed.start.new_zeros(1), 0, p, sliding_window, value.dtype),
            behind_prompt(packed.start, p, r, sliding_window, value.dtype),
        )
    of_prompts, of_responses = packed.masks[sliding_window]
    (q, k, v), (rq, rk, rv) = (
        [x[0].transpose(0, 1)[columns].transpose(1, 2) for x in (query, key, value)]  # (texts, heads, tokens, width)
        for columns in (packed.prompts, packed.responses)
    )
    prompts, _ = attend(module, q, k, v, of_prompts, **kwargs)  # (texts, tokens, heads, width)
    k, v = (torch.cat([shared[packed.prompt_of], new], 2) for shared, new in ((k, rk), (v, rv)))
    responses, _ = attend(module, rq, k, v, of_responses, **kwargs)
    return torch.cat([prompts.flatten(0, 1), responses.flatten(0, 1)])[packed.back][None], None


def behind_prompt(start: torch.Tensor, p: int, r: int, window: int | None, dtype: torch.dtype) -> torch.Tensor:
    """(N, 1, r, p + r) added to attention scores: 0 where a token may look, else the lowest number.

    start: (N,) how many of the p tokens of the prompt are real. A token sees them, itself and what is before it in its
    own text, but nothing that is `window` or more positions back. Rows are laid out a multiple of 8 apart: any others
    PyTorch's memory-efficient kernel copies for every layer, and keeps the copies.
    """
    start = start[:, None].int()
    prompt, text = (torch.arange(length, device=start.device, dtype=torch.int32) for length in (p, r))
    positions = torch.cat([prompt.expand(len(start), p), start + text], 1)  # (N, p + r) of the keys
    distance = positions[:, None, p:, None] - positions[:, None, None, :]
    allowed = distance >= 0
    allowed[..., :p] &= (prompt < start)[:, None, None]
    if window:
        allowed &= distance < window
    wide = torch.zeros(*allowed.shape[:-1], -(-(p + r) // 8) * 8, dtype=dtype, device=start.device)
    return wide[..., : p + r].masked_fill_(~allowed, torch.finfo(dtype).min)
