"""evaluate.py: figures of a scripted model counted by hand, and the real command: stopping, going on, comparing."""

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
from conftest import BENCHMARK_FIXTURES, two_processes

import evaluate
from spark_lib import prompts
from spark_lib.config import Config, ConfigError, Evaluation, help_text, leaves, load_evaluation
from spark_lib.evaluation import assessment, benchmarks
from spark_lib.evaluation.predictions import Prediction
from spark_lib.problem import Problem
from spark_lib.verify import extract_boxed

REPO = Path(__file__).parents[2]
SMALL = ["starter", "limit=4", "samples=2", "batch=4", "rounds=1", "max_new_tokens=64"]


# --- a model by script: what is measured -----------------------------------------------------------------------


class Script:
    """Stands for the model. answers, samples: texts by question; judge(candidate's answer) -> (verdict, P(Yes)), with
    an unreadable verdict as None; choose: pairs of answers as shown -> letter; reflections: answer -> new answer."""

    def __init__(self, answers: dict, samples: dict, judge: dict, choose: dict, reflections: dict):
        self.answers, self.samples, self.judge = answers, samples, judge
        self.choose, self.reflections = choose, reflections
        self.stages: list[tuple] = []

    def __call__(self, problems, n, stage, temperature=0.0) -> list[list[Prediction]]:
        self.stages.append((stage, len(problems), n, temperature))
        return [self.replies(problem, n) for problem in problems]

    def replies(self, problem: Problem, n: int) -> list[Prediction]:
        if problem.kind == "solve":
            said = self.samples if n > 1 else self.answers
            return [self.reply(problem, text) for text in said[problem.meta["question"]]]
        shown = tuple(extract_boxed(c.text) for c in problem.meta["candidates"])
        if problem.kind == "reflect":
            return [self.reply(problem, self.reflections[shown[0]])]
        verdict, p = self.judge[shown[0]] if problem.kind == "pointwise" else (self.choose[shown], None)
        text = f"\\boxed{{{verdict}}}" if verdict else "I do not know"
        return [Prediction(problem, text, True, float(verdict == problem.answer), 5, verdict, p)]

    def reply(self, problem: Problem, answer: str) -> Prediction:
        """An answer of 10 tokens; "cut 7" is cut off after the box, "none" has no box."""
        text = answer if answer == "none" else f"\\boxed{{{answer.split()[-1]}}}"
        finished = not answer.startswith("cut")
        return Prediction(problem, text, finished, float(finished and extract_boxed(text) == problem.answer), 10)


PROBLEMS = [Problem(f"What is {q}?", "1", meta={"question": q}) for q in "pqrs"]
SCRIPT = {
    "answers": {"p": ["1"], "q": ["2"], "r": ["none"], "s": ["1"]},
    "samples": {"p": ["1", "1", "2"], "q": ["2", "3", "2"], "r": ["cut 1", "1", "3"], "s": ["3", "1", "none"]},
    "judge": {"1": ("Yes", 0.9), "2": ("No", 0.2), "3": (None, None), "4": ("Yes", 0.6)},
    "choose": {("1", "2"): "A", ("2", "1"): "B", ("1", "3"): "A", ("3", "1"): "A"},
    "reflections": {"1": "4", "2": "1", "4": "4", None: "1"},
}


@pytest.fixture
def listen():
    """listen(key=value …) -> (script, Said) about the four problems."""

    def run(seed: int = 0, **given):
        script = Script(**SCRIPT)
        settings = Evaluation(samples=3, **given)
        return script, assessment.listen(PROBLEMS, script, "toy", seed, settings, Config())

    return run


def test_figures_by_hand(listen):
    """Guards every figure of results.json. Answers 1 are right. p: 1 1 2, q: 2 3 2, r: (cut) 1 3, s: 3 1 (none)."""
    _, said = listen()
    found = assessment.figures(said, 1.0)
    assert found["solve"] == {
        "accuracy": 2 / 4, "no_answer": 1 / 4, "cut_off": 0, "k": 3, "mean@k": pytest.approx(4 / 12), "pass@k": 3 / 4,
        "pass_at": pytest.approx([4 / 12, (1 + 0 + 2 / 3 + 2 / 3) / 4, 3 / 4]),
        # r: 1 and 3 have a vote each, whichever comes first wins: 1 in two of three turns of the list; s: 3 in two.
        "majority": pytest.approx((1 + 0 + 2 / 3 + 1 / 3) / 4),
    }
    judge = found["pointwise"]
    # Judged are 1 1 2, 2 3 2, 1 3, 3 1: four right ones said Yes, three 2s said No, three 3s unreadable.
    assert (judge["n"], judge["n_right"], judge["n_with_probability"]) == (10, 4, 7)
    assert judge["accuracy"] == 0.7 and judge["yes_rate"] == 0.4
    assert (judge["recall_yes"], judge["recall_no"], judge["balanced_accuracy"]) == (1, 0.5, 0.75)
    assert (judge["precision_no"], judge["f1_no"]) == (1, pytest.approx(2 / 3))
    assert judge["auroc"] == 1 and judge["brier"] == pytest.approx((4 * 0.1**2 + 3 * 0.2**2) / 7)
    assert judge["ece"] == pytest.approx((4 * 0.1 + 3 * 0.2) / 7)
    assert [(b["count"], b["frequency"]) for b in judge["bins"]] == [(3, 0), (4, 1)]
    # p: 1 against 2, the same both ways; r and s: 1 against 3, A both ways.
    choose = found["pairwise"]
    assert choose == {"accuracy": 4 / 6, "consistency": pytest.approx(1 / 3), "a_rate": pytest.approx(5 / 6), "n": 3}
    # q: 2 -> 1; p and s: 1 -> 4; r had no box.
    assert found["reflection"] == {"fix_rate": 1.0, "n_wrong": 1, "break_rate": 1.0, "n_right": 2}
    # p, s accepted; q: 2 -> 1, accepted; r: none -> 1, accepted.
    assert found["tts"] == {"accuracy": [0.5, 1, 1], "tokens": [10, 10 + (3 * 5 + 20) / 4, 10 + (3 * 5 + 20 + 10) / 4],
                            "fixed": [0, 2, 2], "broken": [0, 0, 0]}
    assert found["majority_vote"]["tokens"] == [10, 20, 30]
    assert found["best_of_n"]["tokens"] == pytest.approx([10, 2 * (10 + 50 / 12), 3 * (10 + 50 / 12)])
    assert found["best_of_n"]["accuracy"][-1] == 3 / 4
    assert set(found["equal_tokens"]) == {"best_of_n", "majority_vote", "weighted_vote"}
    assert found["equal_tokens"]["majority_vote"][0] == pytest.approx(1 / 3)


def test_tables_by_hand(listen):
    """Guards the cells that are read: each figure in its row, the other methods at the tokens of the row."""
    from spark_lib.evaluation.report import difference_rows, sections

    _, said = listen()
    tables = sections(assessment.figures(said, 1.0), assessment.tallies([said], 1.0))
    with_interval = ("acc", "mean", "maj", "solving", "judging", "choosing")
    cells = [[row[:2] if row[0].startswith(with_interval) else row for row in rows] for rows in tables]
    assert cells == [
        [["solving", "%"], ["accuracy, greedy", "50.0"], ["no answer: cut off, or no box", "25.0", "cut off 0.0"],
         ["mean@3: accuracy of samples", "33.3"], ["pass@3: some sample is right", "75.0", ""],
         ["majority vote of 3", "50.0"]],
        [["judging 10 own answers", "%"], ["accuracy", "70.0"], ["balanced accuracy", "75.0", ""],
         ["says Yes", "40.0", "right are 40.0"]],
        [["verdict", "precision", "recall", "F1"], ["Yes", "100.0", "100.0", "100.0"], ["No", "100.0", "50.0", "66.7"]],
        [["probability of Yes", "ECE", "Brier", "AUROC"], ["7 verdicts", "0.143", "0.023", "1.000"]],
        [["choosing in 3 pairs of own answers", "%"], ["accuracy, both orders", "66.7"],
         ["same answer in both orders", "33.3", ""], ["says A", "83.3", ""]],
        [["reflecting on the greedy answer", "%", "of"], ["wrong answers fixed", "100.0", "1"],
         ["right answers broken", "100.0", "2"]],
        [["rounds of judge + reflect", "tokens", "%", "fixed", "broken", "best of n", "weighted vote", "majority vote"],
         ["0", "10", "50.0", "0", "0", "33.3", "33.3", "33.3"],
         ["1", "19", "100.0", "2", "0", "45.3", "45.3", "40.6"],
         ["2", "21", "100.0", "2", "0", "48.7", "48.7", "42.7"]],
    ]
    solve = {"value": 0.75, "baseline": 0.5, "difference": 0.25, "low": -0.1, "high": 0.4}
    assert difference_rows({"solve": solve}, "ours", "theirs") == [
        ["%", "ours", "theirs", "difference", "95 % interval"],
        ["greedy accuracy", "75.0", "50.0", "+25.0", "[-10.0, +40.0]"],
    ]


def test_everything_is_greedy_but_the_samples(listen):
    """Guards "greedy": sampled verdicts would be other figures. The greedy answers are asked once for all seeds."""
    script, _ = listen(seed=3)
    assert [stage for stage, _, _, temperature in script.stages if temperature] == ["toy, seed 3: samples"]
    assert script.stages[0] == ("toy: answers", 4, 1, 0.0)


def test_probability_rule(listen):
    """Guards accept=probability: answers of at least the threshold stand, and no probability is no approval."""
    at_half = assessment.figures(listen(accept="probability", threshold=0.9)[1], 1.0)["tts"]
    assert at_half["accuracy"] == [0.5, 1, 1]  # 1 has exactly 0.9
    higher = assessment.figures(listen(accept="probability", threshold=0.95)[1], 1.0)["tts"]
    assert higher["accuracy"] == [0.5, 0.5, 0]  # p and s: 1 -> 4; q and r: -> 1 -> 4
    assert (higher["fixed"], higher["broken"]) == ([0, 2, 0], [0, 2, 2])
    unreadable = Prediction(PROBLEMS[0], "", True, 0.0, 1)
    assert not assessment.acceptance(Evaluation(accept="probability", threshold=0))(unreadable)


@pytest.mark.parametrize("parts, stages, keys", [
    ([], 1, {"solve"}),
    (["samples"], 2, {"solve", "majority_vote"}),
    (["judge"], 4, {"solve", "majority_vote", "best_of_n", "weighted_vote", "pointwise", "pairwise"}),
    (["reflect"], 6, {"solve", "reflection", "tts"}),
])
def test_only_the_parts_that_are_asked_for(listen, parts, stages, keys):
    """Guards the cost: a part that is left out asks the model nothing, and the tables do without it."""
    from spark_lib.evaluation.report import sections

    script, said = listen(parts=parts)
    found = assessment.figures(said, 1.0)
    assert set(found) == keys
    assert len(script.stages) == stages
    assert sections(found, assessment.tallies([said], 1.0))


def test_pairs_are_shown_in_both_orders_and_the_same_words(listen):
    """Guards position consistency: if the phrasing changed with the order, it would be blamed on the position."""
    _, said = listen()
    assert [len(pair) for pair in said.pairs] == [2, 0, 2, 2]
    for first, second in filter(None, said.pairs):
        shown, turned = first.problem.meta["candidates"], second.problem.meta["candidates"]
        assert shown == turned[::-1] and (first.problem.answer, second.problem.answer) == ("A", "B")
        assert [c.reward for c in shown] == [1, 0]
        before, after = first.problem.prompt, second.problem.prompt
        assert sorted(before) == sorted(after) and before != after


def test_nothing_to_judge(listen):
    """Guards base models: without any box there is no judging to measure, and that is no crash."""
    from spark_lib.evaluation.report import sections

    answers = {"p": ["cut 1"], "q": ["none"], "r": ["none"], "s": ["none"]}
    script = Script(answers, {q: ["none"] * 3 for q in "pqrs"}, {}, {}, {"1": "none", None: "none"})
    said = assessment.listen(PROBLEMS, script, "toy", 0, Evaluation(samples=3), Config())
    found = assessment.figures(said, 1.0)
    assert (found["solve"]["no_answer"], found["solve"]["cut_off"]) == (1, 0.25)
    assert "pointwise" not in found and found["tts"]["accuracy"] == [0, 0, 0]
    assert found["reflection"] == {"fix_rate": None, "n_wrong": 0, "break_rate": None, "n_right": 0}
    assert sections(found, assessment.tallies([said], 1.0))


def test_tallies_are_the_figures(listen):
    """Guards the intervals: the rate of each tally is the figure that the table shows beside it."""
    from spark_lib.evaluation.metrics import rate

    _, said = listen()
    found, tallies = assessment.figures(said, 1.0), assessment.tallies([said], 1.0)
    assert {name: rate(tally) for name, tally in tallies.items()} == pytest.approx({
        "solve": found["solve"]["accuracy"], "mean@k": found["solve"]["mean@k"], "majority": found["solve"]["majority"],
        "pointwise": found["pointwise"]["accuracy"], "pairwise": found["pairwise"]["accuracy"],
        "tts": found["tts"]["accuracy"][-1],
    })
    twice = assessment.tallies([said, said], 1.0)
    assert twice["solve"] == [(2, 2), (0, 2), (0, 2), (2, 2)] and twice["pointwise"][1] == (4, 6)
    assert assessment.figures(assessment.together([said, said]), 1.0)["solve"] == found["solve"]


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


# --- the command line ------------------------------------------------------------------------------------------


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


def test_help_lists_every_key():
    text = help_text(Evaluation)
    assert "python evaluate.py" in text and "train.py [config" not in text
    for name, f in leaves(Evaluation).items():
        assert f"\n  {name} = " in text and f.metadata["meaning"] in text


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
    sets, model = {"toy": PROBLEMS}, tiny("llama")

    def identity(settings: Evaluation = Evaluation(), sets=sets, model=model, **config) -> str:
        return json.dumps(evaluate.identity(settings, Config(**config), sets, model))

    base = identity()
    assert identity(Evaluation(batch=1, name="x", baseline="y")) == base == identity(model=tiny("llama"))
    others = [
        identity(Evaluation(rounds=1)), identity(Evaluation(seeds=[1])), identity(Evaluation(accept="probability")),
        identity(sets={"toy": PROBLEMS[:3]}), identity(model=tiny("llama", seed=1)), identity(temperature=0.5),
        identity(max_new_tokens=5), identity(verifier="rule.py:score"),
    ]
    assert len({base, *others}) == len(others) + 1


# --- the real thing --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The working directory of an evaluation of the starter that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    before = Path.cwd()
    os.chdir(folder)
    try:
        evaluate.main(SMALL)
    finally:
        os.chdir(before)
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
    done = subprocess.run(command, **settings, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "own answers" in done.stdout and "judge + reflect" in done.stdout
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
