"""A curriculum, for smollm2.yaml: first only solving is learned, then judging and reflecting too.

    python configs/studies/solve_first.py [config.yaml] [key=value ...]

As train.py, but for the first third of the run its demonstrations are own right solutions (recycle.kinds=[solve], what
policy-only training with imitation does to the end); then the config's kinds take their place. A judge is then shown
the answers, and imitates the sums, of a model that can solve. Goes on where it stopped, as train.py does.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import train
from spark_lib.config import ConfigError, load_config
from spark_lib.stopping import run_script

FIRST = 1 / 3  # of the run


class SolveFirst(train.Run):
    def steps(self) -> Iterator[int]:
        recycle = self.config.recycle
        kinds = recycle.kinds
        for step in super().steps():
            recycle.kinds = kinds if self.progress >= FIRST else ["solve"]
            yield step
        recycle.kinds = kinds


def main(argv: list[str]) -> None:
    config = load_config(argv)
    if config.judge_loss != "sft" or not set(config.recycle.kinds) - {"solve"}:
        raise ConfigError("solving first needs judge_loss=sft, and in recycle.kinds what is to come after it")
    if not config.recycle.shares.get("solve"):
        raise ConfigError("solving first needs a share of solve in recycle.shares, above 0")
    train.Run = SolveFirst
    train.main(argv)


if __name__ == "__main__":
    run_script(main)
