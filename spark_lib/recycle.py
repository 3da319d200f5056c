r"""Recycling: verified groups in, new problems out. Pure Python; no model, no global randomness.

PAPER step 5: the rollouts and their right/wrong marks become judge and reflection problems whose answers are
known without any new label.

    pointwise  question + one candidate      -> Yes / No      answer: the candidate's mark
    pairwise   question + a right, a wrong   -> A / B         answer: where the right one stands
    reflect    question + one candidate      -> new answer    answer: the question's reference
    solve      the question again, only to imitate a right response (judge_loss: sft), as a control

Departures from the paper. Its all-right groups feed only "Yes" and its reflections only show wrong candidates,
so that "always Yes" or "always disagree" pays and the class balance swings as accuracy rises. Here the share
of right candidates is fixed by the config in both kinds, and A and B are right equally often. What a class
lacks is not filled up with the other one; then there are fewer problems of that kind.

Who is a candidate. A response that was cut off at the token limit or has no \boxed{} answer is a wrong
response but no candidate: it shows nothing to judge, and "no box, so No" would be a shortcut.
"""

import random
import re
from dataclasses import replace

from spark_lib import prompts
from spark_lib.problem import Problem
from spark_lib.rollout import Rollout
from spark_lib.verify import extract_boxed, last_box


def candidates(groups: list[list[Rollout]], right_at: float) -> tuple[list[list[Rollout]], list[list[Rollout]]]:
    """(right, wrong): for each solve group its candidates that are right (reward >= right_at) and wrong."""
    usable = [
        [r for r in group if r.problem.kind == "solve" and r.finished and extract_boxed(r.text) is not None]
        for group in groups
    ]
    right = [[r for r in group if r.reward >= right_at] for group in usable]
    wrong = [[r for r in group if r.reward < right_at] for group in usable]
    return right, wrong


def recycle(groups: list[list[Rollout]], rng: random.Random, config) -> list[Problem]:
    """Judge and reflection problems made from verified solve groups, of the kinds in config.recycle.kinds.

    config: a Config; their number is what `judge_share` of a step's responses pays for (Config.judge_problems).
    Each problem's meta holds the "question", the "candidates" (Rollouts) and a "demonstration" where the group has
    a right response to build it from; meta never reaches the prompt, so neither the reference answer nor a mark can
    leak into it. The same groups and rng give the same problems.
    """
    kinds, shares = config.recycle.kinds, config.recycle.shares
    if not kinds:
        return []
    # As many as the budget has, each kind drawn with its share at even distances: so none is lost to rounding.
    total, start = sum(shares.get(kind, 0) for kind in kinds), rng.random()
    ends = [config.judge_problems * sum(shares.get(k, 0) for k in kinds[: i + 1]) / total for i in range(len(kinds))]
    places = [int(end + start) for end in ends]
    problems = []
    for kind, before, after in zip(kinds, [0, *places], [*places[:-1], config.judge_problems]):
        problems += recycle_kind(kind, after - before, groups, rng, config.recycle)
    rng.shuffle(problems)
    return problems


def recycle_kind(
    kind: str, count: int, groups: list[list[Rollout]], rng: random.Random, settings
) -> list[Problem]:
    """At most `count` problems of one kind; settings is config.recycle."""
    right, wrong = candidates(groups, settings.right_at)
    models = [[likeliest(r)] if settings.likeliest and r else r for r in right]  # of demonstrations
    has_right = [i for i in range(len(groups)) if right[i]]
    has_wrong = [i for i in range(len(groups)) if wrong[i]]
    problems = []
    if kind == "solve":  # imitation of right solutions
        for i in draw(has_right, count, rng):
            shown = rng.choice(models[i])
            problems.append(replace(shown.problem, meta=shown.problem.meta | {"demonstration": shown.text}))
    elif kind == "pairwise":
        first = rng.randrange(2)  # so that an odd count favours neither place
        right_is_a = [(k + first) % 2 == 0 for k in range(count)]
        rng.shuffle(right_is_a)
        for i, a_wins in zip(draw([i for i in has_right if wrong[i]], count, rng), right_is_a):
            pair = [rng.choice(right[i]), rng.choice(wrong[i])]
            shown, answer = (pair, "A") if a_wins else (pair[::-1], "B")
            problems.append(about(kind, shown, answer, settings.view, rng, models[i], settings.comparison))
    else:
        share = settings.pointwise_right if kind == "pointwise" else settings.reflect_right
        n_right = int(count * share + rng.random())  # rounds up or down, so that small counts are right on average
        for pool, members, number in ((has_right, right, n_right), (has_wrong, wrong, count - n_right)):
            for i in draw(pool, number, rng):
                shown = rng.choice(members[i])
                verdict = "Yes" if members is right else "No"
                answer = verdict if kind == "pointwise" else shown.problem.answer
                problems.append(about(kind, [shown], answer, settings.view, rng, models[i], settings.comparison))
    return problems


def likeliest(rollouts: list[Rollout]) -> Rollout:
    """The one that was most probable as a whole, which is one without a slip of the sampler, and a short one."""
    return max(rollouts, key=lambda r: sum(r.logprobs))


def draw(pool: list[int], count: int, rng: random.Random) -> list[int]:
    """`count` members of the pool, each used once before any is used again; none from an empty pool."""
    drawn: list[int] = []
    while pool and len(drawn) < count:
        drawn += rng.sample(pool, min(len(pool), count - len(drawn)))
    return drawn


def about(
    kind: str, shown: list[Rollout], answer: str, view: str, rng: random.Random, right: list[Rollout] = (),
    comparison: str = "characters",
) -> Problem:
    """One problem of `kind` about the candidates `shown`; `right` are right responses to the same question, from which
    its demonstration is made.

    Of a reflection (test time, second round) only the answer is shown: its text speaks of the answer before it.
    """
    trace = view == "trace" or view == "both" and rng.random() < 0.5
    trace = trace and shown[0].problem.kind == "solve"
    boxes = [extract_boxed(r.text) for r in shown]
    answers = [r.text.strip() if box is None else box for r, box in zip(shown, boxes)]
    texts = [r.text.strip() for r in shown] if trace else answers
    texts = [prompts.without(text, [prompts.MARK]) for text in texts]  # images stand where the question says
    source = shown[0].problem
    question = source.meta["question"]
    fields = dict(zip("ab", texts)) if kind == "pairwise" else {"candidate": texts[0]}
    meta = {"question": question, "candidates": shown, "view": "trace" if trace else "answer"}
    # A demonstration should not copy the very candidate that it judges, if there is another right response.
    others = [r for r in right if r not in shown] or right
    if kind != "reflect" and answer in ("No", "B"):  # other marks than the verifier's may part what says the same
        others = [r for r in others if extract_boxed(r.text) != answers[0]]
    if others:
        meta["demonstration"] = demonstration(kind, rng.choice(others).text, answers, answer, comparison)
    return Problem(
        prompts.render(kind, rng, question=question, **fields), answer, kind, source.image,
        source.choices if kind == "reflect" else (), meta, source.context, source.also if kind == "reflect" else (),
    )


def demonstration(
    kind: str, solution: str, answers: list[str], verdict: str, comparison: str = "characters"
) -> str:
    r"""The text that `judge_loss: sft` imitates: an own right response, a written comparison, the verdict.

    solution: a right response with its box; answers: the candidates' final answers. For a reflection it is the
    solution itself. The comparison must be written out: without it imitation taught nothing here. In "words" the
    solution's box is left out: a model that ends its responses with a box ends its judgements there as well.
    """
    solution = solution.strip()
    if kind == "reflect":
        return solution
    name = "The proposed answer" if kind == "pointwise" else "Answer A"
    agrees = verdict in ("Yes", "A")
    own = extract_boxed(solution)
    if comparison == "words":
        said = "the same" if agrees else f"not {own}"
        return f"{unboxed(solution)} {name} is {answers[0]}, {said}. \\boxed{{{verdict}}}".strip()
    return f"{solution} {name} is {compare(own, answers[0], agrees)} \\boxed{{{verdict}}}"


def unboxed(solution: str) -> str:
    r"""The solution up to its last box, ending in its answer: "4 + 3 = 7. \boxed{7}" -> "4 + 3 = 7."; where it does
    not, the answer takes the box's place: "It is \boxed{7}." -> "It is 7."."""
    box = last_box(solution)
    own = solution[box].strip()
    # Mathematics that was begun for the box goes with it: "$\boxed{7}$".
    before = re.sub(r"(\$+|\\[([])?\s*\\{1,2}boxed\s*\{$", "", solution[: box.start]).strip()
    return before if re.search(rf"(?<!\w){re.escape(own)}[ .$]*$", before) else f"{before} {own}.".strip()


def compare(own: str, other: str, agrees: bool, limit: int = 12) -> str:
    """`other`, then whether it says the same as `own`: character by character up to the first difference
    where both are short (a tiny model cannot compare numbers at a glance), else in one word.

    compare("141", "131", False) -> "131: 1 1 same, 4 3 differ."
    """
    if max(len(own), len(other)) > limit or agrees != (own == other):
        return f"{other}: {'the same' if agrees else 'different'}."
    steps = []
    for x, y in zip(own, other):
        steps.append(f"{x} {y} {'same' if x == y else 'differ'}")
        if x != y:
            break
    else:
        if len(own) != len(other):
            steps.append("length differ")
    return f"{other}: {', '.join(steps)}."
