"""--help: every key with its default and meaning, under headings; `--help WORD` shows those that have to do with it."""

import dataclasses
import difflib
import textwrap

import yaml

from spark_lib.config import Config, leaves
from spark_lib.evaluation.settings import Evaluation

USAGE = {
    Config: "python train.py [config.yaml] [key=value ...]        default config: configs/quickstart.yaml\n"
            "python train.py resume=runs/<name>                   goes on with a stopped run",
    Evaluation: "python evaluate.py [run or model] [key=value ...]        default: the run trained last",
}
FIRST = {  # what people set first
    Config: ("model", "data", "quantization", "max_steps", "group_size", "max_new_tokens", "lr", "judge_share",
             "recycle.kinds", "eval.limit", "seed", "run_name"),
    Evaluation: ("model", "baseline", "limit", "suite", "parts", "samples", "rounds", "name"),
}
# The heading of this key, and of those that follow it in the dataclass up to the next one here.
HEADINGS = {
    Config: {
        "seed": "run", "model": "data", "quantization": "memory", "data": "data", "max_steps": "run",
        "problems_per_step": "sampling", "max_rows": "memory", "vllm": "sampling",
        "judge_share": "recycling", "verifier": "learning", "micro_batch_tokens": "memory", "lora.r": "learning",
        "merge": "run", "plan": "memory", "eval.limit": "evaluation", "log_with": "run",
    },
    Evaluation: {
        "model": "run", "quantization": "memory", "name": "run", "suite": "data", "parts": "evaluation",
        "batch": "memory", "rounds": "evaluation", "split": "data", "view": "evaluation", "vllm": "sampling",
        "max_pixels": "data", "verifier": "evaluation",
    },
}
WRAP = textwrap.TextWrapper(110, initial_indent="      ", subsequent_indent="      ", break_on_hyphens=False).fill
ORDER = ("data", "sampling", "recycling", "learning", "memory", "evaluation", "run")


def asked_for(argv: list[str], section: type = Config) -> str | None:
    """What to print for a command line with --help or -h in it, else None."""
    if not {"-h", "--help"} & set(argv):
        return None
    words = [word.split("=")[0] for word in argv if word not in ("-h", "--help") and not word.endswith(".yaml")]
    return matching(words, section) if words else everything(section)


def headings(section: type) -> dict[str, str]:
    """The heading of every key by its dotted name."""
    found, heading = {}, ""
    for name in leaves(section):
        heading = HEADINGS[section].get(name, heading)
        found[name] = heading
    return found


def everything(section: type) -> str:
    """All keys, those first that people set first, the others by heading."""
    first, of = FIRST[section], headings(section)
    lines = [USAGE[section], "--help WORD shows the keys that have to do with WORD.", "", "SET FIRST"]
    lines += [entry(name, section) for name in first]
    for heading in ORDER:
        names = [name for name in of if of[name] == heading and name not in first]
        lines += ["", heading.upper(), *(entry(name, section) for name in names)] if names else []
    return "\n".join(lines)


def matching(words: list[str], section: type) -> str:
    """The keys with one of the words in name, meaning, choices or heading."""
    of, keys = headings(section), leaves(section)

    def matches(name: str, word: str) -> bool:
        metadata = keys[name].metadata
        return word.lower() in " ".join([name, metadata["meaning"], *map(str, metadata["choices"]), of[name]]).lower()

    found = [name for name in keys if any(matches(name, word) for word in words)]
    if found:
        return "\n".join(entry(name, section) for name in found)
    near = difflib.get_close_matches(words[0], keys, cutoff=0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else "; --help without a word shows all keys"
    return f"no key has to do with {' or '.join(words)}{hint}"


def entry(name: str, section: type) -> str:
    """A key with its default as one would write it, and below it its meaning and choices."""
    f = leaves(section)[name]
    default = f.default if f.default is not dataclasses.MISSING else f.default_factory()
    written = yaml.safe_dump(default, default_flow_style=True, width=1000).splitlines()[0]
    choices = " | ".join("null" if choice is None else choice for choice in f.metadata["choices"])
    meaning = f.metadata["meaning"] + (f" ({choices})" if choices else "")
    return f"  {name} = {written}\n{WRAP(meaning)}"
