"""Waiting responses take the places of finished ones: the same responses in fewer passes, whatever joins whatever."""

import pytest
import torch
from conftest import PROBLEMS, MockModel, add_lora, generator, spoken
from torch.testing import assert_close

from spark_lib.problem import Problem
from spark_lib.rollout import sample
from spark_lib.sampling.decode import ROOM, RoomyLayer, decode

# Prompts of 4 to 40 tokens, so that what joins is longer or shorter than what is there.
MANY = [Problem("What is " + " + ".join(map(str, range(11, 11 + i))) + " ?", "") for i in range(1, 8)] + PROBLEMS


def often_ending(model):
    """The model, one in ten of whose tokens end a response."""
    model.generation_config.eos_token_id = list(range(5, model.config.vocab_size, 10))
    return model


def counting(endings: dict[int, int]) -> torch.Tensor:
    """Texts that count up by one from their last token, and end with token 7 after endings[first token]."""
    table = torch.full((8, 8, 8), -torch.inf)
    for first, end in endings.items():
        for last in range(8):
            table[first, last, min(last + 1, 7) if last < end else 7] = 0.0
    return table


STORIES = {(1,): [2, 3, 4, 7], (2, 1): [2, 3, 4, 5, 7], (3, 3, 3): [4, 5, 6, 7], (2, 4): [5, 7], (1, 4): [7],
           (3, 0, 0): [1, 2, 3, 4, 5, 6, 7]}


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("places", [1, 3, 4, 10, 100])
def test_every_response_goes_on_as_itself(n, places):
    """Guards a newcomer's place: another row's keys, padding that counts as text, or a position that is off by the
    padding would let it go on as another text. The mock reads its first token back from the cache."""
    order = [0, 1, 2, 3, 4, 5, 2, 5, 4, 0, 0, 3, 1, 5, 2]
    prompts = [list(list(STORIES)[i]) for i in order]
    model = MockModel(counting({1: 4, 2: 5, 3: 6}), 7).eval()
    decoded = decode(model, prompts, torch.rand(len(order), n, 9, generator=generator()), {7}, 1.0, max_rows=places)
    assert [ids for ids, _ in decoded] == [STORIES[tuple(prompt)] for prompt in prompts for _ in range(n)]
    assert all(logprobs == [0.0] * len(ids) for ids, logprobs in decoded)  # every draw was certain
    assert max(model.sizes) <= max(n, places)


@pytest.mark.parametrize("places", [3, 4, 7, 12])
@pytest.mark.parametrize("name", ["llama", "gpt2", "granite", "gemma3"])
@torch.no_grad()
def test_the_same_responses_and_log_probs_whatever_they_share_the_batch_with(tiny, tokenizer, name, places):
    """Guards the whole against decoding all at once: random numbers, keys, positions and masks of rows that joined in
    the middle. gemma3's windows make it wait for whole batches."""
    model = often_ending(add_lora(tiny(name)))
    expected = sample(model, tokenizer, MANY, 3, 24, 1.2, generator(1))
    lengths = {len(r.response_ids) for group in expected for r in group}
    assert len(lengths) > 4  # some end early and make room
    groups = sample(model, tokenizer, MANY, 3, 24, 1.2, generator(1), max_rows=places)
    assert spoken(groups) == spoken(expected)
    for one, other in zip(sum(groups, []), sum(expected, [])):
        assert_close(torch.tensor(one.logprobs), torch.tensor(other.logprobs), atol=1e-4, rtol=0)


def passes(tiny, tokenizer, monkeypatch, refill: bool) -> list[tuple[int, int]]:
    """(rows, tokens in the cache) of every pass over one token a row, 33 responses at 6 rows."""
    model, seen = often_ending(tiny("llama")), []
    forward = model.forward

    def watched(input_ids, attention_mask, **kwargs):
        if input_ids.shape[1] == 1:
            seen.append(tuple(attention_mask.shape))
        return forward(input_ids=input_ids, attention_mask=attention_mask, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(model, "forward", watched)
        if not refill:  # as with layers that cannot be joined
            patch.setattr("spark_lib.sampling.decode.roomy_cache", unlike_ours)
        sample(model, tokenizer, MANY, 3, 24, 1.2, generator(1), max_rows=6)
    return seen


def unlike_ours(config):
    from transformers import DynamicCache

    return DynamicCache(config=config)


def test_it_takes_fewer_passes_and_no_longer_cache(tiny, tokenizer, monkeypatch):
    """Guards what it is for: fewer passes over fuller batches. And the padding: were it not cut off where nobody needs
    it, the cache would grow by a token with every pass."""
    now, before = (passes(tiny, tokenizer, monkeypatch, refill) for refill in (True, False))
    assert len(now) < 0.8 * len(before)
    assert max(rows for rows, _ in now) == 6
    assert max(tokens for _, tokens in now) <= max(tokens for _, tokens in before) + 1


def test_a_layer_gathers_rows_of_others():
    """Guards the one place where keys are moved: rows in the order asked for, cut or padded on the left, values too,
    and room for what comes."""
    made = []
    for start, tokens in ((0, 3), (100, 5)):
        layer = RoomyLayer()
        numbers = start + torch.arange(2 * tokens).float().view(2, 1, tokens, 1)
        layer.update(numbers, -numbers)
        made.append(layer)
    one, other = made
    one.gather([(one, torch.tensor([1])), (other, torch.tensor([1, 0, 1]))], 4)
    expected = torch.tensor([[0, 3, 4, 5], [106, 107, 108, 109], [101, 102, 103, 104], [106, 107, 108, 109]]).float()
    assert torch.equal(one.keys[:, 0, :, 0], expected) and torch.equal(one.values, -one.keys)
    assert torch.equal(other.keys[0, 0, :, 0], 100 + torch.arange(5).float())  # it is left as it was
    one.update(torch.full((4, 1, 1, 1), 9.0), torch.zeros(4, 1, 1, 1))
    assert one.buffers[0].shape[2] == 4 + ROOM and one.keys[:, 0, :, 0].tolist()[0] == [0, 3, 4, 5, 9]


def test_a_response_of_one_token_needs_no_second_pass():
    """Guards the end: rows that have ended with their first token must not be read again, nor keep the loop going."""
    model = MockModel(torch.zeros(4, 4, 4), eos_token_id=3).eval()
    rows = decode(model, [[0]] * 5, torch.rand(5, 2, 1, generator=generator()), set(), 1.0, max_rows=4)
    assert [len(ids) for ids, _ in rows] == [1] * 10 and model.sizes == [2, 2, 1]  # prompts only
