"""Sources: rows of questions and answers from files, folders, the model hub and reasoning-gym.

Files are read in files.py, hub sets by `datasets`. No code that comes with a data set is run. What the fields of a
record mean is found in fields.py; splits and checks are in load.py.
"""

import contextlib
import dataclasses
import difflib
import functools
import gc
import json
import re
from collections.abc import Iterator
from pathlib import Path

from spark_lib.config import ConfigError
from spark_lib.data.fields import NAMES, Row, rows_of_records, solution_of
from spark_lib.data.files import SUFFIXES, arrow_records, one_line, records_of, suffix_of

SPLIT_WORDS = {"train": "train", "training": "train", "test": "test", "validation": "validation",
               "valid": "validation", "val": "validation", "dev": "validation"}
HUB_SECONDS = 5  # to find out whether the hub can be reached; its own retries take half a minute
# The tasks of reasoning-gym whose questions have exactly one right answer, a number or words, on which verify.py and
# the task's own scorer agree. The others are left to their scorers: a countdown has many solutions, 3/6 "simplified"
# equals 3/6 to a verifier of values, and so does a factorisation the number itself.
TASKS = (
    "acre", "aiw", "basic_arithmetic", "binary_alternation", "caesar_cipher", "calendar_arithmetic", "chain_sum",
    "circuit_logic", "coin_flip", "color_cube_rotation", "complex_arithmetic", "count_bits", "count_primes",
    "course_schedule", "decimal_arithmetic", "decimal_chain_sum", "dice", "family_relationships", "figlet_font", "gcd",
    "gsm_symbolic", "isomorphic_strings", "largest_island", "lcm", "leg_counting", "letter_counting",
    "mahjong_puzzle", "maze", "needle_haystack", "number_format", "products", "ransom_note",
    "rectangle_count", "rotten_oranges", "self_reference", "simple_equations", "simple_geometry", "spell_backward",
    "syllogism",
)


def read_rows(spec: str, fields: dict[str, str], options: dict) -> list[Row]:
    """Every row of a source; see load_problems for its arguments. Raises ConfigError."""
    with many_objects():
        return rows_of_source(spec, fields, options)


@contextlib.contextmanager
def many_objects() -> Iterator[None]:
    """Within it, Python looks for no circles among objects: in rows and problems there are none, and a million of them
    would be walked again and again."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def rows_of_source(spec: str, fields: dict[str, str], options: dict) -> list[Row]:
    if spec.startswith("reasoning_gym:"):
        return reasoning_gym_rows(spec.removeprefix("reasoning_gym:"), options)
    path = Path(spec)
    try:
        if path.is_dir():
            return folder_rows(path, fields)
        if suffix_of(path) and ":" not in spec:
            return list(file_rows(path, fields))
        is_id = re.fullmatch(r"[\w-][\w.-]*/[\w.-]+(:[\w./-]+)?", spec) and not path.exists()
    except OSError as error:  # of a name that is too long, or a folder that may not be looked into
        raise ConfigError(f"data: {spec} cannot be read: {one_line(error)}") from error
    if is_id:
        return hub_rows(spec, fields)
    near = difflib.get_close_matches(spec, ["arithmetic", "shapes", "reasoning_gym:"], n=1)
    raise ConfigError(
        f"data: '{spec}' is not 'arithmetic', 'shapes', 'reasoning_gym:<task>', a {', '.join(SUFFIXES)} file or a "
        "folder that exists, or a hub id 'owner/name'" + (f"; did you mean '{near[0]}'?" if near else "")
    )


# --- files and folders ---------------------------------------------------------------------------------------


def folder_rows(folder: Path, fields: dict[str, str]) -> list[Row]:
    """The rows of all data files below a folder. Where some file is called test or validation ("test.jsonl",
    "main/test-00000-of-00001.parquet"), these are the official splits, and a file without such a word is training data.
    """
    names = [p.relative_to(folder) for p in sorted(folder.rglob("*")) if suffix_of(p) and p.is_file()]
    names = [n for n in names if not any(part.startswith(".") for part in n.parts) and n.stem[:12] != "dataset_info"]
    if not names:
        raise ConfigError(f"data: there is no {', '.join(SUFFIXES)} file in the folder {folder}")
    return [row for name in names for row in file_rows(folder / name, fields, split_named(str(name)))]


def split_named(name: str) -> str | None:
    """The split that a name tells by its last such word: "data/test-00000.parquet" -> "test"."""
    found = [SPLIT_WORDS[word] for word in re.split(r"[^a-z]+", name.lower()) if word in SPLIT_WORDS]
    return found[-1] if found else None


def file_rows(path: Path, fields: dict[str, str], split: str | None = None) -> Iterator[Row]:
    """The rows of one file. Raises ConfigError naming the file and, where there is one, the row."""
    if not path.is_file():
        raise ConfigError(f"data: the file {path} does not exist")
    known = {*fields.values(), *(name for names in NAMES.values() for name in names)}
    yield from rows_of_records(records_of(path, known), str(path), fields, split, path.parent)


# --- the hub -------------------------------------------------------------------------------------------------


def hub_rows(spec: str, fields: dict[str, str]) -> list[Row]:
    """Rows of 'owner/name', of 'owner/name:config', or of one file of it, 'owner/name:folder/file.json'."""
    import datasets  # here, as it takes seconds to import and the quickstart does not need it
    from huggingface_hub import hf_hub_download

    name, _, part = spec.partition(":")
    reached = hub_reached(name)
    is_file = bool(suffix_of(part))
    try:
        if is_file:
            file = Path(hf_hub_download(name, part, repo_type="dataset", local_files_only=not reached))
        else:
            splits = datasets.load_dataset(name, part or None)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        if reached:
            raise ConfigError(f"data: cannot load '{spec}' from the hub: {one_line(error)}") from error
        folder = name.split("/")[1]
        raise ConfigError(
            f"data: no file or folder '{spec}' here, and the hub cannot be reached for the data set of this id. Where "
            f"it can: hf download {name} --repo-type dataset --local-dir {folder}; copy the folder here and set "
            f"data={folder}" + (f"/{part}" if part else "")
        ) from error
    if is_file:
        return list(file_rows(file, fields))
    rows = []
    for split, table in splits.items():
        records = arrow_records(table.with_format("arrow").iter(1000), f"{spec} ({split})")
        rows += rows_of_records(records, f"{spec} ({split})", fields, split_named(split) or "train")
    return rows


def hub_reached(name: str) -> bool:
    """Whether the hub answers and has this data set; if it does not answer, `datasets` is set to its cache alone.

    Asked once with a short limit, as the libraries' own retries take half a minute. Raises ConfigError.
    """
    import datasets
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    try:
        HfApi(endpoint=datasets.config.HF_ENDPOINT).dataset_info(name, timeout=HUB_SECONDS)
    except RepositoryNotFoundError as error:  # so does a private one to whoever has no access
        raise ConfigError(f"data: there is no file or folder '{name}' here, and no such data set on the hub") from error
    except (OSError, HfHubHTTPError.__bases__[0]):  # the latter is HTTPError of whichever httpx the library uses
        datasets.config.HF_HUB_OFFLINE = True
        return False
    return True


# --- reasoning-gym -------------------------------------------------------------------------------------------


def reasoning_gym_rows(task: str, options: dict) -> list[Row]:
    """`options["size"]` (default 5,000) entries of a task of reasoning-gym, in all splits together.

    options: of the task's config class, e.g. min_terms and max_terms of chain_sum, and its seed (default 0: the
    data does not change with the run's seed). Only TASKS, so the built-in verifier says what the task's scorer says.
    """
    from reasoning_gym.factory import DATASETS

    if task not in TASKS:
        near = difflib.get_close_matches(task, TASKS, n=3) or TASKS
        why = ("can have several right answers, or one that verify.py cannot compare" if task in DATASETS
               else "is no task of reasoning-gym")
        raise ConfigError(f"data: '{task}' {why}; tasks that can be used: {', '.join(near)}")
    known = [f.name for f in dataclasses.fields(DATASETS[task][1])]
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"it has {', '.join(known)}"
            raise ConfigError(f"data_options: {task} has no option '{name}'; {hint}")
    return list(generated(task, json.dumps({"size": 5_000, "seed": 0} | options)))


@functools.lru_cache(maxsize=1)
def generated(task: str, options: str) -> tuple[Row, ...]:
    """Cached, as training and held-out problems come from one generation."""
    import reasoning_gym

    try:
        entries = reasoning_gym.create_dataset(task, **json.loads(options))
        return tuple(row_of_entry(f"{task}, entry {i}", entries[i]) for i in range(len(entries)))
    except (AssertionError, TypeError, ValueError) as error:  # how its config classes refuse a value
        reason = one_line(error) or "a value out of range"
        raise ConfigError(f"data_options: {task} does not take {options}: {reason}") from error


def row_of_entry(where: str, entry: dict) -> Row:
    """gsm_symbolic works its problems out in its metadata; the other tasks tell the answer only."""
    answer = entry["answer"].strip()
    solution = solution_of(entry["metadata"].get("answer_cot"), answer)
    return Row(where, entry["question"].strip(), answer, solution=solution)
