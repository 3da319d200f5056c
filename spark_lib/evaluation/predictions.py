"""Predictions: every response of an evaluation, kept in predictions.jsonl, which is also all its state.

The file grows a batch at a time. An evaluation that was stopped asks for the same responses in the same order, finds
the ones that are there and samples the rest: random numbers belong to a problem's place in its stage, so neither the
stop nor the batch size changes them.
"""

import json
import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from accelerate.utils import gather_object

from spark_lib import progress
from spark_lib.config import ConfigError
from spark_lib.model.checkpoints import write
from spark_lib.model.vision import content_key, images_of
from spark_lib.problem import Problem
from spark_lib.rollout import Rollout
from spark_lib.sampling.confidence import yes_probabilities
from spark_lib.verify import verify

VERDICTS = {"pointwise": ("Yes", "No"), "pairwise": ("A", "B")}


@dataclass
class Prediction:
    """What is kept of a response: a Rollout without its token ids.

    tokens: response tokens, the stop token included. verdict: "Yes", "No", "A", "B"; None where it cannot be read or
    was cut off, and for other kinds. p_yes: see confidence.py; for pointwise judgements only.
    """

    problem: Problem
    text: str
    finished: bool
    reward: float
    tokens: int
    verdict: str | None = None
    p_yes: float | None = None


def read_verdict(rollout: Rollout) -> str | None:
    kind = rollout.problem.kind
    words = VERDICTS.get(kind, ()) if rollout.finished else ()
    return next((word for word in words if verify(rollout.text, Problem("", word, kind))), None)


class Predictions:
    """predict(problems, n, stage) -> one group of n Predictions per problem, from the file or sampled now."""

    def __init__(self, path: Path, roll: Callable, model, tokenizer, config, accelerator, batch: int):
        """roll(problems, n, stage, temperature, part) -> groups of rollouts of the problems in the range `part`."""
        self.path, self.roll, self.batch = path, roll, batch
        self.model, self.tokenizer, self.config, self.accelerator = model, tokenizer, config, accelerator
        self.kept: dict[str, list[dict]] = defaultdict(list)  # rows by stage, in the order in which they were written
        for row in read_rows(path):
            self.kept[row["stage"]].append(row)
        accelerator.wait_for_everyone()  # all have read before one writes

    def __call__(
        self, problems: list[Problem], n: int, stage: str, temperature: float = 0.0
    ) -> list[list[Prediction]]:
        """Greedy unless a temperature is given; `stage` is the name of the random stream."""
        # Prompts of like length share a batch, so that little of it is padding.
        order = sorted(range(len(problems)), key=lambda i: len(problems[i].prompt))
        ordered = [problems[i] for i in order]
        per_batch = max(1, self.batch // n)
        groups: list[list[Prediction]] = [[] for _ in problems]
        with progress.bar(stage, len(problems) * n, "response") as bar:
            for start in range(0, len(problems), per_batch):
                part = range(start, min(start + per_batch, len(problems)))
                rows = self.kept[stage][start * n : part.stop * n]
                if len(rows) < len(part) * n:
                    rows = self.sample(ordered, n, stage, temperature, part, rows)
                for i, row in enumerate(rows):
                    problem = ordered[start + i // n]
                    if row["prompt"] != problem.prompt:
                        raise ConfigError(
                            f"{self.path} answers other prompts than are asked now (stage {stage!r}), so the code or "
                            f"the data has changed since; delete the folder {self.path.parent} or give another name="
                        )
                    groups[order[start + i // n]].append(prediction(problem, row))
                bar.count(sum(row["tokens"] for row in rows), len(rows), len(rows))
        return groups

    def sample(
        self, problems: list[Problem], n: int, stage: str, temperature: float, part: range, torn: list[dict]
    ) -> list[dict]:
        """The rows of the problems in `part`, written down; `torn` are those that a stop left of the same batch."""
        rollouts = [r for group in self.roll(problems, n, stage, temperature, part) for r in group]
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        judged = [i for i, r in enumerate(rollouts) if r.problem.kind == "pointwise"]
        mine = yes_probabilities(
            self.model, self.tokenizer, [rollouts[i] for i in judged], self.config.micro_batch_tokens,
            slice(rank, None, world),
        )
        shares = gather_object([mine])  # a list per process
        p_yes = {i: next((p for p in each if p is not None), None) for i, each in zip(judged, zip(*shares))}
        rows = [row_of(r, stage, p_yes.get(i)) for i, r in enumerate(rollouts)]
        if self.accelerator.is_main_process:
            if torn:  # they can only be the file's last
                lines = [json.dumps(row) + "\n" for row in read_rows(self.path)[: -len(torn)]]
                write(self.path, "".join(lines))
            with open(self.path, "a", encoding="utf-8") as file:
                file.write("".join(json.dumps(row) + "\n" for row in rows))
                file.flush()
                os.fsync(file.fileno())
        del self.kept[stage][part.start * n :]
        self.kept[stage] += rows
        return rows


def row_of(rollout: Rollout, stage: str, p_yes: float | None) -> dict:
    """A line of predictions.jsonl."""
    problem = rollout.problem
    asked = [*(f"{role}: {text}" for role, text in problem.context), problem.meta.get("question", problem.prompt)]
    row = {"stage": stage, "kind": problem.kind, "question": "\n".join(asked)}
    row |= {"pictures": shown} if (shown := [content_key(image) for image in images_of(problem)]) else {}
    row |= {"prompt": problem.prompt}
    row |= {"answer": problem.answer, "response": rollout.text, "finished": rollout.finished}
    row |= {"reward": rollout.reward, "tokens": len(rollout.response_ids)}
    if problem.kind in VERDICTS:
        row |= {"verdict": read_verdict(rollout)}
    return row if p_yes is None else row | {"p_yes": p_yes}


def prediction(problem: Problem, row: dict) -> Prediction:
    kept = (row["response"], row["finished"], row["reward"], row["tokens"])
    return Prediction(problem, *kept, row.get("verdict"), row.get("p_yes"))


def read_rows(path: Path) -> list[dict]:
    """The rows of a .jsonl file; a last line that a kill cut short is left out, and cut off the file."""
    if not path.exists():
        return []
    whole, _, torn = path.read_bytes().rpartition(b"\n")
    if torn:
        os.truncate(path, len(whole) + bool(whole))
    try:
        return [json.loads(line) for line in whole.split(b"\n") if line]
    except ValueError as error:
        raise ConfigError(f"{path}: a line in it is damaged ({error}); delete the folder {path.parent}") from error

