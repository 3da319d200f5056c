r"""The judge's confidence: both verdicts scored where the verdict is written, however the tokenizer cuts `{Yes}`."""

import math

import pytest
import torch
from conftest import add_lora
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from spark_lib.problem import Problem
from spark_lib.sampling.confidence import continuations, verdict_place, yes_probabilities

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())


def byte_level(*merges: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE without words: every character is a token but for the merges, which may cross any border."""
    pairs = [tuple(merge.split()) for merge in merges]
    vocabulary = {token: i for i, token in enumerate(["<end>", *ALPHABET, *(a + b for a, b in pairs)])}
    built = Tokenizer(BPE(vocabulary, pairs))
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    built.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=built, eos_token="<end>", clean_up_tokenization_spaces=False)


def with_leading_space() -> PreTrainedTokenizerFast:
    """As Llama 2 and Mistral: a text's first word gets a space in front, which decoding takes away again."""
    tokens = ["<end>", *map(chr, range(33, 127)), "\n", "▁", "Ye", "Yes", "No", "▁No", "▁Ye", "▁Yes"]
    merges = [("Y", "e"), ("Ye", "s"), ("N", "o"), ("▁", "No"), ("▁", "Ye"), ("▁", "Yes")]
    built = Tokenizer(BPE({token: i for i, token in enumerate(tokens)}, merges))
    built.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    built.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return PreTrainedTokenizerFast(tokenizer_object=built, eos_token="<end>", clean_up_tokenization_spaces=False)


TOKENIZERS = {
    "characters": byte_level(),
    "words": byte_level("Y e", "Ye s", "N o"),
    "{Yes": byte_level("Y e", "Ye s", "{ Yes"),
    "No}": byte_level("N o", "No }"),
    "{No}.": byte_level("N o", "{ No", "{No }", "{No} ."),
    "boxed{": byte_level("d {", "Y e", "Ye s", "Yes }"),
    "leading space": with_leading_space(),
}


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("written", ["Yes", "No", "yes", "NO"])
@pytest.mark.parametrize("form", [
    r"It is 5, so \boxed{%s}. Done.", r"\boxed{ \text{%s} }", r"\boxed{No} or \boxed{%s}."
])
def test_only_the_verdict_is_replaced(name, written, form):
    """Guards verdicts of several tokens, and braces that are part of one: what is kept and each continuation together
    spell the text up to the end of the box, once with each verdict, in the case that was written."""
    tokenizer, text = TOKENIZERS[name], form % written
    ids = tokenizer.encode(text, add_special_tokens=False) + [tokenizer.eos_token_id]
    kept, yes, no = continuations(ids, text, tokenizer)
    own, other = (yes, no) if written.lower() == "yes" else (no, yes)
    assert ids[kept : kept + len(own)] == own  # the written verdict is scored with the very tokens that were sampled
    before, after = text[: text.rindex(written)], text[text.rindex(written) + len(written) :]
    swapped = {"Yes": "No", "No": "Yes", "yes": "no", "NO": "YES"}[written]
    for continuation, word in ((own, written), (other, swapped)):
        spelled, whole = tokenizer.decode(ids[:kept] + continuation), before + word + after
        box_closed = whole.rindex("}") + 1
        assert whole.startswith(spelled)
        assert box_closed <= len(spelled) <= box_closed + 1
    assert tokenizer.decode(ids[:kept]) == before[: len(tokenizer.decode(ids[:kept]))]
    assert len(before) - len(tokenizer.decode(ids[:kept])) <= 2  # nothing is replaced that could be kept


def test_the_other_verdict_is_spelled_in_the_tokenizers_own_way():
    """Guards against scoring a spelling that the model never writes: "{Yes" is one token here, not four."""
    tokenizer = TOKENIZERS["{Yes"]
    text = r"\boxed{No}"
    _, yes, no = continuations(tokenizer.encode(text), text, tokenizer)
    assert [tokenizer.decode([i]) for i in no] == ["N", "o", "}"]
    _, yes, no = continuations(tokenizer.encode(r"\boxed{Yes}"), r"\boxed{Yes}", tokenizer)
    assert [tokenizer.decode([i]) for i in yes] == ["{Yes", "}"]
    assert [tokenizer.decode([i]) for i in no] == ["{", "N", "o", "}"]


@pytest.mark.parametrize("text, word", [
    (r"Yes, so \boxed{No}", "No"),
    (r"\boxed{yes} no \boxed{ **NO** }", "NO"),
    (r"\boxed{\textnormal{Yes}}", "Yes"),  # "no" in \textnormal is no word
    (r"\boxed{\boxed{Yes}} No", "Yes"),
    (r"\boxed{Yes} and \boxed{No", "Yes"),  # the last box was never closed
    ("Yes", None), (r"\boxed{}", None), (r"\boxed{maybe}", None), (r"\boxed{Yes or No}", None),
    (r"\boxed{Yesno}", None),
])
def test_verdict_place(text, word):
    """Guards the place: the word that the verifier reads, in the last balanced box."""
    place = verdict_place(text)
    assert (place and text[place[0] : place[1]]) == word
    if place:
        assert text[place[2] - 1] == "}"


@pytest.mark.parametrize("name", ["llama", "qwen2", "gemma3", "gemma2", "lora"])
def test_probabilities_agree_with_plain_forward_passes(tiny, tokenizer, rollout, name):
    """Guards the numbers against the model's own forward, one sequence at a time: windows, capped logits, an adapter,
    rows of different lengths in one batch, and which of the two continuations is Yes."""
    model = add_lora(tiny("llama")) if name == "lora" else tiny(name)
    longer = r"1 + 2 = 3, not 4, and this is longer. So \boxed{No}"
    texts = [r"Fine. \boxed{Yes}", longer, r"\boxed{yes}", r"\boxed{NO}."]
    judged = [verdict(rollout, tokenizer, text) for text in texts]
    found = yes_probabilities(model, tokenizer, judged, max_tokens=100)

    def logprob(before: list[int], after: list[int]) -> float:
        with torch.no_grad():
            scores = model(torch.tensor([before + after])).logits[0].double().log_softmax(-1)
        return sum(scores[len(before) + i - 1, token].item() for i, token in enumerate(after))

    for r, p in zip(judged, found):
        kept, yes, no = continuations(r.response_ids, r.text, tokenizer)
        before = r.prompt_ids + r.response_ids[:kept]
        odds = math.exp(logprob(before, yes) - logprob(before, no))
        assert p == pytest.approx(odds / (1 + odds), abs=1e-4)
    assert len({round(p, 3) for p in found}) >= 3  # else the comparison would compare nothing


def verdict(rollout, tokenizer, text: str, **fields):
    ids = tokenizer.encode(text, add_special_tokens=False) + [tokenizer.eos_token_id]
    problem = Problem("", "Yes", "pointwise")
    return rollout(problem=problem, text=text, response_ids=ids, prompt_ids=[7, 9, 11], **fields)


def test_what_cannot_be_read_has_no_probability(tiny, tokenizer, rollout):
    """Guards the places: the readable verdicts keep theirs; a cut-off judgement is not read, as by the verifier."""
    texts = [r"\boxed{maybe}", r"\boxed{Yes}", r"\boxed{No}"]
    judged = [verdict(rollout, tokenizer, text) for text in texts]
    judged.append(verdict(rollout, tokenizer, r"\boxed{Yes}", finished=False))
    model = tiny("llama")
    found = yes_probabilities(model, tokenizer, judged, max_tokens=1)
    assert [p is None for p in found] == [True, False, False, True]
    assert found[1] == pytest.approx(yes_probabilities(model, tokenizer, judged[1:2], max_tokens=1)[0], abs=1e-6)
    assert yes_probabilities(model, tokenizer, [], max_tokens=1) == []
