"""Train the starter once by each variant of docs/variants.md and write the table there.

    python docs/results/variants.py                              # all that are not in variants.json yet, about an hour
    python docs/results/variants.py only=RLOO                    # one; more words are keys of train.py for a try-out,
    python docs/results/variants.py max_steps=2 eval.limit=20    # whose figures are printed and not kept
    python docs/results/variants.py only=                        # none: the table again, after the page was edited

A section of that page is a variant if it has a command `python train.py …`; its diffs go into a copy of the kit. A
figure is kept with a digest of its command, its diffs and the starter's weights; one of what is not there any more is
thrown away. A stopped catalogue goes on.
"""

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).parents[2]
PAGE, KEPT = REPO / "docs" / "variants.md", Path(__file__).with_suffix(".json")
STARTER = REPO / "spark_lib" / "starters" / "text_model" / "model.safetensors"
START, END = "<!-- table -->\n", "<!-- end of table -->"
SEED = 31
BUDGET = [f"seed={SEED}", "eval.split=validation", "max_steps=1000", "max_sampled_tokens=400000"]
SKILLS = ("solve", "pointwise", "pairwise", "reflection")


@dataclass(frozen=True)
class Variant:
    """A section of the page: keys are the words behind `python train.py`, diffs its unified diffs in their order."""

    name: str
    keys: tuple[str, ...]
    diffs: tuple[str, ...]

    @property
    def digest(self) -> str:
        starter = hashlib.sha256(STARTER.read_bytes()).hexdigest()
        return hashlib.sha256(repr((self.keys, self.diffs, BUDGET, starter)).encode()).hexdigest()[:16]

    @property
    def slug(self) -> str:
        return "-".join(re.findall(r"\w+", self.name.split(":")[0].lower()))


def variants(text: str) -> list[Variant]:
    """The variants of the page's text, in its order."""
    found = []
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        commands = re.findall(r"^    python train\.py(.*)$", section, re.MULTILINE)
        if commands:
            (command,) = commands
            diffs = re.findall(r"^```diff\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
            found.append(Variant(section.split("\n")[0], tuple(shlex.split(command)), tuple(diffs)))
    return found


def apply(diff: str, folder: Path) -> None:
    """`git apply` in a folder that is in no repository. Raises CalledProcessError if the diff does not fit."""
    subprocess.run(["git", "apply", "-"], cwd=folder, input=diff.encode(), check=True, capture_output=True,
                   env=os.environ | {"GIT_CEILING_DIRECTORIES": str(folder.parent), "LC_ALL": "C"})


def copy_of_the_kit(variant: Variant, folder: Path) -> None:
    """What train.py needs, in the empty `folder`, with the variant's diffs."""
    shutil.copy(REPO / "train.py", folder)
    for name in ("spark_lib", "configs"):
        shutil.copytree(REPO / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for diff in variant.diffs:
        apply(diff, folder)


def train(variant: Variant, words: list[str]) -> dict:
    """The summary of a run of the variant in a copy of the kit, with the mean share of clipped tokens."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_of_the_kit(variant, folder)
        command = [sys.executable, "train.py", *variant.keys, *words, f"run_name={variant.slug}"]
        subprocess.run(command, cwd=folder, check=True)
        run = folder / "runs" / variant.slug
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        clipped = [row["update/clipped"] for row in rows if "update/clipped" in row]
        return json.loads((run / "summary.json").read_text()) | {"clipped": sum(clipped) / max(1, len(clipped))}


def table(found: list[Variant], kept: dict[str, dict]) -> str:
    """The page's table in Markdown. kept: by the variant's name its figures."""
    def cells(skills: dict) -> str:
        return " | ".join("–" if skills[name] is None else f"{100 * skills[name]:.0f}" for name in SKILLS)

    lines = ["| variant | change | " + " | ".join(SKILLS) + " | steps |", "|---|---|" + "---|" * (len(SKILLS) + 1)]
    if "SPARK" in kept:
        lines.append(f"| before training | | {cells(kept['SPARK']['before'])} | 0 |")
    for variant in found:
        anchor = re.sub(r"[^\w -]", "", variant.name.lower()).replace(" ", "-")
        lengths = [sum(line[:1] == "+" and line[:3] != "+++" for line in diff.split("\n")) for diff in variant.diffs]
        change = [f"`{key}`" for key in variant.keys]
        change += [f"{sum(lengths)} new line{'s' * (sum(lengths) > 1)}"] * bool(lengths)
        row = kept.get(variant.name)
        figures = f"{cells(row['after'])} | {row['steps']}" if row else " | ".join(["–"] * (len(SKILLS) + 1))
        lines.append(f"| [{variant.name}](#{anchor}) | {' '.join(change) or 'none'} | {figures} |")
    return "\n".join(lines) + "\n"


def current(found: list[Variant]) -> dict[str, dict]:
    """The figures in variants.json that are of the variants as they stand on the page."""
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    digests = {variant.name: variant.digest for variant in found}
    return {name: row for name, row in kept.items() if digests.get(name) == row["of"]}


def with_table(text: str) -> str:
    """The page's text with the table that belongs to it."""
    found = variants(text)
    head, rest = text.split(START)
    return head + START + table(found, current(found)) + END + rest.split(END)[1]


def main(words: list[str]) -> None:
    only = [word.removeprefix("only=") for word in words if word.startswith("only=")]
    words = [word for word in words if not word.startswith("only=")]
    for variant in variants(PAGE.read_text(encoding="utf-8")):
        kept = current(variants(PAGE.read_text(encoding="utf-8")))
        if only and variant.name not in only or not words and variant.name in kept:
            continue
        done = train(variant, BUDGET + words)
        row = {name: done[name] for name in ("before", "after", "steps", "sampled_tokens", "seconds", "clipped")}
        print(f"{variant.name}: {json.dumps(row)}", flush=True)
        if not words:
            kept[variant.name] = row | {"of": variant.digest}
            KEPT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
            PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    if not words:
        PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
