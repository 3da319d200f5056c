"""Whether two runs left the same bytes: every file of their folders but what depends on the clock."""

import json
from pathlib import Path

SECONDS = ("timings.jsonl", "report.md", "report.png", "report.html")  # these tell or draw seconds
WITH_SECONDS = ("state.json", "summary.json")  # JSON with seconds and bytes in it


def content(path: Path) -> bytes:
    if path.name in WITH_SECONDS:
        return json.dumps(json.loads(path.read_text()) | {"seconds": None, "memory": None}).encode()
    return path.read_bytes()


def files(run: Path) -> dict[str, bytes]:
    """The content of each file by its path in the run's folder."""
    return {str(path.relative_to(run)): content(path) for path in sorted(run.rglob("*"))
            if path.is_file() and path.name not in SECONDS}


def differences(run: Path, whole: Path) -> list[str]:
    """The files that the two do not share byte by byte."""
    ours, theirs = files(run), files(whole)
    return sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
