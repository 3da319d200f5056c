"""See the rollouts: the record of everything that was said in a run, and one page that shows it."""

from pathlib import Path

from spark_lib.view.evaluation import write_evaluation
from spark_lib.view.page import write_run
from spark_lib.view.record import read

__all__ = ["read", "write_page"]


def write_page(folder: str | Path) -> Path:
    """report.html of a run's folder, at any time of the run, or of an evaluation's; returns its path."""
    folder = Path(folder)
    return write_evaluation(folder) if (folder / "predictions.jsonl").exists() else write_run(folder)
