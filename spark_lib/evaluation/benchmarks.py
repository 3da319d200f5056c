"""The evaluation sets of the paper (Tables 1, 2 and 4) as one table: where each comes from, how a row becomes a
Problem, and by which rule of scoring.py it is marked.

    load_benchmark("gsm8k", limit=100)          from the Hugging Face hub
    load_benchmark("gsm8k", data_dir="data")    from data/gsm8k.parquet, .json or .jsonl, or a folder data/gsm8k
    score("gsm8k", problems, texts)             {"accuracy": ..., "n": ..., and the set's own figures}

Every set is asked for its answer in \\boxed{…}, the only place that the rules read.
"""

import ast
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from spark_lib import prompts, seeds
from spark_lib.answers import equivalence
from spark_lib.config import ConfigError
from spark_lib.evaluation import scoring
from spark_lib.evaluation.tables import image_of, read_table
from spark_lib.problem import Problem

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Benchmark:
    """One set. Strings that name fields name columns of its rows.

    config, split: as on the hub; several splits as "a+b".
    question: the field with the question, or the fields that make it up; those that say nothing are left out.
    options: the field that lists the options, or the fields that hold one option each; () where they stand in the
        question or there are none.
    images: fields with an image, a list of images, or nothing.
    prompt: a key of prompts.BENCHMARK.
    rule: text, problem -> mark between 0 and 1 (None: only the figures below say what it is worth).
    figures: problems, texts, marks -> the set's own figures; they may replace "accuracy".
    gold: turns the answer field into the reference.
    item: rows that agree in this field count as one item of `limit`.
    subset: the field by whose values accuracy is reported too.
    keep: fields that go to Problem.meta, for the rule.
    build: row, benchmark, seed -> Problems, where a row is more than a question and its answer.
    note: where the marks are not the official ones; the report says it.
    """

    suite: str
    id: str
    config: str | None
    split: str
    question: str | tuple[str, ...]
    answer: str
    options: str | tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    prompt: str = "answer"
    rule: Callable = scoring.answer
    figures: Callable = scoring.no_figures
    gold: Callable[[object], str] = str
    item: str | None = None
    subset: str | None = None
    keep: tuple[str, ...] = ()
    build: Callable | None = None  # None: `asked`
    note: str = ""

    @property
    def fields(self) -> set[str]:
        """The fields that a row must have; images may be absent from a row, not from all."""
        several = [(each,) if isinstance(each, str) else each for each in (self.question, self.options)]
        return {*several[0], *several[1], self.answer, self.item, self.subset, *self.keep, *self.images[:1]} - {None}


def after_hashes(answer: str) -> str:
    """GSM8K: the number after "####", without thousands commas."""
    return answer.rsplit("####", 1)[1].strip().replace(",", "")


def four_answers(row: dict, benchmark: Benchmark, seed: int) -> list[Problem]:
    """RewardBench 2: one 4-way question, or a question for the rating of each answer in the Ties subset."""
    right, wrong = list(row["chosen"]), list(row["rejected"])
    meta = {"question": row["prompt"], "subset": row["subset"], "id": str(row["id"])}
    if row["subset"] == "Ties":
        ask = prompts.BENCHMARK["rating"]
        return [
            Problem(ask.format(question=row["prompt"], candidate=text), "", meta=meta | {"right": i < len(right)})
            for i, text in enumerate(right + wrong)
        ]
    if (len(right), len(wrong)) != (1, 3):
        raise ValueError(f"expected 1 chosen and 3 rejected, got {len(right)} and {len(wrong)}")
    place = seeds.rng("reward-bench-2", row["id"], seed).randrange(4)
    texts = wrong[:place] + right + wrong[place:]
    prompt = prompts.BENCHMARK["best of four"].format(question=row["prompt"], **dict(zip("abcd", texts)))
    return [Problem(prompt, LETTERS[place], meta=meta)]


def two_answers(row: dict, benchmark: Benchmark, seed: int) -> list[Problem]:
    """VL-RewardBench: which answer is better? Their order is the official one, by the parity of their lengths."""
    texts, better = list(row["response"]), list(row["human_ranking"]).index(0)
    if sum(map(len, texts)) % 2:
        texts, better = texts[::-1], 1 - better
    prompt = prompts.BENCHMARK["better of two"].format(question=row["query"], a=texts[0], b=texts[1])
    return [Problem(prompt, "AB"[better], "pairwise", meta={"question": row["query"], "id": str(row["id"])})]


def asked(row: dict, benchmark: Benchmark, seed: int) -> list[Problem]:
    """The usual row: a question, perhaps with options, and its answer."""
    fields = (benchmark.question,) if isinstance(benchmark.question, str) else benchmark.question
    options, answer = options_of(row, benchmark), row[benchmark.answer]
    listed = [f"({letter}) {option}" for letter, option in zip(LETTERS, options)]
    question = "\n".join([str(row[field]) for field in fields if present(row[field])] + listed)
    if isinstance(answer, int) and options:
        answer = LETTERS[range(len(options)).index(answer)]
    gold = benchmark.gold(answer).strip()
    if not question or not gold:
        raise ValueError("the question or the answer is empty")
    prompt = prompts.BENCHMARK["letter" if listed else benchmark.prompt].format(question=question)
    inline = inline_options(question)
    choices = options or (inline if gold in LETTERS[: len(inline)] else ())
    return [Problem(prompt, gold, choices=choices, meta={"question": question})]


def in_six_versions(row: dict, benchmark: Benchmark, seed: int) -> list[Problem]:
    """MathVerse: the version whose question stands in the image has none in `question`, and options elsewhere."""
    (problem,) = asked(row | {"question": row["question"] or row["query_wo"]}, benchmark, seed)
    options = inline_options(row["question_for_eval"])
    return [replace(problem, choices=options if problem.answer in LETTERS[: len(options)] else ())]


def as_queried(row: dict, benchmark: Benchmark, seed: int) -> list[Problem]:
    """MathVista: the query already lists the options, and the answer is the text of one."""
    options, gold = tuple(row["choices"] or ()), str(row["answer"])
    if row["question_type"] == "multi_choice":
        gold = LETTERS[options.index(gold)]
    prompt = prompts.BENCHMARK["letter" if options else "answer"].format(question=row["query"])
    return [Problem(prompt, gold, choices=options, meta={"question": row["query"]})]


def options_of(row: dict, benchmark: Benchmark) -> tuple[str, ...]:
    """The options that a row lists apart from its question; MMMU's list is the text of a Python literal."""
    if isinstance(benchmark.options, tuple):
        return tuple(str(row[field]) for field in benchmark.options if present(row[field]))
    listed = row[benchmark.options]
    return tuple(map(str, ast.literal_eval(listed) if isinstance(listed, str) else listed or ()))


def inline_options(question: str) -> tuple[str, ...]:
    """The options that stand in a question as "A. 3", "B: 4" or "(C) 5", by lines, commas or semicolons; else ()."""
    marks = list(re.finditer(r"(?:^|[\n;,]|\s{2,}|Options:|Choices:)\s*\(?([A-Z])[.:)]\s*", question))
    last = next((i for i in range(len(marks) - 1, -1, -1) if marks[i][1] == "A"), len(marks))
    marks = marks[last:]
    if len(marks) < 2 or [mark[1] for mark in marks] != list(LETTERS[: len(marks)]):
        return ()
    ends = [mark.start() for mark in marks[1:]] + [len(question)]
    return tuple(question[mark.end() : end].strip(" \n;,") for mark, end in zip(marks, ends))


def present(value: object) -> bool:
    """Whether a field says anything; sets that went through a spreadsheet write "nan"."""
    return value is not None and str(value).strip() not in ("", "nan")


def variants(count: int) -> str:
    return "+".join(f"sample_variant{i}" for i in range(1, count + 1))


BY_LLM = "The official scorer has a language model find the answer in the text; here it must stand in the box."
TEXT, VISUAL, REWARD, GENERAL = SUITES = ("text_reasoning", "visual_reasoning", "reward", "general")
LETTER = {"prompt": "letter", "rule": scoring.letter}
BENCHMARKS = {
    # name: suite, hub id, config, split, question, answer
    "gsm8k": Benchmark(TEXT, "openai/gsm8k", "main", "test", "question", "answer", gold=after_hashes),
    "math500": Benchmark(TEXT, "HuggingFaceH4/MATH-500", None, "test", "problem", "answer", subset="subject"),
    "aime24": Benchmark(TEXT, "HuggingFaceH4/aime_2024", None, "train", "problem", "answer"),
    "aime25": Benchmark(TEXT, "math-ai/aime25", None, "test", "problem", "answer"),
    "amc23": Benchmark(TEXT, "math-ai/amc23", None, "test", "question", "answer"),
    "mmlu_stem": Benchmark(TEXT, "TIGER-Lab/MMLU-STEM", None, "test", "question", "answer", "choices", **LETTER),
    "mathvista": Benchmark(
        VISUAL, "AI4Math/MathVista", None, "testmini", "query", "answer", "choices", ("decoded_image",),
        rule=scoring.mathvista, keep=("question_type", "answer_type", "precision"), build=as_queried,
        note=BY_LLM + " Nor is what was said replaced by the option nearest to it in edit distance.",
    ),
    "mathvision": Benchmark(
        VISUAL, "MathLLMs/MathVision", None, "test", "question", "answer", "options", ("decoded_image",),
    ),
    "wemath": Benchmark(
        VISUAL, "We-Math/We-Math", None, "testmini", ("question", "option"), "answer", (), ("image_path",), **LETTER,
        figures=scoring.wemath, item="ID", keep=("ID", "key"),
    ),
    "mathverse": Benchmark(
        VISUAL, "AI4Math/MathVerse", "testmini", "testmini", "question", "answer", (), ("image",),
        rule=scoring.letter, keep=("query_wo", "question_for_eval"), build=in_six_versions,
        note="The official scorer has a language model compare the answers; here the verifier does.",
    ),
    "dynamath": Benchmark(
        VISUAL, "DynaMath/DynaMath_Sample", None, variants(10), "question", "ground_truth", (), ("decoded_image",),
        rule=scoring.dynamath, figures=scoring.worst_case, item="id", keep=("id", "answer_type"),
        note="A text must equal the reference; officially it may be any part of it.",
    ),
    "logicvista": Benchmark(
        VISUAL, "lscpku/LogicVista", None, "test", "question", "answer", (), ("image",), "letters", scoring.letters,
        note=BY_LLM,
    ),
    "mmk12": Benchmark(
        VISUAL, "FanqingM/MMK12", None, "test", "question", "answer", (), ("image",), **LETTER, subset="subject",
    ),
    "rewardbench2": Benchmark(
        REWARD, "allenai/reward-bench-2", None, "test", "prompt", "chosen", "rejected", prompt="best of four",
        rule=scoring.best_of_four, figures=scoring.rewardbench2, item="id", subset="subset", build=four_answers,
    ),
    "vl_rewardbench": Benchmark(
        REWARD, "MMInstruction/VL-RewardBench", None, "test", "query", "human_ranking", "response", ("image",),
        prompt="better of two", figures=scoring.vl_rewardbench, item="id", build=two_answers,
        note="A text without a verdict is wrong; the official script leaves it out.",
    ),
    "mmbench": Benchmark(
        GENERAL, "lmms-lab/MMBench", "en", "dev", ("hint", "question"), "answer", ("A", "B", "C", "D"), ("image",),
        **LETTER,
        note="Without circular evaluation (right in every rotation of the options), so higher than officially.",
    ),
    "mmstar": Benchmark(
        GENERAL, "Lin-Chen/MMStar", None, "val", "question", "answer", (), ("image",), **LETTER, subset="category",
    ),
    "mmmu": Benchmark(
        GENERAL, "lmms-lab/MMMU", None, "validation", "question", "answer", "options",
        tuple(f"image_{i}" for i in range(1, 8)), rule=scoring.mmmu, keep=("question_type",),
        note="A text without an option is wrong; the official scorer draws one for it.",
    ),
    "mmvet": Benchmark(
        GENERAL, "lmms-lab/MMVet", None, "test", "question", "answer", (), ("image",), rule=scoring.mmvet_proxy,
        figures=scoring.proxy,
        note="A rule-based proxy of GPT-4's marks (parts of the reference found in the response): not comparable with "
             "published figures.",
    ),
    "scienceqa": Benchmark(
        GENERAL, "lmms-lab/ScienceQA", "ScienceQA-IMG", "test", ("hint", "question"), "answer", "choices", ("image",),
        **LETTER,
    ),
    "pope": Benchmark(
        GENERAL, "lmms-lab/POPE", None, "test", "question", "answer", (), ("image",), "yes or no", scoring.word,
        figures=scoring.pope, subset="category",
    ),
    "seedbench": Benchmark(
        GENERAL, "lmms-lab/SEED-Bench", None, "test", "question", "answer",
        ("choice_a", "choice_b", "choice_c", "choice_d"), ("image",), **LETTER,
        note="The official figure takes the option that is most probable; here its letter must be written.",
    ),
    "realworldqa": Benchmark(
        GENERAL, "lmms-lab/RealWorldQA", None, "test", "question", "answer", (), ("image",), "word", scoring.word,
    ),
}


def chosen(suite: str | None = None, names: list[str] = ()) -> list[str]:
    """The benchmarks of a suite, or those that are named. Raises ConfigError for a name that there is not."""
    if suite is not None and suite not in SUITES:
        raise ConfigError(f"suite: '{suite}' is none of {', '.join(SUITES)}")
    if unknown := [name for name in names if name not in BENCHMARKS]:
        raise ConfigError(f"benchmarks: there is no '{unknown[0]}'; there are {', '.join(BENCHMARKS)}")
    return [name for name in BENCHMARKS if name in names or BENCHMARKS[name].suite == suite]


def refuse_without_vision(names: list[str]) -> None:
    """For a model that sees no images: raise ConfigError if any of the sets has some."""
    if blind := [name for name in names if BENCHMARKS[name].images]:
        raise ConfigError(f"benchmarks: {', '.join(blind)}: images are shown, and this model reads text only; give a "
                          "vision-language model, or choose suite=text_reasoning")


def load_benchmark(name: str, data_dir: str | None = None, limit: int | None = None, seed: int = 0) -> list[Problem]:
    """The Problems of a set: all, or those of `limit` items drawn by `seed`, in the set's order.

    An item is a row; for DynaMath a question with its variants, for RewardBench 2's ties a question with its
    reference, for We-Math a problem with its steps. Raises ConfigError.
    """
    benchmark = BENCHMARKS[chosen(names=[name])[0]]
    table, folder = read_table(name, benchmark.id, benchmark.config, benchmark.split, data_dir)
    if missing := sorted(benchmark.fields - set(table.column_names)):
        found = ", ".join(table.column_names)
        raise ConfigError(f"benchmarks: {name} has no field {', '.join(missing)}; found {found}")
    rows = range(len(table))
    if limit is not None:
        keys = [re.sub("^(ref|tied):", "ties:", str(key)) for key in table[benchmark.item]] if benchmark.item else rows
        items = sorted(set(keys))
        drawn = set(seeds.rng("benchmark", name, seed).sample(items, min(limit, len(items))))
        rows = [row for row in rows if keys[row] in drawn]
    # As Arrow gives them: images stay compressed until they are looked at.
    raw = table.select(rows).with_format("arrow")[:].to_pylist()
    return [p for number, row in zip(rows, raw) for p in problems_of(name, row, number, folder, seed)]


def problems_of(name: str, row: dict, number: int, folder: Path, seed: int) -> list[Problem]:
    """The Problems of one row. Raises ConfigError, naming the row, if it is not as the set's card says."""
    benchmark = BENCHMARKS[name]
    try:
        made = (benchmark.build or asked)(row, benchmark, seed)
        found = [row.get(field) for field in benchmark.images]
        nested = [image if isinstance(image, list) else [image] for image in found]
        images = [image_of(image, folder) for several in nested for image in several if image is not None]
        if benchmark.images and not images:
            raise ValueError(f"no image in {' or '.join(benchmark.images)}")
    except (ValueError, SyntaxError, IndexError, KeyError, TypeError, AttributeError, OSError) as error:
        raise ConfigError(f"benchmarks: {name}, row {number}: {type(error).__name__}: {error}") from error
    meta = {"benchmark": name, "row": number, "subset": row.get(benchmark.subset)}
    meta |= {key: row[key] for key in benchmark.keep}
    image = None if not images else images[0] if len(images) == 1 else tuple(images)
    return [Problem(p.prompt, p.answer, p.kind, image, p.choices, meta | p.meta) for p in made]


def reachable(name: str, problems: list[Problem]) -> tuple[list[Problem], list[Problem]]:
    """(problems whose reference is right by the set's own rule, the others: no response to them could be)."""
    kept, lost = [], []
    for problem in problems:
        golds = [problem.answer, *scoring.references(problem.answer)]
        marks = [BENCHMARKS[name].rule(f"\\boxed{{{gold}}}", problem) for gold in golds]
        (kept if None in marks or max(marks) == 1 else lost).append(problem)
    return kept, lost


def notes(name: str, lost: list[Problem]) -> list[str]:
    """What a report says of a set: where its marks depart from the official ones, and the problems left out."""
    listed = "; ".join(f"row {p.meta['row']}: {p.answer!r:.60}" for p in lost[:20]) + ("; …" if len(lost) > 20 else "")
    left_out = f"Left out: {len(lost)}, whose reference answer {name}'s rule cannot confirm ({listed})."
    return [BENCHMARKS[name].note] * bool(BENCHMARKS[name].note) + [left_out] * bool(lost)


def score(name: str, problems: list[Problem], texts: list[str]) -> dict:
    """{"accuracy", "n"} (both by problem), "subsets" where the set has them, and the set's own figures, which may
    replace the accuracy. `problems` as load_benchmark gives them, one text each."""
    marks = mark(name, problems, texts)
    return scoring.accuracies(problems, marks) | BENCHMARKS[name].figures(problems, texts, marks)


def rule_of(name: str) -> Callable[[str, Problem], float]:
    """The set's rule in the form of rewards.Rule: a rating, which alone has no mark, counts 0."""
    return lambda text, problem: BENCHMARKS[name].rule(text, problem) or 0.0


def mark(name: str, problems: list[Problem], texts: list[str]) -> list[float | None]:
    """Each text by the set's rule: 0 to 1; None where only a group has a mark (a rating of RewardBench 2's ties)."""
    with ThreadPoolExecutor(equivalence.WORKERS) as pool:
        return list(pool.map(lambda pair: BENCHMARKS[name].rule(*pair), zip(texts, problems, strict=True)))
