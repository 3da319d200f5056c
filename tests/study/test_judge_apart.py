"""The judge with an adapter of its own, which the cost study compares SPARK with."""

import json
import runpy
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

import train
from spark_lib.config import ConfigError, load_config
from spark_lib.data.load import load_problems
from spark_lib.model.weights import trainable
from spark_lib.recycle import recycle
from spark_lib.seeds import rng

SCRIPT = Path(__file__).parents[2] / "configs" / "studies" / "judge_apart.py"
KINDS = "recycle.kinds=[pointwise,pairwise]"


@pytest.fixture
def script(monkeypatch) -> dict:
    monkeypatch.setattr(train, "Spark", train.Spark)  # put back what the script's main exchanges
    return runpy.run_path(str(SCRIPT))


def test_policy_and_judge_learn_apart_on_one_base(script):
    """Judge problems move the judge alone, questions the policy alone, which is paid with P(Yes)."""
    config = load_config(["model=starter", KINDS, "problems_per_step=6", "group_size=4", "judge_share=0.5", "lr=1e-3",
                          "max_new_tokens=60"])
    both = script["JudgeApart"](config, Accelerator())
    frozen = [(p, q) for p, q in zip(both.model.parameters(), both.judge.model.parameters()) if not p.requires_grad]
    assert frozen and all(p.data_ptr() == q.data_ptr() for p, q in frozen)
    before = [p.detach().clone() for p, _ in frozen]

    def weights(spark) -> torch.Tensor:
        return torch.cat([p.detach().flatten().clone() for p in trainable(spark.model)])

    groups = both.roll(load_problems("arithmetic", "train", 6, 0), 4, (0, "solve"))
    judged = both.roll(recycle(groups, rng(0), config), 4, (0, "judge"))
    assert groups and judged and both.clock.seconds["judge"] > 0
    both.set_learning_rate(1e-3)
    start = weights(both), weights(both.judge)
    both.update(judged, [], 0)
    assert torch.equal(weights(both), start[0]) and not torch.equal(weights(both.judge), start[1])
    rewards = [r.reward for group in both.rewarded(groups, 0) for r in group]
    assert len({round(reward, 4) for reward in rewards}) > 2 and all(0 <= reward <= 1 for reward in rewards)
    middle = weights(both.judge)
    both.update(groups, [], 1)
    assert torch.equal(weights(both.judge), middle) and not torch.equal(weights(both), start[0])
    assert all(torch.equal(now, then) for (now, _), then in zip(frozen, before))


@pytest.mark.slow
def test_a_run_counts_what_the_judge_takes(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script["main"](["model=starter", KINDS, "max_steps=2", "problems_per_step=4", "judge_share=0.4", "eval.limit=6",
                    "run_name=a"])
    summary = json.loads(Path("runs/a/summary.json").read_text())
    assert summary["seconds"]["judge"] > 0 and "judge" in summary["memory"]
    assert summary["after"]["pointwise"] is not None


@pytest.mark.parametrize(("words", "message"), [
    (["resume=runs/a"], "no run to go on with"),
    ([], "needs an adapter"),
    ([KINDS, "lora=null"], "needs an adapter"),
])
def test_what_it_cannot_do_is_one_line(script, words, message):
    with pytest.raises(ConfigError, match=message):
        script["main"](words)
