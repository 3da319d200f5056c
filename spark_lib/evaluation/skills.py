"""The skills that SPARK trains, measured on held-out problems, sampled at T = 1.

    solve       share of problems whose one sampled answer is right
    pointwise   balanced accuracy of "is it correct?": mean of the accuracies on right and on wrong candidates
    yes_rate    share of pointwise verdicts that say Yes (0.5 is unbiased: half of the candidates are right)
    pairwise    share of pairs whose right answer is chosen;  a_rate: share of verdicts that say A (0.5 is unbiased)
    reflection  share of candidates (most of them wrong) after which the new answer is right
    tts         accuracy after 0, 1, 2 ... rounds of judging the own answer and reflecting on it
"""

from spark_lib import seeds
from spark_lib.evaluation import metrics
from spark_lib.model import vision
from spark_lib.problem import Problem
from spark_lib.recycle import recycle_kind
from spark_lib.reflect import Sampler, judge_and_reflect
from spark_lib.rewards import said
from spark_lib.rollout import Rollout

PER_PROBLEM = 4  # responses from which the candidates of the judge problems are taken


def judge_set(problems: list[Problem], roll: Sampler, config) -> list[dict]:
    """Held-out judge problems, as many of each kind as there are problems, about answers of the present model.

    Made once, by the model before training, and kept as plain rows: before and after are asked the same. "problem" is
    the place of the one that they are about, whose images and context they show.
    """
    groups = roll(problems, PER_PROBLEM, "candidates") if problems else []
    rng = seeds.rng(config.seed, "judge set")
    kinds = ("pointwise", "pairwise", "reflect")
    made = [p for kind in kinds for p in recycle_kind(kind, len(problems), groups, rng, config.recycle)]
    place = {id(r): i for i, group in enumerate(groups) for r in group}
    return [{"prompt": p.prompt, "answer": p.answer, "kind": p.kind, "choices": p.choices,
             "problem": place[id(p.meta["candidates"][0])]} for p in made]


def judge_problem(row: dict, source: Problem) -> Problem:
    """The problem of a row of the judge set; source: the one that it is about."""
    return Problem(row["prompt"], row["answer"], row["kind"], source.image, tuple(row["choices"]),
                   context=source.context, also=source.also if row["kind"] == "reflect" else ())


def measure(problems: list[Problem], judge_rows: list[dict], roll: Sampler, config) -> dict:
    """{"skills": the figures above as fractions (None where there was nothing to measure), "marks": by skill, whether
    each held-out problem was right (1 or 0), so that two runs can be compared problem by problem, "intervals": of the
    skills, under the same names, "examples": some problems with everything that was said about them}. Without problems,
    {"skills": None, "marks": {}, …}."""
    if not problems:
        return {"skills": None, "marks": {}, "intervals": None, "examples": []}
    judged = [judge_problem(row, problems[row["problem"]]) for row in judge_rows]
    answers = [group[0] for group in roll(problems, 1, "answers")]
    view, rng = config.recycle.view, seeds.rng(config.seed, "judge and reflect")
    history, turns = judge_and_reflect(answers, config.eval.rounds, view, roll, rng)
    verdicts = [group[0] for group in roll(judged, 1, "verdicts")]
    of_kind = {kind: [r for r in verdicts if r.problem.kind == kind] for kind in ("pointwise", "pairwise", "reflect")}
    recalls = [accuracy([r for r in of_kind["pointwise"] if r.problem.answer == gold]) for gold in ("Yes", "No")]
    right_at = config.recycle.right_at
    skills = {
        "solve": accuracy(answers, right_at),
        "pointwise": None if None in recalls else sum(recalls) / 2,
        "pairwise": accuracy(of_kind["pairwise"]),
        "reflection": accuracy(of_kind["reflect"], right_at),
        "tts": [accuracy(round_, right_at) for round_ in history],
        "yes_rate": said("Yes", of_kind["pointwise"]),
        "a_rate": said("A", of_kind["pairwise"]),
        "n": len(problems),
    }
    asked = {"solve": answers, "reflection": of_kind["reflect"], **{k: of_kind[k] for k in ("pointwise", "pairwise")}}
    asked |= {f"tts.{k}": round_ for k, round_ in enumerate(history)}
    marks = {name: [int(r.reward >= right_at) for r in rollouts] for name, rollouts in asked.items()}
    places = {kind: [row["problem"] for row in judge_rows if row["kind"] == kind] for kind in of_kind}
    intervals = {
        "solve": interval(marks["solve"]),
        "pointwise": interval(balanced(of_kind["pointwise"]), places["pointwise"]),
        "pairwise": interval(marks["pairwise"], places["pairwise"]),
        "reflection": interval(marks["reflection"], places["reflect"]),
        "tts": [interval(marks[f"tts.{k}"]) for k in range(len(history))],
        "yes_rate": interval([said("Yes", [r]) for r in of_kind["pointwise"]], places["pointwise"]),
        "a_rate": interval([said("A", [r]) for r in of_kind["pairwise"]], places["pairwise"]),
    }
    return {"skills": skills, "marks": marks, "intervals": intervals, "examples": examples(turns, right_at)}


def balanced(judgements: list[Rollout]) -> list[float]:
    """Marks whose mean is the balanced accuracy: a right verdict of the rarer gold counts for more. None without both
    golds."""
    gold = [r.problem.answer for r in judgements]
    if len(set(gold)) < 2:
        return []
    return [(r.reward == 1) * len(gold) / (2 * gold.count(r.problem.answer)) for r in judgements]


def interval(marks: list[float], places: list[int] | None = None) -> tuple[float, float] | None:
    """95 % bootstrap interval of the marks' mean; None of no marks. places: the held-out problem that each mark is
    about, where it is not one each: all marks about a problem are drawn together."""
    if not marks:
        return None
    tally: dict[int, list[float]] = {}
    for place, mark in zip(places or range(len(marks)), marks, strict=True):
        tally.setdefault(place, []).append(mark)
    return metrics.bootstrap([(sum(own), len(own)) for own in tally.values()], resamples=2000)


def examples(turns: list[list[Rollout]], right_at: float) -> list[dict]:
    """Up to five stories. The longest first: they show the judge and the reflection at work."""
    longest = sorted(range(len(turns)), key=lambda i: -len(turns[i]))[:2]
    chosen = dict.fromkeys([*longest, *range(min(3, len(turns)))])
    return [story(turns[i], right_at) for i in chosen]


def story(turns: list[Rollout], right_at: float) -> dict:
    """One problem and everything that was said about it, each turn with whether it was right."""
    told, answer_right = [], False
    for turn in turns:
        if turn.problem.kind == "pointwise":  # not its reward, by which an unreadable verdict would pass for a No
            right = said("Yes" if answer_right else "No", [turn]) == 1
        else:
            right = answer_right = turn.reward >= right_at
        told.append({"kind": turn.problem.kind, "text": turn.text, "right": right})
    first = turns[0].problem
    pictures = [vision.thumbnail(image) for image in vision.images_of(first)]
    question = "\n".join([*(f"{role}: {text}" for role, text in first.context), first.meta["question"]])
    return {"question": question, "answer": first.answer, "turns": told, "pictures": pictures}


def accuracy(rollouts: list[Rollout], right_at: float = 1.0) -> float | None:
    """Share of rewards that reach `right_at`."""
    return sum(r.reward >= right_at for r in rollouts) / len(rollouts) if rollouts else None
