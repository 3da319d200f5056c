"""The page of an evaluation, from its predictions.jsonl and results.json: each figure with what was said behind it."""

import gzip
import json
import re
from pathlib import Path

from spark_lib.config import ConfigError
from spark_lib.evaluation import report as tables
from spark_lib.view import page

SCRIPTS = ("base.js", "charts.js", "cards.js", "frame.js", "evaluation.js")
STAGE = re.compile(r"(?P<set>.*?)(?:, seed (?P<seed>\d+))?: (?P<stage>[^:]*)", re.DOTALL)
ANSWERS, SAMPLES, JUDGED, CHOSEN = ({"stage": name} for name in ("answers", "samples", "judge samples", "choose"))
# Which predictions stand behind a figure: by the beginning of its table's head, then of its own name, as
# evaluation.report writes both. One name alone does not do: "accuracy" is a benchmark's own in one table, the judge's
# in another.
LISTS = {
    "by the benchmark's own rule": {"": ANSWERS},
    "solving": {
        "accuracy": ANSWERS, "no answer": ANSWERS | {"mark": "wrong"},
        "mean@": SAMPLES, "pass@": SAMPLES, "majority vote": SAMPLES,
    },
    "judging": {"accuracy": JUDGED, "balanced accuracy": JUDGED, "says Yes": JUDGED | {"says": "Yes"}},
    "verdict": {"Yes": JUDGED | {"says": "Yes"}, "No": JUDGED | {"says": "No"}},
    "probability of Yes": {"": JUDGED | {"low": 0, "high": 1}},  # those that have one
    "choosing": {
        "accuracy": CHOSEN, "same answer in both": CHOSEN, "says A": CHOSEN | {"says": "A"},
    },
    "reflecting": {
        "wrong answers fixed": {"stage": "reflect", "first": "wrong"},
        "right answers broken": {"stage": "reflect", "first": "right"},
    },
}
COMPARED = {  # the table of differences, by the keys of evaluation.report's own
    "solve": ANSWERS, "mean@k": SAMPLES, "majority": SAMPLES, "pointwise": JUDGED, "pairwise": CHOSEN,
}
READS = {  # the stages that a method chooses by
    "majority_vote": "samples", "best_of_n": "samples|judge samples", "weighted_vote": "samples|judge samples",
    "tournament": "samples|duels",
}


def write_evaluation(folder: Path) -> Path:
    """<folder>/report.html of an evaluation that has ended. Raises ConfigError."""
    if not (folder / "results.json").is_file():
        raise ConfigError(f"{folder}: this evaluation has not ended, it has no results.json yet")
    results = page.json_of(folder / "results.json")
    rows = page.lines_of(folder / "predictions.jsonl")
    pictures = page.json_of(folder / "pictures.json")
    sets = results.get("benchmarks") or {None: results}
    by_set: dict[str, list[tuple[dict, str | None, str]]] = {}
    for row in rows:
        name, seed, stage = STAGE.fullmatch(row["stage"]).group("set", "seed", "stage")
        by_set.setdefault(name, []).append((row, seed, stage))
    found = {name: sets.get(name, results) for name in by_set}
    data = {
        "name": folder.resolve().name, "facts": facts(results), "right_at": results["settings"]["right_at"],
        "sets": [set_row(name, found[name], by_set[name], results) for name in by_set],
        "overview": tables.overview_rows(results["benchmarks"], results["average"]) if "average" in results else None,
    }
    plain = "".join(page.html_table(block["rows"]) for one in data["sets"] for block in one["tables"])

    def made(shown_pictures: dict[str, str], cut: list[str], blobs: dict[str, bytes]) -> str:
        left_out = f"More was said than a page can hold: shown are {'; '.join(cut)}." if cut else ""
        shown = data | {"pictures": shown_pictures, "left_out": left_out}
        return page.assemble(SCRIPTS, f"Evaluation {data['name']} of {results['target']}", shown, blobs, plain)

    longest_words = [in_words(name, len(said), len(said)) for name, said in by_set.items()]
    rest = made({}, longest_words, {f"set-{i}": b"" for i in range(len(by_set))})
    room = (page.LIMIT - len(page.encoded(rest))) // max(1, len(by_set))
    packed = {name: fitting(said, pictures, room) for name, said in by_set.items()}
    cut = [in_words(name, len(shown), total) for name, (_, shown, total) in packed.items() if len(shown) < total]
    seen = {picture for _, shown, _ in packed.values() for problem in shown for picture in problem[1:]}
    blobs = {f"set-{i}": blob for i, (blob, _, _) in enumerate(packed.values())}
    return page.write(folder / "report.html", made({k: v for k, v in pictures.items() if k in seen}, cut, blobs))


def in_words(name: str, shown: int, total: int) -> str:
    return f"{name}: {shown:,} of {total:,} problems"


def facts(results: dict) -> list[str]:
    asked = results["settings"]
    return [results["target"], f"seeds {', '.join(map(str, asked['seeds']))}", f"{asked['samples']} samples",
            f"{asked['rounds']} rounds of judge + reflect",
            "greedy but for the samples" if asked.get("greedy", True) else "all sampled"]


def set_row(name: str, found: dict, said: list[tuple[dict, str | None, str]], results: dict) -> dict:
    """What the page shows of one set of problems at once."""
    blocks = [tables.score_rows(found["score"])] if "score" in found else []
    blocks += tables.sections(found)
    if difference := results.get("baseline", {}).get("difference", {}).get(name):
        blocks.append(tables.difference_rows(difference, results["target"], results["baseline"]["target"]))
    curves = {method: found[method] | {"label": label, "lists": points_of(method, len(found[method]["accuracy"]))}
              for method, (label, _) in tables.METHODS.items() if method in found}
    stages = [stage for _, _, stage in said]
    last = len(found["tts"]["accuracy"]) - 1 if "tts" in found else 0
    return {
        "name": name, "n": found["n"], "notes": results.get("notes", {}).get(name, []), "curves": curves,
        "judge": found["pointwise"] if found.get("pointwise", {}).get("bins") else None,
        "tables": [{"rows": block, "lists": [behind(block[0][0], row[0], last) for row in block[1:]]}
                   for block in blocks],
        "stages": {stage: stages.count(stage) for stage in dict.fromkeys(stages)},
    }


def behind(head: str, figure: str, last: int) -> dict | None:
    """The list of predictions behind a figure: fields of the page's address; None where there is none.

    head: the first cell of its table; figure: its name there; last: how many rounds of judge and reflect there were."""
    by_table = LISTS | {
        "rounds of judge + reflect": {str(k): rounds(k) for k in range(last + 1)},
        "%": {tables.COMPARED[key]: fields for key, fields in (COMPARED | {"tts": rounds(last)}).items()},
    }
    return longest(longest(by_table, head) or {}, figure)


def rounds(count: int) -> dict:
    """What stands behind the answers after so many rounds of judge and reflect."""
    turns = [f"{what} {k}" for k in range(1, count + 1) for what in ("judge", "reflect")]
    return {"stage": "|".join(["answers", *turns])}


def points_of(method: str, count: int) -> list[dict]:
    """What stands behind each point of a method's curve of accuracy against tokens. A single sample is not judged, by
    whatever method."""
    if method == "tts":
        return [rounds(k) for k in range(count)]
    return [SAMPLES, *[{"stage": READS[method]}] * (count - 1)]


def longest(by_beginning: dict[str, dict], text: str) -> dict | None:
    """The entry of the longest beginning that `text` has."""
    found = [begins for begins in by_beginning if text.startswith(begins)]
    return by_beginning[max(found, key=len)] if found else None


def fitting(
    said: list[tuple[dict, str | None, str]], pictures: dict[str, str], room: int
) -> tuple[bytes, list[tuple], int]:
    """(packed predictions of as many whole problems as fit `room` bytes with their pictures, these problems, of how
    many in all)."""
    problems = list(dict.fromkeys(problem_of(row) for row, _, _ in said))
    count = len(problems)
    while True:
        shown = {problem: place for place, problem in enumerate(problems[:count])}
        blob = packed([one for one in said if problem_of(one[0]) in shown], shown)
        sources = {key: pictures[key] for problem in shown for key in problem[1:] if key in pictures}
        size = page.size_of("", len(blob)) + len(page.inert(sources))
        if size <= room or not count:
            return blob, list(shown), len(problems)
        count = int(count * min(0.9, max(0, room) / size))


def problem_of(row: dict) -> tuple:
    return (row.get("question", row["prompt"]), *row.get("pictures", ()))  # older predictions have no question


def packed(said: list[tuple[dict, str | None, str]], places: dict[tuple, int]) -> bytes:
    """gzip of {"rows": values in the order of ROW in evaluation.js, and the texts that they count in}."""
    texts: dict[str, dict[str, int]] = {"stages": {}, "prompts": {}, "answers": {}}

    def place(of: str, text: str) -> int:
        return texts[of].setdefault(text, len(texts[of]))

    rows = []
    for row, seed, stage in said:
        rows.append([
            place("stages", stage), None if seed is None else int(seed), place("prompts", row["prompt"]),
            place("answers", row["answer"]), row["response"], int(row["finished"]), row["reward"], row["tokens"],
            row.get("verdict", False), row.get("p_yes"), places[problem_of(row)],
        ])
    lists = {name: list(found) for name, found in texts.items()}
    problems = {"questions": [key[0] for key in places], "pictures": [key[1:] for key in places]}
    content = json.dumps(lists | problems | {"rows": rows}, separators=(",", ":"))
    return gzip.compress(content.encode("ascii"), mtime=0)
