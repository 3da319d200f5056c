# %% [markdown]
# # 6. Break it
#
# After this lesson you know four ways in which training goes wrong and the figure that gives each away, and you have
# mended each yourself.
#
# Eight runs follow, of four or eight small steps. Five are wrong on purpose, three are what they should be, to compare
# with. Of one short run one must not conclude much; these failures were chosen gross. Each run leaves a page to open
# in a browser, `runs/lesson-6/<name>/report.html` below the folder that you started from
# ([docs/record.md](../record.md) says how to read it). Have it beside you.

# %%
import contextlib
import io
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
from accelerate import Accelerator
from lesson import GREY, RIGHT, WRONG, answered, show

from spark_lib import seeds
from spark_lib.config import load_config
from spark_lib.data.load import arithmetic, load_problems
from spark_lib.problem import Problem
from spark_lib.recycle import recycle_kind
from spark_lib.rewards import load_rule
from spark_lib.run import Run, read_lines
from spark_lib.verify import verify
from spark_lib.view import read, write_page
from train import Spark, train

runs = Path("runs/lesson-6")
data = load_problems("arithmetic")
started = {}  # by name of a run: the settings that it was started with


def trained(name: str, *settings: str) -> tuple[Spark, list[dict]]:
    """Some small steps; returns what was trained, and the log, a dict per step (docs/metrics.md)."""
    shutil.rmtree(runs / name, ignore_errors=True)  # of an earlier try
    started[name] = settings
    small = ["problems_per_step=8", "max_steps=8", "lr_schedule=constant", f"run_name=lesson-6/{name}"]
    spark = Spark(load_config([*small, *settings]), Accelerator())
    with contextlib.redirect_stdout(io.StringIO()), Run(spark) as run:
        train(spark, data, run)
    write_page(run.folder)
    return spark, read_lines(run.folder / "metrics.jsonl")


def line(name: str, values: list) -> None:
    print(f"{name:28}", *(f"{value:5.0%}" for value in values))


# %% [markdown]
# ## 1. A verifier that errs
#
# First a run as it should be, on solving alone. Then the same with a verifier that calls 80 % of the right answers
# wrong and lets 80 % of the wrong ones pass (the keys `noise.…`, made for studies). The record keeps the true mark of
# each response beside the one that was learned from.

# %%
_, sound = trained("sound", "recycle.kinds=[]")
_, noisy = trained("noisy", "recycle.kinds=[]", "noise.false_negative=0.8", "noise.false_positive=0.8")
responses = [[r for group in step["groups"] for r in group["responses"]] for step in read(runs / "noisy")]
truly = [sum(r["truth"] for r in step) / len(step) for step in responses]
line("sound: reward", [step["solve/reward"] for step in sound])
line("noisy: reward", [step["solve/reward"] for step in noisy])
line("noisy: truly right", truly)

# %% [markdown]
# Look at the reward alone, and the noisy run is the better one: it learns what it is paid for, and it is paid for being
# wrong. On its page, open a late step: ● stands by wrong answers ("the verifier says wrong" below it is the true mark,
# from before the noise).
#
# What decides is J = (share of right responses that are paid) − (share of wrong ones that are paid). In theory noise
# only makes learning slower above 0, nothing is learned at 0, and below 0 the opposite is
# ([2601.04411](https://arxiv.org/abs/2601.04411)). At the quickstart's rate less was learned than that: at 0.2 chance
# decided, as six runs went from 39 % to anywhere from 13 to 59, and 0 ruined the model ([the
# study](../results/noise/report.md)). Before a long run, mark a hundred responses by hand and compute J.
#
# ## 2. A judge of one class
#
# Every candidate that this judge is shown is right (`recycle.pointwise_right=1`). Beside it the usual balance. For the
# sake of speed only judging is learned.

# %%
judging = ["recycle.kinds=[pointwise]", "weights.solve=0", "group_size=4", "judge_share=0.6"]
one_class, told_yes = trained("one-class", *judging, "recycle.pointwise_right=1")
balanced, told_both = trained("balanced", *judging)


def recalls(spark: Spark) -> list[float]:
    """Shares of right verdicts on right and on wrong answers of the starter's to held-out problems."""
    groups = spark.roll(arithmetic("test", 40, seed=0), 4, ("lesson 6", "candidates"), start_model=True)
    asked = recycle_kind("pointwise", 80, groups, seeds.rng("lesson 6"), load_config([]).recycle)
    verdicts = [group[0] for group in spark.roll(asked, 1, ("lesson 6", "verdicts"))]
    of_gold = [[r.reward for r in verdicts if r.problem.answer == gold] for gold in ("Yes", "No")]
    return [sum(marks) / len(marks) for marks in of_gold]


for name, log, spark in (("one class", told_yes, one_class), ("balanced", told_both, balanced)):
    line(f"{name}: reward", [step["pointwise/reward"] for step in log])
    line(f"{name}: says Yes", [step["pointwise/said_yes"] for step in log])
    line(f"{name}: verdicts right", recalls(spark))

# %% [markdown]
# (The last line: how many of the verdicts are right, on right answers and on wrong ones.)
#
# By its reward the first judge is perfect within a few steps. It says Yes to everything, unread: open its page and see
# how short its judgements have become. At test time it would accept every wrong answer. The balanced judge earns less
# and knows more. Two lines give the first one away: `pointwise/said_yes` near 1, and `pointwise/accuracy_no` missing.
#
# The class balance need not be set wrong for this to happen. Recycle candidates as they come, and from a model that is
# right nine times in ten the judge learns to say Yes.
#
# ## 3. Too high a rate
#
# Solving again, with twenty times the learning rate and the KL term off (`beta=0`). Then with the term, a thousand
# times stronger than usual. Does it hold the model back?

# %%
_, fast = trained("fast", "recycle.kinds=[]", "lr=0.03", "beta=0", "max_steps=4")
_, held = trained("fast-kl", "recycle.kinds=[]", "lr=0.03", "beta=1", "max_steps=4")
for name, log in (("sound", sound[:4]), ("fast, no KL", fast), ("fast, strong KL", held)):
    line(f"{name}: reward", [step["solve/reward"] for step in log])
print("groups learned from in each step, fast:", [step["update/rows"] for step in fast])

# %% [markdown]
# One update was enough to forget how to add, and then next to nothing comes back: when all answers are wrong, all
# groups are flat, and flat groups are dropped. No group, no gradient.
#
# The KL term did not help, and could not: before the first update the policy *is* the starting model and the term's
# gradient is 0; behind it there is hardly a row left for the term to act on. It is a soft pull over many small steps,
# and no brake. The signs: `solve/reward` falls off a cliff, `update/rows` is near 0. What does mend it is exercise 2.
#
# ## 4. A hedge that is paid
#
# This rule looks innocent: it pays if the reference answer occurs in the response.

# %%
rule_file = runs / "anywhere.py"
rule_file.write_text("def anywhere(text, problem):\n    return float(problem.answer in text)\n")
anywhere = load_rule(f"{rule_file}:anywhere")
hedge = " ".join(str(number) for number in range(30, 298))
print("a text that lists every number from 30 to 297 is paid for so many of 500 questions:", *(
    f"{rule.__name__} {sum(rule(hedge, problem) for problem in data[:500]) / 500:.0%}" for rule in (anywhere, verify)))

# %% [markdown]
# Whoever names all answers is always paid. The starter will not find that text in eight steps, but it has a hedge of
# its own: asked to reflect on a wrong answer, it often works the sum out, sees that they differ, and keeps the wrong
# one. Its text then holds both numbers. We train reflections on wrong answers by that rule, and by the kit's.

# %%
reflecting = "recycle.kinds=[reflect] recycle.reflect_right=0 weights.solve=0 group_size=4 judge_share=0.7".split()
_, hedging = trained("hedge", *reflecting, f"verifier={rule_file}:anywhere")
right, shown = [], None
for step in read(runs / "hedge"):
    told = [(r, group) for group in step["groups"] if group["kind"] == "reflect" for r in group["responses"]]
    marks = [verify(r["text"], Problem("", group["answer"])) for r, group in told]
    right.append(sum(marks) / len(told))
    shown = next((told[i] for i, mark in enumerate(marks) if told[i][0]["reward"] and not mark), shown)
line("paid if anywhere: paid", paid := [step["reflect/reward"] for step in hedging])
line("paid if anywhere: right", right)
line("paid if right: right", [step["reflect/reward"] for step in trained("no-hedge", *reflecting)[1]])
print(f"\n{shown[1]['question']}  answer: {shown[1]['answer']}, paid for:\n{shown[0]['text']}")

# %% [markdown]
# The first two lines should be one. What lies between them are responses like the last: the right number in passing,
# another one in the box. Working the sum out is rewarded and making up one's mind is not, so that it is learned only by
# the way; the last line is what the same steps give where it is paid. The mend is to read one place, the last box, and
# to take two answers in it for none: [docs/verifier.md](../verifier.md).

# %%
figure, ((noise, classes), (rate, hedged)) = plt.subplots(2, 2, figsize=(11, 6.6), layout="constrained")
noise.plot([step["solve/reward"] for step in sound], "o-", color=RIGHT, label="sound: reward")
noise.plot([step["solve/reward"] for step in noisy], "o--", color=GREY, label="noisy: reward")
noise.plot(truly, "o-", color=WRONG, label="noisy: truly right")
classes.plot([step["pointwise/said_yes"] for step in told_yes], "o-", color=WRONG, label="one class")
classes.plot([step["pointwise/said_yes"] for step in told_both], "o-", color=RIGHT, label="balanced")
for name, log, style in (("sound", sound, "C2-"), ("fast, no KL", fast, "C3-"), ("fast, strong KL", held, "k:")):
    rate.plot([step["solve/reward"] for step in log], style, marker="o", label=name)
hedged.plot(paid, "o--", color=GREY, label="paid by the rule")
hedged.plot(right, "o-", color=WRONG, label="right")
for axes, title in ((noise, "1. A verifier that errs"), (classes, "2. A judge of one class: says Yes"),
                    (rate, "3. Too high a rate: reward"), (hedged, "4. A hedge that is paid")):
    axes.set(title=title, ylim=(-0.03, 1.03), xlabel="step")
    axes.legend(frameon=False, fontsize=8)
show(figure, "6_break_it")

# %% [markdown]
# ## Exercises
#
# [Solutions](solutions/6_break_it.py) are apart.
#
# **1.** What was J in the noisy run? Not by its settings: as measured, over all responses of its record. `responses`
# holds them by step; each is a dict with its "reward" and its "truth".

# %%
my_j = ...  # your turn: a number; let Python compute it

# %%
if answered("exercise 1", my_j):
    rates = [[r["reward"] for step in responses for r in step if r["truth"] == truth] for truth in (1, 0)]
    j = sum(rates[0]) / len(rates[0]) - sum(rates[1]) / len(rates[1])
    assert abs(my_j + j) > 1e-3, "the other way round: of the right ones minus of the wrong ones"
    assert abs(my_j - j) < 1e-3, f"not {my_j:.3f}: mean reward where truth is 1, minus mean reward where it is 0"
    print(f"exercise 1: right, J = {j:.2f}. Any J below 0, and more training makes it worse.")

# %% [markdown]
# **2.** Mend the first three. Your settings are added behind those that the run was started with, and of two the later
# one counts. The number of steps stays. When it is done, open each `runs/lesson-6/mended-<name>/report.html` beside the
# broken run's page: where do you see the difference?

# %%
my_mends = ...  # your turn: {"noisy": ["key=value", …], "one-class": […], "fast": […]}

# %%
if answered("exercise 2", my_mends):
    assert my_mends.keys() == {"noisy", "one-class", "fast"}, "a list of settings for each of noisy, one-class and fast"
    logs = {name: trained(f"mended-{name}", *started[name], *my_mends[name])[1] for name in my_mends}
    marked = [r for step in read(runs / "mended-noisy") for group in step["groups"] for r in group["responses"]]
    assert {name: len(log) for name, log in logs.items()} == {"noisy": 8, "one-class": 8, "fast": 4}, "leave the steps"
    assert all(r.get("truth", r["reward"]) == r["reward"] for r in marked), "noisy: some marks are still wrong"
    assert "pointwise/accuracy_no" in logs["one-class"][-1], "one-class: it is still shown right answers only"
    yes = logs["one-class"][-1]["pointwise/said_yes"]
    assert 0.2 < yes < 0.8, f"one-class: in the end it says Yes to {yes:.0%}"
    assert min(step["solve/reward"] for step in logs["fast"]) > 0.2, "fast: the reward still falls"
    assert load_config(started["mended-fast"]).lr >= 3e-4, "fast: at such a rate it does not fall, nor learn"
    print("exercise 2: right. None of the three was mended by more steps.")

# %% [markdown]
# **3.** Mend the rule of part 4: 1 where the last box holds the right answer and nothing else, 0 for every hedge. Not
# by calling `verify`; its parts in [verify.py](../../spark_lib/verify.py) you may use.

# %%
my_rule = ...  # your turn: a function (text, problem) -> number; define it above and put its name here

# %%
if answered("exercise 3", my_rule):
    asked = Problem("47 + 58 + 36 = ?", "141")
    assert my_rule is not verify, "that is the kit's own: write yours, which may be shorter, as it reads numbers only"
    assert my_rule("47 + 58 = 105. 105 + 36 = 141. \\boxed{141}", asked) == 1, "this one is right and earns nothing"
    for text in ("105 + 36 = 141. Keep it: \\boxed{131}", hedge, "\\boxed{131 or 141}", "\\boxed{141 or 131}",
                 "\\boxed{1410}", "\\boxed{141} or \\boxed{131}", "\\boxed{141} or \\boxed{131 or 141}"):
        assert my_rule(text, asked) == 0, f"the last box does not hold 141 alone, and this is paid: {text[-40:]}"
    print("exercise 3: right. Whatever a rule leaves open, a policy finds.")
