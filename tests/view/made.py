"""Runs by hand for the page."""

import json
from pathlib import Path

from omegaconf import OmegaConf

from spark_lib.config import Config
from spark_lib.view import record

# What a page must show as text: an end of its script, markup that runs, separators that ended a string in old
# JavaScript, half a character, a template's own mark, text turned around, and a word without a place to break.
HOSTILE = [
    "</script><script>window.broken = 1</script>", "<img src=x onerror='window.broken = 1'>", "<!--<script>",
    "a\u2028b\u2029c", "half \ud800 and \udfff", "{{data}} {{script}}", "\u202eturned around\u202c", "w" * 1_000_000,
    "\x00\x07 bell", "]]>&lt;b&gt;", "שלום عالم",
]


def response(name: str, text: str = "so", reward: float = 0.0, **fields) -> dict:
    """A response of the record."""
    return {"id": name, "text": text, "finished": True, "reward": reward, "advantage": 1.0 if reward else -1.0,
            "weight": 0.01, "tokens": [text, "<|end|>"], "logprobs": [-0.5, 0.0]} | fields


def made_run(folder: Path, rows: list[dict], **settings) -> Path:
    """A run's folder with this record, and figures in its other files."""
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(OmegaConf.structured(Config(run_name=folder.name, **settings)), folder / "config.yaml")
    for row in rows:
        record.append(folder / record.NAME, row)
    steps = [row["step"] for row in rows] or [0]
    metrics = [{"step": step, "solve/reward": 0.5, "solve/tokens": 10, "sampled_tokens": 10 * (step + 1)}
               for step in steps]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in metrics))
    return folder


def step_of(step: int, count: int = 2, size: int = 4, text: str = "so") -> dict:
    """A step of the record: `count` solve groups of `size` responses, the first of each right."""
    groups = [
        {"kind": "solve", "question": f"{g}?", "prompt": f"Say {g}?", "answer": "1", "dropped": None,
         "responses": [response(f"{step}.{g}.{i}", text, float(i == 0)) for i in range(size)]} for g in range(count)
    ]
    return {"step": step, "groups": groups, "pictures": {}}
