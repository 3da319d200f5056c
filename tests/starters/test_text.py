"""The shipped starter model and the cold start that builds it."""

import json
import os
import random
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from spark_lib.data.load import split_of
from spark_lib.problem import KINDS, Problem
from spark_lib.rollout import encode_prompt
from spark_lib.starters import text as starter
from spark_lib.starters.built_from import changed
from spark_lib.verify import extract_boxed, verify

AS_BUILT = not changed(starter.FOLDER, Path(starter.__file__)) and "SPARK_REBUILD" not in os.environ


@pytest.fixture(scope="module")
def shipped():
    return AutoModelForCausalLM.from_pretrained(starter.FOLDER).eval(), AutoTokenizer.from_pretrained(starter.FOLDER)


def test_plain_transformers_loads_it(shipped):
    """AutoTokenizer once gave Qwen2's own splitting to a Qwen2 checkpoint, and the model then read gibberish: what it
    loads must read and write text as the cold start did."""
    model, tokenizer = shipped
    built = starter.build_tokenizer(0)
    rng = random.Random(1)
    for kind in KINDS:
        for text in starter.lesson(kind, starter.SLOPPY, rng):
            assert tokenizer.encode(text) == built.encode(text)
            assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.decode(tokenizer.encode("Größe → 12")) == "Größe → 12"  # any text, not only the task's
    assert sum(p.numel() for p in model.parameters()) < 2_000_000
    assert model.config.tie_word_embeddings
    assert tokenizer.eos_token_id == model.config.eos_token_id != tokenizer.pad_token_id


def test_digits_are_tokens(shipped):
    """Merged digits would make addition unlearnable for a model of this size."""
    _, tokenizer = shipped
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode("105")) == ["1", "0", "5"]
    assert len(tokenizer.encode("\\boxed{")) == 1


def test_it_leaves_something_to_learn(shipped):
    """A starter that cannot solve at all gives no signal, one that can gives nothing to show."""
    model, tokenizer = shipped
    skills = starter.probe(model, tokenizer, 200)
    assert 0.15 < skills["solve"] < 0.65
    assert 0.4 < skills["pointwise"] < 0.7 and 0.4 < skills["pairwise"] < 0.7
    assert 0.1 < skills["reflect"] < 0.5


def test_lessons_are_answerable_and_never_held_out():
    """A faultless lesson must carry the right answer in the form that the verifier reads, and the cold start must not
    see a held-out problem."""
    rng = random.Random(2)
    for _ in range(200):
        for kind in KINDS:
            prompt, demonstration = starter.lesson(kind, starter.FAULTLESS, rng)
            question = prompt.splitlines()[-1]
            assert split_of(question) == "train"
            total = sum(map(int, question.removesuffix(" = ?").split(" + ")))
            box = extract_boxed(demonstration)
            if kind in ("solve", "reflect"):
                assert verify(demonstration, Problem("", str(total)))
            elif kind == "pointwise":
                shown = prompt.split("\n", 1)[1].split("\n")[0]
                assert (box == "Yes") == (shown.rstrip("}").endswith(str(total)))
            else:
                assert box in ("A", "B")


def test_cold_start_fails_loudly():
    """A cold start that never learned must not be saved as if it had."""
    with pytest.raises(RuntimeError, match="phase 1 of 3 after 2 steps"):
        starter.cold_start(seed=3, max_steps=2)


def test_the_rate_of_each_phase():
    """Guards `settle`: the starter that sees came to its skill while the rate of the second phase fell. Adam
    moves a weight of constant gradient by the learning rate: the moves are the rates."""
    model = torch.nn.Linear(1, 1, bias=False)
    seen = []

    def lessons(mix, sloppy):
        seen.append(model.weight.item())
        (1000 * model.weight).sum().backward()
        return 0.0

    starter.teach(model, lessons, lambda kinds: dict.fromkeys(kinds, 1.0), skilled=0.9, practice=100, decay=50,
                  max_steps=1000, lr=1e-3, settle=0.1)
    rates = -torch.tensor([*seen, model.weight.item()]).diff() / 1e-3
    wanted = [*((i + 1) / 50 for i in range(50)), *(0.5 - 0.45 * i / 100 for i in range(100)),
              *(0.5 * (50 - i) / 50 for i in range(50))]
    torch.testing.assert_close(rates, torch.tensor(wanted), atol=0.02, rtol=0)


@pytest.mark.slow
@pytest.mark.skipif(AS_BUILT, reason="the weights are what this code builds; SPARK_REBUILD=1 builds them all the same")
def test_rebuilding_gives_a_starter_of_the_same_skill(shipped, tmp_path):
    """The shipped weights must be what the shipped code builds, not a lucky leftover."""
    model, tokenizer = starter.cold_start(seed=0)
    now, then = starter.probe(model, tokenizer, 400), starter.probe(*shipped, 400)
    for kind in KINDS:
        assert abs(now[kind] - then[kind]) < 0.15  # 400 samples each, and another CPU takes another path
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = torch.tensor([encode_prompt(tokenizer, "12 + 34 + 56 = ?")])
    assert torch.equal(model(ids).logits, again(ids).logits)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]
