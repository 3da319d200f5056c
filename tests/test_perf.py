"""The scripts of tests/perf run, on the smallest step that they can measure, and compare equal things."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import needs

PERF = Path(__file__).parent / "perf"
SMALL = ["--problems", "2", "--group", "4", "--max-new-tokens", "8", "--rounds", "1"]
pytestmark = pytest.mark.slow


def run(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *words], cwd=PERF, capture_output=True, text=True, timeout=900)


def test_a_step_is_the_step_of_trl(tmp_path):
    """Guards both: the kit's loss and gradient are those of TRL on identical input, and the ratio is of equal work."""
    needs("trl", listed="tests/perf/requirements.txt")
    done = run("step.py", "--peer", "trl", *SMALL, "--out", str(tmp_path / "step.json"))
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "step.json").read_text())
    assert report["loss_agrees"] is True and report["difference"]["gradient"] < 1e-4
    assert set(report["ratio"]) == {"fixed", "variable"} and report["memory_ratio"] > 0
    assert report["tokens"]["fixed"] == 2 * 4 * 8


def test_no_ratio_of_unequal_losses(tmp_path):
    """Guards a comparison that goes on although the sides compute different things."""
    needs("trl", listed="tests/perf/requirements.txt")
    stricter = tmp_path / "stricter.py"
    stricter.write_text(f"import sys\nsys.path.insert(0, {str(PERF)!r})\nimport step\n"
                        "step.AGREE = dict.fromkeys(step.AGREE, 0.0)\nsys.exit(step.main())\n")
    done = run(str(stricter), *SMALL, "--out", str(tmp_path / "step.json"))
    assert done.returncode == 1 and "means nothing" in done.stdout
    assert "ratio" not in json.loads((tmp_path / "step.json").read_text())


@pytest.mark.parametrize("words", [
    ["limit.py", *SMALL], ["recycling.py", "--rounds", "1", "--max-new-tokens", "64"],
    ["gpu.py", "--shape", "tiny", *SMALL], ["memory.py", "tiny"],
], ids=lambda words: words[0])
def test_the_other_scripts_run(words):
    """Guards scripts for machines that CI does not have: they must not fail when the GPU is there at last."""
    if words[0] != "memory.py":
        needs("trl", listed="tests/perf/requirements.txt")
    done = run(*words)
    assert done.returncode == 0, done.stderr
    assert "|---|" in done.stdout


@pytest.mark.parametrize("name", ["spark_7b", "spark_vl_7b", "spark_vl_32b"])
def test_a_step_at_the_papers_shapes(name):
    """Guards the whole of a step on a checkpoint in its published form (flat configuration, old names of tensors,
    shards, 152,064 tokens) and the stand-ins by which every kind of problem comes up: each group has a right and a
    wrong response, both updates move something, and the run is gone on with."""
    done = run("shapes.py", name, "tiny")
    assert done.returncode == 0, done.stderr
    step = json.loads(done.stdout.splitlines()[-1])
    kinds = ("solve", "pointwise", "pairwise", "reflect")
    assert {kind: step[f"{kind}/reward"] for kind in kinds} == dict.fromkeys(kinds, 0.5)
    assert not any(step[f"{kind}/truncated"] for kind in kinds) and step["update/grad_norm"] > 1e-7
    table = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [row[0] for row in table].count("load adapter and optimiser") == 2
    (frozen,) = [row for row in table if row[0].startswith("frozen weights")]
    assert float(frozen[1]) == pytest.approx(float(frozen[2]), abs=0.002)  # bitsandbytes keeps its code with each layer
