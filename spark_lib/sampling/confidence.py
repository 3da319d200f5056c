r"""How sure a judge is: P(Yes) / (P(Yes) + P(No)) at the place where it writes its verdict, `\boxed{Yes}`.

Everything the judge wrote before the verdict is kept, and the verdict's own tokens are replaced by those of the other
verdict. Both continuations are then scored by the model's logits (at temperature 1). A verdict may be several tokens
and may share its first and last token with the braces ("{Yes", "No}"), so whole tokens are replaced, from the one that
holds the verdict's first letter to the one that closes the box.
"""

import math
import re

import torch

from spark_lib.loss import Row, micro_batches
from spark_lib.model.packing import pack, response_logprobs
from spark_lib.model.vision import text_tokenizer
from spark_lib.rollout import Rollout
from spark_lib.verify import extract_boxed

OTHER = {"yes": "no", "no": "yes"}


def verdict_place(text: str) -> tuple[int, int, int] | None:
    r"""(start, end, after) in characters: text[start:end] is the word Yes or No in the last balanced box, and the box
    is closed before `after`. None if that box has no such word, or several."""
    box = extract_boxed(text)
    words = list(re.finditer(r"(?<![a-z])(?:yes|no)(?![a-z])", box or "", re.IGNORECASE))
    if len(words) != 1:
        return None
    *_, found = re.finditer(rf"boxed\s*\{{\s*({re.escape(box)})\s*\}}", text)
    return found.start(1) + words[0].start(), found.start(1) + words[0].end(), found.end()


def with_case(word: str, like: str) -> str:
    return word.upper() if like.isupper() else word.capitalize() if like[0].isupper() else word


def continuations(ids: list[int], text: str, tokenizer) -> tuple[int, list[int], list[int]] | None:
    """(kept, yes, no): the first `kept` of the response's tokens come before its verdict; `yes` and `no` are the
    tokens that write each verdict there. None without a verdict, or where the tokenizer cannot write the other one
    after these tokens."""
    place = verdict_place(text)
    if place is None:
        return None
    start, end, after = place

    def decoded(count: int) -> str:
        return tokenizer.decode(ids[:count], skip_special_tokens=True)

    # Decoding is monotone, so the tokens' places are found by bisection and not by decoding every beginning.
    kept = bisect(len(ids), lambda count: len(decoded(count)) > start) - 1
    stop = bisect(len(ids), lambda count: len(decoded(count)) >= after)
    before = decoded(kept)
    written = text[start:end]
    other = with_case(OTHER[written.lower()], written)
    span = text[len(before) : start] + other + decoded(stop)[end:]
    # After a line break, as some tokenizers put a space before a text's first word. It never merges with what follows.
    anchor = tokenizer.encode("\n", add_special_tokens=False)
    replaced = tokenizer.encode("\n" + span, add_special_tokens=False)[len(anchor) :]
    if tokenizer.decode(ids[:kept] + replaced, skip_special_tokens=True) != before + span:
        return None
    pair = {written.lower(): ids[kept:stop], other.lower(): replaced}
    return kept, pair["yes"], pair["no"]


def bisect(count: int, holds) -> int:
    """The least number in 0 … count for which `holds`, which stays true once it is."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


@torch.no_grad()
def yes_probabilities(
    model, tokenizer, verdicts: list[Rollout], max_tokens: int, share: slice = slice(None)
) -> list[float | None]:
    """P(Yes) / (P(Yes) + P(No)) for each pointwise judgement; None where no verdict can be read or it was cut off.

    Both continuations of a judgement are the responses of one row of packing.pack: what they share is read once.
    max_tokens: most tokens in one forward pass, except that a longer judgement is a pass of its own.
    share: the forward passes to do, for one of several processes; the other passes' judgements are None. Whole passes
        are shared out, as a judgement's neighbours change the last digits.
    """
    found = [continuations(r.response_ids, r.text, text_tokenizer(tokenizer)) if r.finished else None for r in verdicts]
    places = [i for i, parts in enumerate(found) if parts]
    rows = []
    for i in places:
        kept, yes, no = found[i]
        verdict = verdicts[i]
        kept_ids, seen = verdict.response_ids[:kept], verdict.seen and verdict.seen.longer(kept)
        rows.append(Row(verdict.prompt_ids + kept_ids, [yes, no], [0.0] * 2, [0.0] * 2, 0.0, seen))
    order = sorted(range(len(rows)), key=lambda j: len(rows[j]), reverse=True)  # as micro_batches sorts them
    device, remaining = next(model.parameters()).device, iter(order)
    batches = micro_batches(rows, max([max_tokens, *map(len, rows)]))
    members = [[next(remaining) for _ in batch] for batch in batches]
    probabilities: list[float | None] = [None] * len(verdicts)
    for batch, inside in list(zip(batches, members))[share]:
        sums = response_logprobs(model, pack(batch, device), 1.0).double().sum(1).cpu()  # yes, no, yes, no …
        for j, score in zip(inside, (sums[0::2] - sums[1::2]).tolist(), strict=True):
            probabilities[places[j]] = 1 / (1 + math.exp(-score)) if score > -700 else 0.0
    return probabilities
