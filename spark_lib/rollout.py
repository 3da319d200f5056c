"""Sampling: problems in, groups of rollouts out (PAPER step 1).

A prompt becomes token ids once, sampling/decode.py continues it n times, and ids and log-probs are kept as they were
sampled: nothing is tokenised again. Every response has its own stream of random numbers, which makes a rollout
independent of which others share its batch or which process draws it.
"""

from dataclasses import dataclass

import torch

from spark_lib.config import ConfigError
from spark_lib.model.chat import known_roles, messages_of
from spark_lib.model.vision import Seen, images_of, load_image, see, text_tokenizer
from spark_lib.model.weights import base_of
from spark_lib.problem import Problem, Turn
from spark_lib.prompts import plain, without
from spark_lib.sampling.decode import decode


@dataclass
class Rollout:
    """One sampled response.

    prompt_ids, response_ids: token ids as sampled; the response ends with the stop token if `finished`.
    text: the response decoded without special tokens; all that the verifier and the judge ever see of it.
    finished: a stop token was sampled within the token limit.
    logprobs: per response token, natural log, of the distribution sampled from.
    reward: the verifier's mark in [0, 1]; None until verified.
    seen: what the model saw of the problem's images, for the loss; None where there are none.
    truth: the verifier's mark where the reward is another's (sampling/labels.py); else None.
    """

    problem: Problem
    prompt_ids: list[int]
    response_ids: list[int]
    text: str
    finished: bool
    logprobs: list[float]
    reward: float | None = None
    seen: Seen | None = None
    truth: float | None = None


def encode(model, tokenizer, problem: Problem) -> tuple[list[int], Seen | None]:
    """(prompt ids, what is seen of its images) of a problem; tokenizer: a vision-language model's is its processor.

    Raises ConfigError for a problem with images and a model that reads text only.
    """
    images, text = images_of(problem), text_tokenizer(tokenizer)
    if text is tokenizer:
        if images:
            raise ConfigError("model: it reads text only, and the problems show images; give a vision-language model")
        return encode_prompt(tokenizer, problem.prompt, problem.context), None
    markers = turn_markers(text)
    loaded = [load_image(image, tokenizer.max_pixels) for image in images]
    messages = messages_of(tokenizer, [*problem.context, ("user", problem.prompt)], loaded,
                           lambda part: without(part, markers))
    return see(base_of(model), tokenizer, messages)


def encode_prompt(tokenizer, prompt: str, context: tuple[Turn, ...] = ()) -> list[int]:
    """Token ids of the user's message, behind the turns before it, in the model's chat template, with the opening of
    the reply.

    The ids are made once and kept: a second pass through the tokenizer would add a second BOS. Special tokens and turn
    markers spelled out in the texts are taken out, so that no text can open or close a turn: a candidate's text is the
    model's own, untrusted, and so is what comes with data.
    """
    markers = turn_markers(tokenizer)
    turns = [(role, without(text, markers)) for role, text in (*context, ("user", prompt))]
    if tokenizer.chat_template is None:
        return tokenizer(plain(turns))["input_ids"]
    turns = known_roles(tokenizer, turns) if context else turns
    messages = [{"role": role, "content": text} for role, text in turns]
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


def rollout_of(
    problem: Problem, prompt_ids: list[int], ids: list[int], logprobs: list[float], tokenizer, stops: set[int],
    seen: Seen | None = None,
) -> Rollout:
    """The Rollout of token ids that were drawn, by whatever drew them."""
    text = tokenizer.decode(ids, skip_special_tokens=True)
    return Rollout(problem, prompt_ids, ids, text, ids[-1] in stops, logprobs, seen=seen)


def sample(
    model, tokenizer, problems: list[Problem], n: int, max_new_tokens: int, temperature: float,
    generator: torch.Generator, max_rows: int = 512, share: slice = slice(None), count=None,
) -> list[list[Rollout]]:
    """n responses to each problem, as one group (list) per problem, in the order of `problems`.

    temperature 0 is greedy. `generator` (on the CPU) is the only source of randomness. At most `max_rows`
    responses are decoded at a time. `share` selects the problems that this process samples; the random numbers
    are drawn for all, so that the groups do not depend on the number of processes. count: see decode.
    """
    uniforms = torch.rand(len(problems), n, max_new_tokens, generator=generator)[share]
    problems = problems[share]
    encoded = [encode(model, tokenizer, problem) for problem in problems]
    prompts = [ids for ids, _ in encoded]
    stops = stop_ids(model, text_tokenizer(tokenizer))
    groups: list[list[Rollout]] = [[] for _ in problems]
    # Prompts of like length share a batch, so that little of it is padding.
    order = sorted(range(len(problems)), key=lambda i: len(prompts[i]))
    ordered, seen = [prompts[i] for i in order], [encoded[i][1] for i in order]
    was_training = model.training
    model.eval()  # dropout off, and gradient checkpointing would silently drop the cache in train mode
    decoded = decode(model, ordered, uniforms[order], stops, temperature, seen, count, max_rows)
    model.train(was_training)
    for row, (ids, logprobs) in enumerate(decoded):
        i = order[row // n]
        groups[i].append(rollout_of(problems[i], prompts[i], ids, logprobs, tokenizer, stops, encoded[i][1]))
    return groups
