"""What is not finite never lands: in weights, optimiser, checkpoints, nor in a token."""

import copy
import json
import math
import random
import shutil
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from conftest import MockModel, add_lora
from safetensors.torch import load_file, save_file
from same_run import differences

import train
from evaluate import main as evaluate
from spark_lib.config import ConfigError, load_config
from spark_lib.model.checkpoints import (
    ADAPTER,
    checkpoints,
    load_checkpoint,
    load_trained,
    save_checkpoint,
    save_merged,
)
from spark_lib.model.finite import MOST_SKIPPED, NotFinite, is_finite, refuse_broken_model
from spark_lib.model.weights import trainable
from spark_lib.resuming import last_state
from spark_lib.sampling.decode import decode
from spark_lib.view import read

NAN, INFINITE = float("nan"), float("inf")
# Some rows to learn from in every step, whatever the model says: a step without any would never be tried.
QUICK = ["problems_per_step=2", "group_size=4", "recycle.kinds=[]", "max_new_tokens=12", "eval.limit=0", "run_name=a",
         "verifier=rule.py:mark"]


@pytest.fixture(scope="module", autouse=True)
def no_figures():
    """They take half of the time of such small runs, and no test here is about them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spark_lib.report.figure", lambda *_: None)
        yield


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder to run in, with a rule that marks about half of the responses right."""
    monkeypatch.chdir(tmp_path)
    Path("rule.py").write_text("def mark(text, problem):\n    return sum(map(ord, text)) % 2\n")
    monkeypatch.setattr("spark_lib.rewards.mark", mark_all)
    monkeypatch.setattr("spark_lib.sampling.roll.mark", mark_all)
    return tmp_path


def mark_all(groups, rule) -> None:
    """Every response is marked, cut off or not, and no group is all right or all wrong."""
    for group in groups:
        for i, rollout in enumerate(group):
            rollout.reward = float(i % 2)


@pytest.fixture(scope="module")
def spark(tmp_path_factory):
    """A policy with some groups to learn from; each test puts its weights back."""
    config = load_config(["problems_per_step=2", "group_size=4", "max_new_tokens=12"])
    made = train.Spark(config, Accelerator())
    problems = train.load_problems(config.data, "train", limit=4)
    groups = made.roll(problems, 4, (0, "solve"))
    mark_all(groups, None)
    made.update(groups[:2], [], "first")  # the optimiser has a state from here on
    kept = snapshot(made)
    made.groups, made.put_back = groups, lambda: put_back(made, kept)
    return made


def snapshot(spark) -> tuple:
    return [p.detach().clone() for p in trainable(spark.model)], copy.deepcopy(spark.optimizer.state_dict())


def put_back(spark, kept: tuple) -> None:
    with torch.no_grad():
        for p, value in zip(trainable(spark.model), kept[0]):
            p.copy_(value)
    spark.optimizer.load_state_dict(copy.deepcopy(kept[1]))


def assert_same_state(ours: tuple, theirs: tuple) -> None:
    assert all(torch.equal(a, b) for a, b in zip(ours[0], theirs[0]))
    assert ours[1]["state"].keys() == theirs[1]["state"].keys()
    for i, state in theirs[1]["state"].items():
        assert all(torch.equal(ours[1]["state"][i][key], value) for key, value in state.items())


def break_losses(monkeypatch, which, value: float, what: str = "both") -> None:
    """The losses of the micro-batches `which(count from 0)` are not finite any more, or their gradients, or both."""
    loss_of, count = train.joint_loss, iter(range(10**6))

    def broken(*args):
        loss, metrics = loss_of(*args)
        if which(next(count)):
            if what == "gradient":
                loss.register_hook(lambda grad: grad * value)
            else:
                loss = loss * value if what == "both" else loss + value
        return loss, metrics

    monkeypatch.setattr(train, "joint_loss", broken)


@pytest.mark.parametrize("value", [NAN, INFINITE, -INFINITE])
@pytest.mark.parametrize("what", ["loss", "gradient", "both"])
def test_a_step_that_is_not_finite_changes_nothing(spark, monkeypatch, value, what):
    """One NaN gradient made the norm NaN, clipping every gradient, the optimiser every weight: 28 of 28 tensors. Now
    the step leaves no trace: what is learned next is what would have been learned without it."""
    spark.put_back()
    spark.update(spark.groups[2:], [], "good")
    without = snapshot(spark)
    spark.put_back()
    before = snapshot(spark)
    with monkeypatch.context() as patch:
        break_losses(patch, lambda count: True, value, what)
        learned = spark.update(spark.groups[:2], [], "broken")
    assert_same_state(snapshot(spark), before)
    assert learned["update/rows"] == 2 and learned["update/skipped"] == 1
    assert not {"update/loss", "update/grad_norm"} & learned.keys()  # no NaN among the metrics: JSON has none
    assert spark.update(spark.groups[2:], [], "good again").keys() >= {"update/loss"}
    assert_same_state(snapshot(spark), without)


def test_what_a_skipped_step_was_made_of(spark, monkeypatch):
    spark.put_back()
    break_losses(monkeypatch, lambda count: True, NAN)
    row, = spark.update(spark.groups[:2], [], "made of")["skipped"]
    json.dumps(row, allow_nan=False)
    assert row["loss"] == "nan" and row["grad_norm"] == "nan" and len(row["groups"]) == 2
    for told, group in zip(row["groups"], spark.groups):
        assert told["kind"] == "solve" and told["prompt"] == group[0].problem.prompt
        assert told["rewards"] == [r.reward for r in group]
        assert told["tokens"] == [len(r.response_ids) for r in group]
        assert told["lowest_logprob"] == min(p for r in group for p in r.logprobs)


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_of_several_updates_none_stays_if_one_is_not_finite(spark, monkeypatch, broken):
    """The updates of a step that landed before the broken one are taken back, the optimiser's state with them."""
    spark.put_back()
    before = snapshot(spark)
    monkeypatch.setattr(spark.config, "updates_per_step", 3)
    monkeypatch.setattr(spark.guard, "several", True)
    break_losses(monkeypatch, lambda count: count == broken, NAN)
    assert spark.update(spark.groups[:2], [], ("several", broken))["update/skipped"] == 1
    assert_same_state(snapshot(spark), before)
    assert "update/loss" in spark.update(spark.groups[:2], [], ("several, next", broken))


@pytest.mark.parametrize("broken", [0, 1])
def test_alternate_steps_land_whole_or_not_at_all(spark, monkeypatch, broken):
    """schedule=alternate has two updates in a step: one of them alone would be half a step."""
    spark.put_back()
    before = snapshot(spark)
    monkeypatch.setattr(spark.guard, "several", True)
    break_losses(monkeypatch, lambda count: count == broken, NAN)
    spark.update(spark.groups[:2], [], ("alternate", broken))
    learned = spark.update(spark.groups[2:], [], ("alternate", broken))
    assert learned["update/skipped"] == 1 and len(learned["skipped"]) == 1
    assert_same_state(snapshot(spark), before)


def test_undoing_the_first_step_leaves_an_optimiser_without_state(spark, monkeypatch):
    """Before the first step there is no state to go back to; moments of zero would be another Adam."""
    spark.put_back()
    state = spark.optimizer.state
    kept = dict(state)
    state.clear()
    monkeypatch.setattr(spark.guard, "several", True)
    monkeypatch.setattr(spark.config, "updates_per_step", 2)
    break_losses(monkeypatch, lambda count: count == 1, NAN)
    spark.update(spark.groups[:2], [], "the very first")
    assert not state
    state.update(kept)


def break_steps(monkeypatch, steps: set[int]) -> None:
    """Losses of these steps of a run are NaN."""
    update, loss_of, now = train.Spark.update, train.joint_loss, []

    def update_at(self, groups, demonstrations, step):
        now[:] = [step]
        return update(self, groups, demonstrations, step)

    def broken(*args):
        loss, metrics = loss_of(*args)
        return (loss * NAN if now[0] in steps else loss), metrics

    monkeypatch.setattr(train.Spark, "update", update_at)
    monkeypatch.setattr(train, "joint_loss", broken)


def test_a_run_skips_logs_and_goes_on_and_a_resumed_one_does_the_same(place, monkeypatch, capsys):
    break_steps(monkeypatch, {1, 2, 4})
    train.main([*QUICK, "max_steps=6", "save_every=1"])
    run = place / "runs" / "a"
    assert "step 4 changes nothing" in capsys.readouterr().out
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in metrics if "update/skipped" in row] == [1, 2, 4]
    skipped = [json.loads(line) for line in (run / "skipped.jsonl").read_text().splitlines()]
    assert [row["step"] for row in skipped] == [1, 2, 4] and all(row["groups"] for row in skipped)
    reasons = {row["step"]: {group["dropped"] for group in row["groups"]} for row in read(run)}
    assert [step for step, found in reasons.items() if "not finite" in found] == [1, 2, 4]
    assert not any(None in reasons[step] for step in (1, 2, 4)) and None in reasons[0]
    # No checkpoint of a step that learned nothing: it would only take an older one's place.
    assert [path.name for path in checkpoints(run)] == ["checkpoint-4", "checkpoint-6"]
    whole = shutil.copytree(run, place / "whole")
    shutil.rmtree(run / "checkpoint-6")
    (run / "summary.json").unlink()
    train.main(["resume=runs/a"])
    assert [name for name in differences(run, whole) if "checkpoint-5" not in name] == []


def test_three_in_a_row_end_the_run(place, monkeypatch, capsys):
    """The message says what to try, the last checkpoint is finite, and the count goes on over a kill and a resume."""
    break_steps(monkeypatch, {2, 3, 4})
    with pytest.raises(NotFinite, match=f"{MOST_SKIPPED} steps in a row.*lower lr"):
        train.main([*QUICK, "max_steps=6", "save_every=2"])
    out = capsys.readouterr().out
    assert "to go on from checkpoint-2 once that is mended: python train.py resume=runs/a" in out
    run = place / "runs" / "a"
    assert [path.name for path in checkpoints(run)] == ["checkpoint-2"] and not (run / "summary.json").exists()
    assert all(map(is_finite, load_file(run / "checkpoint-2" / ADAPTER).values()))
    with pytest.raises(NotFinite):  # the same steps again, and the same end
        train.main(["resume=runs/a"])
    break_steps(monkeypatch, set())
    train.main(["resume=runs/a", "lr=1e-4", "max_steps=3"])
    assert json.loads((run / "summary.json").read_text())["steps"] == 3


@pytest.mark.slow
def test_a_stop_between_skipped_steps_keeps_their_count(place, monkeypatch):
    break_steps(monkeypatch, {1, 2, 3})
    with monkeypatch.context() as patch:
        log = train.Run.log
        patch.setattr(train.Run, "log", lambda run, *args: (log(run, *args), run.done == 3 and stop(run)))

        def stop(run):
            run.stop.signum = 2

        train.main([*QUICK, "max_steps=9"])
    assert (place / "runs" / "a" / "checkpoint-3").exists()
    with pytest.raises(NotFinite, match="3 steps in a row"):
        train.main(["resume=runs/a"])


@pytest.mark.slow
def test_an_absurd_rate_leaves_finite_checkpoints(place):
    """The fault as it was found: lr=1e3, and a KL term that overflows."""
    with pytest.raises(NotFinite):
        train.main([*QUICK, "max_steps=20", "save_every=1", "lr=1e3", "beta=1", "max_new_tokens=64"])
    found = checkpoints(place / "runs" / "a")
    assert found and all(is_finite(t) for path in found for t in load_file(path / ADAPTER).values())


@pytest.mark.parametrize("value", [NAN, INFINITE])
@pytest.mark.parametrize("where", ["weight", "optimiser"])
def test_a_checkpoint_with_a_broken_tensor_is_never_written(spark, tmp_path, where, value):
    spark.put_back()
    state = {"sampled_tokens": 1, "seconds": {}, "model": "starter", "quantization": "none"}
    save_checkpoint(tmp_path, 1, spark, state)
    if where == "weight":
        trainable(spark.model)[3].data.flatten()[5] = value
    else:
        list(spark.optimizer.state.values())[2]["exp_avg_sq"].flatten()[1] = value
    with pytest.raises(NotFinite, match="checkpoint-2 is not written"):
        save_checkpoint(tmp_path, 2, spark, state)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]
    spark.put_back()


def test_a_merged_model_with_a_broken_tensor_is_never_written(tiny, tokenizer, tmp_path):
    model = add_lora(tiny("llama"))
    trainable(model)[0].data[0, 0] = NAN
    with pytest.raises(NotFinite):
        save_merged(model, tokenizer, tmp_path / "merged")
    assert not list(tmp_path.iterdir())


def saved_model(tiny, tokenizer, folder: Path, change) -> str:
    model = tiny("llama")
    with torch.no_grad():
        change(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


BREAKS = {
    "an unused row of the embedding is NaN": lambda model: model.get_input_embeddings().weight[-1].fill_(NAN),
    "a norm is infinite": lambda model: model.model.norm.weight[0].fill_(INFINITE),
    "the head overflows": lambda model: model.lm_head.weight.mul_(3e38 / model.lm_head.weight.abs().max()),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_model_is_refused_at_the_start(place, tiny, tokenizer, name):
    """"index 456 is out of bounds" was all that its user was told, after the data was read and the folder made."""
    folder = saved_model(tiny, tokenizer, place / "model", BREAKS[name])
    with pytest.raises(NotFinite, match="model: .*NaN or infinite"):
        train.main([*QUICK, f"model={folder}"])
    assert not Path("runs").exists()
    with pytest.raises(NotFinite, match="model: .*NaN or infinite"):
        evaluate([folder, "limit=2"])
    assert not Path("runs").exists()


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "granite"])
def test_a_sound_model_is_not_refused(tiny, tokenizer, name):
    assert refuse_broken_model(tiny(name), tokenizer, name) is None  # and raised nothing


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("value", [NAN, INFINITE])
def test_no_token_is_drawn_from_broken_logits(temperature, value):
    """argmax over NaN is a token, and a greedy evaluation of a broken model looked like a model that is wrong."""
    table = torch.zeros(6, 6, 6)
    table[2, 4, 3] = value  # after a text that begins with 2 and ends with 4: one number of many
    model = MockModel(table, 0).eval()
    uniforms = torch.full((1, 2, 3), 0.5)
    assert decode(model, [[1, 4]], uniforms, {0}, temperature)
    with pytest.raises(NotFinite, match="no token can be drawn"):
        decode(model, [[2, 4]], uniforms, {0}, temperature)


@pytest.fixture
def finished(place) -> Path:
    train.main([*QUICK, "max_steps=3", "save_every=1"])
    return place / "runs" / "a"


def spoil(file: Path, value: float) -> None:
    tensors = load_file(file)
    next(iter(tensors.values())).flatten()[0] = value
    save_file(tensors, file, metadata={"format": "pt"})


def test_resuming_takes_the_last_checkpoint_that_is_finite_and_says_so(finished, place, capsys):
    """It took the broken one and died, or ended with exit code 0 and the instructions for loading it."""
    whole = shutil.copytree(finished, place / "whole")
    spoil(finished / "checkpoint-3" / ADAPTER, NAN)
    (finished / "summary.json").unlink()
    train.main(["resume=runs/a"])
    assert "going on from checkpoint-2, as checkpoint-3 cannot be used" in capsys.readouterr().out
    broken = [name for name in differences(finished, whole) if not name.startswith("broken-checkpoint-3/")]
    assert broken == [] and (finished / "broken-checkpoint-3").is_dir()


def test_resuming_without_a_usable_checkpoint_says_what_to_do(finished):
    for path in checkpoints(finished):
        spoil(path / ADAPTER, INFINITE)
    with pytest.raises(ConfigError, match="no checkpoint of runs/a can be used.*delete"):
        train.main(["resume=runs/a", "max_steps=5"])
    for path in checkpoints(finished):  # and what it says works
        shutil.rmtree(path)
    train.main(["resume=runs/a", "max_steps=1"])


def test_evaluate_refuses_a_broken_adapter(finished):
    """"accuracy 0.0", exit code 0."""
    spoil(finished / "checkpoint-3" / ADAPTER, NAN)
    with pytest.raises(NotFinite, match="checkpoint-3.*NaN or infinite"):
        evaluate(["runs/a", "limit=2"])
    assert not list(finished.glob("eval-*"))


def damage(file: Path, rng: random.Random, others: list[Path]) -> str:
    """Spoil a file in one of the ways in which files are spoiled; returns which."""
    how = rng.choice(["missing", "empty", "cut short", "garbage", "one byte", "swapped", "a folder"])
    data = file.read_bytes()
    if how in ("missing", "a folder"):
        file.unlink()
    if how == "a folder":
        file.mkdir()
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "cut short":
        file.write_bytes(data[: rng.randrange(len(data))])
    elif how == "garbage":
        file.write_bytes(rng.randbytes(len(data)))
    elif how == "one byte":
        place = rng.randrange(min(len(data), 400))  # headers stand at the beginning
        file.write_bytes(data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :])
    elif how == "swapped":
        file.write_bytes(rng.choice(others).read_bytes())
    return how


def fuzz_checkpoints(spark, folder: Path, count: int, seed: int) -> dict[str, int]:
    """Damage a file of the last of two checkpoints, `count` times over: going on and loading for evaluation each end
    well or in one line. Returns how often each happened."""
    rng, seen = random.Random(seed), {"went on": 0, "from the one before": 0, "loaded": 0, "refused": 0}
    state = {"sampled_tokens": 1, "seconds": {}, "model": "starter", "quantization": "none"}
    spark.put_back()
    (folder / "kept").mkdir()
    for step in (1, 2):
        save_checkpoint(folder / "kept", step, spark, state)
        spark.update(spark.groups[:2], [], ("fuzz", step))
    for _ in range(count):
        run = folder / "run"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(folder / "kept", run)
        files = sorted(path for path in run.rglob("*") if path.is_file())
        files = [path for path in files if path.name not in ("README.md", "chat_template.jinja")]
        file = rng.choice([path for path in files if "checkpoint-2" in str(path)])
        how = damage(file, rng, files)
        try:
            load_trained(run)
            seen["loaded"] += 1
        except ConfigError as error:
            assert "\n" not in str(error) and "checkpoint-2" in str(error), (file, how, error)
            seen["refused"] += 1
        found = last_state(spark, run, lambda text: None)
        seen["went on" if found["step"] == 2 else "from the one before"] += 1
    spark.put_back()
    return seen


def test_damaged_checkpoints_end_well_or_in_one_line(spark, tmp_path):
    """Adapters and checkpoints with missing, damaged or swapped files: never a traceback."""
    seen = fuzz_checkpoints(spark, tmp_path, 12, seed=0)
    assert seen["from the one before"] and seen["refused"]


def test_one_flipped_bit_of_the_optimiser_is_noticed(spark, tmp_path):
    """torch reads past a wrong checksum: IndexError and AssertionError out of its unpickler, or other moments."""
    spark.put_back()
    state = {"sampled_tokens": 1, "seconds": {}, "model": "starter", "quantization": "none"}
    folder, rng, refused = save_checkpoint(tmp_path, 1, spark, state), random.Random(0), 0
    data, before = (folder / "optimizer.pt").read_bytes(), snapshot(spark)
    for i in range(60):
        place = rng.randrange(3000 if i % 2 else len(data))  # the pickle stands at the beginning
        flipped = data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]
        (folder / "optimizer.pt").write_bytes(flipped)
        try:
            load_checkpoint(folder, spark.model, spark.optimizer)
            assert_same_state(snapshot(spark), before)  # the bit was padding
        except ConfigError as error:
            assert "optimizer.pt" in str(error) and "\n" not in str(error)
            refused += 1
    assert refused > 30
    spark.put_back()


@pytest.mark.slow
def test_many_damaged_checkpoints_end_well_or_in_one_line(spark, tmp_path):
    seen = fuzz_checkpoints(spark, tmp_path, 500, seed=1)
    assert seen["from the one before"] > 100  # much of the damage is harmless: spaces, files that are not read again


def test_is_finite_looks_at_every_number():
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        numbers = torch.zeros(3, 5, dtype=dtype)
        assert is_finite(numbers) and is_finite(numbers[:0])
        for value in (NAN, INFINITE, -INFINITE):
            for place in ((0, 0), (2, 4)):
                broken = numbers.clone()
                broken[place] = value
                assert not is_finite(broken)
    assert is_finite(torch.zeros(3, dtype=torch.uint8)) and math.isnan(NAN)
    assert is_finite(torch.full((3,), torch.finfo(torch.float32).max))  # their sum is not finite, they are
