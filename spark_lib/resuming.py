"""Going on with a stopped run: which keys may change, and which checkpoint is taken up.

A run is one experiment: what its steps before and after the stop must have in common may not change on the way, as
the kept files (metrics, judge set, the evaluation before) would then be about two. The rest is recorded in
runs/<name>/changes.jsonl and from then on in its config.yaml. docs/reliability.md has the list with the reasons.
"""

import dataclasses
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from spark_lib.config import Config, ConfigError, leaves, load_config
from spark_lib.model.checkpoints import checkpoints, drop_old, load_checkpoint, write
from spark_lib.model.finite import refuse_broken_model

# How long and how the run goes on, and what tames one that diverges; none of them changes what is learned from what.
MAY_CHANGE = {
    "max_steps", "max_sampled_tokens", "max_seconds", "save_every", "merge", "record", "log_with", "plan", "card",
    "max_rows", "eval.max_rows", "micro_batch_tokens", "activation_checkpointing", "dense_sampling", "vllm",
    "lr", "lr_schedule", "warmup_steps", "max_grad_norm", "beta", "clip", "importance_cap",
}


def values(config: Config) -> dict[str, object]:
    """Every key by its dotted name; those of a section that is null are left out, and the section itself is there."""
    found = {}
    for name in leaves():
        value, parts = config, name.split(".")
        for i, part in enumerate(parts):
            value = getattr(value, part)
            if value is None:
                found[".".join(parts[: i + 1])] = None
                break
        else:
            found[name] = value
    return found


def changes(config: Config) -> dict[str, tuple[object, object]]:
    """{key: (value in the folder's config.yaml, value now)} of a resumed run."""
    if not config.resume:
        return {}
    old, new = values(load_config([f"resume={config.resume}"])), values(config)
    return {name: (old.get(name), new.get(name)) for name in [*new, *(old.keys() - new.keys())]
            if name != "resume" and old.get(name) != new.get(name)}


def refuse_changes(config: Config) -> None:
    """Raise ConfigError, naming them, if keys were changed that would make the resumed run another one."""
    fixed = {name: pair for name, pair in changes(config).items() if name not in MAY_CHANGE}
    if fixed:
        told = ", ".join(f"{name} (from {old} to {new})" for name, (old, new) in fixed.items())
        raise ConfigError(f"resume: a run goes on with what it began with, and this would change {told}. Leave it out, "
                          f"or start a new run. May change: {', '.join(sorted(MAY_CHANGE))}")


def last_state(spark, run: Path, say: Callable[[str], None]) -> dict | None:
    """Load the last checkpoint that is whole and finite into the model and the optimiser and return its state; None if
    the run has none at all. One that is not is told and renamed to broken-checkpoint-<step>, after which the run
    writes its own again. Raises ConfigError if none is left."""
    found, reasons = checkpoints(run), []
    for checkpoint in reversed(found):
        try:
            state = load_checkpoint(checkpoint, spark.model, spark.optimizer)
            refuse_broken_model(spark.model, spark.tokenizer, str(checkpoint), weights=False)
        except ConfigError as error:
            reasons.append(error)
            continue
        for broken, reason in zip(reversed(found), reasons):
            say(f"note: going on from {checkpoint.name}, as {broken.name} cannot be used: {reason} "
                '(docs/reliability.md, "What survives what")')
        spark.accelerator.wait_for_everyone()  # all have read before one renames
        if spark.accelerator.is_main_process:
            for broken in found[len(found) - len(reasons):]:
                aside = broken.with_name(f"broken-{broken.name}")
                shutil.rmtree(aside, ignore_errors=True)
                broken.rename(aside)
        return state
    if reasons:
        raise ConfigError(f"resume: no checkpoint of {run} can be used. {reasons[0]}. To begin it anew, delete its "
                          "checkpoints and resume it again")
    return None


def claim(folder: Path) -> FileLock:
    """Hold the run's folder as long as this process lives, or until the lock is released. Raises ConfigError where
    another process has it: two that go on with one run would take turns in writing its files."""
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise ConfigError(f"{folder}: another process is at work on this run; wait for its end, or end it") from error
    except (OSError, NotImplementedError) as error:
        logging.getLogger(__name__).warning("%s cannot be locked (%s): do not resume it twice at once", folder, error)
    return lock


def tidy(folder: Path) -> None:
    """Take away what a kill left half written (the whole files have other names) or not yet deleted. Comes after
    last_state, which leaves no broken checkpoint behind the one that is gone on from."""
    drop_old(folder)
    for left in folder.glob("*.partial"):
        shutil.rmtree(left) if left.is_dir() else left.unlink()


def write_config(folder: Path, config: Config) -> None:
    write(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.structured(dataclasses.replace(config, resume=None))))


def record_changes(folder: Path, config: Config, step: int, changed: dict[str, tuple]) -> None:
    """Write to changes.jsonl which keys a resumed run changed before which step, and the new config.yaml."""
    row = {"step": step} | {name: [str(value) for value in pair] for name, pair in changed.items()}
    with open(folder / "changes.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    write_config(folder, config)
