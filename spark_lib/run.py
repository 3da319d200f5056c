"""A run's folder and its course: steps, metrics, seconds by phase, stopping and going on.

    runs/<name>/  config.yaml · metrics.jsonl (a line per step) · timings.jsonl (the same, in seconds) · samples.jsonl
                  judge_set.json · before.json · after.json · checkpoint-<step>/ · summary.json · report.md, .png

metrics.jsonl and samples.jsonl hold nothing that depends on the clock, so that a resumed run writes the same bytes.
"""

import contextlib
import json
import signal
import time
from collections import defaultdict
from pathlib import Path

from accelerate.utils import broadcast_object_list, gather_object
from omegaconf import OmegaConf

from spark_lib import progress, report
from spark_lib.model.checkpoints import last_checkpoint, load_checkpoint, save_checkpoint, write
from spark_lib.problem import KINDS
from spark_lib.rewards import said
from spark_lib.rollout import Rollout


class Clock:
    """Seconds by phase. `with clock("sample"): …` adds to that phase; inside `with clock.only("evaluate"): …`
    everything counts as that one phase, so that training and evaluation are told apart."""

    def __init__(self):
        self.seconds: dict[str, float] = defaultdict(float)
        self.override: str | None = None

    @contextlib.contextmanager
    def __call__(self, phase: str):
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[self.override or phase] += time.perf_counter() - start

    @contextlib.contextmanager
    def only(self, phase: str):
        self.override = phase
        try:
            yield
        finally:
            self.override = None


def step_metrics(groups: list[list[Rollout]]) -> dict[str, float]:
    """What a step's rollouts say, by kind; docs/metrics.md defines each name."""
    metrics = {}
    for kind in KINDS:
        of_kind = [group for group in groups if group[0].problem.kind == kind]
        if not of_kind:
            continue
        flat = [r for group in of_kind for r in group]
        flat_groups = [group for group in of_kind if len({r.reward for r in group}) == 1]
        metrics[f"{kind}/reward"] = sum(r.reward for r in flat) / len(flat)
        metrics[f"{kind}/frac_reward_zero_std"] = len(flat_groups) / len(of_kind)
        metrics[f"{kind}/truncated"] = sum(not r.finished for r in flat) / len(flat)
        metrics[f"{kind}/tokens"] = sum(len(r.response_ids) for r in flat)
        if any(r.truth is not None for r in flat):  # the marks are not the verifier's: how they agree with it
            for name, truth in (("true", 1), ("false", 0)):
                if marks := [r.reward for r in flat if r.truth == truth]:
                    metrics[f"{kind}/{name}_positive_rate"] = sum(marks) / len(marks)
        if kind in ("pointwise", "pairwise"):
            yes = "Yes" if kind == "pointwise" else "A"
            metrics[f"{kind}/said_{yes.lower()}"] = said(yes, flat)
            for gold in sorted({r.problem.answer for r in flat}):
                rewards = [r.reward for r in flat if r.problem.answer == gold]
                metrics[f"{kind}/accuracy_{gold.lower()}"] = sum(rewards) / len(rewards)
    return metrics


def new_folder(name: str) -> Path:
    """runs/<name>, or with -2, -3 … where that exists: a run never writes into another one's folder."""
    number = 1
    while True:
        folder = Path("runs") / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1


def read_lines(path: Path, before_step: int | None = None) -> list[dict]:
    """The rows of a .jsonl file, those of earlier steps only; a last line cut short by a kill is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    rows = [json.loads(line) for line in lines if line]
    return [row for row in rows if before_step is None or row["step"] < before_step]


class Run:
    """Use as a context manager around training: the first Ctrl-C then ends the run after the present step, with a
    checkpoint; a second one at once."""

    def __init__(self, spark):
        """spark: model, tokenizer, optimizer, config, accelerator and clock; a resumed run's checkpoint goes in."""
        self.spark, self.clock = spark, spark.clock
        self.config, self.accelerator = config, accelerator = spark.config, spark.accelerator
        self.main = accelerator.is_main_process
        name = [str(Path(config.resume) if config.resume else new_folder(config.run_name)) if self.main else None]
        self.folder = Path(broadcast_object_list(name)[0])
        self.done, self.sampled_tokens, self.stopping = 0, 0, False
        self.warned: set[str] = set()
        if self.main and not config.resume:
            OmegaConf.save(OmegaConf.structured(config), self.folder / "config.yaml")
        if config.log_with:
            accelerator.init_trackers(self.folder.name, config=report.flat(config))
        if checkpoint := last_checkpoint(self.folder):
            state = load_checkpoint(checkpoint, spark.model, spark.optimizer)
            self.done, self.sampled_tokens = state["step"], state["sampled_tokens"]
            self.clock.seconds.update(state["seconds"])

    def __enter__(self) -> "Run":
        self.say(f"run folder: {self.folder}" + (f", going on after {self.done} steps" if self.config.resume else ""))
        self.previous_handler = signal.signal(signal.SIGINT, self.interrupt)
        return self

    def __exit__(self, *_) -> None:
        signal.signal(signal.SIGINT, self.previous_handler)
        self.accelerator.end_training()

    def interrupt(self, *_) -> None:
        if self.stopping:
            raise KeyboardInterrupt
        self.stopping = True
        self.say("stopping after this step with a checkpoint; Ctrl-C again stops at once")

    def say(self, text: str) -> None:
        if self.main:
            progress.say(text)

    def once(self, name: str, make):
        """The content of <folder>/<name>.json, made at the first time only: a resumed run is asked the same."""
        path = self.folder / f"{name}.json"
        if path.exists():
            return json.loads(path.read_text(encoding="utf-8"))
        content = make()
        if self.main:
            write(path, json.dumps(content, indent=1))
        return content

    def steps(self):
        """The steps still to do, with a progress bar; ends early at max_sampled_tokens or on Ctrl-C."""
        if self.main:  # lines written after the checkpoint are taken back, as their steps are done again
            for name in ("metrics", "timings", "samples"):
                rows = read_lines(self.folder / f"{name}.jsonl", before_step=self.done)
                write(self.folder / f"{name}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        self.say(report.legend(self.config.max_steps - self.done))
        limit = self.config.max_sampled_tokens or float("inf")
        with progress.bar("training", self.config.max_steps, "step", self.done, announce=False) as self.bar:
            while self.done < self.config.max_steps and self.sampled_tokens < limit:
                self.stopping = any(gather_object([self.stopping]))  # all processes leave at the same step
                if self.stopping:
                    return
                self.seconds_before = dict(self.clock.seconds)
                yield self.done

    @property
    def progress(self) -> float:
        """The part of the run that is done: of its steps, or of its sampled tokens if that is more."""
        limit = self.config.max_sampled_tokens or float("inf")
        return min(1.0, max(self.done / self.config.max_steps, self.sampled_tokens / limit))

    def log(self, groups: list[list[Rollout]], learned: dict[str, float]) -> None:
        """Count the step as done and write its metrics, seconds and one sample of each kind."""
        tokens = sum(len(r.response_ids) for group in groups for r in group) + self.spark.roll.unlogged
        self.spark.roll.unlogged = 0
        self.sampled_tokens += tokens
        metrics = step_metrics(groups) | learned | {"sampled_tokens": self.sampled_tokens}
        step, self.done = self.done, self.done + 1
        if not self.main:
            return
        seconds = {k: v - self.seconds_before.get(k, 0.0) for k, v in self.clock.seconds.items()}
        seconds = {phase: seconds.get(phase, 0.0) for phase in ("sample", "verify", "train")}
        speed = {"tokens_per_second": tokens / seconds["sample"]}
        self.append("metrics", {"step": step} | metrics)
        self.append("timings", {"step": step} | seconds | speed)
        for kind, group in {group[0].problem.kind: group for group in reversed(groups)}.items():
            shown = {"prompt": group[0].problem.prompt, "answer": group[0].problem.answer}
            responses = [{"text": r.text, "reward": r.reward, "finished": r.finished} for r in group]
            self.append("samples", {"step": step, "kind": kind} | shown | {"responses": responses})
        if self.config.log_with:
            self.accelerator.log(metrics | {f"seconds/{k}": v for k, v in seconds.items()} | speed, step=step)
        self.bar.update()
        self.bar.set_postfix_str(report.progress(metrics, seconds | speed, wide=False))
        if step % 10 == 0:
            self.say(f"step {step:3d}  {report.progress(metrics, seconds | speed)}")
        for warning in report.warnings(metrics, self.config):
            self.warn(warning)

    def append(self, name: str, row: dict) -> None:
        with open(self.folder / f"{name}.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def warn(self, text: str) -> None:
        """Say it once a run."""
        if text not in self.warned:
            self.warned.add(text)
            self.say(f"note: {text}")

    def save(self) -> None:
        """A checkpoint of the steps done so far, if there is none yet."""
        if self.main and not (self.folder / f"checkpoint-{self.done}").exists():
            base = {"model": self.config.model, "quantization": self.config.quantization}
            state = base | {"sampled_tokens": self.sampled_tokens, "seconds": self.clock.seconds}
            save_checkpoint(self.folder, self.done, self.spark, state)
        self.accelerator.wait_for_everyone()

    def finish(self, before: dict, after: dict) -> None:
        """Write summary.json, report.md and report.png, and print the table."""
        if not self.main:
            return
        seconds = dict(self.clock.seconds) | {"total": sum(self.clock.seconds.values())}
        summary = {
            "before": before["skills"], "after": after["skills"], "steps": self.done,
            "sampled_tokens": self.sampled_tokens, "seconds": seconds,
        }
        write(self.folder / "after.json", json.dumps(after, indent=1))
        write(self.folder / "summary.json", json.dumps(summary, indent=1))
        examples = {"before": before["examples"], "after": after["examples"]} if after["skills"] else {}
        report.write_report(self.folder, self.config, summary, read_lines(self.folder / "metrics.jsonl"), examples)
        if after["skills"]:
            story = report.transcript(after["examples"][0])
            self.say("\n".join(["", *filter(None, story), ""]))
            self.say(report.table({"before": before["skills"], "after": after["skills"]}))
        self.say(report.spent(summary))
        self.say(report.how_to_use(self.folder, self.config))
