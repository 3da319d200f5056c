"""What fits: whether the sampler and the update read a model rightly, tried out on a few tokens once it is loaded.

No list of classes stays complete: some models drop an argument on the way to their layers, or make a mask of their own,
and would train without a word on responses that see one another. Of what kind a model is says its configuration alone,
see kinds.py.
"""

import contextlib

import torch
from transformers import DynamicCache

from spark_lib.config import ConfigError
from spark_lib.loss import Row
from spark_lib.model.finite import refuse_broken_model
from spark_lib.model.kinds import OTHERS
from spark_lib.model.packing import hidden_states, pack, to_logits
from spark_lib.model.weights import base_of, is_quantised

PROMPTS = [[11, 12, 13], [14, 15, 16, 17, 18, 19]]  # any tokens: two prompts of different length
RESPONSES = [[[21, 22, 23], [24, 25]], [[26, 27, 28], [29, 30, 31]]]  # and two responses to each
EXACT, ROUNDED = 1e-2, 0.2  # largest distance (see `distance`) in fp32; in bf16 or quantised, where experts may change


def refuse_unfit(model, tokenizer, name: str, together: bool = True) -> None:
    """Raise ConfigError for a model (`name`, for the message) that is broken or that is not read as it reads itself.
    together: several responses are to be read behind one prompt, as updates and the judge's probabilities do."""
    refuse_broken_model(model, tokenizer, name)
    expected = read_alone(model)
    refuse_misread(model, expected)
    if together:
        refuse_leaks(model, expected)


@torch.no_grad()
def read_alone(model) -> list[list[torch.Tensor]]:
    """For each of the prompts and each of its responses (tokens, vocabulary) logits by the model's own forward pass
    over the whole text, from the prompt's last token on. Read once for both checks: a large model takes its time."""
    with tried(f"model: {type(base_of(model)).__name__} cannot read a text"):
        return [[at_once(model, p + r)[len(p) - 1 :] for r in responses] for p, responses in zip(PROMPTS, RESPONSES)]


@torch.no_grad()
def refuse_misread(model, expected: list[list[torch.Tensor]]) -> None:
    """Raise ConfigError if sampling, padded on the left and one token after another from a cache, gives a token another
    distribution than reading its whole text at once. expected: of read_alone."""
    base, device = base_of(model), next(model.parameters()).device
    longest = max(map(len, PROMPTS))
    ids = torch.tensor([[0] * (longest - len(p)) + p for p in PROMPTS], device=device)
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in PROMPTS], device=device)
    cache = DynamicCache(config=base.config)

    def read(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        return model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        ).logits[:, -1]

    with tried(f"model: {type(base).__name__} cannot be sampled from with transformers' cache"):
        found = [*read(ids, mask)]
        cache.batch_repeat_interleave(2)
        mask = torch.cat([mask.repeat_interleave(2, 0), mask.new_ones(4, 1)], 1)
        first = torch.tensor([[r[0]] for responses in RESPONSES for r in responses], device=device)
        found += [*read(first, mask)]
    alone = [texts[0][0] for texts in expected] + [text[1] for texts in expected for text in texts]
    if (far := distance(found, alone)) > tolerance(base):
        raise ConfigError(f"model: {type(base).__name__} does not go on with a text as it reads it at once (distance "
                          f"{far:.2f} of 1), as if it looked ahead; give a causal language model")


@torch.no_grad()
def refuse_leaks(model, expected: list[list[torch.Tensor]]) -> None:
    """Raise ConfigError if the update, which reads a prompt once for its responses, gives a token another distribution
    than reading its text alone: if responses see one another, or take other positions. expected: of read_alone."""
    base = base_of(model)
    rows = [Row(p, r, [0.0] * 2, [0.0] * 2, 0.0) for p, r in zip(PROMPTS, RESPONSES)]
    batch = pack(rows, next(model.parameters()).device)
    with tried(f"model: {type(base).__name__} cannot read several responses behind one prompt"):
        found = to_logits(base, hidden_states(base, batch)[0, batch.source[batch.valid]])
    alone = [logits for texts in expected for text in texts for logits in text[:-1]]
    if (far := distance([*found], alone)) > tolerance(base):
        raise ConfigError(f"model: {type(base).__name__} lets responses that share a prompt see one another (distance "
                          f"{far:.2f} of 1): its layers make a mask of their own; {OTHERS}. evaluate.py takes this "
                          "one with parts=[samples]")


def at_once(model, ids: list[int]) -> torch.Tensor:
    """(tokens, vocabulary) logits of one text by the model's own forward pass."""
    return model(input_ids=torch.tensor([ids], device=next(model.parameters()).device), use_cache=False).logits[0]


def distance(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """The mean total variation distance of the distributions, from 0 to 1; of logits (vocabulary,) each."""
    p, q = (torch.stack(logits).float().softmax(-1) for logits in (found, expected))
    return (p - q).abs().sum(-1).mean().item() / 2


def tolerance(base) -> float:
    rounded = base.dtype != torch.float32 or any(map(is_quantised, base.modules()))
    return ROUNDED if rounded else EXACT


@contextlib.contextmanager
def tried(failing: str):
    """A model of an unknown class may fail in any way: within this block that is a ConfigError which begins so."""
    try:
        yield
    except (ConfigError, torch.OutOfMemoryError):
        raise
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        first = (str(error).strip().splitlines() or [""])[0].rstrip(".")
        raise ConfigError(f"{failing} ({type(error).__name__}: {first}); {OTHERS}") from error
