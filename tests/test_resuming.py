"""Going on with a run: what may change, what was left behind, and who else is at work on it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from same_run import differences
from stops import REPO, SMALL, signal_at, stopped

import train
from spark_lib.config import ConfigError
from spark_lib.resuming import MAY_CHANGE

pytestmark = pytest.mark.usefixtures("no_figures")


@pytest.mark.parametrize("words, named", [
    (["seed=1"], ["seed (from 0 to 1)"]), (["group_size=2", "data=shapes"], ["group_size", "data"]),
    (["lora=null"], ["lora"]), (["eval.limit=3"], ["eval.limit"]), (["recycle.view=trace"], ["recycle.view"]),
    (["model=starter_vl"], ["model"]), (["problems_per_step=3"], ["problems_per_step"]),
])
def test_what_would_make_it_another_run_may_not_change(whole, place, words, named):
    """A resumed run of another seed or model wrote its steps behind those of the first, in silence."""
    shutil.copytree(whole.parent, "runs")
    with pytest.raises(ConfigError) as error:
        train.main(["resume=runs/a", "max_steps=4", *words])
    message = str(error.value)
    assert all(name in message for name in named) and all(name in message for name in MAY_CHANGE)
    assert not differences(Path("runs/a"), whole)


def test_a_finished_run_says_so_and_goes_on_with_more_steps(whole, place, capsys):
    """Resumed as it is, it evaluated again and changed its summary; with more steps it is the longer run."""
    shutil.copytree(whole.parent, "runs")
    kept = {path: path.read_bytes() for path in Path("runs/a").rglob("*") if path.is_file()}
    train.main(["resume=runs/a"])
    assert "at its end after 3 steps; a larger max_steps" in capsys.readouterr().out
    assert kept == {path: path.read_bytes() for path in Path("runs/a").rglob("*") if path.is_file()}
    train.main(["resume=runs/a", "max_steps=4", "save_every=4"])
    train.main([*SMALL, "max_steps=4", "run_name=longer"])
    different = {name.split("/")[0] for name in differences(Path("runs/a"), Path("runs/longer"))}
    assert different <= {"config.yaml", "changes.jsonl", "checkpoint-2", "checkpoint-3"}
    change, = map(json.loads, Path("runs/a/changes.jsonl").read_text().splitlines())
    assert change == {"step": 3, "max_steps": ["3", "4"], "save_every": ["2", "4"]}
    assert "max_steps: 4" in Path("runs/a/config.yaml").read_text()
    capsys.readouterr()
    train.main(["resume=runs/a"])  # the change holds
    assert "at its end after 4 steps" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_that_goes_on_is_not_finished_any_more(whole, place, monkeypatch):
    shutil.copytree(whole.parent, "runs")
    with monkeypatch.context() as patch:
        signal_at(patch, train, "problems_of_step", 1)
        assert stopped(["resume=runs/a", "max_steps=6"]) == 143
    assert not Path("runs/a/summary.json").exists()


def test_leftovers_of_kills_are_no_checkpoints(whole, place):
    """A kill in the last checkpoint after Ctrl-C left checkpoint-1.partial, and the report at the end read its name."""
    shutil.copytree(whole.parent, "runs")
    for name in ("checkpoint-1.partial", "checkpoint-old", "metrics.jsonl.partial"):
        Path("runs/a", name).mkdir()
    train.main(["resume=runs/a", "max_steps=4"])
    assert not list(Path("runs/a").glob("*.partial")) and Path("runs/a/checkpoint-old").is_dir()


def test_a_damaged_record_is_one_line(whole, place):
    shutil.copytree(whole.parent, "runs")
    for name in ("metrics.jsonl", "judge_set.json", "before.json"):
        kept = Path("runs/a", name).read_bytes()
        Path("runs/a", name).write_bytes(b"{half\n" + kept)
        with pytest.raises(ConfigError, match=name):
            train.main(["resume=runs/a", "max_steps=4"])
        Path("runs/a", name).write_bytes(kept)


def test_a_run_that_is_at_work_is_not_gone_on_with(whole, place, capsys):
    """Two studies, or an impatient user: both would write the same files in turn. A dead process holds nothing."""
    shutil.copytree(whole.parent, "runs")
    held = "import sys; from pathlib import Path; from spark_lib.resuming import claim; lock = claim(Path('runs/a')); "
    words = [sys.executable, "-c", held + "print('mine', flush=True); sys.stdin.read()"]
    other = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                             env=os.environ | {"PYTHONPATH": str(REPO)})
    assert other.stdout.readline() == "mine\n"
    before = {path: path.read_bytes() for path in Path("runs/a").rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match="another process is at work on this run"):
        train.main(["resume=runs/a", "max_steps=4"])
    assert before == {path: path.read_bytes() for path in Path("runs/a").rglob("*") if path.is_file()}
    other.kill()
    other.wait()
    train.main(["resume=runs/a", "max_steps=4"])
    assert Path("runs/a/checkpoint-4").is_dir()
    train.main(["resume=runs/a", "max_steps=5"])  # nor does one that ended
