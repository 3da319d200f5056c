"""See runs.    python -m spark_lib.view runs/a [runs/b ...] [out=folder]

One folder, of a run or of an evaluation: its page, report.html. Several runs: compare.html, .png and .md, which lay
their curves and final figures side by side and list the settings that differ.
"""

import sys
from pathlib import Path

from spark_lib.config import ConfigError
from spark_lib.view import write_page
from spark_lib.view.compare import write_comparison


def main(argv: list[str]) -> None:
    if {"-h", "--help"} & set(argv) or not argv:
        return print(__doc__)
    folders = [Path(word) for word in argv if not word.startswith("out=")]
    out = [Path(word.removeprefix("out=")) for word in argv if word.startswith("out=")]
    if len(folders) > 1:
        return print(write_comparison(folders, out[-1] if out else None))
    if out or not folders:
        raise ConfigError("out: is for several runs; the page of one stands in its own folder")
    print(write_page(folders[0]))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ConfigError as error:
        sys.exit(f"error: {error}")
    except OSError as error:  # a folder that cannot be written, a full disk
        sys.exit(f"error: {error.filename or 'the page'}: {error.strerror or error}")
