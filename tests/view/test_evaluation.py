"""The page of an evaluation as a file."""

import base64
import gzip
import json
from pathlib import Path

import pytest
from view.made import HOSTILE
from view.test_page import DAMAGED, Elements

from spark_lib.config import ConfigError
from spark_lib.evaluation import report
from spark_lib.view import page, write_page
from spark_lib.view.evaluation import behind

RESULTS = {
    "target": "runs/a", "settings": {"seeds": [0, 1], "samples": 2, "rounds": 1, "right_at": 1.0}, "n": 2,
    "solve": {"accuracy": 0.5, "no_answer": 0.0, "cut_off": 0.0}, "intervals": {"solve": [0.1, 0.9]}, "notes": {},
}


def row(stage: str, question: str, response: str = "so", **fields) -> dict:
    """A line of predictions.jsonl."""
    return {"stage": stage, "kind": "solve", "question": question, "prompt": f"Say. {question}", "answer": "1",
            "response": response, "finished": True, "reward": 1.0, "tokens": 3} | fields


def evaluation(folder: Path, rows: list[dict], **results) -> Path:
    folder.mkdir()
    (folder / "predictions.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    (folder / "results.json").write_text(json.dumps(RESULTS | results))
    return folder


def parts(path: Path) -> tuple[dict, list[dict]]:
    """(data, the predictions of each set of problems, as the page puts them together again)."""
    elements = Elements(path.read_text(encoding="utf-8"))
    (_, data), = elements.of("script", id="data")
    return json.loads(data), [json.loads(gzip.decompress(base64.b64decode(text)))
                              for _, text in elements.of("script", type="application/gzip")]


def test_every_prediction_is_in_the_page(tmp_path):
    """With its texts, whatever is in them; a judgement without a verdict is told from what is no judgement."""
    rows = [row("toy: answers", text, text) for text in HOSTILE]
    rows.append(row("toy, seed 1: judge samples", "q", kind="pointwise", verdict=None))
    rows.append(row("toy, seed 1: judge samples", "q", kind="pointwise", verdict="Yes", p_yes=0.75, finished=False))
    data, (packed,) = parts(write_page(evaluation(tmp_path / "eval-toy", rows)))
    found = packed["rows"]
    assert [one[4] for one in found[: len(HOSTILE)]] == HOSTILE
    assert [packed["questions"][one[10]] for one in found[: len(HOSTILE)]] == HOSTILE
    assert [packed["prompts"][one[2]] for one in found] == [one["prompt"] for one in rows]
    assert [one[8:10] for one in found[-3:]] == [[False, None], [None, None], ["Yes", 0.75]]
    assert [one[1] for one in found[-3:]] == [None, 1, 1] and [one[5] for one in found[-2:]] == [1, 0]
    (shown,) = data["sets"]
    assert shown["stages"] == {"answers": len(HOSTILE), "judge samples": 2} and data["left_out"] == ""
    assert shown["tables"][0]["rows"][1] == ["accuracy, first answers", "50.0", "[10.0, 90.0]"]
    assert shown["tables"][0]["lists"][0] == {"stage": "answers"}


def test_sets_of_problems_are_kept_apart(tmp_path):
    figures = {name: RESULTS | {"n": n, "score": {"accuracy": 0.5, "n": n}} for name, n in (("one", 1), ("two", 2))}
    rows = [row("one: answers", "q"), row("two: answers", "q"), row("two: answers", "r")]
    data, packed = parts(write_page(evaluation(tmp_path / "eval", rows, benchmarks=figures, average=0.5)))
    assert [(one["name"], one["n"], one["stages"]) for one in data["sets"]] == [
        ("one", 1, {"answers": 1}), ("two", 2, {"answers": 2})]
    assert [len(one["rows"]) for one in packed] == [1, 2]
    assert data["overview"][-1] == ["average", "", "50.0"]


def test_what_a_page_cannot_hold_is_left_out_by_whole_problems(tmp_path, monkeypatch):
    """A suite of large benchmarks has more to show than 20 MB, its pictures first of all: it says how much it shows."""
    rows = [row(f"toy{stage}", f"{i}?", pictures=[f"key{i}"]) for stage in (": answers", ", seed 0: samples")
            for i in range(50)]
    folder = evaluation(tmp_path / "eval", rows)
    (folder / "pictures.json").write_text(json.dumps({f"key{i}": "data:," + "x" * 1000 for i in range(50)}))
    monkeypatch.setattr(page, "LIMIT", 0)
    limit = write_page(folder).stat().st_size + 30_000
    monkeypatch.setattr(page, "LIMIT", limit)
    path = write_page(folder)
    data, (packed,) = parts(path)
    count = len(packed["questions"])
    assert 10 < count < 50 and len(packed["rows"]) == 2 * count == 2 * len(data["pictures"])
    assert path.stat().st_size <= limit and f"toy: {count} of 50 problems" in data["left_out"]
    monkeypatch.setattr(page, "LIMIT", limit - 29_900)
    data, (packed,) = parts(write_page(folder))
    assert packed["rows"] == [] and data["pictures"] == {} and "toy: 0 of 50" in data["left_out"]


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
@pytest.mark.parametrize("name", ["results.json", "predictions.jsonl", "pictures.json"])
def test_a_damaged_file_is_named_in_one_line(tmp_path, name, damage):
    folder = evaluation(tmp_path / "eval", [row("toy: answers", "q")])
    (folder / name).write_bytes(damage)
    with pytest.raises(ConfigError, match=f"{name}: it is damaged"):
        write_page(folder)


def test_an_evaluation_that_still_goes_on_has_no_page_yet(tmp_path):
    folder = evaluation(tmp_path / "eval", [row("toy: answers", "q")])
    (folder / "results.json").unlink()
    with pytest.raises(ConfigError, match="has not ended"):
        write_page(folder)


ANSWERS, SAMPLES, JUDGED, CHOSEN = ({"stage": name} for name in ("answers", "samples", "judge samples", "choose"))
ROUND = {"stage": "answers|judge 1|reflect 1"}
JUDGES = {"stage": "samples|judge samples"}


def measured() -> dict:
    """The results of an evaluation in which everything was measured, made up."""
    recalls = {f"{name}_{word}": 0.5 for name in ("precision", "recall", "f1") for word in ("yes", "no")}
    bounds = dict.fromkeys(("solve", "mean@k", "majority", "pointwise", "pairwise"), (0, 1))
    points = {"accuracy": [0.5, 0.5], "tokens": [5, 9]}
    difference = {"value": 0.5, "baseline": 0.25, "difference": 0.25, "low": 0.0, "high": 0.5}
    return {
        "solve": {"accuracy": 0.5, "no_answer": 0.5, "cut_off": 0.5, "k": 8, "mean@k": 0.5, "pass@k": 0.5,
                  "majority": 0.5},
        "pointwise": recalls | {"n": 4, "n_right": 2, "accuracy": 0.5, "balanced_accuracy": 0.5, "yes_rate": 0.5,
                                "n_with_probability": 4, "ece": 0.5, "brier": 0.5, "auroc": 0.5},
        "pairwise": {"n": 2, "accuracy": 0.5, "consistency": 0.5, "a_rate": 0.5},
        "reflection": {"fix_rate": 0.5, "n_wrong": 2, "break_rate": 0.5, "n_right": 2},
        **dict.fromkeys(report.METHODS, points),
        "tts": points | {"fixed": [0, 1], "broken": [0, 0]}, "intervals": bounds,
        "score": {"accuracy": 0.5, "n": 2, "says A": 0.5, "subsets": {"Yes": 0.5, "judging": 0.5}},
        "baseline": {"target": "starter", "difference": {"toy": dict.fromkeys(report.COMPARED, difference)}},
    }


# Every table of an evaluation, by the beginning of its head: where each of its rows leads.
LEADS = {
    "by the benchmark's own rule": {"accuracy": ANSWERS, "n": ANSWERS, "says A": ANSWERS, "  Yes": ANSWERS,
                                    "  judging": ANSWERS},
    "solving": {
        "accuracy, first answers": ANSWERS, "no answer: cut off, or no box": ANSWERS | {"mark": "wrong"},
        "mean@8: accuracy of samples": SAMPLES, "pass@8: some sample is right": SAMPLES, "majority vote of 8": SAMPLES,
    },
    "judging 4 own answers": {"accuracy": JUDGED, "balanced accuracy": JUDGED, "says Yes": JUDGED | {"says": "Yes"}},
    "verdict": {"Yes": JUDGED | {"says": "Yes"}, "No": JUDGED | {"says": "No"}},
    "probability of Yes": {"4 verdicts": JUDGED | {"low": 0, "high": 1}},
    "choosing in 2 pairs of own answers": {
        "accuracy, both orders": CHOSEN, "same answer in both orders": CHOSEN, "says A": CHOSEN | {"says": "A"}},
    "reflecting on the first answer": {"wrong answers fixed": {"stage": "reflect", "first": "wrong"},
                                       "right answers broken": {"stage": "reflect", "first": "right"}},
    "rounds of judge + reflect": {"0": ANSWERS, "1": ROUND},
    "%": {
        "accuracy, first answers": ANSWERS, "accuracy of samples": SAMPLES, "majority vote": SAMPLES,
        "judge one: accuracy": JUDGED, "choose of two: accuracy": CHOSEN, "after judge + reflect": ROUND,
    },
}


def test_every_row_of_the_tables_leads_somewhere(tmp_path):
    """A figure that is renamed in evaluation/report.py would lose its list in silence; and a benchmark's own accuracy
    led to the judge's samples, as did the differences from a baseline, whose names begin alike."""
    data, _ = parts(write_page(evaluation(tmp_path / "eval", [row("toy: answers", "q")], **measured())))
    (shown,) = data["sets"]
    found = {one["rows"][0][0]: {cells[0]: list_ for cells, list_ in zip(one["rows"][1:], one["lists"], strict=True)}
             for one in shown["tables"]}
    assert found == LEADS


def test_every_point_of_the_curves_leads_somewhere(tmp_path):
    """A curve of a method that is new in evaluation/report.py would have points that lead nowhere."""
    data, _ = parts(write_page(evaluation(tmp_path / "eval", [row("toy: answers", "q")], **measured())))
    (shown,) = data["sets"]
    assert {name: one["lists"] for name, one in shown["curves"].items()} == {
        "tts": [ANSWERS, ROUND], "majority_vote": [SAMPLES, SAMPLES], "best_of_n": [SAMPLES, JUDGES],
        "weighted_vote": [SAMPLES, JUDGES], "tournament": [SAMPLES, {"stage": "samples|duels"}],
    }
    assert set(shown["curves"]) == set(report.METHODS)


def test_rounds_are_told_by_their_whole_number():
    assert behind("rounds of judge + reflect", "10", 12)["stage"].endswith("|judge 10|reflect 10")
    assert behind("rounds of judge + reflect", "1", 12) == ROUND
    assert behind("a table that nobody knows", "accuracy", 0) is None
