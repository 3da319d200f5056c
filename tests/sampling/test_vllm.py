"""Sampling on a server: what is asked, what is handed over, and every way in which it can go wrong.

The stand-in of stub.py answers; tests/engine/test_engine.py asks a real server."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from conftest import two_processes
from stub import FIELDS, stub

import evaluate
import train
from spark_lib.config import ConfigError, load_config
from spark_lib.model.memory import plan
from spark_lib.model.weights import trainable
from spark_lib.problem import Problem
from spark_lib.sampling import vllm

PROBLEMS = [Problem("1 + 2 + 3 = ?", "6"), Problem("12 + 34 + 56 = ?", "102"), Problem("7 + 8 + 9 = ?", "24")]
SMALL = ["max_steps=2", "save_every=1", "problems_per_step=4", "eval.limit=0", "run_name=a", "temperature=0.9"]


@pytest.fixture
def server():
    with stub() as running:
        yield running


@pytest.fixture
def spark(server, tmp_path):
    """A policy whose roll samples on the stand-in."""
    spark = train.Spark(load_config([f"vllm={server.address}", "max_new_tokens=24", "temperature=0.9"]), Accelerator())
    spark.roll.start(tmp_path / "run")
    return spark


@torch.no_grad()
def change(spark, size: float = 0.3, seed: int = 0) -> None:
    """Other weights, far enough from the present ones that log-probs of the old ones would be noticed."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in trainable(spark.model):
        parameter.add_(size * torch.randn(parameter.shape, generator=generator))


# --- what is asked and handed over --------------------------------------------------------------------------------


def test_rollouts_are_what_our_own_loop_makes_of_them(spark, server):
    """Guards order (prompt by prompt, n of each, in whatever order they come), ids, log-probs and the stop flag."""
    groups = spark.roll(PROBLEMS, 3, ("test",))
    assert [[r.problem for r in group] for group in groups] == [[problem] * 3 for problem in PROBLEMS]
    for r in (r for group in groups for r in group):
        assert spark.tokenizer.decode(r.prompt_ids) == f"<|user|>{r.problem.prompt}<|end|><|assistant|>"
        assert r.finished == (r.response_ids[-1] == 4) and len(r.response_ids) <= 24 and r.reward is not None
        logits = spark.model(torch.tensor([r.prompt_ids + r.response_ids])).logits[0, len(r.prompt_ids) - 1 : -1]
        own = (logits / 0.9).log_softmax(-1)[range(len(r.response_ids)), r.response_ids]
        assert r.logprobs == pytest.approx(own.tolist(), abs=1e-4)
    asked = server.asked[-1]
    assert set(asked) == FIELDS  # and no seed
    assert (asked["n"], asked["max_tokens"], asked["temperature"], asked["stop_token_ids"]) == (3, 24, 0.9, [4])
    assert (asked["top_p"], asked["top_k"], asked["repetition_penalty"]) == (1.0, 0, 1.0)


def test_greedy_responses_are_our_own(spark, server):
    """Guards temperature 0: drawn once by the server, which refuses n greedy ones, and the same ids as ours."""
    at = replace(spark.roll, config=replace(spark.config, temperature=0.0))
    groups = at(PROBLEMS, 2, ("test",))
    assert server.asked[-1]["n"] == 1 and server.asked[-1]["temperature"] == 0.0
    own = replace(at, engine=None)(PROBLEMS, 2, ("test",))
    assert [[r.response_ids for r in group] for group in groups] == [[r.response_ids for r in group] for group in own]


def test_every_change_of_the_weights_gets_a_new_name_and_folder(spark, server, tmp_path):
    """Guards the stale-adapter trap: one name for changed weights may be answered from a cache of the old ones. And
    against adapters that pile up: the old one goes, from the server and the disk, once the new one has proved right."""
    spark.roll(PROBLEMS, 2, ("a",))
    spark.roll(PROBLEMS, 2, ("b",))
    assert len(server.loaded) == 1  # unchanged: nothing to hand over
    for seed in range(3):
        change(spark, seed=seed)
        spark.roll(PROBLEMS, 2, (f"after {seed}",))
        assert server.asked[-1]["model"] == server.loaded[-1]
    assert len(set(server.loaded)) == 4 and server.unloaded == server.loaded[:-1]
    assert [path.name for path in (tmp_path / "run" / "engine").iterdir()] == server.loaded[-1:]
    differences = [json.loads(line)["difference"] for line in open(tmp_path / "run" / "engine.jsonl")]
    assert len(differences) == 4 and max(differences) < 1e-4
    spark.roll.stop()
    assert server.unloaded == server.loaded and not (tmp_path / "run" / "engine").exists()


def test_the_start_model_is_the_base_alone(spark, server):
    """Guards the paper's policy&reward baseline (recycle.from_start): rollouts of the model before training."""
    change(spark)
    spark.roll(PROBLEMS, 2, ("start",), start_model=True)
    assert server.asked[-1]["model"] == "starter"


def test_what_a_killed_run_left_is_cleared_away(spark, server, tmp_path):
    """Guards the server's memory: a run that was killed cannot unload its adapter, but the one that goes on can."""
    left = server.loaded[-1]
    again = train.Spark(spark.config, Accelerator())
    again.roll.start(tmp_path / "run")
    assert server.unloaded == [left] and list(server.adapters) == server.loaded[1:]


def test_training_and_evaluating_by_the_command_line(server, tmp_path, monkeypatch, capsys):
    """Guards the whole path: both scripts with `vllm`, the correction on, the mismatch in the metrics, and nothing
    left behind."""
    monkeypatch.chdir(tmp_path)
    train.main([*SMALL, "eval.limit=4", f"vllm={server.address}"])
    assert "differ from our own by" in capsys.readouterr().out
    lines = [json.loads(line) for line in open("runs/a/metrics.jsonl")]
    assert all(0 < line["update/mismatch"] < 1e-4 for line in lines) and "importance_cap: 2.0" in open(
        "runs/a/config.yaml").read()
    assert not server.adapters and not Path("runs/a/engine").exists()
    before = len(server.asked)
    evaluate.main(["runs/a", "limit=4", "samples=2", f"vllm={server.address}"])
    assert len(server.asked) > before + 3 and not server.adapters
    evaluate.main(["runs/a", "limit=4", "samples=2"])  # by our own loop: another sampler, so a folder of its own
    assert Path("runs/a/eval-arithmetic-2").is_dir()


# --- what goes wrong ----------------------------------------------------------------------------------------------


def test_no_server_no_run(tmp_path, monkeypatch):
    """Guards the first mistake of all: known before a model is loaded, and without a folder for nothing."""
    monkeypatch.chdir(tmp_path)
    with stub() as gone:
        pass
    with pytest.raises(ConfigError, match=f"vllm: no server at {gone.address} .*python -m spark_lib.sampling.vllm"):
        train.main([*SMALL, f"vllm={gone.address}"])
    with pytest.raises(ConfigError, match="vllm: no server"):
        evaluate.main(["starter", "limit=2", f"vllm={gone.address}"])
    assert not (tmp_path / "runs" / "a").exists()


@pytest.mark.parametrize("words, expected", [
    (["lora=null"], "lora=null trains all weights"),
    (["vllm=localhost:8000"], "expected an address like http://127.0.0.1:8000"),
    (["lora.r=64"], "LoRA rank 64 is greater than max_lora_rank 16.*--max-lora-rank"),
    (["max_new_tokens=512"], "a prompt and max_new_tokens=512 together need .* --max-model-len 512"),
    (["lora.target_modules=.*(q_proj|embed_tokens)"], "no adapter on the embeddings"),
    (["model=starter_vl", "data=shapes"], "only our own loop"),
])
def test_settings_that_a_server_cannot_have(server, tmp_path, monkeypatch, words, expected):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=expected) as error:
        train.main([*SMALL, f"vllm={server.address}", *words])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("fault, expected", [
    ("HTTP 500", "answered 500: .*EngineCore encountered"),
    ("lost", "the connection to .* was lost"),
    ("half an answer", "the connection to .* was lost .*IncompleteRead"),
    ("hang", "has not answered for 0.5 s"),
    ("no JSON", "did not answer what was asked"),
    ("other prompts", "continued another prompt"),
    ("fewer tokens", "that no stop token ends"),
    ("fewer responses", "5 responses to 3 prompts, 2 each"),
    ("no log-probs", "did not answer what was asked"),
])
def test_whatever_a_server_does_is_one_clear_line(spark, server, monkeypatch, fault, expected):
    """Guards against tracebacks, and against going on in silence with what was not asked for."""
    monkeypatch.setitem(vllm.PATIENCE, "sample", 0.5 if fault == "hang" else 60)
    server.fault = fault
    with pytest.raises(ConfigError, match=expected) as error:
        spark.roll(PROBLEMS, 2, ("test",))
    assert str(error.value).startswith("vllm: ") and "\n" not in str(error.value)
    server.fault = None
    monkeypatch.setitem(vllm.PATIENCE, "sample", 60)
    assert len(spark.roll(PROBLEMS, 2, ("test",))) == 3  # it holds no grudge


@pytest.mark.parametrize("fault", ["no runtime loading", "raw log-probs", "stale adapter"])
def test_a_server_that_samples_from_something_else_is_found_out(server, spark, tmp_path, fault):
    """Guards silence: the run would train on log-probs and texts of another distribution."""
    change(spark)
    server.fault = fault
    expected = "did not take the adapter" if fault == "no runtime loading" else "differ from our own by .* nats a token"
    with pytest.raises(ConfigError, match=expected):
        spark.roll(PROBLEMS, 2, ("test",))


def test_another_base_is_found_out(tmp_path):
    """Guards the commonest mistake: a server that was started with another model of the same vocabulary."""
    other = tmp_path / "other"
    spark = train.Spark(load_config([]), Accelerator())
    change_all = torch.Generator().manual_seed(0)
    base = spark.model.get_base_model()
    spark.tokenizer.save_pretrained(other)
    from spark_lib.model.checkpoints import save_merged

    with torch.no_grad():
        for parameter in base.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=change_all))
    save_merged(spark.model, spark.tokenizer, other)
    with stub(name=str(other)) as server:
        spark = train.Spark(load_config([f"vllm={server.address}"]), Accelerator())
        with pytest.raises(ConfigError, match="it serves another base .*other"):
            spark.roll.start(tmp_path / "run")


def test_a_server_that_dies_in_mid_run_and_the_run_that_goes_on(tmp_path, monkeypatch):
    """Guards the checkpoint: the run ends with one line, keeps what it had, and goes on with the next server, or with
    our own loop, from there."""
    monkeypatch.chdir(tmp_path)
    with stub() as server:
        words = [*SMALL, "max_steps=3", f"vllm={server.address}"]
        server.fault, server.after = "dead", 4  # a trial and two samplings for one step, and a trial
        with pytest.raises(ConfigError, match="vllm: "):
            train.main(words)
    assert [path.name for path in Path("runs/a").glob("checkpoint-*")] == ["checkpoint-1"]
    with stub(port=server.server_port):
        train.main(["resume=runs/a", "max_steps=2"])
    assert len(open("runs/a/metrics.jsonl").readlines()) == 2
    train.main(["resume=runs/a", "vllm=null", "max_steps=3"])
    assert len(open("runs/a/metrics.jsonl").readlines()) == 3 and Path("runs/a/checkpoint-3").is_dir()


def test_the_plan_leaves_out_what_the_server_does():
    """Guards `plan=true`: it is about the GPU that trains."""
    words = ["quantization=nf4", "max_new_tokens=64"]
    own, served = (plan(load_config([*words, *more])) for more in ([], ["vllm=http://127.0.0.1:8000"]))
    assert sum(own.sampling.values()) > sum(served.sampling.values()) == 0
    assert (own.always, own.learning) == (served.always, served.learning)


# --- several processes ---------------------------------------------------------------------------------------------


def test_two_processes_ask_for_their_shares_and_one_hands_over(server, tmp_path):
    """Guards the collective: a share each, one adapter per update for both, and no process that waits for ever."""
    done = two_processes("train", tmp_path, *SMALL, f"vllm={server.address}")
    assert done.returncode == 0, done.stderr
    trials = [body for body in server.asked if len(body["prompt"]) == len(vllm.TRIED)]
    assert len(trials) == len(server.loaded) == 2 and not server.adapters
    solving = [body for body in server.asked if body["n"] == 8]
    assert [len(body["prompt"]) for body in solving] == [2, 2, 2, 2]
    assert {body["model"] for body in solving[:2]} == {server.loaded[0]}
    assert {body["model"] for body in solving[2:]} == {server.loaded[1]}
    assert len(open(tmp_path / "runs" / "a" / "metrics.jsonl").readlines()) == 2


@pytest.mark.slow
def test_an_error_in_one_process_ends_both(server, tmp_path):
    """Guards the other process, which would wait for the first one's rollouts until the network gives up."""
    server.fault, server.after = "HTTP 500", 2  # after the trial and the first one's share
    done = two_processes("train", tmp_path, *SMALL, f"vllm={server.address}")
    assert done.returncode != 0 and done.stderr.count("vllm: ") >= 2 and "answered 500" in done.stderr


# --- the server's side ---------------------------------------------------------------------------------------------


def options(printed: str) -> dict[str, str]:
    (line,) = (line for line in printed.splitlines() if "api_server" in line)
    words = line.split()
    return {a.removeprefix("--"): b for a, b in zip(words, words[1:]) if a.startswith("--")}


def test_the_command_that_starts_a_server(tmp_path, monkeypatch, capsys):
    """Guards each option that a server goes wrong without, and that a plain checkpoint is served where it lies."""
    monkeypatch.chdir(tmp_path)
    vllm.main(["lora.r=20", "max_new_tokens=64", "max_rows=32", "vllm=http://127.0.0.1:8123"])
    found = options(capsys.readouterr().out)
    assert Path(found["model"]).name == "text_model" and found["dtype"] in ("float32", "bfloat16")
    assert found["max-lora-rank"] == "32" and found["max-num-seqs"] == "32" and found["port"] == "8123"
    assert found["logprobs-mode"] == "processed_logprobs" and found["generation-config"] == "vllm"
    assert found["host"] == "127.0.0.1" and 256 < int(found["max-model-len"]) <= 1024
    assert not (tmp_path / "runs").exists()


def test_a_quantised_base_is_served_dequantised(checkpoint, tmp_path, monkeypatch, capsys):
    """Guards what the adapter is trained on: NF4's rounded weights, not those of the checkpoint, and no quantisation
    that a server would have to know."""
    monkeypatch.chdir(tmp_path)
    words = [f"model={checkpoint}", "quantization=nf4", "max_new_tokens=24", "temperature=0.9"]
    vllm.main(words)
    folder = options(capsys.readouterr().out)["model"]
    assert folder.endswith(f"{checkpoint.name}-nf4")
    assert "quantization_config" not in json.loads((Path(folder) / "config.json").read_text())
    with stub(name=folder) as server:
        spark = train.Spark(load_config([*words, f"vllm={server.address}"]), Accelerator())
        spark.roll.start(tmp_path / "run")
        assert spark.roll.engine.gap < 1e-3
    with stub(name=str(checkpoint)) as server:
        spark = train.Spark(load_config([*words, f"vllm={server.address}"]), Accelerator())
        with pytest.raises(ConfigError, match="it serves another base"):
            spark.roll.start(tmp_path / "run")
