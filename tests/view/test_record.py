"""The record: what is in it, and that it can be cut, killed and read."""

import base64
import gzip
import io
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from view.made import HOSTILE, response, step_of

from spark_lib.config import Config
from spark_lib.problem import Problem
from spark_lib.view import read, record
from spark_lib.view.rows import keep_pictures, picture, speller, step_row, verdict


@pytest.fixture
def groups(rollout, arithmetic_problem):
    """A step: a mixed group of solving, a flat one, and a judge problem and a reflection made of the first."""
    first, second = arithmetic_problem(), arithmetic_problem((1, 2, 3))
    mixed = [rollout("102", first, reward=1.0), rollout("141", first, reward=0.0, response_ids=[7, 8, 9, 4],
                                                        logprobs=[-0.25, -1.0, -0.0001, -3.14159])]
    flat = [rollout("7", second, reward=0.0), rollout("8", second, reward=0.0, finished=False)]
    meta = {"question": first.meta["question"], "candidates": [mixed[1]], "view": "answer"}
    judge = Problem("Right? 141", "No", "pointwise", meta=meta)
    judged = [rollout("No", judge, reward=1.0), rollout("Yes", judge, reward=0.0), rollout("maybe", judge, reward=0.0)]
    reflect = Problem("Again.", "102", "reflect", meta=meta)
    again = [rollout("102", reflect, reward=1.0), rollout("102", reflect, reward=0.5)]
    return [mixed, flat, judged, again]


@pytest.fixture
def config():
    return Config(problems_per_step=2, run_name="made")


def test_a_step_as_plain_dicts(groups, config, tokenizer):
    """The example of docs/record.md in numbers: whatever is documented is in it, and nothing else."""
    row = step_row(3, groups, config, speller(tokenizer))
    mixed, flat, judged, again = row["groups"]
    assert row["step"] == 3 and row["pictures"] == {}
    assert set(mixed) == {"kind", "question", "prompt", "answer", "dropped", "responses"}
    assert (mixed["kind"], mixed["question"], mixed["answer"]) == ("solve", "12 + 34 + 56 = ?", "102")
    wrong = mixed["responses"][1]
    assert wrong["id"] == "3.0.1" and wrong["text"] == groups[0][1].text and wrong["finished"]
    assert wrong["logprobs"] == [-0.25, -1.0, 0.0, -3.142] and not math.copysign(1, wrong["logprobs"][2]) < 0
    assert len(wrong["tokens"]) == 4 and wrong["tokens"][-1] == tokenizer.decode([4])
    assert [g["dropped"] for g in row["groups"]] == [None, "equal rewards", None, None]
    assert judged["about"] == again["about"] == [{"id": "3.0.1"}] and judged["view"] == "answer"
    assert [r["verdict"] for r in judged["responses"]] == ["No", "Yes", None]
    assert all("verdict" not in r for g in (mixed, flat, again) for r in g["responses"])


def test_the_documentation_names_every_key(groups, config, tokenizer):
    """People write their own analyses by docs/record.md: it lists what is there, and nothing that is not."""
    text = (Path(__file__).parents[2] / "docs" / "record.md").read_text(encoding="utf-8")
    tables = re.findall(r"^\| of an? (\w+) \|.*?\n\n", text + "\n\n", re.MULTILINE | re.DOTALL)
    assert tables == ["step", "group", "response"]
    listed = {name: set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", part, re.MULTILINE))))
              for name, part in zip(tables, text.split("| of a")[1:])}
    groups[0][0].truth = 1.0
    everything = {"choices": ("x", "y"), "also": ("z",), "context": (("system", "Be brief."),)}
    groups[0][0].problem = replace(groups[0][0].problem, image=Image.new("RGB", (8, 8)), **everything)
    row = step_row(0, groups, config, speller(tokenizer))
    assert row["groups"][0]["context"] == [["system", "Be brief."]] and row["groups"][0]["also"] == ["z"]
    assert listed["step"] == set(row)
    assert listed["group"] == {key for group in row["groups"] for key in group}
    assert listed["response"] == {key for group in row["groups"] for r in group["responses"] for key in r}


@pytest.mark.parametrize("loss", ["dapo", "grpo", "dr_grpo"])
@pytest.mark.parametrize("schedule", ["joint", "alternate"])
def test_advantages_and_weights_are_those_of_the_update(groups, tokenizer, loss, schedule):
    """A number beside a token that is not the one it was pushed by teaches a wrong lesson: against the formulas of
    loss.py, written out. With `schedule: alternate` each of a step's two updates has tokens of its own to share."""
    config = Config(loss=loss, schedule=schedule, problems_per_step=2, max_new_tokens=64)
    config.weights.pointwise = 0.5
    found = step_row(0, groups, config, speller(tokenizer))["groups"]
    updates = [groups] if schedule == "joint" else [groups[:2], groups[2:]]
    for update in updates:
        lengths = [len(r.response_ids) for group in update for r in group]
        for group in update:
            said = found[groups.index(group)]["responses"]
            rewards = [r.reward for r in group]
            mean = sum(rewards) / len(rewards)
            deviation = math.sqrt(sum((x - mean) ** 2 for x in rewards) / len(rewards) + 1e-6)
            for r, one in zip(group, said):
                if len(set(rewards)) == 1:
                    assert (one["advantage"], one["weight"]) == (0, 0)
                    continue
                scale = 1 if loss == "dr_grpo" else deviation
                assert one["advantage"] == pytest.approx((r.reward - mean) / scale, abs=1e-4)
                own = {"dapo": 1 / sum(lengths), "grpo": 1 / (len(lengths) * len(r.response_ids)),
                       "dr_grpo": 1 / (len(lengths) * 64)}[loss]
                kind_weight = 0.5 if r.problem.kind == "pointwise" else 1
                assert one["weight"] == pytest.approx(kind_weight * own, rel=1e-3)


def test_a_kind_without_weight_is_dropped_for_that(groups, config, tokenizer):
    """The paper's reward-only baseline gives solving no weight: its groups differ and are dropped all the same."""
    config.weights.solve = 0
    row = step_row(0, groups, config, speller(tokenizer))
    assert [g["dropped"] for g in row["groups"]] == ["no weight", "equal rewards", None, None]


def test_a_step_that_was_taken_back_moved_nothing(groups, config, tokenizer):
    """Its groups read as learned, with weights that the page coloured as "made more likely"; those that had nothing to
    teach anyway keep their own reason."""
    mixed, flat, judged, again = groups
    row = step_row(0, [mixed, flat, again], config, speller(tokenizer), [judged], taken_back=True)
    assert [g["dropped"] for g in row["groups"]] == ["not finite", "equal rewards", "not finite",
                                                     "asked for a mark only"]
    assert {(r["advantage"], r["weight"]) for g in row["groups"] for r in g["responses"]} == {(0.0, 0.0)}


def test_candidates_that_are_not_in_the_record(groups, config, tokenizer, rollout):
    """With recycle.from_start judge problems are about the starting model's rollouts, which are never trained on."""
    stranger = rollout("5", reward=0.0)
    groups[2][0].problem.meta["candidates"][:] = [stranger]
    about = step_row(0, groups, config, speller(tokenizer))["groups"][2]["about"]
    assert about == [{"id": None, "text": stranger.text, "reward": 0.0}]


def test_a_verdict_that_was_cut_off_is_none(rollout):
    """A Yes behind which the model rambled on was not accepted, so it is not shown as said."""
    judge = Problem("Right?", "No", "pointwise")
    assert verdict(rollout("Yes", judge, reward=0.0, finished=False)) is None
    assert verdict(rollout("Yes", judge, reward=0.0)) == "Yes"


def test_tokens_alone_spell_the_text(tokenizer):
    """Guards the space before a word, which some tokenizers leave out of a text's first token."""
    spell = speller(tokenizer)
    ids = tokenizer.encode("12 + 34 = 46. Is it right?", add_special_tokens=False)
    assert "".join(map(spell, ids)) == "12 + 34 = 46. Is it right?"


def test_round_trip_of_hostile_texts(tmp_path):
    """The record is ASCII whatever a model says, and reads back as it was, lone surrogates included."""
    rows = [{"step": i, "groups": [{"responses": [response(f"{i}.0.0", text)]}], "pictures": {}}
            for i, text in enumerate(HOSTILE)]
    for row in rows:
        record.append(tmp_path / record.NAME, row)
    assert list(read(tmp_path)) == rows
    gzip.decompress((tmp_path / record.NAME).read_bytes()).decode("ascii")


def test_the_same_row_is_the_same_bytes_at_any_time(monkeypatch):
    """gzip's header holds a time stamp unless told otherwise: a resumed run would write other bytes."""
    first = record.pack(step_of(0))
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert record.pack(step_of(0)) == first


@pytest.mark.parametrize("lost", [1, 20, "all of the last but a byte", "a byte within the last"])
def test_an_end_that_cannot_be_read_is_cut_off(tmp_path, lost):
    """kill -9 in the middle of a step leaves half a member, a full disk a garbled one: the steps before it count, and a
    resumed run ends up with the bytes of one that was never stopped."""
    path = tmp_path / record.NAME
    for step in range(3):
        record.append(path, step_of(step))
    whole = path.read_bytes()
    last = len(record.pack(step_of(2)))
    if isinstance(lost, int):
        path.write_bytes(whole[:-lost])
    elif lost.startswith("all"):
        path.write_bytes(whole[: 1 - last])
    else:
        path.write_bytes(whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:])
    assert [row["step"] for row in read(tmp_path)] == [0, 1]
    record.cut(path, before_step=2)
    record.append(path, step_of(2))
    assert path.read_bytes() == whole


def test_cut_takes_back_steps(tmp_path):
    """A resumed run does the steps after its checkpoint again; they must not be in the record twice."""
    path = tmp_path / record.NAME
    record.cut(path, before_step=0)  # nothing there yet
    assert not path.exists()
    for step in (0, 5, 10):
        record.append(path, step_of(step))
    record.cut(path, before_step=6)
    assert [row["step"] for row in read(tmp_path)] == [0, 5]
    record.cut(path, before_step=0)
    assert path.read_bytes() == b"" and list(read(tmp_path)) == []


def test_members_larger_than_a_chunk_of_the_file(tmp_path, monkeypatch):
    """Members end anywhere within the chunks that the file is read in."""
    rows = [step_of(step, count=step + 1) for step in range(5)]
    for row in rows:
        record.append(tmp_path / record.NAME, row)
    for chunk in (1, 7, 100, 1 << 20):
        monkeypatch.setattr(record, "CHUNK", chunk)
        assert list(read(tmp_path)) == rows
    ends = [end for end, member, _ in record.members(tmp_path / record.NAME)]
    assert ends[-1] == (tmp_path / record.NAME).stat().st_size


def test_no_record_is_one_clear_line(tmp_path):
    with pytest.raises(FileNotFoundError, match="record=1"):
        read(tmp_path)


def test_log_probs_that_are_no_numbers_are_no_json_either(groups, config, tokenizer):
    """A run that broke is the one that is looked at: NaN would make its steps unreadable for a browser."""
    groups[0][0].logprobs = [math.nan, -math.inf, -1.0]
    row = step_row(0, groups, config, speller(tokenizer))
    assert row["groups"][0]["responses"][0]["logprobs"] == [None, None, -1.0]
    json.dumps(row, allow_nan=False)


def test_pictures_are_small_and_kept_once(tmp_path, groups, config, tokenizer):
    """A photo of a megapixel is a thumbnail in the record, a tiny drawing stays as it is, and a step's problems about
    the same picture share it."""
    def opened(source: str):
        head, code = source.split(",")
        return head, Image.open(io.BytesIO(base64.b64decode(code)))

    noise = Image.effect_noise((1200, 900), 60).convert("RGB")
    head, small = opened(picture(noise))
    assert head == "data:image/jpeg;base64" and max(small.size) == 160 and len(picture(noise)) < 20_000
    drawing = Image.new("RGB", (28, 28), "red")
    head, same = opened(picture(drawing))
    assert head == "data:image/png;base64" and same.size == (28, 28)
    shown = [replace(group[0].problem, image=drawing) for group in groups]
    for group, problem in zip(groups, shown):
        for r in group:
            r.problem = problem
    row = step_row(0, groups, config, speller(tokenizer))
    assert len(row["pictures"]) == 1 and {tuple(g["pictures"]) for g in row["groups"]} == {tuple(row["pictures"])}
    keep_pictures(tmp_path, shown)
    assert json.loads((tmp_path / "pictures.json").read_text()) == row["pictures"]


def test_what_nothing_is_learned_from_is_in_the_record_too(groups, config, tokenizer):
    """Groups that a judge left out, and judgements that only gave a mark (reward: judge), were sampled like any other:
    they have ids, tokens and a reason, and the weights of the others do not count them."""
    mixed, flat, judged, _ = groups
    row = step_row(0, [mixed], config, speller(tokenizer), [flat, judged])
    assert [g["dropped"] for g in row["groups"]] == [None, "the judge does not agree", "asked for a mark only"]
    assert [r["id"] for r in row["groups"][2]["responses"]] == ["0.2.0", "0.2.1", "0.2.2"]
    assert row["groups"][0] == step_row(0, [mixed], config, speller(tokenizer))["groups"][0]
