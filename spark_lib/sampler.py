"""Roll: sample and verify in one verb, shared out among the processes of a run."""

from dataclasses import dataclass

from accelerate import Accelerator
from accelerate.utils import gather_object

from spark_lib import seeds
from spark_lib.config import Config
from spark_lib.model import merged
from spark_lib.problems import Problem
from spark_lib.rewards import Rule, mark
from spark_lib.rollout import Rollout, sample


@dataclass
class Sampler:
    """roll(problems, n, stream) -> one verified group of n rollouts per problem, the same in every process."""

    model: object
    tokenizer: object
    config: Config
    accelerator: Accelerator
    rule: Rule | None
    clock: object  # seconds by phase, see run.Clock

    def __call__(
        self, problems: list[Problem], n: int, stream: tuple, max_rows: int | None = None, start_model: bool = False,
        part: range | None = None,
    ) -> list[list[Rollout]]:
        """stream names the random numbers, e.g. (step, "solve"); start_model samples from the model before training.

        part: only these of the problems, with the responses that they get when all are sampled at once.
        """
        part = range(len(problems)) if part is None else part
        config, rank, world = self.config, self.accelerator.process_index, self.accelerator.num_processes
        weights = self.model.disable_adapter() if start_model else merged(self.model)
        with self.clock("sample"), weights:
            groups = sample(
                self.model, self.tokenizer, problems, n, config.max_new_tokens, config.temperature,
                seeds.generator(config.seed, *stream), max_rows or config.max_rows,
                share=slice(part.start + rank, part.stop, world),
            )
        with self.clock("verify"):
            mark(groups, self.rule)
        if world == 1:
            return groups
        shares = gather_object([groups])  # one list of groups per process: problem i is in share i % world
        return [shares[i % world][i // world] for i in range(len(part))]

    def evaluating(self):
        """The same for held-out problems: a function (problems, n, stream name) whose time counts as "evaluate"."""

        def roll(problems: list[Problem], n: int, stream: str) -> list[list[Rollout]]:
            with self.clock.only("evaluate"):
                return self(problems, n, ("evaluation", stream), self.config.eval.max_rows)

        return roll
