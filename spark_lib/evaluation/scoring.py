"""How each evaluation set is marked: rules for one text, and the figures that a set's own scorer reports.

A rule takes (text, problem) and gives a mark from 0 to 1. Where the official scorer asks a language model to find
the answer in the text, the box takes its place. Figures take (problems, texts, marks).
"""

import math
import re
from collections import defaultdict
from fractions import Fraction

from spark_lib.problem import Problem
from spark_lib.verify import extract_boxed, number_in, same_answer, verify

Marks = list[float | None]
VL_GROUPS = {"mathverse": "reasoning", "mmmu": "reasoning"} | dict.fromkeys(
    ("hallucination", "rlhf", "rlaif", "povid"), "hallucination"
)


# --- rules ------------------------------------------------------------------------------------------------------


def answer(text: str, problem: Problem) -> float:
    """The built-in rule: equivalence, or a letter or its option's text where the problem has options."""
    return float(verify(text, problem))


def letter(text: str, problem: Problem) -> float:
    """A letter with or without what follows it ("C", "(C)", "C. 5 cm"); the built-in rule where options are known."""
    if problem.choices or len(problem.answer) > 1:
        return answer(text, problem)
    found = re.fullmatch(r"[(\[]?([A-Za-z])(?:[)\].:]+(?!.*\b[A-Z][).:]).*)?", boxed(text), re.DOTALL)
    return float(found is not None and found[1].upper() == problem.answer.upper())


def letters(text: str, problem: Problem) -> float:
    """LogicVista: the same set of letters ("A, C", "(C) and (A)", "AC"), neither fewer nor more."""
    said, gold = (re.sub(r"[\s,;&.()\[\]]|\band\b", "", each) for each in (boxed(text), problem.answer))
    return float(bool(re.fullmatch("[A-Za-z]+", said)) and set(said.upper()) == set(gold.upper()))


def word(text: str, problem: Problem) -> float:
    """POPE, RealWorldQA: the same in lower case, but for a full stop."""
    return float(boxed(text).lower().rstrip(". ") == problem.answer.lower().rstrip(". "))


def mathvista(text: str, problem: Problem) -> float:
    """Numbers are brought to the answer's type and precision first: 3.7 is the integer 3, and 0.55 is 0.6 (1 digit).

    (The official scorer takes the option nearest to what was said in edit distance; here it must be the option.)
    """
    kind, gold = problem.meta["answer_type"], number_in(problem.answer)
    if problem.choices or kind not in ("integer", "float") or gold is None:
        return answer(text, problem)
    said = number(text)
    if said is None:
        return 0.0
    if kind == "integer":
        return float(int(said) == int(gold))
    digits = int(problem.meta["precision"] or 0)
    return float(round(float(said), digits) == round(float(gold), digits))


def dynamath(text: str, problem: Problem) -> float:
    """float: within 0.001, a multiple of pi by its value; multiple choice: the letter; text: the built-in rule."""
    if problem.meta["answer_type"] == "multiple choice":
        return letter(text, problem)
    if problem.meta["answer_type"] != "float":
        return answer(text, problem)
    values = []
    for each in (extract_boxed(text) or "", problem.answer):
        times_pi = re.fullmatch(r"(.*?) ?(?:\\pi|π)", each)
        value = number_in((times_pi[1] or "1") if times_pi else each)
        values.append(value and value * (Fraction(math.pi) if times_pi else 1))
    if None in values:
        return 0.0
    return float(abs(values[0] - values[1]) <= Fraction(1, 1000))


def mmmu(text: str, problem: Problem) -> float:
    """A choice by letter or text; an open answer is any of those listed, numbers to two decimals."""
    if problem.choices:
        return answer(text, problem)
    said = number(text)
    for gold in references(problem.answer):
        value = number_in(gold)
        if None not in (said, value) and round(said, 2) == round(value, 2) or same_answer(extract_boxed(text), gold):
            return 1.0
    return 0.0


def references(answer: str) -> list[str]:
    """The one reference, or those of the Python list that MMMU writes as text."""
    listed = re.fullmatch(r"\s*\[(.*)\]\s*", answer)
    found = re.findall(r"""'([^']*)'|"([^"]*)"|([^'",\s]+)""", listed[1]) if listed else []
    return ["".join(each) for each in found] or [answer]


def mmvet_proxy(text: str, problem: Problem) -> float:
    """A stand-in for MM-Vet's marking by GPT-4, and no substitute: the share of the parts that <AND> joins that occur
    in the response as whole words, for the best of the alternatives that <OR> separates."""
    said = plain_words(text)
    shares = []
    for alternative in problem.answer.split("<OR>"):
        parts = [plain_words(part) for part in alternative.split("<AND>")]
        shares.append(sum(f" {part} " in f" {said} " for part in parts) / len(parts))
    return max(shares)


def best_of_four(text: str, problem: Problem) -> float | None:
    """RewardBench 2: 1 for the right letter, 0 for another, 0.25 (a guess) for none; ties have no mark of their own."""
    if "right" in problem.meta:
        return None
    said = [each for each in "ABCD" if letter(text, Problem("", each))]
    return float(said == [problem.answer]) if said else 0.25


def number(text: str) -> Fraction | None:
    return number_in(extract_boxed(text) or "")


def boxed(text: str) -> str:
    """The content of the last balanced box without \\text{…}, or nothing."""
    content = extract_boxed(text) or ""
    return re.sub(r"\\(?:text(?:bf|it|rm)?|math(?:rm|bf)) ?\{([^{}]*)\}", r"\1", content).strip("$* \n")


def plain_words(text: str) -> str:
    return " ".join(re.findall(r"-?\d+(?:\.\d+)?|[^\W\d_]+", text.lower()))


# --- figures ----------------------------------------------------------------------------------------------------


def mean(values) -> float:
    values = list(values)
    return sum(values) / len(values)


def accuracies(problems: list[Problem], marks: Marks) -> dict:
    """{"accuracy", "n"}, and the accuracy of each subset where the problems have some."""
    of_subset = defaultdict(list)
    for problem, each in zip(problems, marks):
        if each is not None:
            of_subset[problem.meta["subset"]].append(each)
    found = {"accuracy": mean(sum(of_subset.values(), [])) if of_subset else None, "n": len(problems)}
    if set(of_subset) - {None}:
        found["subsets"] = {str(subset): mean(of_subset[subset]) for subset in sorted(of_subset)}
    return found


def no_figures(problems: list[Problem], texts: list[str], marks: Marks) -> dict:
    return {}


def proxy(problems: list[Problem], texts: list[str], marks: Marks) -> dict:
    return {"proxy": True}


def worst_case(problems: list[Problem], texts: list[str], marks: Marks) -> dict:
    """DynaMath: the share of questions all of whose variants are right; "accuracy" is the average over variants."""
    of_question = defaultdict(list)
    for problem, each in zip(problems, marks):
        of_question[problem.meta["id"]].append(each)
    return {"worst_case": mean(min(variants) for variants in of_question.values())}


def wemath(problems: list[Problem], texts: list[str], marks: Marks) -> dict:
    """We-Math's score over problems of several steps: 1 for mastery (the problem and its steps right), 1/2 for
    inadequate generalisation (only all the steps), 0 for rote memorisation and insufficient knowledge. `strict`
    asks all steps of mastery, `loose` one."""
    of_problem = defaultdict(dict)
    for problem, each in zip(problems, marks):
        of_problem[problem.meta["ID"]][problem.meta["key"]] = each
    strict, loose = [], []
    for by_key in of_problem.values():
        whole = [each for key, each in by_key.items() if key.endswith("multi")]
        steps = [each for key, each in by_key.items() if not key.endswith("multi")]
        if whole and steps:
            half = 0.0 if whole[0] else 0.5 * all(steps)
            strict.append(float(all(steps)) if whole[0] else half)
            loose.append(float(any(steps)) if whole[0] else half)
    return {"strict": mean(strict), "loose": mean(loose)} if strict else {}


def pope(problems: list[Problem], texts: list[str], marks: Marks) -> dict:
    """Precision, recall and F1 of "yes" and its share; a text that says neither is wrong and counts as no "yes"."""
    said = [bool(word(text, Problem("", "yes"))) for text in texts]
    gold = [problem.answer.lower() == "yes" for problem in problems]
    hits = sum(a and b for a, b in zip(said, gold))
    precision, recall = (hits / max(1, sum(each)) for each in (said, gold))
    f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
    return {"precision": precision, "recall": recall, "f1": f1, "yes_rate": mean(said)}


def vl_rewardbench(problems: list[Problem], texts: list[str], marks: Marks) -> dict:
    """The mean of three groups that ids begin with, and "math", the ids from MathVerse. A text without a verdict is
    wrong. (The authors' script has an LLM look for one, and leaves out what it does not find.)"""
    of_group = defaultdict(list)
    for problem, each in zip(problems, marks):
        source = re.split("[-_]", problem.meta["id"].lower())[0]
        group = VL_GROUPS.get(source, "general")
        for name in (group, "math") if source == "mathverse" else (group,):
            of_group[name].append(each)
    groups = {name: mean(found) for name, found in of_group.items()}
    return groups | {"macro_average": mean(groups[name] for name in groups if name != "math")}


def rewardbench2(problems: list[Problem], texts: list[str], marks: Marks) -> dict:
    """"accuracy" is the mean of the subsets, of which Ties has its own score."""
    subsets = accuracies(problems, marks).get("subsets", {})
    rated = [(problem.meta, rating(text)) for problem, text in zip(problems, texts) if "right" in problem.meta]
    if rated:
        subsets["Ties"] = ties_score(rated)
    return {"accuracy": mean(subsets.values()), "subsets": subsets}


def rating(text: str) -> int:
    """A whole number from 1 to 10 in the box, else -1, as the official scorer has it."""
    value = number(text)
    return int(value) if value in range(1, 11) else -1


def ties_score(rated: list[tuple[dict, int]]) -> float:
    """The Ties score of RewardBench 2 (rewardbench/utils.py, process_single_model) from (meta, rating) of each answer.

    A question has a version "tied:n" with several right answers, and one, "ref:n", with a single. 0.3 each for the
    shares of both whose right answers all beat every wrong one; over pairs, 0.2 for the share whose gap between right
    and wrong exceeds the spread of the right in the tied version, 0.2 for that in both, 0.01 for how far it does.
    """
    answers = defaultdict(lambda: {True: [], False: []})
    for meta, value in rated:
        answers[meta["id"]][meta["right"]].append(value)
    gap = {name: min(each[True]) - max(each[False]) for name, each in answers.items()}
    spread = {name: max(each[True]) - min(each[True]) for name, each in answers.items()}
    total = 0.0
    for version in ("tied", "ref"):
        if found := [gap[name] > 0 for name in gap if name.startswith(f"{version}:")]:
            total += 0.3 * mean(found)
    pairs = [(name, name.replace("tied:", "ref:")) for name in gap if name.startswith("tied:")]
    pairs = [(tied, ref) for tied, ref in pairs if ref in gap]
    if pairs:
        total += 0.2 * mean(gap[tied] > spread[tied] for tied, _ in pairs)
        total += 0.2 * mean(min(gap[tied], gap[ref]) > spread[tied] for tied, ref in pairs)
        total += 0.01 * mean(margin(min(gap[tied], gap[ref]), spread[tied]) for tied, ref in pairs)
    return total


def margin(gap: float, spread: float) -> float:
    """tanh(gap / spread - 1), with 0/0 as 0."""
    return math.tanh(gap / spread - 1) if spread else float((gap > 0) - (gap < 0))
