"""evaluate.py: its command line, stopping and going on, comparing."""

import dataclasses
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import BENCHMARK_FIXTURES, run_here, two_processes

import evaluate
from spark_lib import prompts
from spark_lib.config import Config, ConfigError
from spark_lib.evaluation import benchmarks
from spark_lib.evaluation.settings import Evaluation, load_evaluation
from spark_lib.problem import Problem

REPO = Path(__file__).parents[1]
SMALL = ["starter", "limit=4", "samples=2", "batch=4", "rounds=1", "max_new_tokens=64"]
PROBLEMS = [Problem(f"What is {q}?", "1", meta={"question": q}) for q in "pqrs"]


# --- the command line -----------------------------------------------------------------------------------------


def test_compare():
    """Guards the sign and the pairing of the difference to a baseline, and figures that only one of both has."""
    ours = {"solve": [(1, 1)] * 30 + [(0, 1)] * 10, "pairwise": [(1, 1)] * 40, "tts": [(1, 1)] * 40}
    theirs = {"solve": [(1, 1)] * 20 + [(0, 1)] * 20, "pairwise": [(0, 0)] * 40}
    found = evaluate.compare(ours, theirs)
    assert set(found) == {"solve"}
    solve = found["solve"]
    assert (solve["value"], solve["baseline"], solve["difference"]) == (0.75, 0.5, 0.25)
    # 10 of 40 differ, all in our favour: mean 0.25, standard error sqrt(0.25 * 0.75 / 40). Unpaired it would be 0.105.
    error = math.sqrt(0.25 * 0.75 / 40)
    assert solve["low"] == pytest.approx(0.25 - 1.96 * error, abs=0.02)
    assert solve["high"] == pytest.approx(0.25 + 1.96 * error, abs=0.02)


@pytest.mark.parametrize("words, message", [
    (["limt=3"], "did you mean 'limit'"),
    (["group_size=3"], "there is no key 'group_size'"),
    (["limit=0"], "limit: must be at least 1"),
    (["samples=many"], "samples"),
    (["accept=maybe"], "accept: 'maybe' is none of verdict, probability"),
    (["threshold=2"], "threshold: must be at most 1"),
    (["quantization=int4"], "quantization: 'int4' is none of none, nf4, int8"),
    (["seeds=[]"], "seeds"),
    (["seeds=3"], "seeds"),
    (["parts=[think]"], "parts: 'think' is none of"),
    (["a", "b"], "expected one run or model"),
    (["a", "model=b"], "expected one run or model"),
    (["suite=x", "benchmarks=[y]"], "suite"),
    (["--limit=3"], "--limit"),
])
def test_what_cannot_be_meant_is_refused(words, message):
    """Guards against minutes of evaluation with a setting that was never read."""
    with pytest.raises(ConfigError) as error:
        load_evaluation(words)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_settings_of_a_command_line():
    assert load_evaluation(["runs/a", "seeds=[1,2]", "limit=null"]) == Evaluation(
        model="runs/a", seeds=[1, 2], limit=None
    )
    assert load_evaluation(["model=runs/a"]) == Evaluation(model="runs/a") and load_evaluation([]).model is None


def test_a_run_is_evaluated_as_it_was_trained(tmp_path):
    """Guards the defaults: data, length and view are the run's own, unless given; its training seed plays no part."""
    (tmp_path / "config.yaml").write_text(
        "seed: 5\ndata: mine.jsonl\nmax_new_tokens: 33\ntemperature: 0.7\nrecycle: {view: trace}\n"
    )
    config = evaluate.config_of(str(tmp_path), Evaluation())
    assert (config.seed, config.data, config.max_new_tokens) == (0, "mine.jsonl", 33)
    assert (config.temperature, config.recycle.view) == (0.7, "trace")
    config = evaluate.config_of(str(tmp_path), Evaluation(data="arithmetic", max_new_tokens=9, view="answer"))
    assert (config.data, config.max_new_tokens, config.recycle.view) == ("arithmetic", 9, "answer")
    assert evaluate.config_of("starter", Evaluation()).data == "arithmetic"


def test_quantization_is_for_plain_models(tmp_path, monkeypatch):
    """Guards a key that would be read by nobody, and its way to the plain model among the two that are compared."""
    (tmp_path / "config.yaml").write_text("seed: 5\n")
    with pytest.raises(ConfigError, match="quantization: is for plain models"):
        evaluate.main([str(tmp_path), f"baseline={tmp_path}", "quantization=nf4"])

    def stop(target, device, quantization, max_pixels):
        raise InterruptedError(f"{target} {quantization}")

    monkeypatch.setattr(evaluate, "load_trained", stop)
    with pytest.raises(InterruptedError, match="starter int8"):
        evaluate.main(["starter", "quantization=int8", "limit=1"])


def test_no_run_yet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="no run to evaluate"):
        evaluate.main([])


def test_other_settings_get_a_folder_of_their_own(tmp_path, monkeypatch):
    """Guards predictions against being taken up by an evaluation that asks something else."""
    monkeypatch.chdir(tmp_path)
    first = evaluate.folder_of("models/tiny.gguf", "arithmetic", {"samples": 1})
    assert first == Path("runs/eval-tiny-arithmetic")
    assert evaluate.folder_of("models/tiny.gguf", "arithmetic", {"samples": 2}) == Path("runs/eval-tiny-arithmetic-2")
    assert evaluate.folder_of("models/tiny.gguf", "arithmetic", {"samples": 1}) == first
    (tmp_path / "runs" / "a").mkdir()
    (tmp_path / "runs" / "a" / "config.yaml").write_text("")
    assert evaluate.folder_of("runs/a", "arithmetic", {}) == Path("runs/a/eval-arithmetic")


def test_the_identity_holds_all_that_matters(tiny):
    """Guards the same from the other side: what changes the answers changes the identity; batch and names do not."""
    sets, model, default = {"toy": PROBLEMS}, tiny("llama"), Evaluation()

    def identity(settings: Evaluation = default, sets=sets, model=model, **config) -> str:
        return json.dumps(evaluate.identity(settings, Config(**config), sets, model))

    base = identity()
    assert identity(Evaluation(batch=1, name="x", baseline="y")) == base == identity(model=tiny("llama"))
    others = [
        identity(Evaluation(rounds=1)), identity(Evaluation(seeds=[1])), identity(Evaluation(accept="probability")),
        identity(sets={"toy": PROBLEMS[:3]}), identity(model=tiny("llama", seed=1)), identity(temperature=0.5),
        identity(max_new_tokens=5), identity(verifier="rule.py:score"),
    ]
    assert len({base, *others}) == len(others) + 1


# --- the real thing -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The working directory of an evaluation of the starter that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    run_here(evaluate.main, folder, *SMALL)
    return folder


EVALUATION = Path("runs") / "eval-starter-arithmetic"


def test_what_an_evaluation_leaves(whole):
    """Guards the names that other programs read, and that every response is kept with its prompt and tokens."""
    folder = whole / EVALUATION
    results = json.loads((folder / "results.json").read_text())
    assert {"accuracy", "mean@k", "pass@k", "majority"} <= set(results["solve"])
    assert {"accuracy", "balanced_accuracy", "yes_rate", "precision_yes", "recall_yes", "f1_yes", "precision_no",
            "recall_no", "f1_no", "ece", "brier", "auroc"} <= set(results["pointwise"])
    assert {"accuracy", "consistency", "a_rate"} <= set(results["pairwise"])
    assert {"fix_rate", "break_rate"} <= set(results["reflection"])
    assert len(results["tts"]["accuracy"]) == len(results["tts"]["tokens"]) == 2
    assert len(results["best_of_n"]["accuracy"]) == 2
    rows = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    by_stage = {stage: [r for r in rows if r["stage"] == stage] for stage in dict.fromkeys(r["stage"] for r in rows)}
    assert len(by_stage["arithmetic: answers"]) == 4 and len(by_stage["arithmetic, seed 0: samples"]) == 8
    assert all(row["prompt"] and row["tokens"] > 0 and row["reward"] in (0, 1) for row in rows)
    judged = [row for row in rows if row["kind"] == "pointwise"]
    for row in judged:
        if row["verdict"]:  # greedy, so what is written is what is more probable
            assert (row["p_yes"] >= 0.5) == (row["verdict"] == "Yes")
    assert any(row["verdict"] for row in judged)
    report = (folder / "report.md").read_text()
    assert "mean@2" in report and "own verdict" in report
    for figure in ("arithmetic-calibration.png", "arithmetic-tokens.png"):
        assert figure in report and (folder / figure).read_bytes().startswith(b"\x89PNG")


def same(folder: Path, whole: Path) -> None:
    for name in ("predictions.jsonl", "results.json", "report.md", "settings.json"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.parametrize("cut", ["middle of a line", "middle of a batch", "all but the last"])
def test_a_stopped_evaluation_goes_on(whole, tmp_path, monkeypatch, cut):
    """Guards resuming: the same bytes, wherever the file was when it stopped, and nothing asked twice."""
    folder = tmp_path / EVALUATION
    shutil.copytree(whole / EVALUATION, folder)
    lines = (folder / "predictions.jsonl").read_bytes().splitlines(keepends=True)
    left = {
        "middle of a line": [*lines[:9], lines[9][:40]], "middle of a batch": lines[:7], "all but the last": lines[:-1],
    }[cut]
    (folder / "predictions.jsonl").write_bytes(b"".join(left))
    (folder / "results.json").unlink()
    monkeypatch.chdir(tmp_path)
    rolled = []
    roll = evaluate.Sampler.__call__

    def counting(sampler, problems, n, *args, part, **kwargs):
        rolled.append(len(part) * n)
        return roll(sampler, problems, n, *args, part=part, **kwargs)

    monkeypatch.setattr(evaluate.Sampler, "__call__", counting)
    evaluate.main(SMALL)
    same(folder, whole / EVALUATION)
    assert len(lines) - len(left) <= sum(rolled) <= len(lines) - len(left) + 3  # at most a torn batch again


def test_killed_and_started_again(whole, tmp_path):
    """Guards the same for kill -9 of the real command."""
    command = [sys.executable, str(REPO / "evaluate.py"), *SMALL]
    settings = {"cwd": tmp_path, "env": os.environ | {"OMP_NUM_THREADS": "1"}}
    process = subprocess.Popen(command, **settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    predictions = tmp_path / EVALUATION / "predictions.jsonl"
    deadline = time.time() + 400
    while not predictions.exists() or predictions.read_bytes().count(b"\n") < 6:
        assert process.poll() is None and time.time() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and not (tmp_path / EVALUATION / "results.json").exists()
    said = run_here(evaluate.main, tmp_path, *SMALL)
    assert "own answers" in said and "judge + reflect" in said
    same(tmp_path / EVALUATION, whole / EVALUATION)


@pytest.mark.slow
def test_two_processes_find_the_same(whole, tmp_path):
    """Guards sharing out: the same bytes, probabilities included, though each process does half of the passes."""
    done = two_processes("evaluate", tmp_path, *SMALL)
    assert done.returncode == 0, done.stderr
    same(tmp_path / EVALUATION, whole / EVALUATION)


def test_the_batch_size_changes_nothing(whole, tmp_path, monkeypatch):
    """Guards random numbers: they belong to the problem, not to its place in a batch."""
    monkeypatch.chdir(tmp_path)
    evaluate.main([*SMALL, "batch=100", "parts=[samples]"])

    def responses(folder: Path) -> list[str]:
        rows = [json.loads(line) for line in (folder / EVALUATION / "predictions.jsonl").read_text().splitlines()]
        return [row["response"] for row in rows if row["kind"] == "solve"]

    assert responses(tmp_path) == responses(whole)


def test_changed_prompts_are_noticed(whole, tmp_path, monkeypatch):
    """Guards a reader who edits prompts.py and runs the same command again: old answers are no state then."""
    shutil.copytree(whole / EVALUATION, tmp_path / EVALUATION)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(prompts.TEMPLATES, "reflect", ("Changed {candidate} {question}",))
    with pytest.raises(ConfigError, match="predictions.jsonl answers other prompts"):
        evaluate.main(SMALL)


def test_seeds_and_baseline(whole, tmp_path, monkeypatch, capsys):
    """Guards the comparison with itself: every difference is 0; and figures over seeds beside those of each."""
    shutil.copytree(whole / EVALUATION, tmp_path / EVALUATION)
    monkeypatch.chdir(tmp_path)
    evaluate.main([*SMALL, "seeds=[0,1]", "baseline=starter", "parts=[samples]"])
    results = json.loads((tmp_path / f"{EVALUATION}-2" / "results.json").read_text())
    seeds = results["seeds"]
    assert set(seeds) == {"0", "1"}
    mean = (seeds["0"]["solve"]["mean@k"] + seeds["1"]["solve"]["mean@k"]) / 2
    assert results["solve"]["mean@k"] == pytest.approx(mean)
    differences = results["baseline"]["difference"]["arithmetic"]
    assert set(differences) == {"solve", "mean@k", "majority"}
    assert all(d["difference"] == d["low"] == d["high"] == 0 for d in differences.values())
    assert "difference" in capsys.readouterr().out


def test_each_benchmark_is_marked_by_its_own_rule(tmp_path, monkeypatch, own_cache):
    """Guards a suite in which all sets were marked by the last one's rule, and a user's file that has a benchmark's
    name: it is marked as every data file is."""
    for name, generous in (("gsm8k", True), ("math500", False)):
        def rule(text: str, problem: Problem, generous: bool = generous) -> float:
            return float(generous or text == f"\\boxed{{{problem.answer}}}")  # references must be reached

        told = dataclasses.replace(benchmarks.BENCHMARKS[name], rule=rule, note=f"Not the official rule of {name}.")
        monkeypatch.setitem(benchmarks.BENCHMARKS, name, told)
    (tmp_path / "gsm8k").mkdir()
    for split in ("train", "test"):
        row = {"question": f"{split}: 1 + 1 = ?", "answer": "#### 2"}
        (tmp_path / "gsm8k" / f"{split}.jsonl").write_text(json.dumps(row))
    monkeypatch.chdir(tmp_path)
    words = ["starter", "parts=[]"]
    evaluate.main([*words, "benchmarks=[gsm8k,math500]", f"data_dir={BENCHMARK_FIXTURES}", "name=table"])
    evaluate.main([*words, "data=gsm8k", "name=own"])

    def accuracy(name: str, *keys: str) -> float:
        results = json.loads((tmp_path / "runs" / f"eval-starter-{name}" / "results.json").read_text())
        for key in keys:
            results = results[key]
        return results["solve"]["accuracy"]

    assert accuracy("table", "benchmarks", "gsm8k") == 1 and accuracy("table", "benchmarks", "math500") == 0
    assert accuracy("own") == 0
    report = (tmp_path / "runs" / "eval-starter-table" / "report.md").read_text()
    assert "| average |  | 50.0 |" in report and "| gsm8k | 2 | 100.0 |" in report and "|   Algebra | 0.0 |" in report
    assert report.index("## gsm8k") < report.index("rule of gsm8k") < report.index("## math500")


def test_references_out_of_reach_are_left_out_and_told(tmp_path, own_cache):
    """Guards against a data error that counts as the model's; and against a mean over nothing."""
    for file, answers in (("some", ["2", r"\frac{1"]), ("none", [r"\frac{1"])):
        rows = [{"problem": "x", "answer": answer, "level": 1, "subject": "Algebra"} for answer in answers]
        (tmp_path / file).mkdir()
        (tmp_path / file / "math500.jsonl").write_text("\n".join(map(json.dumps, rows)))
    settings = Evaluation(benchmarks=["math500"], data_dir=str(tmp_path / "some"))
    sets, notes = evaluate.problem_sets(settings, Config())
    assert [p.answer for p in sets["math500"]] == ["2"] and "Left out: 1" in notes["math500"][0]
    with pytest.raises(ConfigError, match="math500 has no problem left. Left out: 1"):
        evaluate.problem_sets(dataclasses.replace(settings, data_dir=str(tmp_path / "none")), Config())
