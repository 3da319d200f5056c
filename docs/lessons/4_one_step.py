# %% [markdown]
# # 4. One step of SPARK
#
# After this lesson you can walk through a training step from problem to updated weights, say which skills move after
# 1, 5 and 20 steps, tell what is noise, and say what policy-only training learns from as many responses.
#
# Have [train.py](../../train.py) open: `train()` is the loop, `Spark` the model with its optimiser and two verbs,
# `roll` (sample and mark) and `update`.

# %%
import matplotlib.pyplot as plt
from accelerate import Accelerator
from lesson import GREY, answered, show

from spark_lib import seeds
from spark_lib.config import load_config
from spark_lib.data.load import load_problems, problems_of_step
from spark_lib.evaluation import skills
from spark_lib.loss import rows_of_groups
from spark_lib.model.packing import pack
from spark_lib.recycle import recycle
from train import Spark, train

# %% [markdown]
# ## By hand
#
# The settings are the quickstart's, made smaller, so that a minute or two is enough: with half of all responses for
# judging, and a higher rate, as there are only twenty steps.

# %%
small = ["problems_per_step=7", "judge_share=0.5", "lr=2e-3", "max_steps=20", "eval.rounds=0", "save_every=100"]
config = load_config(small)
data = load_problems("arithmetic", "train", seed=config.seed)
spark = Spark(config, Accelerator())

problems = problems_of_step(data, 0, config.problems_per_step, config.seed)
groups = spark.roll(problems, config.group_size, (0, "solve"))
recycled = recycle(groups, seeds.rng(config.seed, 0, "recycle"), config)
judged = spark.roll(recycled, config.judge_group_size, (0, "judge"))
for group in groups + judged:
    print(f"{group[0].problem.kind:9} marks {[int(r.reward) for r in group]}")

# %% [markdown]
# Groups of eight for the questions, of four for what was recycled from them. All of them become one list, and one
# update. What does it do? We ask for the log-probs of every response before and after it.

# %%
batch = pack(rows_of_groups(groups + judged, config))  # what the update will learn from
before = spark.logprobs(spark.model, batch).detach()
learned = spark.update(groups + judged, [], step=0)  # [] are demonstrations to imitate: none
change = (spark.logprobs(spark.model, batch).detach() - before).sum(1, keepdim=True)  # per response
for what, which in (("above", batch.advantages > 0), ("below", batch.advantages < 0)):
    print(f"{which.sum()} responses {what} their group's mean: log-prob changed by {change[which].mean():+.3f} (mean)")
print({name: round(learned[name], 4) for name in ("update/rows", "update/loss", "update/nll")})

# %% [markdown]
# That was a step. The responses that earned more than their neighbours became likelier than the others did. The loss
# is nearly 0, as in lesson 2.
#
# ## Twenty steps, by train.py itself
#
# `train` takes a run, which logs and saves. Ours keeps no folder; it measures instead. `skills.measure` asks held-out
# problems: solve, judge one answer, choose between two, reflect on one. The judge problems are made once, from the
# starting model's answers, so that everybody is asked the same.

# %%
heldout = load_problems("arithmetic", "test", limit=100, seed=config.seed)


def measure(spark):
    """Skills and their 95 % intervals on held-out problems."""
    return skills.measure(heldout, judge_set, lambda *asked: ask(spark, *asked), config)


def ask(spark, problems, n, stream):
    return spark.roll(problems, n, ("evaluation", stream), whole=True)


class Watch:
    """In the place of run.Run: measures after some steps."""

    progress = 0.0

    def __init__(self, spark, when):
        self.spark, self.when, self.done, self.tokens, self.seen = spark, when, 0, 0, {}

    def steps(self):
        return range(self.spark.config.max_steps)

    def log(self, groups, learned):
        self.done += 1
        self.tokens += sum(len(r.response_ids) for group in groups for r in group)
        if self.done in self.when:
            self.seen[self.done] = measure(self.spark)


spark = Spark(config, Accelerator())  # from the beginning
judge_set = skills.judge_set(heldout, lambda *asked: ask(spark, *asked), config)
start = measure(spark)
both = Watch(spark, when=(1, 5, 20))
train(spark, data, both)

# %% [markdown]
# ## Policy-only beside it
#
# Without recycling, all responses go to solving: 14 problems of 8 responses are as many as 7 problems of 8 and the
# recycled ones of 4. (As many responses, not as many tokens: judging takes longer texts.)

# %%
alone = Spark(load_config([*small, "problems_per_step=14", "recycle.kinds=[]"]), Accelerator())
policy_only = Watch(alone, when=(20,))
train(alone, data, policy_only)

names = ("solve", "pointwise", "pairwise", "reflection")
print(f"{'% right of 100':22}" + "".join(f"{name:>16}" for name in names))
for label, watch in (("SPARK", both), ("policy-only", policy_only)):
    for step, result in {0: start, **watch.seen}.items():
        cells = [(result["skills"][name], *result["intervals"][name]) for name in names]
        told = "".join(f"{100 * x:6.0f} ({100 * low:2.0f} – {100 * high:2.0f})" for x, low, high in cells)
        print(f"{label:12} step {step:3}  {told}")
print(f"tokens sampled: SPARK {both.tokens:,}, policy-only {policy_only.tokens:,}")

# %% [markdown]
# In brackets stand 95 % intervals: how far a figure may be off because only 100 problems were asked. Read them first.
# After one step there is nothing but noise. After five, solving is at the edge. After twenty, solving and reflecting
# have moved for certain, and both judgements are on their way, as far as the brackets let you say so. Between SPARK and
# policy-only training no pair of brackets is clear of each other yet. Reflecting comes nearest, where one has to judge
# *and* to solve; that twice the practice solves better is to be expected, and not shown by these figures.
#
# What becomes of it in a longer run, with 500 problems and several seeds, is on [the quickstart's
# page](../results/quickstart.md): policy-only training then solves a little better (4 points), and judges and reflects
# far worse. It judges better than before, too: who computes better also finds more errors. And all of that is a tiny
# model with faults that were put there on purpose ([docs/method.md](../method.md)): it shows how the parts work
# together, not what a real model would gain.

# %%
figure, panels = plt.subplots(1, 4, figsize=(12, 3.2), layout="constrained", sharey=True)
for axes, name in zip(panels, names):
    for watch, color, label in ((policy_only, GREY, "policy-only"), (both, "#1f77b4", "SPARK")):
        results = {0: start, **watch.seen}
        values = [100 * r["skills"][name] for r in results.values()]
        low, high = zip(*(r["intervals"][name] for r in results.values()))
        bars = [[v - 100 * x for v, x in zip(values, low)], [100 * x - v for v, x in zip(values, high)]]
        axes.errorbar(list(results), values, bars, color=color, label=label, marker="o", markersize=4, capsize=2)
    axes.set(title=name, xlabel="step", ylim=(0, 100))
panels[0].set(ylabel="% right")
panels[0].legend(frameon=False, loc="lower right")
show(figure, "4_one_step")

# %% [markdown]
# ## Exercises
#
# [Solutions](solutions/4_one_step.py) are apart.
#
# **1.** A step has 16 problems of 8 responses. Half of all its responses shall go to recycled problems
# (`judge_share=0.5`), 4 to each. How many recycled problems is that?

# %%
my_recycled = ...  # your turn: a number

# %%
if answered("exercise 1", my_recycled):
    assert my_recycled != 16, (
        "the recycled problems have 4 responses each, not 8; and half of *all* responses is as many as for solving")
    true = load_config(["problems_per_step=16", "judge_share=0.5"]).judge_problems
    assert my_recycled == true, "solving has 16 · 8 responses, and judging shall have as many, in groups of 4"
    print("exercise 1: right. So judging half of the time takes twice as many problems as solving.")

# %% [markdown]
# **2.** Find the groups of our first step (`groups + judged`) that taught something.

# %%
my_groups = ...  # your turn: a list of groups

# %%
if answered("exercise 2", my_groups):
    assert not any(isinstance(group, int) for group in my_groups), "the groups themselves, not their numbers"
    assert len(my_groups) < len(groups + judged) or learned["update/rows"] == len(my_groups), (
        "some of these groups have no variance")
    assert all(len({r.reward for r in group}) > 1 for group in my_groups), "one of yours has marks that are all alike"
    assert len(my_groups) == learned["update/rows"], f"update learned from {learned['update/rows']} groups, judging too"
    print("exercise 2: right. So many rows did the update have.")

# %% [markdown]
# **3.** Write a rule of thumb for noise: a function of two intervals `(low, high)`, one before and one after, that
# says whether the skill has moved for certain, up or down: whether the intervals have no number in common.

# %%
my_moved = ...  # your turn: a function of two pairs -> True or False

# %%
if answered("exercise 3", my_moved):
    assert my_moved((0.4, 0.5), (0.6, 0.7)), "0.4–0.5 and 0.6–0.7 have nothing in common: it rose"
    assert not my_moved((0.4, 0.6), (0.5, 0.7)), "0.4–0.6 and 0.5–0.7 overlap: that may be noise"
    assert my_moved((0.6, 0.7), (0.4, 0.5)), "a skill that falls has moved as well"
    assert not my_moved((0.4, 0.5), (0.5, 0.6)), "they have 0.5 in common"
    assert not my_moved((0.5, 0.7), (0.4, 0.6)), "0.5–0.7 and 0.4–0.6 overlap: a fall may be noise as well"
    assert not my_moved((0.2, 0.9), (0.3, 0.4)), "one lies within the other"
    for step, result in both.seen.items():
        moved = [name for name in names if my_moved(start["intervals"][name], result["intervals"][name])]
        print(f"exercise 3: right. Certain after {step} step{'s' * (step > 1)}: {', '.join(moved) or 'nothing'}")
