"""The README's promises, run as printed: the three experiments of its last section."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]
EXPERIMENTS = (REPO / "README.md").read_text(encoding="utf-8").split("## Three experiments")[1].split("\n**")[1:]
SHORT = ["max_steps=2", "problems_per_step=4", "eval.limit=0"]  # only shortens what the README prints


def apply(folder: Path, diff: str, files: list[str]) -> None:
    """Apply a `diff` block of the README to the one of `files` that has its old lines."""
    lines = diff.strip("\n").split("\n")
    old = "\n".join(line[1:] for line in lines if line[0] in " -") + "\n"
    new = "\n".join(line[1:] for line in lines if line[0] in " +") + "\n"
    (file,) = [folder / name for name in files if old in (folder / name).read_text()]
    file.write_text(file.read_text().replace(old, new))


@pytest.mark.parametrize("section", EXPERIMENTS, ids=lambda section: section.split(".**")[0])
def test_experiment_works_as_printed(section, tmp_path):
    """A README whose code has gone stale is the first thing that a newcomer meets."""
    for name in ("train.py", "spark_lib", "configs"):
        source = REPO / name
        shutil.copytree(source, tmp_path / name) if source.is_dir() else shutil.copy(source, tmp_path / name)
    for name, code in re.findall(r"`(\w+\.py)`:\n\n```python\n(.*?)```", section, re.DOTALL):
        (tmp_path / name).write_text(code)
    for diff in re.findall(r"```diff\n(.*?)```", section, re.DOTALL):
        apply(tmp_path, diff, ["train.py", "spark_lib/loss.py"])
    (words,) = re.findall(r"^    python train.py (.*)$", section, re.MULTILINE)
    done = subprocess.run(
        [sys.executable, "train.py", *words.split(), *SHORT], cwd=tmp_path, capture_output=True, text=True, timeout=200,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert (run / "metrics.jsonl").read_text().count("\n") == 2


def test_there_are_three_experiments():
    """The pattern above must not silently find nothing."""
    assert len(EXPERIMENTS) == 3
