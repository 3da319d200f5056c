"""One self-contained page of a run: report.html. Opened from disk it needs no server, no network and no library.

The page carries the record as it is on disk: each step's gzip member as base64 in a script element that never runs, so
that a step costs the browser nothing until it is shown. Beside them is what is needed at once: curves, figures,
stories, and of each step the marks. A content-security policy names the page's own code by its hash and forbids all
else.
"""

import base64
import hashlib
import html
import json
import math
import re
from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path

from omegaconf import OmegaConf

from spark_lib import report
from spark_lib.config import ConfigError, read_yaml
from spark_lib.problem import KINDS
from spark_lib.view import record

PARTS = Path(__file__).with_name("page")
LIMIT = 20_000_000  # bytes of a page
ROOM = 1_000_000  # of them for all that is not the record
LONGEST = 1000  # tokens of a response, where a step alone would be too much
POINTS = 1000  # of a curve
BOUNDS = re.compile(r"\{\{([a-z ]+)\}\}")


def assemble(scripts: Iterable[str], title: str, data: dict, blobs: dict[str, bytes], noscript: str) -> str:
    """The whole page as text. scripts: names of files in page/; blobs: gzip by the id of their element; noscript:
    HTML. All text in `title` and `data` may be hostile."""
    script = "\n".join((PARTS / name).read_text(encoding="utf-8") for name in scripts)
    style = (PARTS / "page.css").read_text(encoding="utf-8")
    packed = (f'<script type="application/gzip" id="{name}">{base64.b64encode(blob).decode()}</script>'
              for name, blob in blobs.items())
    fields = {
        "title": html.escape(title), "style": style, "script": script, "noscript": noscript, "blobs": "\n".join(packed),
        "style hash": digest(style), "script hash": digest(script), "data": inert(data),
    }
    template = (PARTS / "page.html").read_text(encoding="utf-8")
    return BOUNDS.sub(lambda match: fields[match[1]], template)  # one pass: no field is searched for fields


def digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def inert(data: dict) -> str:
    """JSON that cannot end the element it stands in. It is ASCII: U+2028 and lone surrogates are escaped."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def write(path: Path, text: str) -> Path:
    """Whole or not at all. A lone surrogate outside of the data becomes a number, which a browser shows as U+FFFD."""
    aside = path.with_name(path.name + ".partial")
    aside.write_bytes(text.encode("utf-8", "xmlcharrefreplace"))
    aside.replace(path)
    return path


# --- a run's page ---------------------------------------------------------------------------------------------


def write_run(folder: Path, summary: dict | None = None) -> Path:
    """<folder>/report.html of a run that has ended or still goes on. Raises ConfigError for what is no run's folder.

    summary: what summary.json will hold, where it is not yet written."""
    if not (folder / "config.yaml").is_file():
        raise ConfigError(f"{folder}: not a run's folder, it has no config.yaml; give folders like runs/quickstart")
    config = config_of(folder)
    steps, blobs, left_out = shown_steps(folder / record.NAME)
    metrics, timings = (lines_of(folder / f"{name}.jsonl") for name in ("metrics", "timings"))
    summary = summary or json_of(folder / "summary.json")
    before, after = (json_of(folder / f"{name}.json") for name in ("before", "after"))
    found = figures(before, after)
    seconds = summary.get("seconds") or totals(timings)
    tokens = metrics[-1]["sampled_tokens"] if metrics else 0
    data = {
        "name": folder.resolve().name, "facts": facts(config, len(metrics), tokens, seconds, bool(summary)),
        "right_at": config["recycle"]["right_at"], "kinds": KINDS, "judges": ("pointwise", "pairwise"),
        "config": flat(config), "curves": curves(metrics), "every": every(metrics), "seconds": seconds,
        "sampled_tokens": tokens,
        "tokens": {kind: sum(row.get(f"{kind}/tokens", 0) for row in metrics) for kind in KINDS},
        "figures": found, "n": (before.get("skills") or {}).get("n"), "steps": steps, "left_out": left_out,
        "stories": {"before": before.get("examples", []), "after": after.get("examples", [])},
    }
    scripts = ("base.js", "charts.js", "cards.js", "frame.js", "overview.js", "filters.js", "rollouts.js", "run.js")
    text = assemble(scripts, f"Run {data['name']}", data, blobs, html_table(plain_rows(found)))
    return write(folder / "report.html", text)


def config_of(folder: Path) -> dict:
    """The run's settings. Raises ConfigError."""
    return OmegaConf.to_object(read_yaml(folder / "config.yaml", "the run's settings"))


def lines_of(path: Path) -> list[dict]:
    """The whole lines of a .jsonl file that may be growing."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [parsed(line, path) for line in lines if line]


def json_of(path: Path) -> dict:
    return parsed(path.read_bytes(), path) if path.exists() else {}


def parsed(text: bytes, path: Path) -> dict:
    """JSON from a run's file. Raises ConfigError."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{path}: it is damaged ({error}); the run writes it again when it is resumed") from error


def flat(config: dict, prefix: str = "") -> dict:
    """The settings with dots for sections."""
    found = {}
    for key, value in config.items():
        is_section = isinstance(value, dict) and value
        found |= flat(value, f"{prefix}{key}.") if is_section else {prefix + key: value}
    return found


def facts(config: dict, steps: int, tokens: int, seconds: dict, ended: bool) -> list[str]:
    done = f"{steps} steps" if ended else f"{steps} of {config['max_steps']} steps so far"
    return [config["model"], config["data"], f"seed {config['seed']}", done, f"{tokens:,} sampled tokens",
            f"{sum(v for k, v in seconds.items() if k != 'total'):,.0f} s"]


def totals(timings: list[dict]) -> dict[str, float]:
    """Seconds by phase of the steps so far."""
    return {phase: sum(row[phase] for row in timings) for phase in ("sample", "verify", "train")} if timings else {}


def every(metrics: list[dict]) -> int:
    """How many steps a point of a curve stands for."""
    return math.ceil(len(metrics) / POINTS) or 1


def curves(metrics: list[dict]) -> dict[str, list]:
    """metrics.jsonl by columns, None where a step has no such figure; of a long run every so many steps, with their
    means, so that a curve is of all of it."""
    spans = [metrics[i : i + every(metrics)] for i in range(0, len(metrics), every(metrics))]
    names = dict.fromkeys(name for row in metrics for name in row)
    return {name: [digits(mean_of(name, span)) for span in spans] for name in names}


def mean_of(name: str, span: list[dict]) -> float | None:
    """Of some steps those that have the figure; the step itself is the first one's."""
    found = [row[name] for row in span if row.get(name) is not None]
    return found[0] if len(found) == 1 or found and name == "step" else sum(found) / len(found) if found else None


def digits(value: float | None) -> float | None:
    """With four digits; None for what is no number, which JSON has no word for."""
    if value is None or isinstance(value, int):
        return value
    return float(f"{value:.4g}") if math.isfinite(value) else None


def figures(before: dict, after: dict) -> list[dict]:
    """The skills before and after, with what `measure` says of their 95 % intervals."""
    columns = {name: content for name, content in (("before", before), ("after", after)) if content.get("skills")}
    found: dict[str, dict] = {}
    for name, content in columns.items():
        intervals = dict(report.skill_rows(content["intervals"])) if content.get("intervals") else {}
        for what, value in report.skill_rows(content["skills"]):
            short = what.replace("solve, ", "").replace(" of judge + reflect", "").strip()
            row = found.setdefault(what, {"what": what.strip(), "short": short, "bias": "says" in what})
            row[name] = value
            if intervals.get(what):
                row[f"{name}_interval"] = intervals[what]
    return list(found.values())


def plain_rows(found: list[dict]) -> list[list[str]]:
    """The same as cells, for readers without JavaScript."""
    names = [name for name in ("before", "after") if any(name in row for row in found)]
    body = [[row["what"], *(report.percent(row[name]) for name in names)] for row in found]
    return [["held out, %", *names], *body] if names else [["nothing was evaluated"]]


def html_table(rows: Iterable[Iterable[str]]) -> str:
    lines = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows)
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


# --- the record in the page -----------------------------------------------------------------------------------


def shown_steps(path: Path) -> tuple[list[dict], dict[str, bytes], str]:
    """(index of the steps that fit the page, their packed rows by element id, what is left out in words)."""
    sizes = [in_page(member, row) for _, member, row in record.members(path)]
    chosen, shrink = fitting(sizes, LIMIT - ROOM), None
    if sizes and len(chosen) < min(len(sizes), 2):
        shrink = shortened
        sizes = [in_page(record.pack(shrink(row)), row) for _, _, row in record.members(path)]
        chosen = fitting(sizes, LIMIT - ROOM)
    steps, blobs, problems = [], {}, {}
    for place, (_, member, row) in enumerate(record.members(path)):
        if place in chosen:
            steps.append(index(row, problems))
            blobs[f"step-{row['step']}"] = record.pack(shrink(row)) if shrink else member
    left_out = ""
    if len(chosen) < len(sizes):
        numbers = ", ".join(str(entry["step"]) for entry in steps[:12]) + (" …" if len(steps) > 12 else "")
        left_out = (f"The record has {len(sizes)} steps, more than a page can hold: shown are {len(steps)} of them"
                    + (f" (steps {numbers})." if steps else "."))
    return steps, blobs, left_out


def in_page(member: bytes, row: dict) -> float:
    """Bytes that a step takes: its packed row as base64 in an element, and its part of the index, which for short
    responses is a sixth of all. (A new problem's number has as many digits as that of the last step at most.)"""
    return len(member) * 4 / 3 + 80 + len(json.dumps(index(row, {}))) + 6 * len(row["groups"])


def fitting(sizes: list[float], room: int) -> set[int]:
    """The largest set of evenly spaced places, first and last among them, whose sizes fit the room."""
    at_most = bisect_right(list(accumulate(sorted(sizes))), room)  # even of the smallest no more fit
    for count in range(at_most, 0, -1):
        places = {round(i * (len(sizes) - 1) / max(1, count - 1)) for i in range(count)}
        if sum(sizes[i] for i in places) <= room:
            return places
    return set()


def shortened(row: dict) -> dict:
    """A step's row with at most LONGEST tokens of each response."""
    groups = [
        group | {"responses": [
            r | {"tokens": r["tokens"][:LONGEST], "logprobs": r["logprobs"][:LONGEST], "count": len(r["tokens"]),
                 "text": r["text"][: 8 * LONGEST]} for r in group["responses"]]}
        for group in row["groups"]
    ]
    return row | {"groups": groups, "shortened": True}


def index(row: dict, problems: dict[tuple, int]) -> dict:
    """What the filters and lists need of a step: {"step", "groups": [[kind, dropped, problem, rewards, flags]]}.

    kind: its place in KINDS. problem: equal for the same question, by which a later visit is found. flags: for each
    response a digit, 1 if it was cut off, 2 more if it is a judgement without a readable verdict."""
    groups = []
    for group in row["groups"]:
        key = (group["question"], group["answer"], str(group.get("context")), *group.get("pictures", ()))
        responses = group["responses"]
        flags = "".join(str((not r["finished"]) + 2 * ("verdict" in r and r["verdict"] is None)) for r in responses)
        groups.append([KINDS.index(group["kind"]), int(group["dropped"] is not None),
                       problems.setdefault(key, len(problems)), [digits(r["reward"]) for r in responses], flags])
    return {"step": row["step"], "groups": groups}
