"""Sampling: problems in, groups of rollouts out.

The sampler is our own short loop over the model's cached forward pass, because GRPO needs exactly three
things that generate() makes hard: the distribution sampled from is softmax(logits / temperature) and nothing
else (a checkpoint's generation_config may set top_p or a repetition penalty), token ids and log-probs are kept
from end to end, and every response has its own stream of random numbers. The last makes a rollout independent
of which others share its batch or which process draws it.
"""

from dataclasses import dataclass

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from spark_lib.config import ConfigError
from spark_lib.problems import Problem
from spark_lib.prompts import without
from spark_lib.vision import Seen, content_of, images_of, load_image, see, text_tokenizer, token_embeddings

ROOM = 64  # tokens that a cache layer grows by


@dataclass
class Rollout:
    """One sampled response.

    prompt_ids, response_ids: token ids as sampled; the response ends with the stop token if `finished`.
    text: the response decoded without special tokens; all that the verifier and the judge ever see of it.
    finished: a stop token was sampled within the token limit.
    logprobs: per response token, natural log, of the distribution sampled from.
    reward: the verifier's mark in [0, 1]; None until verified.
    seen: what the model saw of the problem's images, for the loss; None where there are none.
    """

    problem: Problem
    prompt_ids: list[int]
    response_ids: list[int]
    text: str
    finished: bool
    logprobs: list[float]
    reward: float | None = None
    seen: Seen | None = None


def encode(model, tokenizer, problem: Problem) -> tuple[list[int], Seen | None]:
    """(prompt ids, what is seen of its images) of a problem; tokenizer: a vision-language model's is its processor.

    Raises ConfigError for a problem with images and a model that reads text only.
    """
    images, text = images_of(problem), text_tokenizer(tokenizer)
    if text is tokenizer:
        if images:
            raise ConfigError("model: it reads text only, and the problems show images; give a vision-language model")
        return encode_prompt(tokenizer, problem.prompt), None
    markers = turn_markers(text)
    loaded = [load_image(image, tokenizer.max_pixels) for image in images]
    content = content_of(problem.prompt, loaded, lambda part: without(part, markers))
    return see(base_of(model), tokenizer, content)


def base_of(model):
    """The model without its adapter's wrapper."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def encode_prompt(tokenizer, prompt: str) -> list[int]:
    """Token ids of the user's message in the model's chat template, with the opening of the reply.

    The ids are made once and kept: a second pass through the tokenizer would add a second BOS. Special tokens and turn
    markers spelled out in the message are taken out, so that no message can open or close a turn: a candidate's text is
    the model's own, untrusted.
    """
    prompt = without(prompt, turn_markers(tokenizer))
    if tokenizer.chat_template is None:
        return tokenizer(f"Question: {prompt}\nAnswer:")["input_ids"]
    messages = [{"role": "user", "content": prompt}]
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)


def turn_markers(tokenizer) -> list[str]:
    """The special tokens, and the added tokens like <start_of_turn> or [INST] that the chat template builds turns of:
    some checkpoints do not declare those as special."""
    template = str(tokenizer.chat_template or "")
    return [token.content for token in tokenizer.added_tokens_decoder.values()
            if token.special or token.content[:1] in ("<", "[") and token.content in template]


def stop_ids(model, tokenizer) -> set[int]:
    """Every token id that ends a response: all EOS ids of the model's generation config and the tokenizer.

    (transformers makes the generation config from the model's own where a checkpoint has none.)
    """
    declared = model.generation_config.eos_token_id
    ids = set(declared) if isinstance(declared, (list, tuple)) else {declared}
    return {i for i in ids | {tokenizer.eos_token_id} if i is not None}


def sample(
    model, tokenizer, problems: list[Problem], n: int, max_new_tokens: int, temperature: float,
    generator: torch.Generator, max_rows: int = 512, share: slice = slice(None),
) -> list[list[Rollout]]:
    """n responses to each problem, as one group (list) per problem, in the order of `problems`.

    temperature 0 is greedy. `generator` (on the CPU) is the only source of randomness. At most `max_rows`
    responses are decoded at a time. `share` selects the problems that this process samples; the random numbers
    are drawn for all, so that the groups do not depend on the number of processes.
    """
    uniforms = torch.rand(len(problems), n, max_new_tokens, generator=generator)[share]
    problems = problems[share]
    encoded = [encode(model, tokenizer, problem) for problem in problems]
    prompts = [ids for ids, _ in encoded]
    stops = stop_ids(model, text_tokenizer(tokenizer))
    groups: list[list[Rollout]] = [[] for _ in problems]
    # Prompts of like length share a batch, so that little of it is padding.
    order = sorted(range(len(problems)), key=lambda i: len(prompts[i]))
    per_batch = max(1, max_rows // n)
    was_training = model.training
    model.eval()  # dropout off, and gradient checkpointing would silently drop the cache in train mode
    for start in range(0, len(order), per_batch):
        batch = order[start : start + per_batch]
        seen = [encoded[i][1] for i in batch]
        decoded = decode(model, [prompts[i] for i in batch], uniforms[batch], stops, temperature, seen)
        for row, (ids, logprobs) in enumerate(decoded):
            i = batch[row // n]
            text = tokenizer.decode(ids, skip_special_tokens=True)
            finished = ids[-1] in stops
            groups[i].append(Rollout(problems[i], prompts[i], ids, text, finished, logprobs, seen=encoded[i][1]))
    model.train(was_training)
    return groups


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


@torch.no_grad()
def decode(
    model, prompts: list[list[int]], uniforms: torch.Tensor, stops: set[int], temperature: float,
    seen: list[Seen | None] = (),
) -> list[tuple[list[int], list[float]]]:
    """Continue every prompt n times; returns (ids, log-probs) per row, rows of one prompt side by side.

    uniforms: (prompts, n, max_new_tokens), one number in [0, 1) for each token that may be drawn.
    A prompt and its images are read once and its keys and values are copied to its n rows; finished rows leave the
    batch.
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
    for t in range(max_new_tokens):
        token, logprob = draw(logits, uniforms[rows, t], temperature)
        tokens[rows, t], logprobs[rows, t] = token, logprob  # beyond a response's length they are never read
        now = torch.isin(token, stop) & ~ended
        lengths[rows[now]] = t + 1
        ended |= now
        count = int(ended.sum())
        if count == len(rows) or t == max_new_tokens - 1:
            break
        if count > len(rows) // 8:  # leaving costs a copy of the cache, so not for every single row
            keep = (~ended).nonzero().squeeze(1)
            rows, token, mask, ended = rows[keep], token[keep], mask[keep], ended[keep]
            position = position[..., keep, :]
            cache.batch_select_indices(keep)
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        position = position + 1
        logits = model(
            input_ids=token[:, None], attention_mask=mask, position_ids=position, past_key_values=cache, use_cache=True
        ).logits[:, -1]
    tokens, logprobs, lengths = tokens.tolist(), logprobs.tolist(), lengths.tolist()
    return [(tokens[i][:length], logprobs[i][:length]) for i, length in enumerate(lengths)]


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
    return token, logprobs.gather(1, token[:, None]).squeeze(1)
