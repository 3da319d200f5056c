"""The record of a run: runs/<name>/rollouts.jsonl.gz, a line of JSON per recorded step (docs/record.md).

Each step is a gzip member of its own, appended when the step is done. So a kill costs at most the member that was being
written, a resumed run cuts the file between two members and writes the same bytes again (a member holds no time
stamp), the page can carry single steps as they are, and `zcat` reads the whole.
"""

import gzip
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

NAME = "rollouts.jsonl.gz"
CHUNK = 1 << 16  # bytes


def pack(row: dict) -> bytes:
    """One step as a gzip member: the same bytes for the same row. Lone surrogates and the like are escaped."""
    return gzip.compress((json.dumps(row, separators=(",", ":")) + "\n").encode("ascii"), 6, mtime=0)


def append(path: Path, row: dict) -> None:
    with open(path, "ab") as file:
        file.write(pack(row))


def members(path: Path) -> Iterator[tuple[int, bytes, dict]]:
    """(where it ends in the file, its bytes, its row) of each step, up to the file's end or to what cannot be read."""
    if not path.exists():
        return
    end, member, text, reader = 0, [], [], zlib.decompressobj(wbits=31)
    with open(path, "rb") as file:
        rest = b""
        while chunk := rest or file.read(CHUNK):
            try:
                text.append(reader.decompress(chunk))
            except zlib.error:
                return
            rest = reader.unused_data
            member.append(chunk[: len(chunk) - len(rest)])
            if reader.eof:
                whole = b"".join(member)
                end += len(whole)
                yield end, whole, json.loads(b"".join(text))
                member, text, reader = [], [], zlib.decompressobj(wbits=31)


def read(folder: str | Path) -> Iterator[dict]:
    """The recorded steps of a run, one plain dict each, in their order; docs/record.md says what is in them.

    folder: a run's folder. May be called while the run goes on. An end that cannot be read (a kill in the middle of a
    step) is left out. Raises FileNotFoundError where there is no record.
    """
    path = Path(folder) / NAME
    if not path.exists():
        raise FileNotFoundError(f"{path}: this run has no record; it is kept with record=1")
    return (row for _, _, row in members(path))


def cut(path: Path, before_step: int) -> None:
    """Take back the steps from `before_step` on, and an end that cannot be read."""
    if path.exists():
        ends = [end for end, _, row in members(path) if row["step"] < before_step]
        os.truncate(path, ends[-1] if ends else 0)
