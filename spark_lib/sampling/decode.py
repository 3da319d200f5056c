"""Decoding: token ids in, token ids and log-probs out; our own loop over the model's cached forward pass.

Our own, because GRPO needs exactly three things that generate() makes hard: the distribution sampled from is
softmax(logits / temperature) and nothing else (a checkpoint's generation_config may set top_p or a repetition penalty),
token ids and log-probs are kept from end to end, and every response has its own stream of random numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import pad
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from spark_lib.model.finite import refuse_broken_draws
from spark_lib.model.vision import Seen, token_embeddings
from spark_lib.model.weights import base_of

ROOM = 64  # tokens that a cache layer grows by
CPU_ROWS = 64  # of more on a CPU each costs the same, and padding newcomers to older rows costs more than it saves


@torch.no_grad()
def decode(
    model, prompts: list[list[int]], uniforms: torch.Tensor, stops: set[int], temperature: float,
    seen: list[Seen | None] = (), count: Callable[[int, int, float], object] | None = None, max_rows: int | None = None,
) -> list[tuple[list[int], list[float]]]:
    """Continue every prompt n times; returns (ids, log-probs) per response, those of one prompt side by side.

    uniforms: (prompts, n, max_new_tokens), one number in [0, 1) for each token that may be drawn.
    A prompt and its images are read once and its keys and values are copied to its responses' rows. There are at most
    max_rows rows at a time (or n, if that is more): finished ones leave, and waiting responses take their places. Where
    prompts show images, the cache has layers of other kinds (sliding windows) or there are many rows on a CPU, they
    wait until all rows are finished. count, if there is one, is told of each draw, see Responses.draw.
    """
    n, device = uniforms.shape[1], next(model.parameters()).device
    responses = Responses(uniforms.flatten(0, 1).to(device), stops, temperature, count)
    total = len(prompts) * n
    places = max(1, (max_rows or total) // n) * n
    texts = Texts(roomy_cache(model.config), *torch.zeros(2, 0, 1, dtype=torch.long, device=device))
    refills = not any(seen) and all(type(layer) is RoomyLayer for layer in texts.cache.layers)
    refills = refills and (device.type != "cpu" or places <= CPU_ROWS)
    rows = token = torch.empty(0, dtype=torch.long, device=device)  # responses with a place, their newest tokens
    begun, fresh = 0, range(0)  # responses that have, or had, a place; the prompts that were read last
    while len(rows) or begun < total:
        alive = (~responses.ended[rows]).nonzero().squeeze(1)
        if len(rows) and len(rows) - len(alive) <= len(rows) // 8:  # leaving costs a copy of the cache
            token = responses.draw(rows, texts.advance(model, token))
            continue
        parts, rows, token = [(texts, alive)], rows[alive], token[alive]
        free = places - len(rows) if refills or not len(rows) else 0
        end = min(begun + free, total)
        while begun < end:
            if begun == fresh.stop * n:
                fresh = range(fresh.stop, -(-end // n))
                read, logits = read_prompts(model, [prompts[i] for i in fresh], seen[fresh.start : fresh.stop])
            new = torch.arange(begun, min(end, fresh.stop * n), device=device)
            which = new // n - fresh.start
            parts.append((read, which))
            rows, token = torch.cat([rows, new]), torch.cat([token, responses.draw(new, logits[which])])
            begun += len(new)
        if len(rows):
            texts = join(parts) if refills else select(*parts[-1])
        if begun == fresh.stop * n:
            parts = read = logits = None  # else the prompts would lie there beside their copies
    return responses.drawn()


class Responses:
    """What has been drawn of every response so far: tokens, log-probs, lengths, which ones have ended."""

    def __init__(self, uniforms: torch.Tensor, stops: set[int], temperature: float, count):
        """uniforms: (responses, max_new_tokens)."""
        device, (total, self.limit) = uniforms.device, uniforms.shape
        self.stop, self.temperature, self.count = torch.tensor(sorted(stops), device=device), temperature, count
        self.uniforms = pad(uniforms, (0, 1))  # a column more, for rows that have ended: it is written but never read
        self.tokens = torch.zeros(total, self.limit + 1, dtype=torch.long, device=device)
        self.logprobs = torch.zeros(total, self.limit + 1, device=device)
        self.lengths = torch.zeros(total, dtype=torch.long, device=device)
        self.ended = torch.zeros(total, dtype=torch.bool, device=device)

    def draw(self, rows: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """The next token of each of the responses `rows` (some may have ended). logits: (rows, vocabulary).

        `count` is told how many tokens that brought, how many responses it ended, and how far it brought all of them,
        in responses, as if those that go on went on to the limit.
        """
        going, t = ~self.ended[rows], self.lengths[rows]
        column = torch.where(going, t, self.limit)
        token, logprob = draw(logits, self.uniforms[rows, column], self.temperature)
        self.tokens[rows, column], self.logprobs[rows, column] = token, logprob
        last = going & (torch.isin(token, self.stop) | (t + 1 == self.limit))
        self.lengths[rows], self.ended[rows] = t + going, ~going | last
        if self.count:
            tokens, ended = int(going.sum()), int(last.sum())
            self.count(tokens, ended, (tokens - ended) / self.limit + (1 - t[last] / self.limit).sum().item())
        return token

    def drawn(self) -> list[tuple[list[int], list[float]]]:
        """(ids, log-probs) per response."""
        refuse_broken_draws(self.logprobs[:, : self.limit])
        columns = self.tokens.tolist(), self.logprobs.tolist(), self.lengths.tolist()
        return [(tokens[:length], logprobs[:length]) for tokens, logprobs, length in zip(*columns)]


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


@dataclass
class Texts:
    """Texts side by side that the model has read.

    mask: (texts, tokens), 0 where a shorter one is padded on the left; position: (texts, 1), with M-RoPE (3, texts, 1),
    of each one's last token.
    """

    cache: DynamicCache
    mask: torch.Tensor
    position: torch.Tensor

    def advance(self, model, token: torch.Tensor) -> torch.Tensor:
        """Read one more token (texts,) of each; returns the logits (texts, vocabulary) of what comes next."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(token), 1)], 1)
        self.position = self.position + 1
        return model(
            input_ids=token[:, None], attention_mask=self.mask, position_ids=self.position, past_key_values=self.cache,
            use_cache=True,
        ).logits[:, -1]


def read_prompts(model, prompts: list[list[int]], seen: list[Seen | None]) -> tuple[Texts, torch.Tensor]:
    """The prompts, and the logits (prompts, vocabulary) of each one's first response token."""
    device, longest = next(model.parameters()).device, max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(p)) + p for p in prompts], device=device)
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    read = {"input_ids": ids}
    if any(seen):
        read, positions = with_images(model, ids, mask, positions, seen)
    cache = roomy_cache(model.config)
    out = model(
        **read, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1
    )
    return Texts(cache, mask, positions[..., -1:]), out.logits[:, -1]


def select(texts: Texts, rows: torch.Tensor) -> Texts:
    """These rows alone, with any kind of cache, which is changed."""
    texts.cache.batch_select_indices(rows)
    return Texts(texts.cache, texts.mask[rows], texts.position[..., rows, :])


def join(parts: list[tuple[Texts, torch.Tensor]]) -> Texts:
    """The given rows of several Texts without images as one, padded on the left to the longest row; the first one's
    cache, of RoomyLayers as all, becomes that of the whole."""
    longest = max(int(texts.mask[rows].sum(1).max()) for texts, rows in parts if len(rows))
    cache = parts[0][0].cache
    for i, layer in enumerate(cache.layers):
        layer.gather([(texts.cache.layers[i], rows) for texts, rows in parts if len(rows)], longest)
    masks = [pad(texts.mask[rows], (longest - texts.mask.shape[1], 0)) for texts, rows in parts]  # cuts if negative
    return Texts(cache, torch.cat(masks), torch.cat([texts.position[rows] for texts, rows in parts]))


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

    def gather(self, parts: list[tuple["RoomyLayer", torch.Tensor]], tokens: int) -> None:
        """Become the given rows of these layers, of which it may be one: their last `tokens` tokens, or where there
        are fewer, all of them behind zeros."""
        pairs = [(layer.keys, layer.values) for layer, _ in parts]
        if not self.is_initialized:
            self.lazy_initialization(*pairs[0])
        count, self.buffers = sum(len(rows) for _, rows in parts), []
        for old in zip(*pairs):
            buffer, start = old[0].new_empty(count, old[0].shape[1], tokens + ROOM, old[0].shape[3]), 0
            for x, (_, rows) in zip(old, parts):
                kept, end = x[:, :, -tokens:], start + len(rows)
                buffer[start:end, :, : tokens - kept.shape[2]] = 0
                buffer[start:end, :, tokens - kept.shape[2] : tokens] = kept[rows]
                start = end
            self.buffers.append(buffer)
        self.keys, self.values = (buffer[:, :, :tokens] for buffer in self.buffers)

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
