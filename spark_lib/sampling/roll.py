"""Roll: sample and verify in one verb, shared out among the processes of a run."""

from bisect import bisect_left
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import gather_object

from spark_lib import progress, seeds
from spark_lib.config import Config, ConfigError
from spark_lib.model.memory import until_it_fits
from spark_lib.model.weights import merged, starting_model
from spark_lib.problem import Problem
from spark_lib.rewards import Rule, mark
from spark_lib.rollout import Rollout, sample
from spark_lib.sampling import labels
from spark_lib.sampling.confidence import yes_probabilities
from spark_lib.sampling.room import Room
from spark_lib.sampling.vllm import Engine

PATIENCE = 5  # seconds that a step's sampling may take before a bar tells how far it is


@dataclass
class Sampler:
    """roll(problems, n, stream) -> one verified group of n rollouts per problem, the same in every process."""

    model: object
    tokenizer: object
    config: Config
    accelerator: Accelerator
    rule: Rule | None
    clock: object  # seconds by phase, see clock.Clock
    frozen: object = None  # the model before training, where it is not the same with its adapter off
    engine: Engine | None = None  # samples in our own loop's place, see start
    halvings: int = 0  # how often memory ran out
    aside: list[list[Rollout]] = field(default_factory=list)  # groups of this step that nothing is learned from

    @cached_property
    def room(self) -> Room:
        return Room(self.model, self.tokenizer, self.config)

    def start(self, folder: Path) -> None:
        """To be called before the first roll. Where `vllm` names a server, it is tried out and samples from now on;
        what is written for it lies under `folder`, the run's. Raises ConfigError."""
        if self.config.vllm:
            self.engine = Engine(self.config, self.model, self.tokenizer, self.accelerator, folder)
            progress.say(self.engine.tried())

    def stop(self) -> None:
        if self.engine:
            self.engine.stop()

    def __call__(
        self, problems: list[Problem], n: int, stream: tuple, max_rows: int | None = None, start_model: bool = False,
        part: range | None = None, shown: str | None = None, whole: bool = False,
    ) -> list[list[Rollout]]:
        """stream names the random numbers, e.g. (step, "solve"); start_model samples from the model before training.

        part: only these of the problems, with the responses that they get when all are sampled at once. shown: what the
        progress bar says; without it there is one only if it takes long. In training (where the stream begins with a
        step) marks are what config.reward and config.noise say, else the verifier's.
        Problems that are too long for the model (see room.py) are left out; whole=True: they have groups of empty
        responses, as if cut off at once.
        """
        groups = self.verified(problems, n, stream, max_rows, start_model, part, shown, whole)
        return self.learned_from(groups, stream) if isinstance(stream[0], int) else groups

    def learned_from(self, groups: list[list[Rollout]], stream: tuple) -> list[list[Rollout]]:
        """The groups with the marks that training learns from, see labels.py."""
        config, step, phase = self.config, stream[0], stream[-1]
        if config.noise.false_positive or config.noise.false_negative:
            groups = labels.with_noise(groups, config.noise, config.seed, stream)
        if phase == "judge":
            return groups

        def judge(problems: list[Problem]) -> list[float | None]:
            verdicts = [group[0] for group in self.verified(problems, 1, (*stream, "marks"), whole=True)]
            self.aside += [[r] for r in verdicts]
            with self.clock("verify"):
                return yes_probabilities(self.model, self.tokenizer, verdicts, config.micro_batch_tokens)

        rng = seeds.rng(config.seed, *stream, "marks")
        source = labels.source_at(config.reward, step)
        kept, left_out = labels.relabel(groups, source, judge, config.recycle.view, rng)
        self.aside += left_out
        return kept

    def set_aside(self) -> list[list[Rollout]]:
        """The groups since the last call that were sampled for marks only, or that the judge left out (labels.py)."""
        groups, self.aside = self.aside, []
        return groups

    def verified(
        self, problems: list[Problem], n: int, stream: tuple, max_rows: int | None = None, start_model: bool = False,
        part: range | None = None, shown: str | None = None, whole: bool = False,
    ) -> list[list[Rollout]]:
        """One group of n rollouts per problem, marked by the verifier."""
        part = range(len(problems)) if part is None else part
        kept = self.room.kept(problems, part)
        if len(kept) < len(problems):
            inside = range(bisect_left(kept, part.start), bisect_left(kept, part.stop))
            fitting = [problems[i] for i in kept]
            groups = self.verified(fitting, n, stream, max_rows, start_model, inside, shown)
            groups = dict(zip(kept[inside.start :], groups))
            if whole:
                empty = {i: [Rollout(problems[i], [], [], "", False, [], 0.0) for _ in range(n)] for i in part}
                groups = empty | groups
            return list(groups.values())
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        limit = max_rows or self.config.max_rows
        bar = progress.bar(shown or f"sampling: {stream[-1]}", len(part[rank::world]) * n, "response",
                           delay=0 if shown else PATIENCE, announce=bool(shown))

        def attempt() -> list[list[Rollout]]:
            return self.sample(problems, part, n, stream, limit >> self.halvings, start_model, bar.count)

        def halve() -> str:
            if limit >> self.halvings <= n:
                raise ConfigError(f"the {n} responses to one problem do not fit the GPU's memory; lower max_new_tokens "
                                  "or the group size, or set dense_sampling=false (plan=true shows the parts)")
            self.halvings += 1
            bar.restart()
            return f"{limit >> self.halvings} responses are decoded at a time"

        with self.clock("sample"), bar:
            groups = until_it_fits(attempt, halve)
        with self.clock("verify"):
            mark(groups, self.rule)
        if world == 1:
            return groups
        shares = gather_object([groups])  # one list of groups per process: problem i is in share i % world
        return [shares[i % world][i // world] for i in range(len(part))]

    def sample(
        self, problems: list[Problem], part: range, n: int, stream: tuple, max_rows: int, start_model: bool, count
    ) -> list[list[Rollout]]:
        """This process's share of the groups. The random numbers of our own loop are each response's own: the groups
        do not depend on max_rows."""
        config, rank, world = self.config, self.accelerator.process_index, self.accelerator.num_processes
        share, how = slice(part.start + rank, part.stop, world), (n, config.max_new_tokens, config.temperature)
        if self.engine:
            return self.engine.sample(problems[share], *how, start_model, count)
        weights = merged(self.model, config.dense_sampling)
        with starting_model(self.model, self.frozen) if start_model else weights as model:
            generator = seeds.generator(config.seed, *stream)
            return sample(model, self.tokenizer, problems, *how, generator, max_rows, share=share, count=count)

    def evaluating(self, what: str):
        """The same for held-out problems: a function (problems, n, stream name) whose time counts as "evaluate".
        what: it is for, as its bars say."""

        def roll(problems: list[Problem], n: int, stream: str) -> list[list[Rollout]]:
            with self.clock.only("evaluate"):
                groups = self(problems, n, ("evaluation", stream), self.config.eval.max_rows, shown=f"{what}: {stream}",
                              whole=True)
            for rollout in (r for group in groups for r in group):
                rollout.seen = None  # pixels of hundreds of images, which only the loss would need again
            return groups

        return roll
