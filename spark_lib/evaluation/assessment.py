"""What evaluate.py measures on one set of problems: solving, judging the own answers, and what test-time tokens buy.

`listen` asks the model, once per seed; `figures` and `tallies` only count what it said. The `samples` are
sampled, all else is greedy unless greedy=false.
docs/metrics.md defines every figure.
"""

from dataclasses import dataclass, fields

from spark_lib import reflect, seeds
from spark_lib.config import Config
from spark_lib.evaluation import metrics
from spark_lib.evaluation.metrics import interpolate, mean
from spark_lib.evaluation.predictions import Prediction, Predictions
from spark_lib.evaluation.settings import Evaluation
from spark_lib.problem import Problem
from spark_lib.recycle import about
from spark_lib.reflect import METHODS, Candidate, knockout
from spark_lib.rewards import clusters
from spark_lib.verify import extract_boxed, same_answer

Tallies = dict[str, list[tuple[float, int]]]  # figure -> for each problem the sum of its marks and their number
Duels = dict[tuple[int, int], list[Prediction]]  # labels of two answers -> the judgements in this order and the other


@dataclass
class Said:
    """Everything that was said with one seed. Each list has an entry per problem; a part that is not measured has
    empty entries, or no entry at all in `rounds` and `turns`.

    judgements: of each sample, None where it has no answer to judge. duels: see
    duel_problems, None where there were none to be. pairs: nothing, or the judgements of a right and
    a wrong sample, shown in this order and in the other one. rounds: the answers after 0, 1 … rounds.
    """

    answers: list[Prediction]
    samples: list[list[Prediction]]
    judgements: list[list[Prediction | None]]
    pairs: list[list[Prediction]]
    duels: list[Duels | None]
    reflections: list[Prediction | None]
    rounds: list[list[Prediction]]
    turns: list[list[Prediction]]


def together(said: list[Said]) -> Said:
    """What was said with several seeds, as if with one seed about as many times the problems."""
    joined = {f.name: [entry for one in said for entry in getattr(one, f.name)] for f in fields(Said)}
    return Said(**joined)


def has_answer(prediction: Prediction) -> bool:
    """Whether there is something to judge, as in recycle.candidates."""
    return prediction.finished and extract_boxed(prediction.text) is not None


def listen(
    problems: list[Problem], predict: Predictions, name: str, seed: int, settings: Evaluation, config: Config
) -> Said:
    """Ask about all problems; `name` tells sets of problems apart. What is greedy is the same for every
    seed where it is about the problems alone."""
    view, right_at = config.recycle.view, config.recycle.right_at
    n, parts = len(problems), settings.parts
    said = Said([], *([[] for _ in problems] for _ in range(3)), [None] * n, [None] * n, [], [])

    usual = 0.0 if settings.greedy else config.temperature

    def ask(problems: list[Problem], n: int, stage: str, temperature: float = usual) -> list[list[Prediction]]:
        return predict(problems, n, f"{name}, seed {seed}: {stage}", temperature)

    first = predict(problems, 1, f"{name}: answers") if settings.greedy else ask(problems, 1, "answers")
    said.answers = [group[0] for group in first]
    if {"samples", "judge", "tournament"} & set(parts):
        said.samples = ask(problems, settings.samples, "samples", config.temperature)
    if "judge" in parts:
        rng, shown = seeds.rng(seed, "judge samples"), [s for group in said.samples for s in group if has_answer(s)]
        gold = ["Yes" if s.reward >= right_at else "No" for s in shown]
        asked = [about("pointwise", [s], verdict, view, rng) for s, verdict in zip(shown, gold)]
        verdicts = iter(ask(asked, 1, "judge samples"))
        said.judgements = [[next(verdicts)[0] if has_answer(s) else None for s in group] for group in said.samples]
        asked = [pair_problems(group, view, right_at, seed, i) for i, group in enumerate(said.samples)]
        choices = iter(ask([p for pair in asked for p in pair], 1, "choose"))
        said.pairs = [[next(choices)[0] for _ in pair] for pair in asked]
    if "tournament" in parts:
        rng = seeds.rng(seed, "duels")
        asked = [duel_problems(group, labels_of(group), view, rng) for group in said.samples]
        choices = iter(ask([p for duels in asked for pair in duels.values() for p in pair], 1, "duels"))
        said.duels = [{labels: [next(choices)[0] for _ in pair] for labels, pair in duels.items()} for duels in asked]
    if "reflect" in parts:
        rng, shown = seeds.rng(seed, "reflect"), [a for a in said.answers if has_answer(a)]
        again = iter(ask([about("reflect", [a], a.problem.answer, view, rng) for a in shown], 1, "reflect"))
        said.reflections = [next(again)[0] if has_answer(a) else None for a in said.answers]
        history, said.turns = reflect.judge_and_reflect(
            said.answers, settings.rounds, view, ask, seeds.rng(seed, "judge and reflect"), acceptance(settings),
            settings.early_stop,
        )
        said.rounds = [list(answers) for answers in zip(*history)]
    return said


def pair_problems(samples: list[Prediction], view: str, right_at: float, seed: int, place: int) -> list[Problem]:
    """The pairwise problems about one right and one wrong sample, in both orders and the same words; none if all are
    right or all wrong."""
    shown = [s for s in samples if has_answer(s)]
    right, wrong = ([s for s in shown if (s.reward >= right_at) == mark] for mark in (True, False))
    if not right or not wrong:
        return []
    rng = seeds.rng(seed, "pair", place)
    pair = [rng.choice(right), rng.choice(wrong)]
    orders = ((pair, "A"), (pair[::-1], "B"))
    return [about("pairwise", order, gold, view, seeds.rng(seed, "words", place)) for order, gold in orders]


def acceptance(settings: Evaluation):
    """The rule that accepts a judged answer: Prediction -> bool."""
    if settings.accept == "verdict":
        return reflect.says_yes
    if settings.accept == "never":
        return lambda judgement: False
    return lambda judgement: judgement.p_yes is not None and judgement.p_yes >= settings.threshold


def candidates(said: Said, right_at: float) -> list[list[Candidate]]:
    """Each problem's samples, as best-of-n and the votes see them."""
    made = []
    for samples, judgements, duels in zip(said.samples, said.judgements, said.duels):
        made.append([
            Candidate(label, (j and j.p_yes) or 0.0, s.reward >= right_at, s.tokens, j.tokens if j else 0,
                      beaten(label, duels or {}))
            for s, j, label in zip(samples, judgements or [None] * len(samples), labels_of(samples))
        ])
    return made


def labels_of(samples: list[Prediction]) -> list[int | None]:
    """For each of a problem's samples the place of the first one with the same answer; None where it has none."""
    boxes = [extract_boxed(s.text) if has_answer(s) else None for s in samples]
    return clusters(boxes, lambda a, b: same_answer(a, b, samples[0].problem))


def figures(said: Said, right_at: float) -> dict:
    """results.json without what names the evaluation: see docs/metrics.md."""

    def right(prediction: Prediction) -> bool:
        return prediction.reward >= right_at

    found = {"solve": {
        "accuracy": mean([right(a) for a in said.answers]),
        "no_answer": mean([not has_answer(a) for a in said.answers]),
        "cut_off": mean([not a.finished for a in said.answers]),
    }}
    judged = [(right(s), j) for samples, js in zip(said.samples, said.judgements) for s, j in zip(samples, js) if j]
    curves = {}
    if all(said.samples):
        pool = candidates(said, right_at)
        possible = {"majority_vote": True, "best_of_n": judged, "weighted_vote": judged,
                    "tournament": None not in said.duels}
        curves = {method: curve(method, pool) for method in METHODS if possible[method]}
        k, counts = len(pool[0]), [sum(c.right for c in group) for group in pool]
        at = [mean([metrics.pass_at_k(k, count, i) for count in counts]) for i in range(1, k + 1)]
        found["solve"] |= {"k": k, "mean@k": at[0], "pass@k": at[-1], "pass_at": at,
                           "majority": curves["majority_vote"]["accuracy"][-1]}
    if judged:
        found["pointwise"] = pointwise(judged)
        found["pairwise"] = pairwise([pair for pair in said.pairs if pair])
    if said.turns:
        pairs = [(right(a), right(r)) for a, r in zip(said.answers, said.reflections) if r]
        wrong, kept = ([after for before, after in pairs if before == mark] for mark in (False, True))
        found["reflection"] = {"fix_rate": mean(wrong), "n_wrong": len(wrong),
                               "break_rate": mean([not after for after in kept]), "n_right": len(kept)}
        found["tts"] = at_test_time([[right(a) for a in rounds] for rounds in said.rounds], said.turns)
    found |= curves
    if said.turns and curves:
        found["equal_tokens"] = at_equal_tokens(found["tts"]["tokens"], curves)
    return found


def pointwise(judged: list[tuple[bool, Prediction]]) -> dict:
    """judged: whether the candidate was right, and its judgement."""
    words = {"Yes": True, "No": False, None: None}
    scores = metrics.binary([gold for gold, _ in judged], [words[j.verdict] for _, j in judged])
    sure = [(j.p_yes, gold) for gold, j in judged if j.p_yes is not None]
    probabilities, outcomes = [p for p, _ in sure], [gold for _, gold in sure]
    bins = metrics.reliability(probabilities, outcomes)
    return scores | {
        "ece": metrics.ece(bins), "brier": metrics.brier(probabilities, outcomes),
        "auroc": metrics.auroc(probabilities, outcomes), "n": len(judged), "n_right": sum(gold for gold, _ in judged),
        "n_with_probability": len(sure), "bins": bins,
    }


def pairwise(pairs: list[list[Prediction]]) -> dict:
    flat = [judgement for pair in pairs for judgement in pair]
    return {
        "accuracy": mean([j.reward for j in flat]),
        "consistency": mean([{a.verdict, b.verdict} == {"A", "B"} for a, b in pairs]),
        "a_rate": mean([j.verdict == "A" for j in flat]), "n": len(pairs),
    }


def at_test_time(rounds: list[list[bool]], turns: list[list[Prediction]]) -> dict:
    """rounds: for each problem whether its answer is right after 0, 1 … rounds. fixed and broken: problems whose first
    answer was wrong and that are right now, and the reverse."""
    by_round = list(zip(*rounds))
    spent = [tokens_by_round(story, len(by_round) - 1) for story in turns]
    return {
        "accuracy": [mean(now) for now in by_round],
        "tokens": [mean(now) for now in zip(*spent)],
        "fixed": [sum(right > first for first, right in zip(by_round[0], now)) for now in by_round],
        "broken": [sum(right < first for first, right in zip(by_round[0], now)) for now in by_round],
    }


def tallies(said: list[Said], right_at: float) -> Tallies:
    """The marks by problem behind the accuracies, for intervals; marks of all seeds count together."""
    found: Tallies = {}
    for one in said:
        now = {"solve": [[a.reward >= right_at] for a in one.answers]}
        if all(one.samples):
            now["mean@k"] = [[s.reward >= right_at for s in group] for group in one.samples]
            pool = candidates(one, right_at)
            turned = [[(group * 2)[i : i + len(group)] for i in range(len(group))] for group in pool]
            now["majority"] = [[reflect.majority_vote(group).right for group in runs] for runs in turned]
        if any(any(group) for group in one.judgements):
            now["pointwise"] = [[j.reward for j in group if j] for group in one.judgements]
            now["pairwise"] = [[j.reward for j in pair] for pair in one.pairs]
        if one.rounds:
            now["tts"] = [[answers[-1].reward >= right_at] for answers in one.rounds]
        for name, marks in now.items():
            added = [(sum(m), len(m)) for m in marks]
            before = found.get(name, [(0, 0)] * len(added))
            found[name] = [(s + t, m + n) for (s, m), (t, n) in zip(before, added)]
    return found


def tokens_by_round(turns: list, rounds: int) -> list[int]:
    """Tokens spent on one problem after 0, 1 … `rounds` rounds; turns: what judge_and_reflect says about it, as
    Predictions. A round is a judgement, a reflection, or both in this order."""
    spent = [0] * (rounds + 1)
    k = 0
    for before, turn in zip([None, *turns], turns):
        if before is not None and (k == 0 or before.problem.kind == "reflect" or turn.problem.kind == "pointwise"):
            k += 1
        spent[k] += turn.tokens
    return [sum(spent[: k + 1]) for k in range(rounds + 1)]


def curve(method: str, samples: list[list[Candidate]]) -> dict[str, list[float]]:
    """{"accuracy": …, "tokens": …} of a method with 1, 2 … k of each problem's k candidates; tokens per problem.

    With n < k it is the mean over the k runs of n neighbours, the last candidate being the first one's neighbour: the
    samples are independent, so each run is as good as another. One answer alone needs no judge.
    """
    k = len(samples[0])
    accuracy, tokens = [], []
    for n in range(1, k + 1):
        runs = [[(group * 2)[start : start + n] for start in range(k)] for group in samples]
        accuracy.append(mean([METHODS[method](run).right for group in runs for run in group]))
        judged = n > 1 and method in ("best_of_n", "weighted_vote")
        each = n * mean([c.tokens + judged * c.judge_tokens for group in samples for c in group])
        duels = mean([knockout(run)[1] for group in runs for run in group]) if method == "tournament" else 0
        tokens.append(each + duels)
    return {"accuracy": accuracy, "tokens": tokens}


def at_equal_tokens(budgets: list[float], curves: dict[str, dict[str, list[float]]]) -> dict[str, list[float | None]]:
    """The accuracy of each curve at each budget of tokens per problem; None where all its samples cost less."""
    return {
        name: [interpolate(budget, points["tokens"], points["accuracy"]) for budget in budgets]
        for name, points in curves.items()
    }


def duel_problems(samples: list[Prediction], labels: list[int | None], view: str, rng) -> dict[tuple, list[Problem]]:
    """A pairwise problem about each two different answers to one question, in both orders and the same words."""
    firsts = sorted({label for label in labels if label is not None})  # a label is the place of its first answer
    asked = {}
    for i, first in enumerate(firsts):
        for second in firsts[i + 1 :]:
            pair, words = [samples[first], samples[second]], rng.getstate()
            asked[first, second] = [about("pairwise", pair, "A", view, rng)]
            after = rng.getstate()
            rng.setstate(words)
            asked[first, second].append(about("pairwise", pair[::-1], "A", view, rng))  # "A" only to read the verdict
            rng.setstate(after)
    return asked


def beaten(label: int | None, duels: Duels) -> dict[int, tuple[bool, int]]:
    """Candidate.beats of an answer: it wins where it is chosen in both orders; a judge who likes a place decides
    nothing."""
    found = {}
    for (first, second), (one, other) in duels.items():
        tokens = one.tokens + other.tokens
        if label == first:
            found[second] = ((one.verdict, other.verdict) == ("A", "B"), tokens)
        elif label == second:
            found[first] = ((one.verdict, other.verdict) == ("B", "A"), tokens)
    return found
