"""Texts beyond a model's positions: left out and counted, or the run ends before it begins, as too_long says. GPT-2's
class used to end in an IndexError, and rotary models ran on in silence."""

import json

import pytest
import torch
import transformers as hf
from accelerate import Accelerator
from PIL import Image

import evaluate
import train
from spark_lib.clock import Clock
from spark_lib.config import Config, ConfigError
from spark_lib.model.kinds import positions_of
from spark_lib.model.load import load_base
from spark_lib.problem import Problem
from spark_lib.rollout import encode, encode_prompt
from spark_lib.sampling.roll import Sampler
from spark_lib.sampling.room import Room

LONG = "Add. " + " + ".join(["12"] * 40) + " = ?"


@pytest.fixture
def gpt2(tokenizer, tmp_path):
    """The folder of a tiny GPT-2 with 64 positions."""
    torch.manual_seed(0)
    ends = {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    hf.GPT2LMHeadModel(hf.GPT2Config(**ends, n_embd=32, n_layer=2, n_head=4, n_positions=64)).save_pretrained(
        tmp_path / "gpt2")
    tokenizer.save_pretrained(tmp_path / "gpt2")
    return str(tmp_path / "gpt2")


def sampler(model, tokenizer, **settings) -> Sampler:
    return Sampler(model.eval(), tokenizer, Config(**settings), Accelerator(), None, Clock())


@pytest.mark.parametrize("config, positions", [
    (hf.LlamaConfig(max_position_embeddings=512), 512),
    (hf.GPT2Config(n_positions=512), 512),
    (hf.MistralConfig(max_position_embeddings=512, sliding_window=16), 512),
    (hf.GPTNeoXConfig(max_position_embeddings=512), 512),
    (hf.BloomConfig(), None),
    (hf.FalconConfig(alibi=True), None),
    (hf.LlamaConfig(max_position_embeddings=512, rope_parameters={
        "rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}), 2048),
    (hf.Qwen2Config(max_position_embeddings=512, rope_parameters={
        "rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4, "original_max_position_embeddings": 512}), 2048),
    (hf.Qwen2Config(max_position_embeddings=2048, rope_parameters={  # written with the scaled limit
        "rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4, "original_max_position_embeddings": 512}), 2048),
    (hf.LlamaConfig(max_position_embeddings=4096, rope_parameters={
        "rope_type": "llama3", "factor": 8.0, "rope_theta": 1e4, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 256}), 4096),
    (hf.Gemma3TextConfig(max_position_embeddings=512), 512),
])
def test_positions_are_read_off_the_configuration(config, positions):
    """Rope scaling, windows, models that know no limit."""
    assert positions_of(config) == positions


def test_the_last_position_is_used_and_none_beyond(gpt2):
    """A prompt and response of just 64 tokens run; one token more is not asked."""
    model, tokenizer = load_base(gpt2)
    problem = Problem("1 + 2 = ?", "3")
    room = 64 - len(encode_prompt(tokenizer, problem.prompt))
    assert Room(model, tokenizer, Config(max_new_tokens=room)).holds(problem)
    assert not Room(model, tokenizer, Config(max_new_tokens=room + 1)).holds(problem)
    ((one, _),) = sampler(model, tokenizer, max_new_tokens=room)([problem], 2, ("x",))
    assert len(one.response_ids) <= room


def test_what_is_too_long_is_left_out_and_nothing_else_changes(gpt2, capsys):
    """Where each problem has to have a group, its responses are empty and cut off; a part of the problems gets what it
    gets when all are sampled at once."""
    model, tokenizer = load_base(gpt2)
    fitting = [Problem("1 + 2 = ?", "3"), Problem("3 + 4 = ?", "7")]
    mixed = [fitting[0], Problem(LONG, "480"), fitting[1]]
    roll = sampler(model, tokenizer, max_new_tokens=8)
    expected = [[r.response_ids for r in group] for group in roll(fitting, 2, ("x",))]
    dropped = roll(mixed, 2, ("x",))
    assert [[r.response_ids for r in group] for group in dropped] == expected
    assert "1 prompts so far were not asked" in capsys.readouterr().out and roll.room.left_out == 1
    whole = roll(mixed, 2, ("x",), whole=True)
    assert [[r.response_ids for r in group] for group in whole] == [expected[0], [[], []], expected[1]]
    assert [(r.text, r.finished, r.reward, r.problem) for r in whole[1]] == [("", False, 0.0, mixed[1])] * 2
    for part in (range(2), range(1, 2), range(2, 3)):
        groups = roll(mixed, 2, ("x",), part=part, whole=True)
        assert [[r.response_ids for r in group] for group in groups] == [
            [r.response_ids for r in whole[i]] for i in part]
    with pytest.raises(ConfigError, match="too_long: 1 of 3 prompts leave no room .* lower max_new_tokens"):
        sampler(model, tokenizer, max_new_tokens=8, too_long="refuse")(mixed, 2, ("x",))


def write_data(tmp_path):
    rows = [{"question": f"{a} + {b} = ?", "answer": str(a + b)} for a in range(2, 8) for b in range(2, 8)]
    rows += [{"question": f"{LONG} + {a}", "answer": str(480 + a)} for a in range(10)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


SMALL = ["data=data.jsonl", "max_steps=2", "problems_per_step=4", "group_size=2", "judge_group_size=2",
         "judge_share=0.4", "eval.limit=8", "eval.rounds=1", "max_new_tokens=8", "run_name=a"]


def test_a_run_leaves_long_problems_out_and_says_how_many(gpt2, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_data(tmp_path)
    train.main([f"model={gpt2}", *SMALL])
    said = capsys.readouterr().out
    assert "training problems, as they leave no room for a response of 8 tokens within the model's 64 positions" in said
    assert json.loads((tmp_path / "runs/a/summary.json").read_text())["steps"] == 2
    evaluate.main([gpt2, "data=data.jsonl", "limit=8", "max_new_tokens=8", "samples=2", "rounds=1", "split=test"])


@pytest.mark.parametrize("words, message", [
    (["too_long=refuse"], "training problems leave no room .*lower max_new_tokens or set too_long=drop"),
    (["max_new_tokens=64"], "of .* training problems leave no room for a response of 64 tokens"),
])
def test_or_the_run_ends_before_it_begins(gpt2, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    write_data(tmp_path)
    with pytest.raises(ConfigError, match=message) as error:
        train.main([f"model={gpt2}", *SMALL, *words])
    assert "\n" not in str(error.value) and not (tmp_path / "runs").exists()


def test_judge_problems_that_may_be_too_long_are_told_before(gpt2, capsys):
    """Two whole responses and a third do not fit, and the remedy that is named is one."""
    model, tokenizer = load_base(gpt2)
    data = [Problem("1 + 2 = ?", "3")]
    config = Config(max_new_tokens=16)
    config.recycle.view = "trace"
    Room(model, tokenizer, config).fitting(data, [])
    said = capsys.readouterr().out
    assert "judge problems show up to 2 responses" in said
    config.too_long = "refuse"
    with pytest.raises(ConfigError, match="recycle.view=answer"):
        Room(model, tokenizer, config).fitting(data, [])
    config.recycle.view = "answer"
    Room(model, tokenizer, config).fitting(data, [])


@pytest.mark.parametrize("size", [(8, 8), (30, 200), (64, 48), (300, 300)])
def test_an_image_is_never_taken_for_less_than_it_costs(size):
    """Nor for the largest that there may be, which no picture of the small starter's would leave room for."""
    model, processor = load_base("starter_vl", max_pixels=50_000)
    problem = Problem("How many?", "3", image=Image.new("RGB", size))
    ids, _ = encode(model, processor, problem)
    image = ids.count(model.config.image_token_id)
    room = Room(model, processor, Config(max_pixels=50_000))
    assert image <= room.image_tokens(problem.image) <= 2 * image + 16


def test_turns_before_the_question_take_room_too(gpt2):
    """A short question at the end of a long chat passed the check, and the model ran beyond its positions."""
    model, tokenizer = load_base(gpt2)
    room = Room(model, tokenizer, Config(max_new_tokens=8))
    short = Problem("1 + 1 = ?", "2", meta={"question": "1 + 1 = ?"})
    chat = Problem("1 + 1 = ?", "2", meta={"question": "1 + 1 = ?"}, context=(("user", LONG), ("assistant", "480")))
    assert room.holds(short) and not room.holds(chat) and room.kept([chat, short], range(2)) == [1]


def test_an_evaluation_counts_what_is_too_long_once(gpt2, tmp_path, monkeypatch, capsys):
    """A new Sampler for each batch began its count, and its search for what fits the memory, anew."""
    monkeypatch.chdir(tmp_path)
    rows = [{"question": f"{LONG} {i}", "answer": "480"} for i in range(80)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    evaluate.main([gpt2, "data=a.jsonl", "max_new_tokens=8", "parts=[]", "batch=1"])
    said = [int(line.split()[1]) for line in capsys.readouterr().out.splitlines() if "were not asked" in line]
    assert len(said) > 2 and said == [2**k for k in range(len(said))]  # a tenth of the rows is held out
