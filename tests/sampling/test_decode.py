"""The sampler: what it draws, and that its log-probs are those of the distribution that it drew from."""

import math

import pytest
import torch
from conftest import PROBLEMS, MockModel, add_lora, generator, spoken
from torch.testing import assert_close

from spark_lib.rollout import sample
from spark_lib.sampling.decode import decode, draw

TEMPERATURE = 0.8


def plain_logprobs(model, prompt: list[int], response: list[int], temperature: float) -> torch.Tensor:
    """The log-probs of a response from one forward pass over the whole text: no cache, no padding, no batch."""
    logits = model(input_ids=torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
    return (logits / temperature).log_softmax(-1).gather(1, torch.tensor(response)[:, None])[:, 0]


@torch.no_grad()
def test_logprobs_of_long_responses(tiny, tokenizer):
    """Guards the cache as it grows: keys lost or stale when it gets more room would show after some tens of tokens."""
    model = tiny("llama")
    groups = sample(model, tokenizer, PROBLEMS, 4, 150, TEMPERATURE, generator())
    assert max(len(r.response_ids) for group in groups for r in group) > 140
    for r in (r for group in groups for r in group):
        expected = plain_logprobs(model, r.prompt_ids, r.response_ids, TEMPERATURE)
        assert_close(torch.tensor(r.logprobs), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("adapter", [False, True], ids=["plain", "lora"])
@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2", "gemma3", "gemma2", "granite"])
@torch.no_grad()
def test_logprobs_are_those_of_a_plain_forward_pass(tiny, tokenizer, name, adapter):
    """Guards left padding, positions and cache rows: a prompt in a batch must be read as if it were alone."""
    model = add_lora(tiny(name)) if adapter else tiny(name)
    groups = sample(model, tokenizer, PROBLEMS, 4, 12, TEMPERATURE, generator())
    assert len({len(r.prompt_ids) for group in groups for r in group}) == len(PROBLEMS)  # there was padding
    for r in (r for group in groups for r in group):
        expected = plain_logprobs(model, r.prompt_ids, r.response_ids, TEMPERATURE)
        assert_close(torch.tensor(r.logprobs), expected, atol=1e-4, rtol=0)


def test_frequencies_follow_softmax_of_logits_over_temperature():
    """Guards the draw itself: a wrong temperature, or a table shifted by one token, changes how often a token comes.

    Chi-square test: with 6 degrees of freedom, 22.46 is exceeded once in 1000 draws.
    """
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, 0.5, 1.5, -math.inf, 0.3])
    table = logits.expand(8, 8, 8).clone()
    table[1] = logits.flip(0)  # texts that begin with 1 go on in another way
    model = MockModel(table, eos_token_id=7)
    n = 4000
    uniforms = torch.rand(2, n, 1, generator=generator())
    drawn = torch.tensor([ids[0] for ids, _ in decode(model.eval(), [[0, 3], [1]], uniforms, {7}, 0.7)])
    for first, row in enumerate(drawn.view(2, n)):
        expected = n * (table[first, 0].double() / 0.7).softmax(-1)
        observed = torch.bincount(row, minlength=8)
        possible = expected > 0
        assert observed[~possible].sum() == 0
        assert ((observed - expected).square() / expected)[possible].sum() < 22.46


def test_every_position_is_drawn_afresh():
    """Guards against one random number used twice: tokens of a response, and rows of a group, are independent."""
    model = MockModel(torch.zeros(4, 4, 4), eos_token_id=3).eval()
    uniforms = torch.rand(1, 3000, 2, generator=generator())
    rows = [ids for ids, _ in decode(model, [[0]], uniforms, set(), 1.0)]
    pairs = torch.bincount(torch.tensor([4 * a + b for a, b in rows]), minlength=16)
    assert ((pairs - 3000 / 16).square() / (3000 / 16)).sum() < 37.70  # 15 degrees of freedom: 1 of 1000


@pytest.mark.parametrize("uniform, token", [(0.0, 1), (0.2499, 1), (0.2501, 3), (1 - 2**-24, 4)])
def test_draw_inverts_the_cumulative_distribution(uniform, token):
    """Guards the ends of [0, 1): u = 0 must not pick the impossible token 0, nor u near 1 the impossible token 5."""
    probabilities = torch.tensor([[0.0, 0.25, 0.0, 0.5, 0.25, 0.0]])
    drawn, logprob = draw(probabilities.log(), torch.tensor([uniform]), 1.0)
    assert drawn.item() == token
    assert_close(logprob, probabilities[:, token].log())


@pytest.mark.parametrize("shape", [(20_000, 8), (16, 50_000)])
def test_draw_never_picks_an_impossible_token(shape):
    """Guards against a total that rounding leaves below 1: u just below 1 would then run off the vocabulary's end."""
    logits = torch.randn(shape, generator=generator()) * 3
    impossible = torch.rand(shape, generator=generator(1)) < 0.5
    impossible[:, 1], impossible[:, -2:] = False, True
    logits[impossible] = -math.inf
    for uniform in (0.0, 2**-24, 0.5, 1 - 2**-23, 1 - 2**-24):
        token, logprob = draw(logits, torch.full(shape[:1], uniform), 1.0)
        assert logprob.isfinite().all() and not impossible.gather(1, token[:, None]).any()


def test_temperature_zero_takes_the_most_likely_token(tiny, tokenizer):
    """Guards greedy decoding: a division by zero, or a draw, would be noticed in evaluations only."""
    model = tiny("llama")
    first, second = (sample(model, tokenizer, PROBLEMS, 2, 6, 0, generator(seed)) for seed in (0, 1))
    assert spoken(first) == spoken(second)
    for r in (r for group in first for r in group):
        logits = model(input_ids=torch.tensor([r.prompt_ids + r.response_ids])).logits[0, len(r.prompt_ids) - 1 : -1]
        assert r.response_ids == logits.argmax(-1).tolist()
        assert_close(torch.tensor(r.logprobs), logits.log_softmax(-1).max(-1).values, atol=1e-4, rtol=0)


def test_a_checkpoints_generation_config_changes_nothing(tiny, tokenizer):
    """Guards against top_p and repetition_penalty of a Qwen checkpoint: the loss knows nothing of them (trl #5783)."""
    model = tiny("qwen2")
    before = sample(model, tokenizer, PROBLEMS, 2, 8, TEMPERATURE, generator())
    settings = {"do_sample": False, "temperature": 0.1, "top_p": 0.1, "top_k": 1, "repetition_penalty": 2.0}
    model.generation_config.update(**settings)
    assert sample(model, tokenizer, PROBLEMS, 2, 8, TEMPERATURE, generator()) == before


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [1, 1, 1, 3, 1, 1, 1, 1, 0, 1, 1, 1]], ids=["some", "a few of many"])
def test_finished_rows_leave_and_do_not_disturb_the_others(order):
    """Guards the shrinking batch: a row whose cache or random numbers moved up would go on as another one.

    Each text counts up by one from its last token and stops after 4, 5 or 6, as its first token says.
    """
    table = torch.full((8, 8, 8), -math.inf)
    for first, period in ((1, 4), (2, 5), (3, 6)):
        for last in range(8):
            table[first, last, min(last + 1, 7) if last < period else 7] = 0.0
    model = MockModel(table, 7).eval()
    stories = {(1,): [2, 3, 4, 7], (2, 1): [2, 3, 4, 5, 7], (3,): [4, 5, 6, 7], (2, 4): [5, 7]}
    prompts = [list(stories)[i] for i in order]
    decoded = decode(model, list(map(list, prompts)), torch.rand(len(order), 2, 9, generator=generator()), {7}, 1.0)
    assert [ids for ids, _ in decoded] == [stories[prompt] for prompt in prompts for _ in range(2)]
    assert all(logprobs == [0.0] * len(ids) for ids, logprobs in decoded)  # every step was certain
    assert model.sizes[1] == 2 * len(order) > model.sizes[-1]
