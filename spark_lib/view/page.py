"""One self-contained page of a run: report.html. Opened from disk it needs no server, no network and no library.

The page carries the record as it is on disk: each step's gzip member as base64 in a script element that never runs, so
that a step costs the browser nothing until it is shown. Beside them is what is needed at once: curves, figures,
stories, and of each step the marks. A content-security policy names the page's own code by its hash and forbids all
else.
"""

import base64
import bisect
import hashlib
import html
import json
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from omegaconf import OmegaConf

from spark_lib import report
from spark_lib.config import UNREADABLE, ConfigError, explain, read_yaml
from spark_lib.problem import KINDS
from spark_lib.view import record

PARTS = Path(__file__).with_name("page")
LIMIT = 20_000_000  # bytes of a page
LONGEST = 1000  # tokens of a response, where a step alone would be too much
POINTS = 1000  # of a curve
SMOOTHED = ("reward", "said_yes", "said_a", "frac_reward_zero_std", "truncated")  # of each kind that has it
SCRIPTS = ("base.js", "charts.js", "cards.js", "frame.js", "overview.js", "filters.js", "rollouts.js", "run.js")
NEEDED = ("model", "data", "seed", "max_steps", "recycle.right_at")  # keys of a run's config
BOUNDS = re.compile(r"\{\{([a-z ]+)\}\}")


def assemble(scripts: Iterable[str], title: str, data: dict, blobs: dict[str, bytes], noscript: str) -> str:
    """The whole page as text. scripts: names of files in page/; blobs: gzip by the id of their element; noscript:
    HTML. All text in `title` and `data` may be hostile."""
    script = "\n".join((PARTS / name).read_text(encoding="utf-8") for name in scripts)
    style = (PARTS / "page.css").read_text(encoding="utf-8")
    packed = "\n".join(element(name, blob) for name, blob in blobs.items())
    fields = {
        "title": html.escape(title), "style": style, "script": script, "noscript": noscript, "blobs": packed,
        "style hash": digest(style), "script hash": digest(script), "data": inert(data),
    }
    template = (PARTS / "page.html").read_text(encoding="utf-8")
    return BOUNDS.sub(lambda match: fields[match[1]], template)  # one pass: no field is searched for fields


def element(name: str, blob: bytes) -> str:
    return f'<script type="application/gzip" id="{name}">{base64.b64encode(blob).decode()}</script>'


def size_of(name: str, length: int) -> int:
    """Of the element of a blob that is `length` bytes long, with the end of its line."""
    return len(element(name, b"")) + -(-length // 3) * 4 + 1


def digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def inert(data: dict) -> str:
    """JSON that cannot end the element it stands in. It is ASCII: U+2028 and lone surrogates are escaped."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def encoded(text: str) -> bytes:
    """A lone surrogate outside of the data becomes a number, which a browser shows as U+FFFD."""
    return text.encode("utf-8", "xmlcharrefreplace")


def write(path: Path, text: str) -> Path:
    """Whole or not at all."""
    aside = path.with_name(path.name + ".partial")
    aside.write_bytes(encoded(text))
    aside.replace(path)
    return path


# --- a run's page ---------------------------------------------------------------------------------------------


def write_run(folder: Path, summary: dict | None = None) -> Path:
    """<folder>/report.html of a run that has ended or still goes on. Raises ConfigError for what is no run's folder.

    summary: what summary.json will hold, where it is not yet written."""
    config = config_of(folder)
    metrics, timings = (lines_of(folder / f"{name}.jsonl") for name in ("metrics", "timings"))
    summary = summary or json_of(folder / "summary.json")
    before, after = (json_of(folder / f"{name}.json") for name in ("before", "after"))
    found = figures(before, after)
    seconds = summary.get("seconds") or totals(timings)
    tokens = metrics[-1]["sampled_tokens"] if metrics else 0
    data = {
        "name": folder.resolve().name, "facts": facts(config, len(metrics), tokens, seconds, bool(summary)),
        "right_at": config["recycle.right_at"], "kinds": KINDS, "judges": ("pointwise", "pairwise"),
        "config": config, "curves": curves(metrics), "smooth": smoothed(metrics), "seconds": seconds,
        "sampled_tokens": tokens, "tokens": tokens_by_kind(metrics),
        "figures": found, "n": (before.get("skills") or {}).get("n"),
        "stories": {"before": before.get("examples", []), "after": after.get("examples", [])},
    }

    def made(steps: list[dict], blobs: dict[str, bytes], left_out: str) -> str:
        shown = data | {"steps": steps, "left_out": left_out}
        return assemble(SCRIPTS, f"Run {data['name']}", shown, blobs, html_table(plain_rows(found)))

    room = LIMIT - len(encoded(made([], {}, in_words(10**9, [10**9] * 13))))  # beside the longest words there can be
    return write(folder / "report.html", made(*shown_steps(folder / record.NAME, room)))


def config_of(folder: Path) -> dict:
    """A run's settings, with dots for sections. Raises ConfigError for what is no run's folder.

    They are not checked as a run's are: an older run has keys that there are no more."""
    path = folder / "config.yaml"
    if not path.is_file():
        raise ConfigError(f"{folder}: not a run's folder, it has no config.yaml; give folders like runs/quickstart")
    try:
        config = flat(OmegaConf.to_object(read_yaml(path, "")))
    except UNREADABLE as error:  # a reference that leads nowhere
        raise ConfigError(f"{path}: {explain(error)}") from error
    if missing := [name for name in NEEDED if name not in config]:
        raise ConfigError(f"{path}: it is damaged (it has no '{missing[0]}')")
    return config


def lines_of(path: Path) -> list[dict]:
    """The whole lines of a .jsonl file that may be growing."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [parsed(line, path) for line in lines if line]


def json_of(path: Path) -> dict:
    return parsed(path.read_bytes(), path) if path.exists() else {}


def parsed(text: bytes, path: Path) -> dict:
    """The JSON object of a file, or of a line in it, of a run or an evaluation. Raises ConfigError."""
    try:
        found = json.loads(text)
        if not isinstance(found, dict):
            raise ValueError("it holds no object")
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: it is damaged ({error}); the run writes it again when it is resumed, an evaluation "
                          "when it is done again") from error
    return found


def flat(config: dict, prefix: str = "") -> dict:
    """The settings with dots for sections."""
    found = {}
    for key, value in config.items():
        is_section = isinstance(value, dict) and value
        found |= flat(value, f"{prefix}{key}.") if is_section else {f"{prefix}{key}": value}
    return found


def facts(config: dict, steps: int, tokens: int, seconds: dict, ended: bool) -> list[str]:
    done = f"{steps} steps" if ended else f"{steps} of {config['max_steps']} steps so far"
    return [config["model"], config["data"], f"seed {config['seed']}", done, f"{tokens:,} sampled tokens",
            f"{sum(v for k, v in seconds.items() if k != 'total'):,.0f} s"]


def totals(timings: list[dict]) -> dict[str, float]:
    """Seconds by phase of the steps so far."""
    return {phase: sum(row[phase] for row in timings) for phase in ("sample", "verify", "train")} if timings else {}


def curves(metrics: list[dict]) -> dict[str, list]:
    """metrics.jsonl by columns, None where a step has no such figure; of a long run, every so many steps."""
    names = dict.fromkeys(name for row in metrics for name in row)
    return thinned({name: [row.get(name) for row in metrics] for name in names})


def smoothed(metrics: list[dict]) -> dict[str, list]:
    """The same of the curves that are drawn as the mean of 5 steps: of each step, not of those that are left."""
    names = [f"{kind}/{what}" for kind in KINDS for what in SMOOTHED]
    columns = {name: smooth_known([digits(row.get(name)) for row in metrics]) for name in names}
    return thinned({name: values for name, values in columns.items() if any(value is not None for value in values)})


def smooth_known(values: list[float | None]) -> list[float | None]:
    """report.smooth over the values that are there."""
    found = iter(report.smooth([value for value in values if value is not None]))
    return [None if value is None else next(found) for value in values]


def thinned(columns: dict[str, list | None]) -> dict[str, list | None]:
    """Columns of one length with at most POINTS rows, rounded; to be called when all that needs every step is done."""
    longest = max((len(values or ()) for values in columns.values()), default=0)
    every = math.ceil(longest / POINTS) or 1
    return {name: values and [digits(value) for value in values[::every]] for name, values in columns.items()}


def tokens_by_kind(metrics: list[dict]) -> dict[str, int]:
    return {kind: sum(row.get(f"{kind}/tokens", 0) for row in metrics) for kind in KINDS}


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


def shown_steps(path: Path, room: int) -> tuple[list[dict], dict[str, bytes], str]:
    """(index of the steps that fit the room, their packed rows by element id, what is left out in words)."""
    costs = costs_of(path, lambda member, row: len(member))
    chosen, shrink = fitting(costs, room), None
    if len(chosen) < min(len(costs), 2):
        shrink = shortened
        costs = costs_of(path, lambda member, row: len(record.pack(shrink(row))))
        chosen = fitting(costs, room)
    steps, blobs, problems = [], {}, {}
    for place, (_, member, row) in enumerate(record.members(path)):
        if place in chosen:
            steps.append(index(row, problems))
            blobs[f"step-{row['step']}"] = record.pack(shrink(row)) if shrink else member
    is_whole = len(steps) == len(costs)
    return steps, blobs, "" if is_whole else in_words(len(costs), [entry["step"] for entry in steps])


def costs_of(path: Path, length: Callable[[bytes, dict], int]) -> list[int]:
    """Bytes of the page that each step takes: for its packed row, `length` bytes long, and its entry in the index."""
    problems: dict[tuple, int] = {}
    return [size_of(f"step-{row['step']}", length(member, row)) + len(inert(index(row, problems))) + 1
            for _, member, row in record.members(path)]


def in_words(total: int, shown: list[int]) -> str:
    """What is left out. shown: the numbers of the steps that are not."""
    numbers = ", ".join(map(str, shown[:12])) + (" …" if len(shown) > 12 else "")
    return (f"The record has {total} steps, more than a page can hold: shown are {len(shown)} of them"
            + (f" (steps {numbers})." if shown else "."))


def fitting(costs: list[int], room: int) -> set[int]:
    """A set of evenly spaced places, first and last among them, whose costs fit the room, and that one place more
    would be too much for."""
    def places(count: int) -> set[int]:
        return {round(i * (len(costs) - 1) / max(1, count - 1)) for i in range(count)}

    def cost(count: int) -> int:
        return sum(costs[place] for place in places(count))

    return places(max(0, bisect.bisect_right(range(len(costs) + 1), room, key=cost) - 1))


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
