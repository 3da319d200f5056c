"""A real vLLM server, on the CPU: what is sampled, handed over and scored, and the loop around it.

The first test installs vLLM in an environment of its own, in the user's cache, which takes minutes."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from conftest import two_processes
from server import Server, interpreter

import train
from spark_lib.config import load_config
from spark_lib.data.load import load_problems

REPO = Path(__file__).parents[2]
FETCH = REPO.parent / "shared" / "models" / "fetch_models.py"
SMOLLM2 = "smollm2-135m-instruct"
CLOSE = 1e-3  # nats: the largest difference of a log-prob that fp32 may make
pytestmark = pytest.mark.slow


def smollm2() -> str:
    """The real SmolLM2 as a GGUF file: in the folder that SPARK_MODELS names, or fetched into the user's cache."""
    if folder := os.environ.get("SPARK_MODELS"):
        return str(Path(folder) / f"{SMOLLM2}.gguf")
    if not FETCH.exists():
        pytest.skip(f"no SmolLM2: set SPARK_MODELS to a folder with {SMOLLM2}.gguf")
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spark-kit" / "models"
    subprocess.run([sys.executable, str(FETCH), str(folder), SMOLLM2], check=True)
    return str(folder / f"{SMOLLM2}.gguf")


@torch.no_grad()
def change(spark) -> None:
    generator = torch.Generator().manual_seed(0)
    for name, parameter in spark.model.named_parameters():
        if parameter.requires_grad and "lora_B" in name:
            parameter.normal_(0, 0.06, generator=generator)


def differences(spark, groups) -> torch.Tensor:
    """Of the server's log-probs of all tokens and those of one plain forward pass per response."""
    found = []
    for r in (r for group in groups for r in group):
        with torch.no_grad():
            logits = spark.model(torch.tensor([r.prompt_ids + r.response_ids])).logits[0, len(r.prompt_ids) - 1 : -1]
        own = (logits.float() / spark.config.temperature).log_softmax(-1)[range(len(r.response_ids)), r.response_ids]
        found.append((own - torch.tensor(r.logprobs)).abs())
    return torch.cat(found)


@pytest.fixture(scope="module", params=["starter", "smollm2"])
def served(request, tmp_path_factory):
    """(settings, a running server): it was started by the command that spark_lib.sampling.vllm prints."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "rule.py").write_text("def score(text, problem):\n    return float(len(text) % 2)\n")
    words = ["temperature=0.9", "problems_per_step=4", "max_rows=64", "judge_share=0.4", "lr=1e-3"]
    if request.param == "starter":
        words += ["model=starter", "max_new_tokens=64"]
    else:  # it answers hardly a sum rightly, so any rule that parts its responses will do
        words += [f"model={smollm2()}", "max_new_tokens=48", "group_size=8", f"verifier={folder}/rule.py:score"]
    with Server(interpreter(), folder, words) as server:
        yield [*words, f"vllm={server.address}"], server, folder


def test_log_probs_are_ours_before_and_after_an_update(served, tmp_path):
    """Guards the weights that are sampled with, the temperature and the template; and the stale-adapter trap: what was
    handed over first must not be what is sampled from after a change."""
    words, _, _ = served
    spark = train.Spark(load_config(words), Accelerator())
    spark.roll.start(tmp_path)
    problems = load_problems("arithmetic", "train", 4, 0)
    before = spark.roll(problems, 2, ("before",))
    assert differences(spark, before).max() < CLOSE
    change(spark)
    after = spark.roll(problems, 2, ("after",))
    assert differences(spark, after).max() < CLOSE
    assert differences(spark, before).mean() > 5 * CLOSE  # so the change was one that would be seen
    spark.roll.stop()


def test_greedy_texts_are_ours(served, tmp_path):
    """Guards ids from end to end: prompts, stop tokens, and text."""
    words, _, _ = served
    spark = train.Spark(load_config(words), Accelerator())
    spark.roll.start(tmp_path)
    change(spark)
    greedy = replace(spark.roll, config=replace(spark.config, temperature=0.0))
    problems = load_problems("arithmetic", "train", 3, 1)
    found, own = greedy(problems, 1, ("greedy",)), replace(greedy, engine=None)(problems, 1, ("greedy",))
    assert [(r.text, r.finished, r.response_ids) for (r,) in found] == [
        (r.text, r.finished, r.response_ids) for (r,) in own]
    spark.roll.stop()


def test_two_steps_a_death_and_the_way_on(served, tmp_path, monkeypatch):
    """Guards the loop: two steps with judging and reflection, the mismatch that they log, a server that is killed, the
    line that this ends in, and the run that goes on with the next server."""
    words, server, _ = served
    monkeypatch.chdir(tmp_path)
    settings = [*words, "run_name=a", "max_steps=2", "save_every=1", "eval.limit=0"]
    train.main(settings)
    lines = [json.loads(line) for line in open("runs/a/metrics.jsonl")]
    mismatches = [line["update/mismatch"] for line in lines if "update/mismatch" in line]  # a step may be flat
    assert mismatches and max(mismatches) < CLOSE
    assert all(json.loads(line)["difference"] < CLOSE for line in open("runs/a/engine.jsonl"))
    if "model=starter" not in words:
        return  # SmolLM2 boxes few answers before a warm-up, and one death is enough
    kinds = {key.split("/")[0] for line in lines for key in line if key.endswith("/reward")}
    assert kinds == {"solve", "pointwise", "pairwise", "reflect"}
    server.kill()
    went_on = subprocess.run([sys.executable, str(REPO / "train.py"), "resume=runs/a", "max_steps=3"],
                             capture_output=True, text=True, timeout=300)
    assert went_on.returncode == 1 and went_on.stderr.strip().splitlines()[-1].startswith("error: vllm: no server")
    server.start()
    train.main(["resume=runs/a", "max_steps=3"])
    assert len(open("runs/a/metrics.jsonl").readlines()) == 3 and Path("runs/a/checkpoint-3").is_dir()


def test_two_processes_share_a_server(served, tmp_path):
    words, _, _ = served
    if "model=starter" not in words:
        pytest.skip("once is enough")
    done = two_processes("train", tmp_path, *words, "run_name=b", "max_steps=1", "eval.limit=0")
    assert done.returncode == 0, done.stderr
    (line,) = [json.loads(line) for line in open(tmp_path / "runs" / "b" / "metrics.jsonl")]
    assert line["update/mismatch"] < CLOSE
