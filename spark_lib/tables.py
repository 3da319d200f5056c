"""Rows of a data set: from the Hugging Face hub, a copy of its repository, or one local file."""

import io
import json
import urllib.error
import urllib.request
from pathlib import Path

from huggingface_hub import constants
from PIL import Image

from spark_lib.config import ConfigError


def read_table(
    name: str, hub_id: str, config: str | None, split: str, data_dir: str | None
) -> tuple:
    """A datasets.Dataset of the rows, and the folder that image paths in them are relative to. Raises ConfigError.

    data_dir: None reads the hub; else it holds `name`.parquet, .json (a list of objects) or .jsonl (one a line) with
        the rows of the split, or a copy of the hub's repository as a folder `name`.
    """
    import datasets  # takes seconds, which only those who evaluate a benchmark should wait

    folder = Path(data_dir or "")
    fetch = f"hf download {hub_id} --repo-type dataset --local-dir {Path(data_dir or 'data') / name}"
    try:
        if data_dir is None:
            check_hub(hub_id, fetch)
            return datasets.load_dataset(hub_id, config, split=split), folder
        if (folder / name).is_dir():
            return datasets.load_dataset(str(folder / name), config, split=split), folder / name
        if (file := folder / f"{name}.parquet").is_file():
            return datasets.load_dataset("parquet", data_files=str(file), split="train"), folder
        for file in (folder / f"{name}.json", folder / f"{name}.jsonl"):
            if file.is_file():
                return datasets.Dataset.from_list(json_rows(file)), folder
    except ConfigError:
        raise
    except (ValueError, TypeError, OSError, datasets.exceptions.DatasetsError) as error:
        why = " ".join(str(error).split())[:300]
        raise ConfigError(f"{name} ({hub_id}, {config or 'default'}, {split}) cannot be read: {why}") from error
    raise ConfigError(f"{folder} holds no {name}.parquet, .json or .jsonl and no folder {name}; fetch it with {fetch}")


def check_hub(hub_id: str, fetch: str) -> None:
    """Raise ConfigError at once if the hub does not answer: the datasets library tries again for half a minute."""
    if constants.HF_HUB_OFFLINE:
        return  # the library looks in its cache only
    try:
        urllib.request.urlopen(constants.ENDPOINT, timeout=5).close()
    except urllib.error.HTTPError:
        return  # it answers
    except OSError as error:
        raise ConfigError(
            f"{hub_id} cannot be fetched, {constants.ENDPOINT} does not answer ({error}). Where there is a network: "
            f"{fetch}; then data_dir=data here. If it was fetched here before: HF_HUB_OFFLINE=1"
        ) from error


def json_rows(file: Path) -> list[dict]:
    """The objects of a .json or .jsonl file. Raises ValueError, naming the line."""
    text = file.read_text(encoding="utf-8-sig")
    rows = []
    for number, part in enumerate(text.split("\n") if file.suffix == ".jsonl" else [text], 1):
        try:
            value = json.loads(part) if part.strip() else []
        except json.JSONDecodeError as error:
            raise ValueError(f"{file}, line {number + error.lineno - 1} is not JSON: {error.msg}") from error
        rows += value if isinstance(value, list) else [value]
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{file}: expected objects, in a list or one a line")
    return rows


def open_image(image: dict | str, folder: Path) -> Image.Image | str:
    """What a field with an image means: {"bytes", "path"} is a PIL image, not decoded yet; a path stays one, with
    `folder` before it. Raises OSError if it cannot be opened."""
    if isinstance(image, dict) and image["bytes"]:
        return Image.open(io.BytesIO(image["bytes"]))
    path = folder / (image["path"] if isinstance(image, dict) else image)
    Image.open(path).close()
    return str(path)
