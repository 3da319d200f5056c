"""Rows of evaluation sets: local files, a copy of a hub repository, no network, and files that are wrong."""

import json
import shutil
import time
from pathlib import Path

import datasets
import pytest
from conftest import BENCHMARK_FIXTURES as FIXTURES
from conftest import fixture_benchmark as load

from spark_lib.config import ConfigError
from spark_lib.evaluation.benchmarks import load_benchmark

pytestmark = pytest.mark.usefixtures("own_cache")


def test_limit_draws_whole_items_by_seed():
    """Guards comparisons under a limit: the same rows for every model, and no half of a DynaMath question."""
    draws = {tuple(p.meta["id"] for p in load("dynamath", limit=1, seed=seed)) for seed in range(12)}
    assert draws == {("1", "1"), ("2", "2"), ("3", "3")}
    assert [p.prompt for p in load("gsm8k", limit=1, seed=1)] == [p.prompt for p in load("gsm8k", limit=1, seed=1)]
    assert len(load("gsm8k", limit=99)) == 2
    ties = [load("rewardbench2", limit=2, seed=seed) for seed in range(12)]
    pairs = [{p.meta["id"] for p in drawn if "right" in p.meta} for drawn in ties]
    assert all(len(ids) in (0, 2) for ids in pairs) and any(pairs)


def test_a_copy_of_the_hub_repository(tmp_path: Path):
    """Guards `hf download`: the configuration and the split come from its README, and train rows stay out."""
    folder = tmp_path / "gsm8k"
    rows = [json.loads(line) for line in (FIXTURES / "gsm8k.jsonl").read_text().splitlines()]
    for config, split, content in [("main", "train", rows[:1]), ("main", "test", rows), ("socratic", "test", rows[1:])]:
        (folder / config).mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_list(content).to_parquet(folder / config / f"{split}-00000-of-00001.parquet")
    files = [{"config_name": config, "data_files": [{"split": s, "path": f"{config}/{s}-*"} for s in splits]}
             for config, splits in [("main", ["train", "test"]), ("socratic", ["test"])]]
    (folder / "README.md").write_text(f"---\nconfigs: {json.dumps(files)}\n---\n")
    assert [p.answer for p in load_benchmark("gsm8k", str(tmp_path))] == ["1224", "3"]
    shutil.rmtree(folder / "main")
    with pytest.raises(ConfigError, match="^gsm8k .openai/gsm8k, main, test. cannot be read: "):
        load_benchmark("gsm8k", str(tmp_path))


def test_without_a_hub_the_error_comes_at_once(monkeypatch, tmp_path: Path):
    """Guards an evening without a network: the datasets library tried again for half a minute, then named no remedy."""
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    started = time.monotonic()
    with pytest.raises(ConfigError, match="openai/gsm8k .* hf download openai/gsm8k .* data/gsm8k; then data_dir=data"):
        load_benchmark("gsm8k")
    assert time.monotonic() - started < 5
    with pytest.raises(ConfigError, match="holds no gsm8k.parquet, .* and no folder gsm8k; .*hf download"):
        load_benchmark("gsm8k", str(tmp_path))


BAD = {
    "another field": ('{"question": "x", "solution": "#### 1"}', "gsm8k has no field answer; found question, solution"),
    "no JSON": ('{"question": "x",\n', "gsm8k.jsonl, line 1 is not JSON"),
    "second line": ('{"question": "x", "answer": "#### 1"}\n{', "gsm8k.jsonl, line 2 is not JSON"),
    "no objects": ("[1, 2]", "expected objects"),
    "empty": ("\n", "expected objects"),
    "no gold": ('{"question": "x", "answer": "1"}', "gsm8k, row 0: IndexError"),
    "null": ('{"question": "x", "answer": null}', "gsm8k, row 0: AttributeError"),
    "empty gold": ('{"question": "x", "answer": "#### "}', "gsm8k, row 0: .*the question or the answer is empty"),
    "empty question": ('{"question": "", "answer": "#### 1"}', "gsm8k, row 0: .*the question or the answer is empty"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_told_in_one_line(case: str, tmp_path: Path):
    """Guards the user's evening: the place, what was expected, what was found."""
    content, message = BAD[case]
    (tmp_path / "gsm8k.jsonl").write_text(content)
    with pytest.raises(ConfigError, match=message) as error:
        load_benchmark("gsm8k", str(tmp_path))
    assert "\n" not in str(error.value)


def test_bad_rows_of_other_sets(tmp_path: Path):
    """Guards against a set that is evaluated although a row is not what its rule expects."""
    def changed(name: str, **fields) -> None:
        rows = json.loads((FIXTURES / f"{name}.json").read_text())[:1]
        (tmp_path / f"{name}.json").write_text(json.dumps([rows[0] | fields]))
        load_benchmark(name, str(tmp_path))

    shutil.copytree(FIXTURES / "images", tmp_path / "images")
    changed("mmlu_stem")
    for name, fields, message in [
        ("mmlu_stem", {"answer": 4}, "row 0: ValueError: 4 is not in range"),
        ("mmlu_stem", {"answer": -1}, "row 0: ValueError: -1 is not in range"),
        ("rewardbench2", {"rejected": ["x"]}, "expected 1 chosen and 3 rejected, got 1 and 1"),
        ("vl_rewardbench", {"human_ranking": [1, 1]}, "row 0: ValueError"),
        ("mmk12", {"image": "images/none.png"}, "row 0: FileNotFoundError"),
        ("mmk12", {"image": None}, "no image in image"),
    ]:
        with pytest.raises(ConfigError, match=message):
            changed(name, **fields)
