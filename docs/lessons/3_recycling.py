# %% [markdown]
# # 3. Recycling
#
# After this lesson you can make judge and reflection problems out of one group, say who may be a candidate, find a
# leak, and say which shortcut a judge takes when its classes are not balanced.
#
# This is SPARK's idea: after solving, most of a step's work is thrown away by other methods. Here each answer and its
# mark become a new question *whose right answer is known already*: is this one correct? No new labels, no second
# model.

# %%
import re
from dataclasses import replace

import matplotlib.pyplot as plt
import torch
from lesson import GREY, RIGHT, WRONG, answered, show

from spark_lib import seeds
from spark_lib.config import load_config
from spark_lib.data.load import arithmetic
from spark_lib.loss import group_advantages
from spark_lib.model.load import load_model
from spark_lib.recycle import candidates, recycle, recycle_kind
from spark_lib.rewards import mark
from spark_lib.rollout import Rollout, sample
from spark_lib.verify import extract_boxed

config = load_config([])
model, tokenizer = load_model(config)


def ask(limit):
    """24 groups of 8 answers of at most `limit` tokens, marked."""
    groups = sample(model, tokenizer, arithmetic("train", 24, seed=3), 8, limit, 1.0, seeds.generator("lesson 3"))
    mark(groups, None)
    return groups


groups = ask(config.max_new_tokens)

# %% [markdown]
# ## One group, three kinds of new problem
#
# `recycle_kind` makes problems of one kind from marked groups; `recycle` makes all of a step's. Here only from one
# group.

# %%
group = min(groups, key=lambda g: abs(sum(r.reward for r in g) - 4))
print("marks of the group:", [int(r.reward) for r in group], "\n")
for kind in ("pointwise", "pairwise", "reflect"):
    (problem,) = recycle_kind(kind, 1, [group], seeds.rng("one of each", 2), config.recycle)
    print(f"--- {kind}, right answer: {problem.answer}\n{problem.prompt}\n")

# %% [markdown]
# They are problems like any other: the same type, sampled by the same model, marked by the same verifier, learned by
# the same loss. Some show a candidate's final answer only, some its whole trace (`recycle.view`).
#
# A whole step's worth, from all groups:

# %%
recycled = recycle(groups, seeds.rng("lesson 3"), config)
for p in sorted(recycled, key=lambda p: p.kind):
    print(f"{p.kind:9} candidates marked {[int(r.reward) for r in p.meta['candidates']]}, right answer {p.answer}")

# %% [markdown]
# ## Who is a candidate
#
# A response that was cut off at the token limit, or has no box, earns 0: it is wrong. But it shows nothing to judge.
# And worse: if all such responses were shown as wrong candidates, "no box, so No" would be right without any reading.

# %%
good = next(r for r in group if r.reward)
cut_off = replace(good, text=good.text[:12], finished=False, reward=0.0)
boxless = replace(good, text=good.text.replace("\\boxed", ""), reward=0.0)
right, wrong = candidates([[good, cut_off, boxless]], right_at=1.0)
print(f"of a good response, one cut off and one without a box: {len(right[0])} right, {len(wrong[0])} wrong candidates")

# %% [markdown]
# ## Leaks
#
# A prompt must not hold its own answer. The mark lives in the problem's `meta`, which no template reads. And a
# reflection on a wrong answer must not show the reference:

# %%
about_wrong = recycle_kind("reflect", 60, groups, seeds.rng("leaks"), replace(config.recycle, reflect_right=0.0))
leaks = [p for p in about_wrong if p.answer in re.findall(r"\d+", p.prompt)]
print(f"{len(leaks)} of {len(about_wrong)} reflections on a wrong answer show the right one")

# %% [markdown]
# ## A judge that cheats
#
# Here is a judge with two weights: a prejudice, which says Yes whatever it sees, and an eye, which is right about a
# candidate 7 times out of 10. We train it with the kit's own problems, marks and advantages. What it sees is made up;
# nothing else is. Once 8 of 10 candidates are right (as in a run whose model solves well, if nobody takes care), once
# half of them are (`recycle.pointwise_right`, the default).

# %%
def say(problem, answer):  # a rollout that does
    return Rollout(problem, [], [0], f"\\boxed{{{answer}}}", True, [0.0])


def course(share, steps=60, eye=0.7):
    """[P(Yes) about a right candidate, about a wrong one] after each step, with this share of right candidates."""
    settings, rng, random = replace(config.recycle, pointwise_right=share), seeds.rng(share), seeds.generator(share)
    weights, course = torch.zeros(2, requires_grad=True), []
    optimizer = torch.optim.Adam([weights], lr=0.1)
    for _ in range(steps):
        problems = recycle_kind("pointwise", 20, groups, rng, settings)
        truth = torch.tensor([1.0 if p.answer == "Yes" else -1.0 for p in problems])
        seen = torch.where(torch.rand(20, generator=random) < eye, truth, -truth)
        p_yes = (weights[0] + weights[1] * seen).sigmoid()[:, None]  # prejudice and eye
        yes = torch.rand(20, 4, generator=random) < p_yes  # four verdicts on each
        verdicts = [[say(problem, "Yes" if y else "No") for y in row] for problem, row in zip(problems, yes)]
        mark(verdicts, None)
        advantages = group_advantages(torch.tensor([[r.reward for r in row] for row in verdicts]))
        loss = -(advantages * torch.where(yes, p_yes, 1 - p_yes).log()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        looks_right, looks_wrong = (weights[0] + weights[1] * torch.tensor([1.0, -1.0])).sigmoid().tolist()
        course.append([share * looks_right + (1 - share) * looks_wrong for share in (eye, 1 - eye)])
    return course


courses = {share: course(share) for share in (0.8, 0.5)}
for share, steps in courses.items():
    print(f"{share:.0%} right: says Yes to {steps[-1][0]:.0%} of the right and to {steps[-1][1]:.0%} of the wrong")

# %% [markdown]
# With 8 of 10 right, "always Yes" earns 0.8 and looking earns 0.7. The judge is not stupid; it does what we paid for.
# With half and half, prejudice earns 0.5, and only looking pays. That is why the kit fixes the share of right
# candidates, draws A and B equally often, and has `<kind>/said_yes` in its metrics ([docs/metrics.md](../metrics.md)).
#
# ## A reflector that always disagrees
#
# The same in reflection. Three reflectors: one repeats what it is shown, one always disagrees, one looks first. Each
# can solve 7 of 10; what they earn if all candidates are wrong, and if a fifth is right (`recycle.reflect_right`):

# %%
reflectors = {
    "repeats": lambda shown, true, solved: shown,
    "always disagrees": lambda shown, true, solved: true if solved and shown != true else "another",
    "looks": lambda shown, true, solved: shown if shown == true else true if solved else "another",
}
for name, reflector in reflectors.items():
    earned, rng = {}, seeds.rng("reflectors")
    for share in (0.0, 0.2):
        made = recycle_kind("reflect", 400, groups, rng, replace(config.recycle, reflect_right=share))
        says = [reflector(extract_boxed(p.meta["candidates"][0].text), p.answer, rng.random() < 0.7) for p in made]
        rollouts = [say(p, said) for p, said in zip(made, says)]
        mark([rollouts], None)
        earned[share] = sum(r.reward for r in rollouts) / len(rollouts)
    print(f"{name:17} all wrong: {earned[0.0]:.2f}   a fifth right: {earned[0.2]:.2f}")

# %% [markdown]
# If only wrong answers are shown, disagreeing earns as much as looking. At test time such a reflector breaks every
# right answer that comes its way.

# %%
figure, (earned, learned) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
for marks, color, name in (([0, 1], WRONG, "always Yes"), ([1, 0], GREY, "always No"), ([0.7, 0.7], RIGHT, "looks")):
    earned.plot([0, 1], marks, color=color, label=name)
earned.set(title="What a judge earns", xlabel="share of right candidates", ylabel="mean mark", ylim=(0, 1.2))
earned.legend(frameon=False, loc="upper center", ncols=3)
for (share, steps), color in zip(courses.items(), (WRONG, RIGHT)):
    for said_yes, style, whom in zip(zip(*steps), ("-", "--"), ("right", "wrong")):
        learned.plot(said_yes, style, color=color, label=f"to {whom} ones, {share:.0%} right")
learned.set(title="How often it says Yes while it learns", xlabel="step", ylabel="P(Yes)", ylim=(0, 1.3))
learned.legend(frameon=False, fontsize=9, ncols=2, loc="upper center")
show(figure, "3_recycling")

# %% [markdown]
# ## Exercises
#
# [Solutions](solutions/3_recycling.py) are apart.
#
# **1.** Which of these five responses are right candidates, which wrong ones? (A text may slip twice and arrive all the
# same: the mark reads only the box.)

# %%
bad = next(r for r in group if not r.reward and extract_boxed(r.text))
five = [good, bad, cut_off, replace(bad, finished=False), replace(bad, text=bad.text.split("\\")[0])]
for i, r in enumerate(five):
    print(i, "finished" if r.finished else "cut off ", "mark", int(r.reward), r.text)

# %%
my_candidates = ...  # your turn: two lists of numbers from 0 to 4, [those that are right, those that are wrong]

# %%
if answered("exercise 1", my_candidates):
    named = {i for part in my_candidates for i in part}
    assert not {2, 3} & named, "what was cut off is no candidate, even if it has a box: it had not ended"
    assert 4 not in named, "number 4 has no box: nothing to judge"
    mine = tuple([[five[i] for i in part]] for part in my_candidates)
    assert mine == candidates([five], right_at=1.0), "two are left: sort them by their marks"
    print("exercise 1: right. The other three count as wrong in their group, but nobody is asked about them.")

# %% [markdown]
# **2.** What do these three earn on average? A judge that always says No, with `pointwise_right=0.2`; one that always
# says A; a reflector that repeats what it is shown, with `reflect_right=0.2`.

# %%
my_earnings = ...  # your turn: three numbers

# %%
if answered("exercise 2", my_earnings):
    assert abs(my_earnings[0] - 0.8) < 1e-6, "a mean mark is from 0 to 1; No is right whenever the candidate is wrong"
    assert abs(my_earnings[1] - 0.5) < 1e-6, "the right one stands at A as often as at B"
    assert abs(my_earnings[2] - 0.2) < 1e-6, "repeating is right where the candidate was right"
    print("exercise 2: right. Only the first of these prejudices pays; that share would have to be mended.")

# %% [markdown]
# **3.** Be the cheat. A colleague lets *every* response be a candidate, and her wrong ones are mostly those that were
# cut off at a limit of 16 tokens. Write a function that gets a candidate's text and says "Yes" or "No" *without*
# checking the sum, and is right 8 times out of 10. Some texts:

# %%
leaky = [r for g in groups for r in g if r.reward]
leaky += [r for g in ask(16) for r in g][: len(leaky)]
for r in leaky[:: len(leaky) // 6]:
    print("Yes" if r.reward else "No ", "is right about:", r.text)

# %%
my_cheat = ...  # your turn: a function, text -> "Yes" or "No"

# %%
if answered("exercise 3", my_cheat):
    def score(rollouts):
        return sum((my_cheat(r.text) == "Yes") == (r.reward == 1) for r in rollouts) / len(rollouts)

    assert score(leaky) >= 0.8, f"right {score(leaky):.0%} of the time; what do texts that were cut off lack?"
    fair = [p.meta["candidates"][0] for p in recycle_kind("pointwise", 200, groups, seeds.rng("fair"), config.recycle)]
    assert score(fair) < 0.7, "that one seems to check the sum: look at the form only"
    print(f"exercise 3: right. {score(leaky):.0%} there, and {score(fair):.0%} on the kit's problems, like a coin.")
