"""Files: the records of a .jsonl, .json, .csv, .tsv or .parquet file, the texts also gzipped (.jsonl.gz).

JSON, JSONL and CSV are read by the standard library, which can say on which line a file is broken and leaves an
answer as it is written ("007" and "None" are texts); parquet by pyarrow. A file is read as a stream where its format
lets one. What is no such file ends in one ConfigError that names it and, where there is one, the row.
"""

import csv
import gzip
import io
import itertools
import json
import zlib
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import pyarrow.parquet

from spark_lib.config import ConfigError
from spark_lib.data.chats import is_chat, named

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
DELIMITERS = ",;\t|"

Records = Iterator[tuple[str, object]]  # where it stands, e.g. "gsm8k/train.jsonl, line 3", and the record


def suffix_of(path: Path | str) -> str:
    """The format that a name tells: ".jsonl" of "a.JSONL" and of "a.jsonl.gz"; "" if it is none of SUFFIXES."""
    path = Path(path)
    suffix = Path(path.stem if path.suffix.lower() == ".gz" else path.name).suffix.lower()
    return suffix if suffix in SUFFIXES and not (suffix == ".parquet" and path.suffix.lower() == ".gz") else ""


def records_of(path: Path, known: Collection[str] = ()) -> Records:
    """The records of one file. known: names that its fields may have, by which a CSV's delimiter is found."""
    suffix = suffix_of(path)
    if suffix == ".parquet":
        yield from parquet_records(path)
        return
    try:
        with open_text(path) as file:
            if suffix == ".json":
                yield from json_records(file.read(), path)
            elif suffix == ".jsonl":
                yield from jsonl_records(file, path)
            else:
                yield from csv_records(file, path, known)
    except UnicodeDecodeError as error:
        raise ConfigError(f"data: {path} is not UTF-8 text: {one_line(error)}") from error
    except (OSError, EOFError, zlib.error) as error:  # the latter two of a broken gzip file
        raise ConfigError(f"data: {path} cannot be read: {one_line(error)}") from error


def open_text(path: Path) -> io.TextIOWrapper:
    """A text in UTF-8, with or without a mark at its beginning; or in UTF-16, as Excel's "Unicode text"."""
    is_gzip = path.suffix.lower() == ".gz"
    file = gzip.open(path) if is_gzip else open(path, "rb")
    head = file.read(2)
    file.seek(0)
    encoding = "utf-16" if head in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    # A line of JSON ends at \n only: it may hold U+2028 and others as they are. A CSV's ends are told by csv.
    return io.TextIOWrapper(file, encoding, newline="" if suffix_of(path) in (".csv", ".tsv") else "\n")


def jsonl_records(lines: Iterable[str], path: Path) -> Records:
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield f"{path}, line {number}", json.loads(line)
            except (ValueError, RecursionError) as error:  # a ValueError also for a number of 5,000 digits
                raise ConfigError(f"data: {path}, line {number} is not JSON: {error}") from error


def json_records(text: str, path: Path) -> Records:
    """A list of objects, alone or as the one list of an object ({"data": [...]}); or JSON lines under a wrong name."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        if getattr(error, "msg", "") == "Extra data":
            yield from jsonl_records(text.split("\n"), path)
            return
        raise ConfigError(f"data: {path} is not JSON: {error}") from error
    if isinstance(content, dict):
        lists = [value for value in content.values() if is_table(value)]
        content = lists[0] if len(lists) == 1 else [content]
    if not isinstance(content, list):
        raise ConfigError(f"data: {path}: expected a list of objects")
    for number, record in enumerate(content, 1):
        yield f"{path}, row {number}", record


def is_table(value: object) -> bool:
    """Whether a value is a list of objects that are no turns of a chat."""
    return (isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)
            and not is_chat(value))


def csv_records(file: Iterable[str], path: Path, known: Collection[str]) -> Records:
    """Values between commas, semicolons, tabs or bars, with a header line; the line told is the one on which a row
    ends."""
    csv.field_size_limit(2**30)  # the default stops at 131,072 characters
    first = next(iter(file), "")
    lines = csv.reader(itertools.chain([first], file), delimiter=delimiter_of(first, known), strict=True)
    header: list[str] = []
    try:
        for values in lines:
            where = f"{path}, line {lines.line_num}"
            if not header:
                header = values
                if twice := sorted({name for name in header if name.strip() and header.count(name) > 1}):
                    raise ConfigError(f"data: {where}: two columns are called {named(twice)}")
            elif values and len(values) != len(header):
                raise ConfigError(f"data: {where}: {len(values)} values for the columns {named(header)}")
            elif values:
                yield where, dict(zip(header, values))
    except csv.Error as error:
        raise ConfigError(f"data: {path}, line {lines.line_num} is not CSV: {error}") from error


def delimiter_of(header: str, known: Collection[str]) -> str:
    """Of DELIMITERS the one between the names of a CSV's first line: that by which most names are known, then most
    are there, then the first."""

    def found(delimiter: str) -> tuple[int, int]:
        names = next(csv.reader([header], delimiter=delimiter), [])
        return sum(name in known for name in names), len(names)

    return max(DELIMITERS, key=found)


def parquet_records(path: Path) -> Records:
    try:
        yield from arrow_records(pyarrow.parquet.ParquetFile(path).iter_batches(1000), str(path))
    except (OSError, ValueError, OverflowError, pyarrow.ArrowException) as error:
        raise ConfigError(f"data: {path} cannot be read as parquet: {one_line(error)}") from error


def arrow_records(batches: Iterable, name: str) -> Records:
    """Records of Arrow tables; an image is {"bytes", "path"}, not yet decoded."""
    number = 0
    for batch in batches:
        for record in batch.to_pylist():
            number += 1
            yield f"{name}, row {number}", record


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
