"""Evaluate a run or a model on held-out problems.    python evaluate.py [run or model] [key=value ...]

Without an argument, the run that was trained last. Measured are the three things that SPARK trains, on the evaluated
model's own answers: solving (one answer, and several), judging (right or wrong, one of two, and how sure), and
what judging and reflecting gain at test time for the tokens that they cost. docs/metrics.md defines every figure.

    <run>/eval-<name>/       for a model that is no run: runs/eval-<model>-<name>/
        results.json  report.md  *.png  report.html (the figures, each with what was said behind it)
        predictions.jsonl (every prompt and response)  settings.json

The same command goes on where it was stopped. Other settings, or other weights, get a folder of their own.
"""

import dataclasses
import gc
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from spark_lib.clock import Clock
from spark_lib.config import Config, ConfigError, load_config
from spark_lib.data.load import load_problems
from spark_lib.evaluation import assessment, benchmarks, metrics, report
from spark_lib.evaluation.predictions import Predictions
from spark_lib.evaluation.settings import Evaluation, load_evaluation
from spark_lib.evaluation.skills import examples
from spark_lib.help import asked_for
from spark_lib.model import vision
from spark_lib.model.checkpoints import load_trained, read_json, write
from spark_lib.model.fit import refuse_unfit
from spark_lib.model.lean import keep_freed_memory
from spark_lib.model.load import shape_of
from spark_lib.problem import Problem
from spark_lib.rewards import load_rule
from spark_lib.sampling.roll import Sampler
from spark_lib.stopping import run_script
from spark_lib.view import write_page
from spark_lib.view.rows import keep_pictures

Sets = dict[str, list[Problem]]  # the problems by the name of their data or benchmark


def latest_run() -> str:
    """The run whose last checkpoint is the newest. Raises ConfigError if there is none."""
    checkpoints = sorted(Path("runs").glob("*/checkpoint-*/state.json"), key=lambda path: path.stat().st_mtime)
    if not checkpoints:
        raise ConfigError("there is no run to evaluate yet; train one, or name a model: python evaluate.py starter")
    return str(checkpoints[-1].parents[1])


def is_run(target: str) -> bool:
    return (Path(target) / "config.yaml").is_file()


def config_of(target: str, settings: Evaluation) -> Config:
    """How the evaluated run was trained (for a model: the defaults), with what the settings change."""
    config = load_config([str(Path(target) / "config.yaml")]) if is_run(target) else Config(model=target)
    if settings.view:
        config.recycle.view = settings.view
    names = ("data", "temperature", "max_new_tokens", "max_pixels", "verifier")
    given = {name: getattr(settings, name) for name in names if getattr(settings, name) is not None}
    # Runs of different seeds are evaluated with the same numbers; where one was sampled does not matter any more.
    return dataclasses.replace(config, seed=0, vllm=settings.vllm, **given)


def problem_sets(settings: Evaluation, config: Config) -> tuple[Sets, dict[str, list[str]]]:
    """(problems by name, what the report has to say about them by name). Raises ConfigError."""
    if not settings.suite and not settings.benchmarks:
        problems = load_problems(config.data, settings.split, limit=settings.limit, fields=config.fields,
                                 options=config.data_options, check=config.verifier is None)
        return {Path(config.data).stem: problems}, {}
    names = benchmarks.chosen(settings.suite, settings.benchmarks)
    for target in filter(None, (settings.model, settings.baseline)):
        if not vision.sees_images(shape_of(config_of(target, settings).model)):
            benchmarks.refuse_without_vision(names)
    sets, notes = {}, {}
    for name in names:
        sets[name], lost = benchmarks.reachable(
            name, benchmarks.load_benchmark(name, settings.data_dir, settings.limit)
        )
        notes[name] = benchmarks.notes(name, lost)
        if not sets[name]:
            raise ConfigError(f"benchmarks: {name} has no problem left. {notes[name][-1]}")
    return sets, notes


def fingerprint(model) -> str:
    """A short name for the weights, from the first values of each tensor: predictions of others are never taken up."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(repr((name, tuple(parameter.shape), parameter.detach().flatten()[:64].tolist())).encode())
    return digest.hexdigest()[:16]


def identity(settings: Evaluation, config: Config, sets: Sets, model) -> dict:
    """All that the predictions depend on."""
    asked = repr([(name, p.prompt, p.answer, p.choices, *map(vision.content_key, vision.images_of(p)),
                   *p.context, *p.also)
                  for name, problems in sets.items() for p in problems])
    names = ("parts", "seeds", "samples", "rounds", "accept", "threshold", "early_stop")
    return {
        **{name: getattr(settings, name) for name in names}, "view": config.recycle.view,
        "right_at": config.recycle.right_at, "temperature": config.temperature, "verifier": config.verifier,
        "max_new_tokens": config.max_new_tokens, "max_pixels": config.max_pixels, "weights": fingerprint(model),
        "problems": hashlib.sha256(asked.encode()).hexdigest()[:16], **({"sampler": "vllm"} if config.vllm else {}),
        **({} if settings.greedy else {"greedy": False}),
    }


def folder_of(target: str, name: str, wanted: dict) -> Path:
    """The folder where this evaluation was begun, else a new one, with -2, -3 … if the name is taken."""
    parent, stem = Path("runs"), f"eval-{Path(target).stem}-{name}"
    if is_run(target):
        parent, stem = Path(target), f"eval-{name}"
    number = 1
    while True:
        folder = parent / (stem if number == 1 else f"{stem}-{number}")
        settings = folder / "settings.json"
        folder.mkdir(parents=True, exist_ok=True)
        if all(path.suffix == ".partial" for path in folder.iterdir()):  # new, or a stop left no more than the folder
            write(settings, json.dumps(wanted, indent=1))
        if settings.is_file() and read_json(settings) == wanted:
            return folder
        number += 1


@dataclass
class Evaluated:
    """One model's evaluation. tallies and stories are by the name of the problems, as is results["benchmarks"]."""

    folder: Path
    results: dict
    tallies: dict[str, assessment.Tallies]
    stories: dict[str, list[dict]]


def evaluate(
    target: str, sets: Sets, settings: Evaluation, config: Config, accelerator: Accelerator
) -> Evaluated:
    """Ask the model everything that is not yet in its predictions.jsonl, and count."""
    model, tokenizer = load_trained(target, accelerator.device, settings.quantization, config.max_pixels)
    keep_freed_memory()
    refuse_unfit(model, tokenizer, target, together=bool({"judge", "reflect"} & set(settings.parts)))
    name = settings.name or settings.suite or "-".join(sets)
    wanted = identity(settings, config, sets, model)
    found = [folder_of(target, name, wanted) if accelerator.is_main_process else None]
    folder = broadcast_object_list(found)[0]
    if accelerator.is_main_process:
        print(f"evaluating {target}: {folder}")
    clock, rule = Clock(), load_rule(config.verifier) if config.verifier else None

    sampler = Sampler(model, tokenizer, config, accelerator, rule, clock)
    sampler.start(folder)

    def roll(problems: list[Problem], n: int, stage: str, temperature: float, part: range):
        # The same Sampler throughout: it knows how many responses fit the memory, and which prompts were too long.
        sampler.config, sampler.rule = dataclasses.replace(config, temperature=temperature), rule
        return sampler(problems, n, ("evaluation", stage), settings.batch, part=part, whole=True)

    predict = Predictions(folder / "predictions.jsonl", roll, model, tokenizer, config, accelerator, settings.batch)
    done = Evaluated(folder, {"target": target, "settings": wanted}, {}, {})
    right_at = config.recycle.right_at
    from_table = bool(settings.suite or settings.benchmarks)  # a data file of the user's may have a benchmark's name
    for name, problems in sets.items():
        asked = settings
        if from_table:
            rule = benchmarks.rule_of(name)  # which `roll` marks by from here on
            if benchmarks.BENCHMARKS[name].suite == "reward":  # its problems are judgements already
                asked = dataclasses.replace(settings, parts=[])
        said = [assessment.listen(problems, predict, name, seed, asked, config) for seed in settings.seeds]
        figures = {"n": len(problems)} | assessment.figures(assessment.together(said), right_at)
        if len(said) > 1:
            figures["seeds"] = {seed: assessment.figures(one, right_at) for seed, one in zip(settings.seeds, said)}
        done.tallies[name] = assessment.tallies(said, right_at)
        figures["intervals"] = {what: metrics.bootstrap(tally) for what, tally in done.tallies[name].items()}
        if from_table:
            # An answer that was cut off counts as none, here as everywhere.
            texts = [answer.text if answer.finished else "" for answer in said[0].answers]
            figures["score"] = benchmarks.score(name, problems, texts)
            done.results.setdefault("benchmarks", {})[name] = figures
        else:
            done.results |= figures
        done.stories[name] = examples(said[0].turns, right_at)
    sampler.stop()
    if len(scores := [one["score"]["accuracy"] for one in done.results.get("benchmarks", {}).values()]) > 1:
        done.results["average"] = metrics.mean(scores)
    return done


def compare(tallies: assessment.Tallies, baseline: assessment.Tallies) -> dict[str, dict]:
    """The accuracies of both and their difference with its paired bootstrap 95 % interval, over the problems."""
    found = {}
    for name in tallies:
        ours, theirs = metrics.rate(tallies[name]), metrics.rate(baseline.get(name, []))
        if ours is not None and theirs is not None:
            low, high = metrics.bootstrap(tallies[name], baseline[name])
            found[name] = {"value": ours, "baseline": theirs, "difference": ours - theirs, "low": low, "high": high}
    return found


def main(argv: list[str]) -> None:
    if text := asked_for(argv, Evaluation):
        return print(text)
    settings = load_evaluation(argv)
    settings.model = settings.model or latest_run()
    if settings.quantization != "none" and all(is_run(name) for name in (settings.model, settings.baseline) if name):
        raise ConfigError("quantization: is for plain models; a run is evaluated on the base that it was trained on")
    config = config_of(settings.model, settings)
    sets, notes = problem_sets(settings, config)
    accelerator = Accelerator()
    done = evaluate(settings.model, sets, settings, config, accelerator)
    differences = {}
    if settings.baseline:
        gc.collect()  # the first model's memory is for the second
        other = evaluate(settings.baseline, sets, settings, config, accelerator)
        differences = {name: compare(done.tallies[name], other.tallies[name]) for name in sets}
        done.results["baseline"] = {"target": settings.baseline, "folder": str(other.folder), "difference": differences}
    if accelerator.is_main_process:
        done.results["notes"] = notes
        write(done.folder / "results.json", json.dumps(done.results, indent=1))
        text = report.write_report(done.folder, settings, done, differences)
        keep_pictures(done.folder, [problem for problems in sets.values() for problem in problems])
        print(f"{text}\nreport: {done.folder}/report.md, and to be opened in a browser: {write_page(done.folder)}")


if __name__ == "__main__":
    run_script(main)
