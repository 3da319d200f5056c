"""A judge of its own, for cost.yaml's comparison: what SPARK saves (the paper's Table 7).

    python configs/studies/judge_apart.py [config.yaml] [key=value ...]

As train.py, but two adapters stand on the one frozen base. One is the policy, the other a judge, which is trained with
GRPO on the judge problems made of the policy's rollouts, as in SPARK; the policy is rewarded with its P(Yes), as by a
learned reward model, and never judges. What the judge takes (sampling verdicts, learning, rewarding) counts as the
phase "judge". Its adapter is not kept, so that a run that was stopped has to begin again.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import train
from spark_lib import seeds
from spark_lib.config import ConfigError, load_config
from spark_lib.problem import Problem
from spark_lib.rollout import Rollout
from spark_lib.sampling.confidence import yes_probabilities
from spark_lib.sampling.labels import relabel
from spark_lib.sampling.roll import Sampler
from spark_lib.stopping import run_script

JUDGING = ("pointwise", "pairwise")
Spark = train.Spark


def judging(problems: list[Problem]) -> bool:
    return bool(problems) and problems[0].kind in JUDGING


class Rolls:
    """A Sampler that passes judge problems on to the judge's, and all else to the policy's."""

    def __init__(self, policy: Sampler, judge: Sampler):
        self.policy, self.judge = policy, judge

    def __getattr__(self, name: str):
        return getattr(self.policy, name)

    def __call__(self, problems: list[Problem], *how, **more) -> list[list[Rollout]]:
        if not judging(problems):
            return self.policy(problems, *how, **more)
        with self.policy.clock.only(self.policy.clock.override or "judge"):
            return self.judge(problems, *how, **more)

    def evaluating(self, what: str):
        policy, judge = self.policy.evaluating(what), self.judge.evaluating(what)
        return lambda problems, *how: (judge if judging(problems) else policy)(problems, *how)


class JudgeApart(Spark):
    """train.Spark, whose policy is rewarded by a judge with an adapter and an optimiser of its own."""

    def start(self, base: str) -> None:
        super().start(base)
        self.judge = Spark(self.config, self.accelerator)
        ours = dict(self.model.named_parameters())
        for name, parameter in self.judge.model.named_parameters():
            if not parameter.requires_grad:
                parameter.data = ours[name].data  # one base in memory
        self.judge.clock = self.judge.roll.clock = self.clock
        self.roll = Rolls(self.roll, self.judge.roll)

    def set_learning_rate(self, rate: float) -> None:
        super().set_learning_rate(rate)
        self.judge.set_learning_rate(rate)

    def update(self, groups: list[list[Rollout]], demonstrations: list[Problem], step: object) -> dict[str, float]:
        """One update of the judge on the verifier's marks, then one of the policy on the judge's."""
        with self.clock.only("judge"):
            self.judge.update([group for group in groups if group[0].problem.kind in JUDGING], [], step)
            solved = self.rewarded([group for group in groups if group[0].problem.kind == "solve"], step)
        return super().update(solved, [], step)

    def rewarded(self, groups: list[list[Rollout]], step: object) -> list[list[Rollout]]:
        """The groups with the judge's P(Yes) of each response as its reward."""
        judge = self.judge

        def trust(problems: list[Problem]) -> list[float | None]:
            verdicts = [group[0] for group in judge.roll(problems, 1, ("rewards", step), whole=True)]
            self.roll.policy.aside += [[r] for r in verdicts]  # so that their tokens count
            return yes_probabilities(judge.model, judge.tokenizer, verdicts, self.config.micro_batch_tokens)

        rng = seeds.rng(self.config.seed, step, "rewards")
        return relabel(groups, "judge_probability", trust, self.config.recycle.view, rng)[0]


def main(argv: list[str]) -> None:
    config = load_config(argv)
    if config.resume:
        raise ConfigError("resume: a judge apart is not kept, so that its run cannot be gone on with; begin again")
    if not config.lora or config.schedule != "joint" or set(config.recycle.kinds) != set(JUDGING):
        raise ConfigError("a judge apart needs an adapter, schedule=joint and recycle.kinds=[pointwise,pairwise]")
    train.Spark = JudgeApart
    train.main(argv)


if __name__ == "__main__":
    run_script(main)
