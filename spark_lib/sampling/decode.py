"""Decoding: token ids in, token ids and log-probs out; our own loop over the model's cached forward pass.

Our own, because GRPO needs exactly three things that generate() makes hard: the distribution sampled from is
softmax(logits / temperature) and nothing else (a checkpoint's generation_config may set top_p or a repetition penalty),
token ids and log-probs are kept from end to end, and every response has its own stream of random numbers.
"""

from collections.abc import Callable

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from spark_lib.model.finite import refuse_broken_draws
from spark_lib.model.vision import Seen, token_embeddings
from spark_lib.model.weights import base_of

ROOM = 64  # tokens that a cache layer grows by


@torch.no_grad()
def decode(
    model, prompts: list[list[int]], uniforms: torch.Tensor, stops: set[int], temperature: float,
    seen: list[Seen | None] = (), count: Callable[[int, int, float], object] | None = None,
) -> list[tuple[list[int], list[float]]]:
    """Continue every prompt n times; returns (ids, log-probs) per row, rows of one prompt side by side.

    uniforms: (prompts, n, max_new_tokens), one number in [0, 1) for each token that may be drawn.
    A prompt and its images are read once and its keys and values are copied to its n rows; finished rows leave the
    batch. count, if there is one, is told of each draw: the tokens that it brought, the responses that it ended, and
    how far it brought all of them, in responses, as if those that go on went on to the limit.
    """
    device = next(model.parameters()).device
    n, max_new_tokens = uniforms.shape[1:]
    uniforms = uniforms.reshape(-1, max_new_tokens).to(device)  # (rows, max_new_tokens)
    stop = torch.tensor(sorted(stops), device=device)

    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(p)) + p for p in prompts], device=device)  # padded on the left
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    read = {"input_ids": ids}
    if any(seen):
        read, positions = with_images(model, ids, mask, positions, seen)
    cache = roomy_cache(model.config)
    out = model(
        **read, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1
    )
    cache.batch_repeat_interleave(n)
    logits = out.logits[:, -1].repeat_interleave(n, 0)  # (rows, vocabulary)
    mask = mask.repeat_interleave(n, 0)
    position = positions[..., -1:].repeat_interleave(n, -2)  # (rows, 1), with M-RoPE (3, rows, 1)

    rows = torch.arange(len(logits), device=device)  # which responses the rows of the batch are
    ended = torch.zeros(len(rows), dtype=torch.bool, device=device)
    tokens = torch.zeros(len(rows), max_new_tokens, dtype=torch.long, device=device)
    logprobs = torch.zeros(len(rows), max_new_tokens, device=device)
    lengths = torch.full((len(rows),), max_new_tokens, device=device)
    alive = len(rows)
    for t in range(max_new_tokens):
        token, logprob = draw(logits, uniforms[rows, t], temperature)
        tokens[rows, t], logprobs[rows, t] = token, logprob  # beyond a response's length they are never read
        now = torch.isin(token, stop) & ~ended
        lengths[rows[now]] = t + 1
        ended |= now
        left = 0 if t == max_new_tokens - 1 else len(rows) - int(ended.sum())
        if count:
            count(alive, alive - left, left / max_new_tokens + (alive - left) * (1 - t / max_new_tokens))
        alive = left
        if not alive:
            break
        if len(rows) - alive > len(rows) // 8:  # leaving costs a copy of the cache, so not for every single row
            keep = (~ended).nonzero().squeeze(1)
            rows, token, mask, ended = rows[keep], token[keep], mask[keep], ended[keep]
            position = position[..., keep, :]
            cache.batch_select_indices(keep)
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        position = position + 1
        logits = model(
            input_ids=token[:, None], attention_mask=mask, position_ids=position, past_key_values=cache, use_cache=True
        ).logits[:, -1]
    refuse_broken_draws(logprobs)
    tokens, logprobs, lengths = tokens.tolist(), logprobs.tolist(), lengths.tolist()
    return [(tokens[i][:length], logprobs[i][:length]) for i, length in enumerate(lengths)]


def draw(logits: torch.Tensor, uniform: torch.Tensor, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """One token per row by inversion of the cumulative distribution, and its log-prob.

    logits: (rows, vocabulary); uniform: (rows,) in [0, 1). Inversion needs one number a row and is several
    times faster than torch.multinomial. temperature 0 takes the most likely token and reports its log-prob at 1.
    """
    logprobs = torch.log_softmax(logits.float() / (temperature or 1.0), -1)
    if temperature == 0:
        token = logits.argmax(-1)
    else:
        cumulative = logprobs.exp().cumsum(-1)
        # Rounding may leave the total a little off 1. The first sum *above* the target (right=True) belongs to a
        # token of probability > 0, and there is one as long as the target stays below the total.
        total = cumulative[:, -1:]
        target = torch.minimum(uniform[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
        token = torch.searchsorted(cumulative, target, right=True).squeeze(1)
        token = token.clamp(max=logits.shape[-1] - 1)  # NaN finds none: its log-prob, NaN too, is refused by decode
    return token, logprobs.gather(1, token[:, None]).squeeze(1)


class RoomyLayer(DynamicLayer):
    """One layer's keys and values, (rows, heads, tokens, width), with room for tokens to come.

    transformers' own layer copies the whole cache for every token; on the CPU that took most of the time.
    """

    buffers: list[torch.Tensor] | None = None

    def update(self, keys: torch.Tensor, values: torch.Tensor, *args, **kwargs) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(keys, values)
        old, new = self.get_seq_length(), self.get_seq_length() + keys.shape[2]
        if self.buffers is None or new > self.buffers[0].shape[2]:
            self.buffers = [x.new_empty(*x.shape[:2], new + ROOM, x.shape[3]) for x in (keys, values)]
            if old:
                self.buffers[0][:, :, :old], self.buffers[1][:, :, :old] = self.keys, self.values
        self.buffers[0][:, :, old:new], self.buffers[1][:, :, old:new] = keys, values
        self.keys, self.values = (buffer[:, :, :new] for buffer in self.buffers)
        return self.keys, self.values

    def batch_repeat_interleave(self, repeats: int) -> None:
        super().batch_repeat_interleave(repeats)
        self.buffers = None

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        super().batch_select_indices(indices)
        self.buffers = None


def roomy_cache(config) -> DynamicCache:
    """An empty cache for a model of this config; layers of other kinds (sliding windows) stay as they are."""
    cache = DynamicCache(config=config)
    cache.layers = [RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def with_images(
    model, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, seen: list[Seen | None]
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """(the model's input, positions) of prompts some of which show images.

    ids, mask, positions: (prompts, tokens), padded on the left. The input is {"inputs_embeds": (prompts, tokens,
    width)}, and positions are (3, prompts, tokens) in models with M-RoPE.
    """
    padding = (mask == 0).sum(1).tolist()
    shown = [(row, one) for row, one in enumerate(seen) if one]
    places = torch.cat([one.places + row * ids.shape[1] + padding[row] for row, one in shown])
    embeddings = token_embeddings(base_of(model), ids, [one for _, one in shown], places.to(ids.device))
    if shown[0][1].positions is not None:
        positions = positions.repeat(3, 1, 1)
        for row, one in shown:
            positions[:, row, padding[row] :] = one.positions
    return {"inputs_embeds": embeddings}, positions
