"""Warm-up: lessons from worked examples, and a run that starts from what they taught."""

import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import run_here
from safetensors.torch import load_file

from spark_lib.config import Config, ConfigError, Warmup
from spark_lib.data.fields import solution_of
from spark_lib.data.load import load_problems, split_of
from spark_lib.model.checkpoints import load_trained
from spark_lib.problem import Problem
from spark_lib.starters.text import FAULTLESS
from spark_lib.starters.warmup import lessons, wrong_answers
from spark_lib.verify import extract_boxed, verify
from train import main

REPO = Path(__file__).parents[2]
SMALL = ["max_steps=2", "save_every=1", "problems_per_step=4", "judge_share=0.4", "eval.limit=4", "eval.rounds=0",
         "run_name=a", "max_new_tokens=64", "lr=1e-3"]
WARM = ["warmup.data=worked.jsonl", "warmup.steps=4", "warmup.batch=8", "warmup.lr=1e-3"]


def write_worked(folder: Path, count: int = 60) -> Path:
    """worked.jsonl: additions that a faultless teacher works out in the starter's words."""
    rng, rows = random.Random(0), []
    for _ in range(count):
        numbers = tuple(rng.randint(10, 99) for _ in range(3))
        solution, answer = FAULTLESS.solve(numbers, rng)
        rows.append({"question": "{} + {} + {} = ?".format(*numbers), "answer": answer, "solution": solution})
    path = folder / "worked.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def settings(path: Path, **warmup) -> Config:
    return Config(warmup=Warmup(**{"data": str(path), "steps": 5, "batch": 8} | warmup))


# --- lessons --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value, answer, expected", [
    ("48/2 = <<48/2=24>>24 clips.\n#### 1,224", "1224", "48/2 = 24 clips. \\boxed{1224}"),
    ("So \\boxed{1}, then \\boxed{2}.", "2", "So \\boxed{1}, then \\boxed{2}."),
    ("1 + 1 = 2", "2", "1 + 1 = 2 \\boxed{2}"),
    ("2", "2", None), (" \\boxed{2}", "2", None), ("#### 2", "2", None), ("", "2", None), (2, "2", None),
    (None, "2", None),
])
def test_a_worked_solution_ends_in_the_box_and_a_bare_answer_is_none(value, answer, expected):
    """Guards the form that the verifier reads: GSM8K's calculator marks and `####` would be imitated as they are."""
    assert solution_of(value, answer) == expected


def test_lessons_are_balanced_right_and_of_the_training_split(tmp_path):
    """A demonstration with a wrong verdict, or more Yes than No, would teach just that; a held-out question that is
    worked out here would make "before" and "after" worthless."""
    path = write_worked(tmp_path, 200)
    problems = [Problem(**row) for row in ({"prompt": "", "answer": "", "meta": {"question": q}} for q in
                [json.loads(line)["question"] for line in path.read_text().splitlines()][:50])]
    config = settings(path, steps=10)
    made = lessons(config, problems)
    assert {kind: sum(p.kind == kind for p in made) for kind in config.warmup.kinds} == dict.fromkeys(
        config.warmup.kinds, 20)
    assert len({p.kind for p in made[:8]}) > 1  # mixed, not one kind after another
    for p in made:
        assert verify(p.meta["demonstration"], p), p
        assert split_of(p.meta["question"]) == "train"
    assert not {p.meta["question"] for p in made} & {p.meta["question"] for p in problems}
    assert [sum(p.answer == a for p in made) for a in ("Yes", "No", "A", "B")] == [10] * 4
    for p in made:
        if p.kind == "pointwise":  # the candidate that is shown is wrong where the verdict says so
            own = extract_boxed(p.meta["candidates"][0].text) == str(sum(map(int, p.meta["question"].split()[:5:2])))
            assert own == (p.answer == "Yes") and p.meta["view"] == "answer"
    assert made == lessons(config, problems)
    assert made != lessons(Config(seed=1, warmup=config.warmup), problems)


def test_a_wrong_answer_is_wrong_however_it_is_written():
    """Guards the verdict No: 0.5 for 1/2 is no wrong answer."""
    problems = [Problem("", answer) for answer in ("1/2", "0.5", "\\frac{1}{2}", "3")] * 5
    for problem, wrong in zip(problems, wrong_answers(problems, random.Random(0))):
        assert (wrong == "3") == (problem.answer != "3")


def test_lessons_of_one_kind_and_of_a_generator_that_works_its_problems_out():
    """gsm_symbolic has its solutions along; with the same `data` its options count here as well."""
    config = Config(data="reasoning_gym:gsm_symbolic", data_options={"size": 60},
                    warmup=Warmup(data="reasoning_gym:gsm_symbolic", steps=2, batch=4, kinds=["solve"]))
    made = lessons(config, [])
    asked = {p.meta["question"] for p in load_problems(config.data, "train", options=config.data_options)}
    assert len(made) == 8 and {p.kind for p in made} == {"solve"} and {p.meta["question"] for p in made} <= asked
    assert all(p.meta["demonstration"].endswith(f" \\boxed{{{p.answer}}}") for p in made)
    assert not any("####" in p.meta["demonstration"] for p in made)


def test_fields_name_the_solution(tmp_path):
    """Guards `fields`: a named solution wins over the one that would be found."""
    rows = [{"question": f"{i} + 1 = ?", "answer": str(i + 1), "solution": "no", "cot": f"{i} + 1 is {i + 1}"}
            for i in range(40)]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    config = settings(path, kinds=["solve"])
    config.data, config.fields = str(path), {"solution": "cot"}
    assert all(" + 1 is " in p.meta["demonstration"] for p in lessons(config, []))


def test_a_solution_that_ends_elsewhere_is_left_out_and_counted(tmp_path, caplog):
    path = write_worked(tmp_path)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    wrong = next(row for row in rows if split_of(row["question"]) == "train")
    wrong["answer"] = "7"
    wrong["solution"] += " \\boxed{8}"
    path.write_text("\n".join(map(json.dumps, rows)))
    found = lessons(settings(path, steps=20), [])
    assert wrong["question"] not in {p.meta["question"] for p in found}


@pytest.mark.parametrize("rows, message", [
    ([{"question": f"{i}?", "answer": str(i)} for i in range(20)], r"a.jsonl, line \d+: there is only an answer"),
    ([{"question": f"{i}?", "answer": "1", "solution": "It is 1."} for i in range(20)], "two with different answers"),
    ([{"question": "1?"}], "cannot tell which field is the answer"),
])
def test_examples_that_cannot_be_meant(tmp_path, rows, message):
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(ConfigError, match=message):
        lessons(settings(path), [])


# --- whole runs -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, str]:
    """(folder of a warmed-up run that nothing interrupted, what it printed)."""
    folder = tmp_path_factory.mktemp("whole")
    write_worked(folder)
    return folder / "runs" / "a", run_here(main, folder, *SMALL, *WARM)


def files(run: Path) -> dict[str, bytes]:
    names = ("metrics.jsonl", "rollouts.jsonl.gz", "before.json", "after.json", "judge_set.json",
             "checkpoint-2/adapter/adapter_model.safetensors")
    return {name: (run / name).read_bytes() for name in names}


def test_spark_starts_from_the_warmed_up_weights(whole, tmp_path):
    """"Before", the KL term's reference and the optimiser must be those of a run on the warmed-up model, or the gain
    that the report shows is partly the warm-up's: the same run on that model alone gives the same bytes."""
    run, said = whole
    losses = [float(line.split()[-1]) for line in said.splitlines() if line.startswith("warm-up step")]
    assert len(losses) == 2 and losses[1] < losses[0]
    assert json.loads((run / "metrics.jsonl").read_text().splitlines()[1])["update/kl"] > 0
    run_here(main, tmp_path, *SMALL, f"model={run / 'warm'}")
    assert files(tmp_path / "runs" / "a") == files(run)


DIE = """
import os, runpy, signal, sys
sys.path.insert(0, {repo!r})
import spark_lib.starters.warmup
original = spark_lib.starters.warmup.save_merged
def dying(model, tokenizer, folder):
    if {after}:
        original(model, tokenizer, folder)
    else:
        folder.with_name("warm.partial").mkdir()
    os.kill(os.getpid(), signal.SIGKILL)
spark_lib.starters.warmup.save_merged = dying
sys.argv = ["train.py", *{words!r}]
runpy.run_path({script!r}, run_name="__main__")
"""


@pytest.mark.parametrize("after", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_run_killed_in_its_warm_up_goes_on_bit_for_bit(whole, tmp_path, after):
    """Killed while the warmed-up model is written, and right after: the first must not be taken for whole, the second
    not be warmed up again."""
    write_worked(tmp_path)
    code = DIE.format(repo=str(REPO), after=after, words=[*SMALL, *WARM], script=str(REPO / "train.py"))
    dead = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, timeout=300)
    assert dead.returncode == -signal.SIGKILL
    assert (tmp_path / "runs" / "a" / "warm").exists() == after
    said = run_here(main, tmp_path, "resume=runs/a")
    assert ("warm-up step" in said) == (not after)
    assert files(tmp_path / "runs" / "a") == files(whole[0])


def test_resuming_after_steps_starts_from_the_warmed_up_model(whole, tmp_path):
    """Guards the base of a resumed run: an adapter put on the model before the warm-up is another model."""
    write_worked(tmp_path)
    run_here(main, tmp_path, *SMALL, *WARM, "max_steps=1")
    (tmp_path / "worked.jsonl").unlink()  # no longer needed
    said = run_here(main, tmp_path, "resume=runs/a", "max_steps=2")
    assert "warm-up step" not in said
    assert files(tmp_path / "runs" / "a") == files(whole[0])


def test_plain_peft_loads_the_result(whole, monkeypatch):
    """The printed lines, AutoPeftModel by the adapter's own note of its base, and evaluate.py's way agree."""
    from peft import AutoPeftModelForCausalLM

    run, said = whole
    monkeypatch.chdir(run.parents[1])
    Path("spark_lib").symlink_to(REPO / "spark_lib")
    names: dict = {}
    exec("\n".join(line.strip() for line in said.split("peft:\n")[1].splitlines()), names)
    auto = AutoPeftModelForCausalLM.from_pretrained("runs/a/checkpoint-2/adapter")
    ours, _ = load_trained("runs/a")
    cold, _ = load_trained("starter")
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        expected, *others = (m.eval()(input_ids=ids).logits for m in (ours, names["model"], auto, cold))
    assert torch.equal(others[0], expected) and torch.equal(others[1], expected)
    assert not torch.allclose(others[2], expected, atol=1e-2)
    adapter = load_file("runs/a/checkpoint-2/adapter/adapter_model.safetensors")
    assert any(tensor.any() for name, tensor in adapter.items() if "lora_B" in name)


@pytest.mark.parametrize("words", [["quantization=nf4"], ["lora=null", "lr=1e-4", "warmup.lr=1e-4"]],
                         ids=["nf4", "all weights"])
def test_quantised_and_whole_models_are_warmed_up_as_well(tmp_path, words):
    """The warmed-up folder is dense and is quantised again as it is loaded; without an adapter it is a plain copy."""
    write_worked(tmp_path)
    run_here(main, tmp_path, *SMALL, *WARM, "eval.limit=0", "max_steps=1", *words)
    cold, _ = load_trained("starter")
    warm, _ = load_trained(str(tmp_path / "runs" / "a" / "warm"))
    assert cold.config.vocab_size == warm.config.vocab_size
    assert any(not torch.equal(a, b) for a, b in zip(cold.parameters(), warm.parameters()))
