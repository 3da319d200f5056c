"""configs/studies/solve_first.py: what is recycled in which step of its run."""

import runpy
from pathlib import Path

import pytest

import train
from spark_lib.config import ConfigError
from spark_lib.recycle import recycle

SCRIPT = Path(__file__).parents[2] / "configs" / "studies" / "solve_first.py"
WORDS = ["judge_loss=sft", "recycle.kinds=[pointwise,reflect]", "problems_per_step=6", "group_size=4", "max_steps=3",
         "eval.limit=0", "run_name=a"]


@pytest.fixture
def main(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "Run", train.Run)  # put back what the script's main exchanges
    return runpy.run_path(str(SCRIPT))["main"]


@pytest.mark.parametrize("stop", [None, 1, 2])
def test_first_solving_then_the_rest(main, monkeypatch, no_figures, stop):
    """A third of three steps; also where the run goes on after it was stopped."""
    asked = []

    def noted(groups, rng, config):
        asked.append(list(config.recycle.kinds))
        return recycle(groups, rng, config)

    monkeypatch.setattr(train, "recycle", noted)
    if stop:
        main([*WORDS, f"max_steps={stop}"])
        asked.clear()
        main(["resume=runs/a", "max_steps=3"])
    else:
        main(WORDS)
    assert asked == [["solve"], ["pointwise", "reflect"], ["pointwise", "reflect"]][stop or 0:]
    assert "kinds:\n  - pointwise\n  - reflect\n" in Path("runs/a/config.yaml").read_text()


@pytest.mark.parametrize("word, says", [
    ("judge_loss=grpo", "judge_loss=sft"), ("recycle.kinds=[solve]", "judge_loss=sft"),
    ("recycle.shares={solve: 0}", "a share of solve"),
])
def test_what_it_cannot_do_is_one_line(main, word, says):
    with pytest.raises(ConfigError, match=f"solving first needs {says}"):
        main([*WORDS, word])
