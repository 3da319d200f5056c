"""--help: every key once, under its heading; --help WORD finds the keys by name, meaning, choice and heading."""

import re

import pytest

from spark_lib.config import Config, leaves
from spark_lib.evaluation.settings import Evaluation
from spark_lib.help import FIRST, HEADINGS, ORDER, asked_for, headings

SECTIONS = pytest.mark.parametrize("section", [Config, Evaluation])


def keys_in(text: str) -> list[str]:
    return re.findall(r"^  ([\w.]+) = ", text, re.MULTILINE)


@SECTIONS
def test_help_lists_every_key_once_with_its_meaning(section):
    """Guards --help, the reference of all keys: a new field cannot be forgotten."""
    text = asked_for(["--help"], section)
    assert sorted(keys_in(text)) == sorted(leaves(section))
    assert all(len(line) <= 120 for line in text.splitlines())
    flowing = " ".join(text.split())
    for f in leaves(section).values():
        assert len(f.metadata["meaning"]) > 3 and " ".join(f.metadata["meaning"].split()) in flowing


@SECTIONS
def test_the_keys_that_people_set_first_come_first(section):
    text = asked_for(["-h"], section)
    assert tuple(keys_in(text)[: len(FIRST[section])]) == FIRST[section]
    assert len(FIRST[section]) <= 12


@SECTIONS
def test_headings_are_of_keys_that_exist(section):
    """A heading whose first key was renamed would fall to the heading before it, unnoticed."""
    assert set(HEADINGS[section]) | set(FIRST[section]) <= set(leaves(section))
    assert set(headings(section).values()) <= set(ORDER)
    assert next(iter(HEADINGS[section])) == next(iter(leaves(section)))


def test_keys_stand_under_their_headings():
    text = asked_for(["--help"])
    parts = re.split(r"^([A-Z ]+)$", text, flags=re.MULTILINE)[1:]
    of = {key: heading for heading, part in zip(parts[::2], parts[1::2]) for key in keys_in(part)}
    assert [h.lower() for h in parts[::2]] == ["set first", *ORDER]
    assert {of[k] for k in ("recycle.view", "recycle.from_start", "judge_loss", "judge_group_size")} == {"RECYCLING"}
    assert {of[k] for k in ("plan", "card", "max_rows", "dense_sampling", "micro_batch_tokens")} == {"MEMORY"}
    assert (of["beta"], of["lora.r"], of["temperature"], of["fields"]) == ("LEARNING", "LEARNING", "SAMPLING", "DATA")
    assert (of["save_every"], of["log_with"], of["eval.split"]) == ("RUN", "RUN", "EVALUATION")


def test_defaults_are_written_as_they_are_given():
    """true and null are what the command line takes, not True and None."""
    text = asked_for(["--help"])
    for line in ("group_size = 8", "run_name = null", "plan = false", "beta = 0.001", "fields = {}",
                 "recycle.kinds = [pointwise, pairwise, reflect]"):
        assert f"\n  {line}\n" in text
    assert "(joint | alternate)" in text and "(null | tensorboard | wandb | trackio)" in text


@pytest.mark.parametrize("words, expected", [
    (["--help", "lr"], ["warmup.lr", "lr", "lr_schedule", "warmup_steps"]),  # the last by its meaning
    (["ALTERNATE", "-h"], ["schedule"]),
    (["--help", "card", "judge_loss=sft"], ["recycle.kinds", "judge_loss", "weights.imitation", "card"]),
    (["configs/x.yaml", "--help", "save_every"], ["save_every"]),
])
def test_a_word_finds_its_keys(words, expected):
    assert keys_in(asked_for(words)) == expected


def test_a_heading_finds_its_keys():
    found = keys_in(asked_for(["--help", "memory"]))
    assert {name for name, heading in headings(Config).items() if heading == "memory"} <= set(found)
    assert "optimizer" in found and "seed" not in found


def test_a_word_that_finds_nothing_gets_one_line():
    assert asked_for(["--help", "grup_size"]).startswith("no key has to do with grup_size; did you mean group_size")
    assert asked_for(["--help", "zzzz"]).endswith("--help without a word shows all keys")


def test_without_asking_there_is_no_help():
    assert asked_for(["seed=1", "configs/x.yaml"]) is None and asked_for([]) is None
