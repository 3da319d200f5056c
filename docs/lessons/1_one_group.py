# %% [markdown]
# # 1. One group
#
# After this lesson you can say what a *rollout*, a *group*, a *mark* and an *advantage* are, compute advantages by
# hand, and tell which questions teach a model nothing.
#
# Reinforcement learning here begins with a very plain idea: ask a model the same question several times, see which of
# its answers are right, and make the right ones more likely. Everything in this lesson is done by the functions that
# [train.py](../../train.py) uses.

# %%
import matplotlib.pyplot as plt
import numpy
import torch
from lesson import GREY, RIGHT, WRONG, answered, show

from spark_lib import seeds
from spark_lib.config import load_config
from spark_lib.data.load import arithmetic
from spark_lib.loss import group_advantages, rows_of_groups
from spark_lib.model.load import load_model
from spark_lib.rewards import mark
from spark_lib.rollout import sample

# %% [markdown]
# ## A question
#
# A `Problem` ([problem.py](../../spark_lib/problem.py)) is a prompt, and an answer that a rule can check. The model
# sees the prompt and never the answer.

# %%
problems = arithmetic("train", 40, seed=0)
print(problems[0].prompt, "\n\nreference answer:", problems[0].answer)

# %% [markdown]
# ## Eight answers
#
# `sample` asks the model every question eight times. It draws each token at random, from the probabilities that the
# model gives (temperature 1): the eight responses differ, as those of eight students would. One sampled response is a
# **rollout**, and all rollouts of one question are a **group**. `mark` gives each rollout its **mark** (also called
# reward): 1 if the last `\boxed{…}` holds the reference answer, else 0.
#
# We ask 40 questions and look at a group with about three right answers.

# %%
config = load_config([])  # configs/quickstart.yaml: the model that comes with the kit
model, tokenizer = load_model(config)
groups = sample(model, tokenizer, problems, 8, config.max_new_tokens, 1.0, seeds.generator("lesson 1"))
mark(groups, None)
group = min(groups, key=lambda g: abs(sum(r.reward for r in g) - 3))
print(group[0].problem.meta["question"], "reference answer:", group[0].problem.answer, "\n")
for r in group:
    print(f"mark {r.reward:.0f}   {r.text}")

# %% [markdown]
# Read a wrong one closely: where did it slip? The mark does not say. It is one number for the whole text, and finding
# out which token was to blame is left to chance and to many groups.
#
# A rollout ([rollout.py](../../spark_lib/rollout.py)) keeps its token ids and how probable each of them was when it
# was drawn. Lesson 2 needs both.

# %%
for token, logprob in list(zip(group[0].response_ids, group[0].logprobs))[:10]:
    print(f"{tokenizer.decode(token)!r:12} probability {torch.tensor(logprob).exp():.2f}")

# %% [markdown]
# ## Advantages
#
# How much better than the others was each answer? That is its **advantage**: the mark minus the group's mean, divided
# by the group's standard deviation. The group is its own yardstick, and no second model has to estimate what was to be
# expected. This is the G in GRPO.
#
# $$A_i = \frac{r_i - \mathrm{mean}(r)}{\sqrt{\mathrm{mean}((r - \mathrm{mean}(r))^2) + \varepsilon}}$$

# %%
marks = torch.tensor([[r.reward for r in group]])  # (groups, responses): here one group
advantages = group_advantages(marks)
print("marks      ", marks[0].tolist())
print("advantages ", [round(a, 2) for a in advantages[0].tolist()], " sum", abs(round(advantages.sum().item(), 3)))

# %% [markdown]
# Responses above the mean get a positive advantage: their tokens will be made more probable. Those below get a
# negative one. Together they are 0: a group says nothing about how good its answers are, only which are better than
# others.
#
# ## A group without variance teaches nothing
#
# When all eight are right, or all eight wrong, every mark *is* the mean. All advantages are 0, and so is the gradient.

# %%
for alike in (torch.ones(1, 8), torch.zeros(1, 8)):
    print("marks", alike[0].tolist(), "-> advantages", group_advantages(alike)[0].tolist())
rows = rows_of_groups(groups, config)
print(f"\n{len(groups)} groups, {len(rows)} of them become training rows; the others are dropped")

# %% [markdown]
# How often does that happen? If each answer is right with probability p, independently of the others, then all n are
# alike with probability $p^n + (1-p)^n$. A question that is far too hard or far too easy costs as much to sample as
# any other, and teaches nothing. A larger group helps; so do questions that fit the model.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
left.bar(range(1, 9), advantages[0].tolist(), color=[RIGHT if r.reward else WRONG for r in group])
left.axhline(0, color="black", linewidth=0.8)
left.set(title="One group: advantages (green: right)", xlabel="response", ylabel="advantage", xticks=range(1, 9))
skill = numpy.linspace(0, 1, 201)
for n, style in ((4, ":"), (8, "-"), (16, "--")):
    right.plot(skill, skill**n + (1 - skill) ** n, style, color=GREY if n != 8 else "black", label=f"groups of {n}")
mean = sum(r.reward for g in groups for r in g) / (8 * len(groups))
flat = sum(len({r.reward for r in g}) == 1 for g in groups) / len(groups)
right.plot(mean, flat, "o", color=WRONG, label=f"our {len(groups)} groups of 8")
right.set(title="Groups that teach nothing", xlabel="chance that one answer is right", ylabel="share of groups")
right.legend(frameon=False, loc="upper center")
show(figure, "1_one_group")

# %% [markdown]
# The dot need not lie on the line: some questions are harder than others, and 40 groups are few.
#
# ## Exercises
#
# Put your answer in the place of `...` and run the cell below it. It checks itself.
# [Solutions](solutions/1_one_group.py) are apart.
#
# **1.** Four responses have the marks 1, 0, 0, 0. What are their advantages? Compute them by hand, to two decimals.

# %%
my_advantages = ...  # your turn: a list of four numbers

# %%
if answered("exercise 1", my_advantages):
    assert len(my_advantages) == 4, "four responses have four advantages"
    assert abs(sum(my_advantages)) < 0.05, (
        f"advantages of a group sum to 0, yours to {sum(my_advantages):.2f}: did you subtract the mean?")
    true = group_advantages(torch.tensor([[1.0, 0.0, 0.0, 0.0]]))[0]
    assert torch.allclose(torch.tensor(my_advantages, dtype=torch.float), true, atol=0.006), (
        "they sum to 0, good; divide each by the square root of the mean squared distance (a mean of 4 numbers, not 3)")
    print("exercise 1: right. The one that succeeded counts three times as much as each that failed.")

# %% [markdown]
# **2.** A model gets questions of some kind right 9 times out of 10. Which share of its groups of 8 teaches nothing?

# %%
my_flat_share = ...  # your turn: a number between 0 and 1; Python may compute it

# %%
if answered("exercise 2", my_flat_share):
    assert 0 <= my_flat_share <= 1, "a share is a number between 0 and 1"
    assert abs(my_flat_share - (1 - 0.9**8)) > 0.01, "that is the share that does teach something"
    assert abs(my_flat_share - 0.9**8) < 0.01, (
        "all eight are right: 0.9 times 0.9 …, eight times; all eight wrong hardly ever happens")
    print("exercise 2: right. From one half on: the better a model, the fewer of its groups teach it something.")

# %% [markdown]
# **3.** Find eight marks in which every right answer has an advantage of more than 2. What does that say about rare
# success?

# %%
my_marks = ...  # your turn: a list of eight marks, each 0 or 1

# %%
if answered("exercise 3", my_marks):
    assert len(my_marks) == 8 and set(my_marks) <= {0, 1}, "eight marks, each 0 or 1"
    assert 0 < sum(my_marks) < 8, "without both right and wrong answers all advantages are 0"
    largest = group_advantages(torch.tensor([my_marks], dtype=torch.float)).max().item()
    assert largest > 2, f"a right answer has {largest:.2f} here: try it with fewer right ones"
    print(f"exercise 3: right. One success among seven failures: {largest:.2f}. What is rare is pushed hard.")
