"""Rows of a data set: from the Hugging Face hub, a copy of its repository, or one local file."""

from pathlib import Path

from spark_lib.config import ConfigError
from spark_lib.data.files import one_line, records_of
from spark_lib.data.sources import hub_reached
from spark_lib.model.vision import load_image


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
    reached = data_dir is not None or hub_reached(hub_id)
    try:
        if data_dir is None:
            return datasets.load_dataset(hub_id, config, split=split), folder  # from its cache, if it was not reached
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
        if not reached:
            raise ConfigError(f"{hub_id} was never fetched here, and the hub cannot be reached. Where it can: {fetch}; "
                              "then data_dir=data here") from error
        raise ConfigError(
            f"{name} ({hub_id}, {config or 'default'}, {split}) cannot be read: {one_line(error)}"
        ) from error
    raise ConfigError(f"{folder} holds no {name}.parquet, .json or .jsonl and no folder {name}; fetch it with {fetch}")


def json_rows(file: Path) -> list[dict]:
    """The objects of a .json or .jsonl file. Raises ConfigError, naming the line, or ValueError."""
    rows = [row for _, row in records_of(file)]
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{file}: expected objects, in a list or one a line")
    return rows


def image_of(image: dict | str, folder: Path) -> bytes | str:
    """What a field with an image means: the bytes of a file, or a path with `folder` before it. Raises OSError or
    ValueError if it cannot be read."""
    if isinstance(image, dict) and image["bytes"]:
        found = image["bytes"]
    else:
        found = str(folder / (image["path"] if isinstance(image, dict) else image))
    load_image(found)
    return found
