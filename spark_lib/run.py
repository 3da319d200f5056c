"""A run's folder and its course: steps, metrics, seconds by phase, stopping and going on.

    runs/<name>/  config.yaml · metrics.jsonl (a line per step) · timings.jsonl (the same, in seconds)
                  rollouts.jsonl.gz (all that was said) · judge_set.json · before.json · after.json
                  checkpoint-<step>/ · summary.json · report.md, .png, .html
                  where there were any: skipped.jsonl (steps that were not finite) · changes.jsonl (keys, on resuming)

metrics.jsonl and rollouts.jsonl.gz hold nothing that depends on the clock, so that a resumed run writes the same bytes.
"""

import contextlib
import json
from pathlib import Path

from accelerate.utils import broadcast_object_list, gather_object

from spark_lib import progress, report, stopping
from spark_lib.config import ConfigError
from spark_lib.model.checkpoints import (
    checkpoints,
    flush,
    how_to_use,
    read_json,
    save_checkpoint,
    warm_base,
    write,
)
from spark_lib.model.finite import MOST_SKIPPED, REMEDIES, NotFinite
from spark_lib.problem import KINDS
from spark_lib.resuming import changes, claim, last_state, record_changes, tidy, write_config
from spark_lib.rewards import said
from spark_lib.rollout import Rollout
from spark_lib.view import record
from spark_lib.view.page import write_run
from spark_lib.view.rows import speller, step_row

LOGS = ("metrics", "timings", "skipped")


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
            Path("runs").mkdir(exist_ok=True)
            folder.mkdir(parents=True)
            return folder
        except FileExistsError as error:
            if not Path("runs").is_dir():
                raise ConfigError("runs: it is a file, and a run's folder goes into a folder of that name; move it, or "
                                  "start from another folder") from error
            number += 1
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot make the run's folder {folder}: {getattr(error, 'strerror', error)}") from error


def read_lines(path: Path, before_step: int | None = None) -> list[dict]:
    """The rows of a .jsonl file, those of earlier steps only; a last line cut short by a kill is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    try:
        rows = [json.loads(line) for line in lines if line]
    except ValueError as error:
        raise ConfigError(f"{path}: a line in it is damaged ({error}); take that line out") from error
    return [row for row in rows if before_step is None or row["step"] < before_step]


class Run:
    """Use as a context manager around training: the first Ctrl-C or SIGTERM then ends the run with a checkpoint, after
    the present step or else at once; a second one at once."""

    def __init__(self, spark):
        """spark: model, tokenizer, optimizer, config, accelerator and clock; a resumed run's checkpoint goes in."""
        self.spark, self.clock = spark, spark.clock
        self.config, self.accelerator = config, accelerator = spark.config, spark.accelerator
        self.main = accelerator.is_main_process
        name = [str(Path(config.resume) if config.resume else new_folder(config.run_name)) if self.main else None]
        self.folder = Path(broadcast_object_list(name)[0])
        self.done, self.sampled_tokens, self.seconds = 0, 0, 0.0
        self.skipped = 0  # steps in a row whose update was not finite
        self.stop = stopping.Stop(alone=accelerator.num_processes == 1)
        self.warming = bool(config.warmup.data) and not warm_base(config.resume)  # until the warmed model is in place
        self.warned: set[str] = set()
        self.spell = speller(spark.tokenizer)
        with contextlib.ExitStack() as held:  # what cannot begin lets go of the folder
            if self.main:
                held.callback(claim(self.folder).release)
            self.take_up(changes(config))
            self.held = held.pop_all()

    def take_up(self, changed: dict) -> None:
        """Begin the folder's files or go on with them; changed: the keys that a resumed run changes."""
        spark, config, accelerator = self.spark, self.config, self.accelerator
        if self.main and not config.resume:
            write_config(self.folder, config)
        if config.log_with:
            accelerator.init_trackers(self.folder.name, config=report.flat(config))
        if state := last_state(spark, self.folder, self.say):
            self.done, self.sampled_tokens = state["step"], state["sampled_tokens"]
            self.clock.seconds.update(state["seconds"])
            self.count_seconds()
        for row in read_lines(self.folder / "metrics.jsonl", before_step=self.done):
            self.count_skipped(row)
        if self.main:
            tidy(self.folder)
        if self.main and changed:
            record_changes(self.folder, config, self.done, changed)

    def __enter__(self) -> "Run":
        self.say(f"run folder: {self.folder}" + (f", going on after {self.done} steps" if self.config.resume else ""))
        self.stop.__enter__()
        return self

    def __exit__(self, kind, error, _) -> bool:
        """Say how to go on where the run is not at its end, which after a signal is no error."""
        try:
            if self.stop.wished(kind):
                self.save()
                if not self.finished:
                    self.say(f"stopped after {self.done} steps; go on with: {stopping.go_on(self.folder)}")
                self.stop.leave()
                return True
            if isinstance(error, ConfigError | OSError):
                names = [path.name for path in checkpoints(self.folder)]
                start = f"from {names[-1]}" if names else "from the start"
                older = f" (delete it to go on from {names[-2]})" if len(names) > 1 else ""
                self.say(f"to go on {start}{older} once that is mended: {stopping.go_on(self.folder)}")
            if isinstance(error, OSError):
                raise stopping.disk_error(error, self.folder) from error
            return False
        finally:
            self.stop.__exit__()
            self.spark.roll.stop()
            self.held.close()
            self.accelerator.end_training()

    @property
    def stopping(self) -> bool:
        return bool(self.stop.signum)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do, as of a resumed run that had come to its end."""
        summary = self.folder / "summary.json"
        return summary.exists() and not self.steps_left and (not self.config.merge or (self.folder / "merged").exists())

    @property
    def steps_left(self) -> bool:
        return self.progress < 1

    def say(self, text: str) -> None:
        if self.main:
            progress.say(text)

    def once(self, name: str, make):
        """The content of <folder>/<name>.json, made at the first time only: a resumed run is asked the same."""
        path = self.folder / f"{name}.json"
        if path.exists():
            return read_json(path)
        content = make()
        if self.main:
            write(path, json.dumps(content, indent=1))
        return content

    def steps(self):
        """The steps still to do, with a progress bar; ends early at max_sampled_tokens, max_seconds or on Ctrl-C."""
        if self.main:  # lines written after the checkpoint are taken back, as their steps are done again
            for name in LOGS:
                path = self.folder / f"{name}.jsonl"
                rows = read_lines(path, before_step=self.done)
                if rows:
                    write(path, "".join(json.dumps(row) + "\n" for row in rows))
                else:
                    path.unlink(missing_ok=True)
            record.cut(self.folder / record.NAME, before_step=self.done)
            if self.finished:
                self.say(f"this run is at its end after {self.done} steps; a larger max_steps goes on with it")
            if self.steps_left:
                (self.folder / "summary.json").unlink(missing_ok=True)  # of a run that goes on beyond its end
        if self.steps_left:
            self.say(report.legend(self.config.max_steps - self.done))
        with progress.bar("training", self.config.max_steps, "step", self.done, announce=False) as self.bar:
            while self.steps_left:
                self.stop.signum = max(gather_object([self.stop.signum]))  # all processes leave at the same step
                if self.stopping:
                    return
                self.seconds_before = dict(self.clock.seconds)
                with self.stop.waiting():
                    yield self.done

    @property
    def progress(self) -> float:
        """The part of the run that is done: of its steps, or of its sampled tokens or its seconds if that is more."""
        parts = ((self.done, self.config.max_steps), (self.sampled_tokens, self.config.max_sampled_tokens),
                 (self.seconds, self.config.max_seconds))
        return min(1.0, max(done / limit for done, limit in parts if limit))

    def log(self, groups: list[list[Rollout]], learned: dict[str, float]) -> None:
        """Count the step as done and write its metrics, its seconds and all that was said."""
        aside = self.spark.roll.set_aside()
        tokens = sum(len(r.response_ids) for group in groups + aside for r in group)
        self.sampled_tokens += tokens
        skipped = learned.pop("skipped", [])
        metrics = step_metrics(groups) | learned | {"sampled_tokens": self.sampled_tokens}
        step, self.done = self.done, self.done + 1
        self.count_seconds()
        self.write_step(step, groups, aside, metrics, tokens, skipped)
        self.count_skipped(metrics)

    def count_seconds(self) -> None:
        """Seconds of all steps so far: of the slowest process, so that all leave at the same step."""
        if self.config.max_seconds:
            self.seconds = max(gather_object([self.clock.training]))

    def count_skipped(self, metrics: dict[str, float]) -> None:
        """Raise NotFinite where too many steps in a row were skipped; those without anything to learn count neither
        way."""
        if metrics["update/rows"]:
            self.skipped = self.skipped + 1 if "update/skipped" in metrics else 0
        if self.skipped == MOST_SKIPPED:
            raise NotFinite(f"the loss or the gradient of {MOST_SKIPPED} steps in a row was NaN or infinite, and the "
                            f"weights are as they were before them: {REMEDIES}")

    def write_step(
        self, step: int, groups: list[list[Rollout]], aside: list[list[Rollout]], metrics: dict[str, float],
        tokens: int, skipped: list[dict],
    ) -> None:
        if not self.main:
            return
        seconds = {k: v - self.seconds_before.get(k, 0.0) for k, v in self.clock.seconds.items()}
        seconds = {phase: seconds.get(phase, 0.0) for phase in ("sample", "verify", "train")}
        speed = {"tokens_per_second": tokens / seconds["sample"]}
        self.append("metrics", {"step": step} | metrics)
        self.append("timings", {"step": step} | seconds | speed)
        if self.config.record and step % self.config.record == 0:
            with self.clock("record"):
                row = step_row(step, groups, self.config, self.spell, aside, taken_back="update/skipped" in metrics)
                record.append(self.folder / record.NAME, row)
        for row in skipped:
            self.append("skipped", {"step": step} | row)
            self.say(f"note: step {step} changes nothing, as its loss is {row['loss']} and its gradient's norm "
                     f"{row['grad_norm']}; {self.folder}/skipped.jsonl has what it was made of "
                     '(docs/nothing-is-learned.md, "Not a number")')
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
        """A checkpoint of the steps done so far, if there is none yet.

        None of a warm-up's middle, from which nothing can go on; and none before the first step of a model without
        adapter: an evaluation that was stopped may hold its weights in another dtype, and they are the base model's."""
        if self.warming or not self.done and not self.config.lora:
            return
        if self.skipped and self.steps_left and not self.stopping:
            return  # nothing was learned since the one before, and a checkpoint more takes the oldest away
        if self.main and not (self.folder / f"checkpoint-{self.done}").exists():
            for path in self.folder.glob("*.jsonl*"):  # the lines of the steps before it
                flush(path)
            base = {"model": self.config.model, "quantization": self.config.quantization}
            state = base | {"sampled_tokens": self.sampled_tokens, "seconds": self.clock.seconds}
            save_checkpoint(self.folder, self.done, self.spark, state)
        self.accelerator.wait_for_everyone()

    def finish(self, before: dict, after: dict) -> None:
        """Write summary.json, report.md, report.png and report.html, and print the table."""
        if not self.main:
            return
        seconds = dict(self.clock.seconds) | {"total": sum(self.clock.seconds.values())}
        summary = {
            "before": before["skills"], "after": after["skills"], "steps": self.done,
            "sampled_tokens": self.sampled_tokens, "seconds": seconds, "memory": self.clock.memory,
        }
        write(self.folder / "after.json", json.dumps(after, indent=1))
        examples = {"before": before["examples"], "after": after["examples"]} if after["skills"] else {}
        report.write_report(self.folder, self.config, summary, read_lines(self.folder / "metrics.jsonl"), examples)
        write_run(self.folder, summary)
        write(self.folder / "summary.json", json.dumps(summary, indent=1))  # last: with it the run is at its end
        if after["skills"]:
            story = report.transcript(after["examples"][0])
            self.say("\n".join(["", *filter(None, story), ""]))
            self.say(report.table({"before": before["skills"], "after": after["skills"]}))
        self.say(report.spent(summary))
        self.say(how_to_use(self.folder, self.config))
