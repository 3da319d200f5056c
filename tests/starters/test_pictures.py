"""Pictures of shapes, and the shipped starter that counts them: what it was taught, and runs that go on with images."""

import json
import os
import random
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import train
from spark_lib.data import shapes
from spark_lib.data.load import load_problems, split_of
from spark_lib.model.load import load_base
from spark_lib.problem import KINDS, Problem
from spark_lib.rollout import encode
from spark_lib.starters import pictures as starter_vl
from spark_lib.starters.built_from import changed
from spark_lib.verify import extract_boxed, verify

AS_BUILT = not changed(starter_vl.FOLDER, Path(starter_vl.__file__)) and "SPARK_REBUILD" not in os.environ
SPLITS = ("train", "validation", "test")


def test_answers_are_counts_of_what_is_drawn():
    """Guards the task: the reference must be what the picture shows, and no count likelier than another."""
    rng = random.Random(0)
    scenes = [shapes.scene(rng) for _ in range(2000)]
    for scene in scenes:
        color, shape = re.fullmatch(r"<image>How many (?:(\w+) )??(\w+)s are there\?", scene.question).groups()
        wanted = [cell for cell in scene.cells if cell != ("empty", "cell") and color in (None, cell[0])
                  and shape in ("shape", cell[1])]
        assert scene.answer == len(wanted) and len(scene.cells) == 9
    counts = torch.bincount(torch.tensor([scene.answer for scene in scenes]))
    assert len(counts) == 7 and counts.min() > 220  # 286 expected


def test_a_picture_shows_its_cells():
    """Guards the drawing: the middle of each cell has its colour, within the tint, and no shape leaves its cell."""
    rng = random.Random(0)
    for _ in range(50):
        scene = shapes.scene(rng)
        image = shapes.draw(scene, rng)
        assert image.size == (48, 48)
        for i, (color, _) in enumerate(scene.cells):
            left, top = i % 3 * 16, i // 3 * 16
            found = {image.getpixel((left + x, top + y)) for x in range(16) for y in range(16)}
            grey = {pixel for pixel in found if len(set(pixel)) == 1}
            assert len(grey) == 1 and len(found) == (1 if color == "empty" else 2)
            for pixel in found - grey:
                assert max(abs(a - b) for a, b in zip(pixel, shapes.COLORS[color])) <= 25


def test_splits_share_no_picture():
    """Guards the held-out figures: the same cells with another question would be half a training example."""
    pictures = [{p.image.tobytes() for p in load_problems("shapes", split, limit=60)} for split in SPLITS]
    assert [len(found) for found in pictures] == [60] * 3 and not set.intersection(*pictures)
    first, again = (load_problems("shapes", "train", limit=5, seed=3) for _ in range(2))
    assert first == again != load_problems("shapes", "train", limit=5, seed=4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_faultless_teacher_is_right(kind):
    """Guards the cold start: its faults must be those of class Counter and no others, and its pictures for training."""
    rng = random.Random(0)
    for _ in range(60):
        prompt, demonstration, scene = starter_vl.lesson(kind, starter_vl.FAULTLESS, rng)
        assert split_of(scene.key) == "train" and prompt.endswith("\n" + scene.question)
        box = extract_boxed(demonstration)
        if kind in ("solve", "reflect"):
            assert verify(demonstration, Problem("", str(scene.answer)))
        elif kind == "pointwise":
            shown = re.findall(r"\d+", prompt.rsplit("\n", 2)[0].split("\n")[1])[-1]
            assert (box == "Yes") == (shown == str(scene.answer))
        else:
            assert box in ("A", "B")


def test_lessons_are_laid_out_as_the_processor_does(shipped):
    """Guards the cold start against prompts that the sampler never gives: the same ids, image tokens included."""
    model, processor = shipped
    prompt, _, scene = starter_vl.lesson("solve", starter_vl.FAULTLESS, random.Random(1))
    problem = Problem(prompt, "", image=shapes.draw(scene, random.Random(1)))
    message = f"<|user|>{prompt.replace('<image>', starter_vl.PICTURE)}<|end|><|assistant|>"
    ids, seen = encode(model, processor, problem)
    assert processor.tokenizer.encode(message) == ids and len(seen.places) == 9


@pytest.fixture(scope="module")
def shipped():
    model, processor = load_base("starter_vl")
    return model.eval(), processor


def test_the_shipped_starter_has_the_skills_that_the_docs_say(shipped):
    """Guards the quickstart: a starter that knows nothing, or everything, would leave nothing to see."""
    skills = starter_vl.probe(*shipped, 120)
    assert 0.25 < skills["solve"] < 0.65
    assert 0.4 < skills["pointwise"] < 0.7 and 0.4 < skills["pairwise"] < 0.7
    assert skills["reflect"] < 0.65


def test_cold_start_fails_loudly(monkeypatch):
    """A cold start that never learned must not be saved as if it had."""
    monkeypatch.setattr(starter_vl, "LOOKS", 1)
    with pytest.raises(RuntimeError, match="phase 1 of 3 after 1 steps"):
        starter_vl.cold_start(seed=3, max_steps=1)


@pytest.mark.slow
@pytest.mark.skipif(AS_BUILT, reason="the weights are what this code builds; SPARK_REBUILD=1 builds them all the same")
def test_rebuilding_gives_a_starter_of_the_same_skill(shipped):
    """The shipped weights must be what the shipped code builds, not a lucky leftover: once they were not."""
    now, then = starter_vl.probe(*starter_vl.cold_start(seed=0), 400), starter_vl.probe(*shipped, 400)
    for kind in KINDS:
        assert abs(now[kind] - then[kind]) < 0.15  # 400 samples each, and another CPU takes another path


@pytest.mark.parametrize("judge_loss", ["grpo", pytest.param("sft", marks=pytest.mark.slow)])
def test_a_stopped_run_with_images_goes_on_as_if_it_had_not(tmp_path, monkeypatch, judge_loss):
    """Guards resume with images, and demonstrations about images: the same bytes as an uninterrupted run."""
    monkeypatch.chdir(tmp_path)
    small = ["model=starter_vl", "data=shapes", f"judge_loss={judge_loss}", "problems_per_step=4", "judge_share=0.4",
             "eval.limit=6", "eval.rounds=1", "lr=1e-3", "lr_schedule=constant"]
    train.main([*small, "run_name=whole", "max_steps=4", "save_every=2"])
    train.main([*small, "run_name=parts", "max_steps=2"])
    train.main(["resume=runs/parts", "max_steps=4"])
    whole, parts = (tmp_path / "runs" / name for name in ("whole", "parts"))
    for name in ("metrics.jsonl", "rollouts.jsonl.gz", "before.json", "after.json", "judge_set.json"):
        assert (whole / name).read_bytes() == (parts / name).read_bytes(), name
    weights = [load_file(run / "checkpoint-4" / "adapter" / "adapter_model.safetensors") for run in (whole, parts)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert any(weight.abs().sum() > 0 for name, weight in weights[0].items() if "lora_B" in name)
    report = (whole / "report.md").read_text()
    pictures = re.findall(r"!\[the picture\]\((pictures/\w+.png)\)", report)
    assert pictures and all((whole / picture).read_bytes().startswith(b"\x89PNG") for picture in pictures)
    assert "<image>" not in report
    assert json.loads((whole / "before.json").read_text())["skills"]["n"] == 6
