"""What the user is told at the end of a run."""

import re
from pathlib import Path

import pytest
import transformers as hf

from spark_lib.config import Config
from spark_lib.model.checkpoints import how_to_use


@pytest.mark.parametrize("model", ["starter", "starter_vl"])
def test_the_base_that_is_printed_is_there(model, tmp_path, monkeypatch):
    """The starters moved once and the printed Python went on naming the old folder; from any place it must be found."""
    monkeypatch.chdir(tmp_path)
    folder = Path("runs") / "a"
    (folder / "checkpoint-3").mkdir(parents=True)
    (base,) = re.findall(r"model = Auto\w+\.from_pretrained\('(.*?)'\)", how_to_use(folder, Config(model=model)))
    assert (Path(base) / "model.safetensors").is_file()


@pytest.mark.parametrize("kind, needs", [(hf.Qwen2_5_VLConfig, True), (hf.LlavaConfig, False)])
def test_a_processor_that_reads_videos_is_said_to_need_torchvision(kind, needs, tmp_path):
    """AutoProcessor could not read a Qwen2.5-VL's result where torchvision is not installed, as here."""
    (tmp_path / "a" / "checkpoint-3").mkdir(parents=True)
    kind().save_pretrained(tmp_path / "model")
    assert ("pip install torchvision" in how_to_use(tmp_path / "a", Config(model=str(tmp_path / "model")))) is needs
