"""What a study found: a figure of each run, its spread over seeds, and differences that are paired.

A run's results are one tree: before and after (skills, see evaluation/skills.py), steps, sampled_tokens, seconds by
phase, and under `evaluations` every results.json by its name. A column names a place in it: after.tts.2.
"""

import hashlib
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy
from omegaconf import OmegaConf
from scipy import stats

from spark_lib.config import ConfigError
from spark_lib.study.plan import Planned, Study, evaluation_name

WHOLE = ("steps", "sampled_tokens", "seconds", "memory")  # figures that are no fractions
JUDGED = ("pointwise", "pairwise", "reflection")  # skills whose problems are the run's own judge set
QUESTIONS = ("data", "data_options", "fields", "eval.split", "eval.limit")  # keys that say what is held out


@dataclass
class Outcome:
    """One run's results, and the marks by problem behind its skills (name -> one number per held-out problem).
    questions, judge_set: what it was asked; only the marks of runs with the same can be paired by problem."""

    setting: str
    seed: int
    results: dict
    marks: dict[str, list[float | None]]
    questions: str = ""
    judge_set: str = ""


def outcomes(study: Study, runs: list[Planned]) -> list[Outcome]:
    """Of all runs that have ended, in their order; where asked for, "before" is a setting of its own."""
    found = []
    for run in runs:
        if not (run.folder / "summary.json").exists():
            continue
        results = json.loads((run.folder / "summary.json").read_text(encoding="utf-8"))
        evaluations = {}
        for name in study.evaluate:
            file = run.folder / f"eval-{evaluation_name(study, name)}" / "results.json"
            if file.exists():
                evaluations[name] = json.loads(file.read_text(encoding="utf-8"))
        results["evaluations"] = evaluations
        marks = {when: json.loads((run.folder / f"{when}.json").read_text(encoding="utf-8")).get("marks", {})
                 for when in ("before", "after")}
        asked = questions_of(run.folder), judge_set_of(run.folder)
        found.append(Outcome(run.setting, run.seed, results, marks["after"], *asked))
        if run.setting == next(iter(study.settings)):  # the same for every setting: shown once
            start = results | {"after": results["before"], "evaluations": {}, "steps": 0, "sampled_tokens": 0,
                               "seconds": {}, "memory": {}}
            found.append(Outcome("before", run.seed, start, marks["before"], *asked))
    return found


def questions_of(folder: Path) -> str:
    """What a run's config says of its held-out problems; read as it stands, as an old run may lack keys or have some
    that are gone."""
    file = folder / "config.yaml"
    config = OmegaConf.load(file) if file.exists() else OmegaConf.create()
    return repr({key: value for key in QUESTIONS if (value := OmegaConf.select(config, key))})


def judge_set_of(folder: Path) -> str:
    """A digest of a run's judge problems; "" where they were not kept."""
    file = folder / "judge_set.json"
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else ""


def same_problems(first: Outcome, second: Outcome, skill: str) -> bool:
    """Whether both were asked the same. Keys such as recycle.view, temperature or max_new_tokens make another judge
    set of the same questions, whose k-th problem has nothing to do with the other's."""
    return first.questions == second.questions and (skill not in JUDGED or first.judge_set == second.judge_set)


def figure_at(results: dict, place: str) -> float | None:
    """The number at a dotted place; None where there is nothing there."""
    value = results
    for part in place.split("."):
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.lstrip("-").isdecimal() and -len(value) <= int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    if value is not None and not isinstance(value, int | float):
        raise ConfigError(f"columns: {place} is no number but {str(value)[:60]}")
    return value


def is_share(place: str) -> bool:
    """Whether a column is shown in percent."""
    return place.split(".")[0] not in WHOLE and "tokens" not in place.split(".")


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation over seeds; no deviation for one seed."""
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None


def interval(difference: numpy.ndarray, resamples: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean of differences (seeds, problems), both of which are drawn anew.

    Two settings are asked the same problems with the same seeds, so that what is hard for both, and a seed's luck
    with its start, cancel out. Seeds and problems are drawn with putting back, independently of each other: the
    "pigeonhole" bootstrap of crossed random effects (Owen 2007). NaN: no mark there. Three seeds are few: with them the
    interval says little of what a fourth would do.
    """
    generator = numpy.random.default_rng(seed)
    seeds, problems = difference.shape
    known = ~numpy.isnan(difference)
    filled = numpy.where(known, difference, 0.0)
    # How often each seed and each problem is drawn: sums of products are then two matrix products.
    of_seeds = generator.multinomial(seeds, [1 / seeds] * seeds, resamples)
    of_problems = generator.multinomial(problems, [1 / problems] * problems, resamples)
    sums = ((of_seeds @ filled) * of_problems).sum(1)
    counts = ((of_seeds @ known) * of_problems).sum(1)
    with numpy.errstate(invalid="ignore"):
        low, high = numpy.nanpercentile(sums / counts, [2.5, 97.5])
    return float(low), float(high)


def over_seeds(differences: Sequence[float]) -> tuple[float, float] | None:
    """95 % interval of the mean of some seeds' differences, by Student's t; None for a single seed."""
    if len(differences) < 2:
        return None
    mean, spread = mean_and_deviation(differences)
    half = stats.t.ppf(0.975, len(differences) - 1) * spread / len(differences) ** 0.5
    return mean - half, mean + half


@dataclass
class Difference:
    """first - second: by seed, their mean, and a 95 % interval; over: what was drawn anew for it."""

    column: str
    first: str
    second: str
    by_seed: dict[int, float]
    mean: float
    low: float | None
    high: float | None
    over: str


def difference(column: str, place: str, first: list[Outcome], second: list[Outcome]) -> Difference | None:
    """Of the seeds that both have; None where they share none or the figure is missing."""
    pairs = [(a, b) for a in first for b in second if a.seed == b.seed]
    values = [(figure_at(a.results, place), figure_at(b.results, place)) for a, b in pairs]
    kept = [(a, b, x - y) for (a, b), (x, y) in zip(pairs, values) if x is not None and y is not None]
    if not kept:
        return None
    by_seed = {a.seed: value for a, _, value in kept}
    mean = statistics.mean(by_seed.values())
    name = place.removeprefix("after.")
    marks = [(a.marks.get(name), b.marks.get(name)) for a, b, _ in kept]
    same = all(same_problems(a, b, name) for a, b, _ in kept)
    if place.startswith("after.") and same and all(x and y and len(x) == len(y) for x, y in marks):
        longest = max(len(x) for x, _ in marks)  # a seed's judge set may be a little smaller
        differences = numpy.full((len(marks), longest), numpy.nan)
        for row, (x, y) in zip(differences, marks):
            row[: len(x)] = numpy.array(x, float) - numpy.array(y, float)
        low, high = interval(differences)
        # A skill that is no plain mean of its marks (balanced accuracy) keeps its own mean.
        shift = mean - float(numpy.nanmean(differences))
        return Difference(column, first[0].setting, second[0].setting, by_seed, mean, low + shift, high + shift,
                          "seeds and problems")
    low, high = over_seeds(list(by_seed.values())) or (None, None)
    return Difference(column, first[0].setting, second[0].setting, by_seed, mean, low, high, "seeds")
