"""Several runs side by side."""

import json
import statistics
from pathlib import Path

import pytest
from view.made import made_run
from view.test_page import parts

from spark_lib.config import ConfigError
from spark_lib.view import __main__ as command
from spark_lib.view.compare import curve, load, write_comparison


def run(folder: Path, rewards: list[float], solve: float, **settings) -> Path:
    """A run's folder with these rewards of solving and this skill after training."""
    made_run(folder, [], **settings)
    rows = [{"step": i, "solve/reward": reward, "sampled_tokens": 100 * (i + 1)} for i, reward in enumerate(rewards)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    skills = {"solve": solve, "pointwise": None, "pairwise": 0.5, "reflection": 0.5, "tts": [solve, solve],
              "yes_rate": 0.5, "a_rate": 0.5, "n": 10}
    (folder / "summary.json").write_text(json.dumps({"after": skills, "seconds": {"total": 60}}))
    return folder


def test_seeds_are_gathered_and_what_differs_is_listed(tmp_path):
    """Runs that differ in the seed alone are one setting; a key is listed if and only if it differs among settings."""
    solves = [0.5, 0.6, 0.8]
    folders = [run(tmp_path / f"a{i}", [0.1 * i, 0.2], solve, seed=i) for i, solve in enumerate(solves)]
    folders.append(run(tmp_path / "b", [0.5, 0.5, 0.5], 0.9, lr=0.5, beta=0.0))
    path = write_comparison(folders)
    assert path.parent == tmp_path / "a0-vs-a1-vs-a2-vs-b"
    assert (path.parent / "compare.png").read_bytes().startswith(b"\x89PNG")
    text = (path.parent / "compare.md").read_text()
    mean, deviation = statistics.mean(solves), statistics.stdev(solves)
    assert f"| solve | {100 * mean:.1f} ± {100 * deviation:.1f} | 90.0 |" in text
    assert "| lr | 1e-05 | 0.5 |" in text and "| beta | 0.001 | 0.0 |" in text
    assert "seed |" not in text and "run_name" not in text
    data, _, elements = parts(path)
    assert [one["runs"] for one in data["settings"]] == [["a0", "a1", "a2"], ["b"]]
    assert data["differing"] == [["key", "a0 (3 seeds)", "b"], ["beta", "0.001", "0.0"], ["lr", "1e-05", "0.5"]]
    points = data["skills"][0]["values"]
    assert points[0]["value"] == pytest.approx(mean) and points[0]["high"] == pytest.approx(mean + deviation)
    assert "low" not in points[1] and data["skills"][1]["values"][0]["value"] is None
    assert "0.9" not in elements.of("td")[0][1] and any(text == "90.0" for _, text in elements.of("td"))


def test_curves_have_the_deviation_of_a_sample(tmp_path):
    """Over the steps that all seeds have; the mean of up to 5 steps, as in a run's own figure."""
    runs = [load(run(tmp_path / "a", [0.0, 1.0, 0.5], 0.5)), load(run(tmp_path / "b", [1.0, 1.0], 0.5, seed=1))]
    found = curve(runs, "solve/reward")
    assert found["step"] == [0, 1] and found["mean"] == [0.5, 0.75]
    assert found["deviation"] == pytest.approx([statistics.stdev([0, 1]), statistics.stdev([0.5, 1])])
    assert curve(runs[:1], "solve/reward")["deviation"] is None
    assert curve(runs, "pairwise/reward") is None


def test_runs_without_evaluation_are_compared_all_the_same(tmp_path, monkeypatch, capsys):
    """eval.limit=0, a run that still goes on: curves and costs are what there is."""
    folders = [run(tmp_path / name, [0.5], 0.5, lr=lr) for name, lr in (("a", 1.0), ("b", 2.0))]
    (folders[0] / "summary.json").write_text(json.dumps({"after": None, "seconds": {"total": 60}}))
    (folders[1] / "summary.json").unlink()
    command.main([*map(str, folders), f"out={tmp_path / 'out'}"])
    assert capsys.readouterr().out.strip() == str(tmp_path / "out" / "compare.html")
    assert "| seconds | 60 | – |" in (tmp_path / "out" / "compare.md").read_text()


def test_mistakes_get_one_clear_line(tmp_path):
    good = run(tmp_path / "a", [0.5], 0.5)
    with pytest.raises(ConfigError, match="nothing: not a run's folder"):
        write_comparison([good, tmp_path / "nothing"])
    empty = run(tmp_path / "b", [], 0.5)
    with pytest.raises(ConfigError, match="no step yet"):
        write_comparison([good, empty])
