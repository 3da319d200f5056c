"""See the rollouts: the record of everything that was said in a run, and one page that shows it."""

from spark_lib.view.record import read

__all__ = ["read"]
