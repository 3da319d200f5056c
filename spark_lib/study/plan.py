"""A study: a question in words, the settings that answer it, and the runs that these are.

    question: Does judging cost solving?                what is asked, for the report
    expects: The paper's Table 2: ...                   what the paper or the literature says
    config: configs/quickstart.yaml                     what all settings share
    budget: {max_sampled_tokens: 400_000}               keys of train.py that end every run
    seeds: [21, 22, 23]
    settings:                                           by name, the keys that differ
      SPARK: {}
      policy-only: {recycle.kinds: []}
    same_tokens: {policy-only: SPARK}                   stops at as many sampled tokens as the other one's run did
    same_seconds: {policy-only: SPARK}                  the same for the seconds of the steps
    scripts: {a judge apart: configs/studies/x.py}      what is run in train.py's place, with the same words
    evaluate: {votes: samples=8 seeds=[0,1]}            evaluations of each trained model: words of evaluate.py
    columns: {solve: after.solve}                       figures by their place in a run's results, see results.py
    compare: [[SPARK, policy-only]]                     whose difference is shown
    curve: judge_share                                  draw the columns over this key's values; else as bars
    notes: ...                                          what came out, written afterwards

A run is named after what it is (its keys and its seed), not after the study: one that is there is never done again,
also where another study made it.
"""

import glob
import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from spark_lib.config import Config, ConfigError, explain, leaves, load_config

ROOT = Path(__file__).parents[2]

# What a run is called, what is kept of it and how it fits the memory: it is the same run all the same.
UNTOLD = {"run_name", "record", "log_with", "save_every", "merge", "plan", "card", "max_rows", "eval.max_rows",
          "micro_batch_tokens", "activation_checkpointing", "dense_sampling"}
COLUMNS = {
    "solve": "after.solve", "pointwise": "after.pointwise", "pairwise": "after.pairwise",
    "reflection": "after.reflection", "1 round": "after.tts.1", "2 rounds": "after.tts.2",
}


@dataclass
class Study:
    """One study file; see above."""

    name: str = ""
    question: str = ""
    expects: str = ""
    config: str = "configs/quickstart.yaml"
    budget: dict = field(default_factory=dict)
    seeds: list[int] = field(default_factory=lambda: [21, 22, 23])
    settings: dict[str, dict] = field(default_factory=dict)
    same_tokens: dict[str, str] = field(default_factory=dict)
    same_seconds: dict[str, str] = field(default_factory=dict)
    scripts: dict[str, str] = field(default_factory=dict)
    evaluate: dict[str, str] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=lambda: dict(COLUMNS))
    compare: list[list[str]] = field(default_factory=list)
    curve: str = ""
    notes: str = ""
    jobs: int = 1


@dataclass(frozen=True)
class Planned:
    """One run of a study: its folder, and the script and words that make it; `after`: a run that must end first, as
    this one stops at its `equal`, tokens or seconds."""

    setting: str
    seed: int
    folder: Path
    words: tuple[str, ...]
    after: Path | None = None
    equal: str = ""
    script: str = "train.py"


def load_study(argv: list[str]) -> tuple[Study, list[str]]:
    """(study, key=value words for every run of it) of a command line `study.yaml [seeds=[…]] [jobs=n] [key=value …]`.
    Raises ConfigError."""
    files = [word for word in argv if "=" not in word]
    if len(files) != 1:
        raise ConfigError("expected one study file, e.g. configs/studies/tables.yaml, then key=value pairs")
    file = Path(files[0])
    own = [word for word in argv if word.split("=")[0] in ("seeds", "jobs")]
    extra = [word for word in argv if "=" in word and word not in own]
    try:
        content = OmegaConf.merge(OmegaConf.load(file), OmegaConf.from_dotlist(own))
        if not isinstance(content, DictConfig):
            raise ConfigError(f"{file}: expected lines 'key: value'")
        plain = OmegaConf.to_container(content, resolve=True)
        if unknown := set(plain) - {f for f in Study.__dataclass_fields__ if f != "name"}:
            raise ConfigError(f"{file}: there is no key '{sorted(unknown)[0]}'; a study has question, expects, config, "
                              "budget, seeds, settings, same_tokens, same_seconds, scripts, evaluate, columns, "
                              "compare, curve, notes")
        study = Study(name=file.stem, **plain)
    except OSError as error:
        raise ConfigError(f"no study file {file}: {error.strerror}") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not valid YAML: {' '.join(str(error).split())}") from error
    except OmegaConfBaseException as error:
        raise ConfigError(f"{file}: {explain(error)}") from error
    check(study, file, extra)
    return study, extra


def check(study: Study, file: Path, extra: list[str]) -> None:
    """Raise ConfigError for a study that cannot be meant; every setting's own keys are checked before anything runs."""
    if not isinstance(study.settings, dict) or not study.settings:
        raise ConfigError(f"{file}: settings: expected at least one, by name")
    if not study.seeds or not all(isinstance(seed, int) and not isinstance(seed, bool) for seed in study.seeds):
        raise ConfigError(f"{file}: seeds: expected whole numbers, e.g. [21, 22, 23]")
    if len(set(study.seeds)) < len(study.seeds):
        raise ConfigError(f"{file}: seeds: each must be another one, got {study.seeds}")
    if not isinstance(study.jobs, int) or study.jobs < 1:
        raise ConfigError(f"jobs: expected how many runs at a time, at least 1, got {study.jobs!r}")
    waits = {**study.same_tokens, **study.same_seconds}
    named = [*(name for pair in study.compare for name in pair), *waits, *waits.values(), *study.scripts]
    if unknown := [name for name in named if name not in (*study.settings, "before")]:
        raise ConfigError(f"{file}: there is no setting '{unknown[0]}'; the settings are {', '.join(study.settings)}")
    if circle := [name for name, other in waits.items() if other in waits or other == name]:
        raise ConfigError(f"{file}: '{circle[0]}' waits for a setting that itself waits for another")
    if twice := sorted(set(study.same_tokens) & set(study.same_seconds)):
        raise ConfigError(f"{file}: '{twice[0]}' stops either at the same tokens or at the same seconds")
    if gone := [script for script in study.scripts.values() if not (ROOT / script).is_file()]:
        raise ConfigError(f"{file}: scripts: there is no {gone[0]}")
    taken: dict[tuple, str] = {}
    for run in planned(study, extra):
        if (other := taken.setdefault(tuple(run.folder.name.split("-")[-2:]), run.setting)) != run.setting:
            raise ConfigError(f"{file}: settings: '{other}' and '{run.setting}' are the same run")


def slug(name: str) -> str:
    """A setting's name as part of a folder's."""
    return "-".join(re.findall(r"\w+", name))


def words_of(keys: dict) -> list[str]:
    """{"recycle.kinds": ["solve"]} -> ["recycle.kinds=[solve]"], as train.py reads them."""

    def text(value: object) -> str:
        if isinstance(value, bool) or value is None:
            return {True: "true", False: "false", None: "null"}[value]
        if isinstance(value, list):
            return "[" + ",".join(map(text, value)) + "]"
        if isinstance(value, dict):
            return "{" + ",".join(f"{key}: {text(inner)}" for key, inner in value.items()) + "}"
        return str(value)

    return [f"{key}={text(value)}" for key, value in keys.items()]


def planned(study: Study, extra: list[str]) -> list[Planned]:
    """Every run of the study, the seeds of a setting side by side; extra: words that come last in each."""
    runs = []
    for name, keys in study.settings.items():
        for seed in study.seeds:
            first = study.same_tokens.get(name) or study.same_seconds.get(name)
            after = folder_of(study, study.settings[first], extra, seed) if first else None
            equal = "seconds" if name in study.same_seconds else "tokens" if first else ""
            script = study.scripts.get(name, "train.py")
            folder = folder_of(study, keys, extra, seed, (after, equal) if after else (), study.scripts.get(name))
            folder, after = found(study, folder), after and found(study, after)
            words = [*words_of(study.budget), *words_of(keys or {}), *extra, f"seed={seed}",
                     f"run_name={folder.relative_to('runs')}"]
            runs.append(Planned(name, seed, folder, tuple(words), after, equal, script))
    return runs


def folder_of(study: Study, keys: dict | None, extra: list[str], seed: int, *also: object) -> Path:
    """runs/studies/<config>-<keys>-<digest>-<seed>: the digest is of all that differs from the defaults, so that
    studies share the runs that they have in common, and those of another config file are never taken for them;
    also: what else makes it another run, if anything does."""
    words = [*words_of(study.budget), *words_of(keys or {}), *extra]
    config, usual = map(OmegaConf.structured, (load_config([study.config, *words, f"seed={seed}"]), Config()))
    told = {name: OmegaConf.select(config, name) for name in leaves() if name not in UNTOLD}
    differs = {name: value for name, value in told.items() if value != OmegaConf.select(usual, name)}
    digest = hashlib.sha256(repr((sorted(differs.items()), [one for one in also if one])).encode()).hexdigest()[:8]
    label = slug(" ".join(words_of(keys or {})))[:60] or "as-it-is"
    return Path("runs") / "studies" / f"{Path(study.config).stem}-{label}-{digest}-{seed}"


def found(study: Study, folder: Path) -> Path:
    """The folder, or where it is not there another one of the same digest, which is the same run under other keys: as
    where a setting says what is the default."""
    same = "-".join(folder.name.split("-")[-2:])
    there = sorted(folder.parent.glob(f"{glob.escape(Path(study.config).stem)}-*-{same}"))
    return folder if folder in there or not there else there[0]


def evaluation_name(study: Study, name: str) -> str:
    """The `name` of an evaluation for evaluate.py: another study's of the same name may ask other things."""
    return f"{slug(name)}-{hashlib.sha256(study.evaluate[name].encode()).hexdigest()[:6]}"
