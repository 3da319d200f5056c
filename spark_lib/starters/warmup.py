r"""Warm-up: supervised learning on a few hundred worked examples before SPARK begins, where `warmup.data` names some.

For a model that can solve a task but does not write \boxed{}, or has never judged an answer: while it earns no reward,
there is nothing to reinforce. The lessons are made by recycling, as judge_loss: sft makes them. A worked example is a
right response, another example's answer a wrong one, and recycle.py turns the two into judgements and reflections
with their demonstrations.

What was learned is merged into the weights and written to runs/<name>/warm. That folder is from then on the base model
of the run: SPARK's adapter starts from nothing on top of it, the KL term compares with it, and "before" measures it,
so the gain that the report shows is SPARK's own.
"""

import logging
from dataclasses import replace

from spark_lib import progress, seeds
from spark_lib.config import Config, ConfigError
from spark_lib.data import sources
from spark_lib.data.load import normal, problem_of, rows_of_split
from spark_lib.model.checkpoints import save_merged
from spark_lib.problem import Problem
from spark_lib.recycle import recycle_kind
from spark_lib.rollout import Rollout
from spark_lib.verify import same_answer, verify


def lessons(config: Config, heldout: list[Problem]) -> list[Problem]:
    """warmup.steps x warmup.batch Problems with a "demonstration" in their meta, equally many of each warmup.kinds, in
    random order. No example is among the held-out problems. Raises ConfigError."""
    warmup, rng = config.warmup, seeds.rng(config.seed, "warm-up")
    count = warmup.steps * warmup.batch
    examples = worked_examples(config, heldout, count)
    groups = [[response(problem, problem.meta["solution"], 1.0), response(problem, f"\\boxed{{{wrong}}}", 0.0)]
              for problem, wrong in zip(examples, wrong_answers(examples, rng))]
    settings = replace(config.recycle, view="answer")  # the wrong ones are no more than an answer
    made = []
    for i, kind in enumerate(warmup.kinds):
        own = count // len(warmup.kinds) + (i < count % len(warmup.kinds))
        made += recycle_kind(kind, own, groups, rng, settings)
    rng.shuffle(made)
    return made


def worked_examples(config: Config, heldout: list[Problem], limit: int) -> list[Problem]:
    """At most `limit` problems of the training split with a "solution" in their meta that the verifier confirms."""
    spec = config.warmup.data
    same = spec == config.data  # then what the config says about its fields is true here as well
    rows = sources.read_rows(spec, config.fields if same else {}, config.data_options if same else {})
    asked = {normal("\n".join([*(text for _, text in p.context), p.meta["question"]])) for p in heldout}
    rows = [row for row in rows_of_split(rows, "train") if normal(row.asked) not in asked]
    seeds.rng(config.seed, "worked examples").shuffle(rows)
    problems = []
    for row in rows[:limit]:
        if row.solution is None:
            raise ConfigError(f"warmup.data: {row.where}: there is only an answer; a worked solution is expected as "
                              "'solution', or in the answer's field before '#### …'")
        problem = problem_of(row)
        if verify(row.solution, problem):
            problems.append(replace(problem, meta=problem.meta | {"solution": row.solution}))
    if lost := len(rows[:limit]) - len(problems):
        logging.getLogger(__name__).warning("warmup.data: left out %d of %d worked solutions, which do not end in "
                                            "their row's answer", lost, len(rows[:limit]))
    if len({problem.answer for problem in problems}) < 2:
        raise ConfigError(f"warmup.data: {spec} has {len(problems)} worked examples for training; at least two with "
                          "different answers are needed")
    return problems


def wrong_answers(problems: list[Problem], rng) -> list[str]:
    """To each problem the answer of another one that is not its own."""
    answers = [problem.answer for problem in problems]
    return [rng.choice([a for a in rng.sample(answers, min(10, len(answers))) if not same_answer(a, own)] or
                       [a for a in answers if a != own]) for own in answers]


def response(problem: Problem, text: str, reward: float) -> Rollout:
    return Rollout(problem, [], [], text, True, [], reward)


def warm_up(spark, made: list[Problem], run) -> None:
    """Imitate the lessons, write the model to <run>/warm, whole or not at all, and let `spark` start from there. A run
    that was stopped in the middle begins its warm-up again."""
    folder, warmup = run.folder / "warm", spark.config.warmup
    spark.set_learning_rate(warmup.lr)
    with spark.clock.only("warm-up"), progress.bar("warm-up", warmup.steps, "step") as bar:
        for step in range(warmup.steps):
            batch = made[step * warmup.batch : (step + 1) * warmup.batch]
            learned = spark.update([], batch, ("warm-up", step))
            bar.update()
            run.count_skipped(learned)
            if step % 5 == 0 or step == warmup.steps - 1:
                run.say(f"warm-up step {step:3d}  loss {learned.get('update/nll', float('nan')):.3f}")
        if run.main:
            save_merged(spark.model, spark.tokenizer, folder)
        spark.accelerator.wait_for_everyone()
    spark.start(str(folder))
    run.warming = False
