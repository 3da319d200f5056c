# %% [markdown]
# # 7. Your own
#
# After this lesson you can train on a reward of your own, a recycled kind of your own, an advantage, a data set and a
# model of your own; and you can say before a run whether it will fit a card.
#
# Each of the five is one function or one file. None of them changes the loop: that is what "a judge task is a problem
# like any other" buys.

# %%
import json
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from accelerate import Accelerator
from lesson import GREY, HERE, RIGHT, WRONG, answered, show
from transformers import Qwen2Config

from spark_lib import loss, seeds
from spark_lib.config import ConfigError, load_config
from spark_lib.data.load import arithmetic, load_problems
from spark_lib.model.memory import GIB, plan_of
from spark_lib.problem import Problem
from spark_lib.prompts import REFLECT
from spark_lib.recycle import recycle
from spark_lib.run import step_metrics
from spark_lib.verify import extract_boxed, verify
from train import Spark

config = load_config(["judge_share=0.3"])
spark = Spark(config, Accelerator())
problems = arithmetic("train", 16, seed=1)

# %% [markdown]
# ## A reward
#
# A rule takes a response's text and its problem, and returns a number from 0 to 1. This one also pays half for an
# answer that is off by exactly 10: a forgotten carry.


# %%
def carry(text: str, problem: Problem) -> float:
    if verify(text, problem):
        return 1.0
    box = extract_boxed(text) or ""
    return 0.5 if box.isdecimal() and len(box) < 9 and abs(int(box) - int(problem.answer)) == 10 else 0.0


groups = spark.roll(problems, config.group_size, (0, "solve"))
group = next((g for g in groups if any(carry(r.text, r.problem) == 0.5 for r in g)), groups[0])
print("the built-in rule  ", *(f"{r.reward:3}" for r in group))  # roll has marked them
print("the rule carry     ", *(f"{carry(r.text, r.problem):3}" for r in group))

# %% [markdown]
# Put the function into a file, and it is a run: `python train.py verifier=my_rules.py:carry`. Two warnings. The text
# is the model's, so a rule must not break on any text (hence `isdecimal` and the length). And what a rule pays is what
# you get: lesson 6 shows a rule that pays for the wrong thing.
#
# ## A kind
#
# A recycled kind is a function from marked groups to problems whose answers are known. Ours shows *two different*
# answers that a group has given, in random order, and asks for the right one, which may be neither. That is the
# question's own reference, so the label is free. Reference and marks stay out of the prompt.


# %%
def from_two(groups: list, rng) -> list[Problem]:
    made = []
    for group in groups:
        question = group[0].problem.meta["question"]
        shown = {extract_boxed(r.text): r for r in group if r.finished and extract_boxed(r.text) is not None}
        if len(shown) > 1:
            answers = rng.sample(sorted(shown), 2)
            prompt = REFLECT[0].format(candidate=" or ".join(answers), question=question)  # words that it knows
            about = {"question": question, "candidates": [shown[a] for a in answers], "view": "answer"}
            made.append(Problem(prompt, group[0].problem.answer, "reflect", meta=about))
    return made


mine = from_two(groups, seeds.rng("lesson 7"))
print(mine[0].prompt, "\n\nanswer, never shown:", mine[0].answer)

# %% [markdown]
# Now one step of `train()` with the new problems beside the usual ones. In [train.py](../../train.py) it is one line
# behind `recycled = …`:
#
# ```diff
# +        recycled += from_two(groups, seeds.rng(config.seed, step, "two"))
# ```
#
# The kind is `"reflect"`, as the answer is a new answer; verifying, weights and figures are then those of reflections.

# %%
recycled = recycle(groups, seeds.rng(config.seed, 0, "recycle"), config) + mine
judged = spark.roll(recycled, config.judge_group_size, (0, "judge"))
learned = spark.update(groups + judged, [], 0)
own = step_metrics([group for group in judged if group[0].problem in mine])
print(f"our kind: {len(mine)} of {len(judged)} recycled problems; {own['reflect/reward']:.0%} of the responses right,"
      f" {own['reflect/frac_reward_zero_std']:.0%} of the groups flat")
print(f"one update on {learned['update/rows']} groups that had something to teach")

# %% [markdown]
# Before you train on a new kind, look at these two numbers. At 0 % right, or with all groups flat, there is nothing to
# strengthen: try other words, or show the model worked examples first (`warmup:`, [docs/models.md](../models.md)).
# Whether the new kind then helps is a question for a study with several seeds (`python -m spark_lib.study`), not for
# one run.
#
# ## An advantage
#
# `group_advantages` in [loss.py](../../spark_lib/loss.py) is two lines: marks of a group in, advantages out. Everything
# above and below it stays as it is, so another advantage is another function of that shape. In a file you change the
# two lines; here we put a function in their place, which only learns from what succeeded and never from what failed.

# %%
kept, loss.group_advantages = loss.group_advantages, lambda marks, scale: (marks - marks.mean(1, keepdim=True)).relu()
row = loss.rows_of_groups(groups, config)[0]
loss.group_advantages = kept
print("advantages of the first group that is learned from:", [round(a, 2) for a in row.advantages])

# %% [markdown]
# Exercise 2 asks for a better one.
#
# ## A data set
#
# Lines of JSON with a question and an answer are a data set; [docs/data.md](../data.md) lists the names of fields that
# are understood. There is no need to split it: a hash of the question decides, on every machine alike.

# %%
file = Path(tempfile.mkdtemp()) / "products.jsonl"
rows = [{"question": f"What is {a} * {b}?", "answer": str(a * b)} for a in range(2, 22) for b in range(2, 22)]
file.write_text("\n".join(map(json.dumps, rows)))
for split in ("train", "validation", "test"):
    print(f"{split:10} {len(load_problems(str(file), split)):4} problems")
file.write_text('{"question": "What is 2 * 3?", "result": "6"}')
try:
    load_problems(str(file))
except ConfigError as error:
    print("\nerror:", str(error).replace(str(file.parent), "…"))

# %% [markdown]
# What is wrong is one line that names file and row. For your file: `python train.py data=products.jsonl`.
#
# ## A model
#
# `model=` takes a folder, a `.gguf` file or a hub id. Ask first whether training will fit; nothing is loaded for that:
#
#     python train.py configs/spark_7b.yaml plan=true card=24GB
#
# The plan needs no more than the model's shape. Here is Qwen2.5-7B's, so that we can ask without a network.

# %%
seven_b = Qwen2Config(hidden_size=3584, intermediate_size=18944, num_hidden_layers=28, num_attention_heads=28,
                      num_key_value_heads=4, vocab_size=152064, max_position_embeddings=32768)
settings = [str(HERE.parents[1] / "configs" / "spark_7b.yaml")]
plan = plan_of(seven_b, load_config(settings))
print(plan.text(24 * GIB))

# %% [markdown]
# Read it from the end. *Always* is there all the time. Sampling and learning take turns, so the peak is *always* and
# the larger of the two; only what lowers *that* one helps. The same model, beginning with nothing saved. One of the
# steps makes it *more*: with a 4-bit base, sampling fast needs a dense copy of the weights beside it, until the last
# step does without.

# %%
saved = {
    "bf16, nothing saved": ["quantization=none", "activation_checkpointing=false", "dense_sampling=true"],
    "+ activation checkpointing": ["quantization=none", "dense_sampling=true"],
    "+ a 4-bit base": ["dense_sampling=true"],
    "+ no dense copy to sample from": [],
}
figure, axes = plt.subplots(figsize=(9, 3.8), layout="constrained")
for place, (name, changes) in enumerate(saved.items()):
    one = plan_of(seven_b, load_config(settings + changes)) if changes else plan
    always, sampling, learning = (sum(part.values()) / GIB for part in (one.always, one.sampling, one.learning))
    print(f"{name:32} {one.peak / GIB:5.1f} GiB")
    axes.barh(-place, always, 0.8, color=GREY, label=None if place else "always")
    axes.barh(-place + 0.2, sampling, 0.36, left=always, color=RIGHT, label=None if place else "sampling")
    axes.barh(-place - 0.2, learning, 0.36, left=always, color=WRONG, label=None if place else "learning")
axes.set_yticks([0, -1, -2, -3], saved)
axes.set(title="What a 7B needs (SPARK's setting, with LoRA)", xlabel="GiB, of a GPU's memory")
axes.axvline(24, color="black", linestyle=":", label="a card of 24 GB")
axes.legend(frameon=False, loc="lower right")
show(figure, "7_your_own")

# %% [markdown]
# ## From the laptop to a card to an engine
#
# | where | command | what changes |
# |---|---|---|
# | laptop | `python train.py` | nothing; a stop and `resume=` are bit for bit the same |
# | one card | `python train.py configs/spark_7b.yaml` | bf16 and 4-bit numerics; the plan decides what fits |
# | an engine samples | `… vllm=http://127.0.0.1:8000` | a vLLM server draws the responses; the loop is the same |
# | several cards | `accelerate launch --num_processes 2 train.py …` | each step is shared out; one update |
#
# An engine computes the same probabilities by slightly other numerics, so its tokens come from a slightly other
# distribution than is trained. The run measures that (`update/mismatch`), corrects for it (`importance_cap`) and ends
# where it is too large. [docs/scale.md](../scale.md) says how to start a server, and
# `python -m spark_lib.sampling.vllm configs/spark_7b.yaml` prints the exact command.
#
# ## Exercises
#
# [Solutions](solutions/7_your_own.py) are apart.
#
# **1.** Write a rule that pays 1 for a right answer, a quarter for a wrong one if the *first* of its two sums is
# right and written out (`47 + 58 = 105.`), and else 0. The question is in `problem.meta["question"]`. The model may
# have written anything.

# %%
my_score = ...  # your turn: a function (text, problem) -> number; define it above and put its name here

# %%
if answered("exercise 1", my_score):
    asked = Problem("Add.\n47 + 58 + 36 = ?", "141", meta={"question": "47 + 58 + 36 = ?"})
    assert my_score("47 + 58 = 105. 105 + 36 = 141. \\boxed{141}", asked) == 1, "this one is right in full: 1"
    assert my_score("47 + 58 = 105. 105 + 36 = 131. \\boxed{131}", asked) == 0.25, "first sum right, answer wrong: 0.25"
    assert my_score("47 + 58 = 95. 95 + 36 = 131. \\boxed{131}", asked) == 0, "both sums are wrong: 0"
    assert my_score("47 + 58 = 1058. 1058 + 36 = 1094. \\boxed{1094}", asked) == 0, (
        "1058 is not 105: compare the whole number, with the full stop behind it")
    assert my_score("Yes", asked) == 0, "nothing of it is there: 0"
    found = {my_score(r.text, r.problem) for group in groups for r in group}
    print(f"exercise 1: right. Our groups earn {sorted(found)} by your rule.")

# %% [markdown]
# **2.** The leave-one-out baseline (RLOO): compare each response with the mean of the *other* responses of its group,
# and do not divide by anything. Why the others? With your own reward in the mean, being good makes you look less good.

# %%
my_advantages = ...  # your turn: a function, rewards (groups, n) -> advantages (groups, n)

# %%
if answered("exercise 2", my_advantages):
    rewards = torch.tensor([[1.0, 0, 0, 0], [1, 1, 1, 0], [0.5, 0.25, 1, 0]])
    found = my_advantages(rewards)
    assert found.shape == rewards.shape, f"expected one advantage per response, {tuple(rewards.shape)}"
    assert not torch.allclose(found, loss.group_advantages(rewards, scale=False)), (
        "the response itself is still in its mean: leave it out, and divide by n - 1")
    true = torch.tensor([[r - (sum(row) - r) / (len(row) - 1) for r in row] for row in rewards.tolist()])
    assert torch.allclose(found, true, atol=1e-4), (
        f"for the rewards {rewards[0].tolist()} expected {[round(a, 2) for a in true[0].tolist()]}")
    print("exercise 2: right. It is GRPO's numerator times n / (n - 1): the same order, another scale.")

# %% [markdown]
# **3.** Bring the 7B into 16 GB without changing what is learned: find settings for the memory keys (`python train.py
# --help memory`) under which the plan needs at most 15 GiB. Which of the two turns is the peak?

# %%
my_settings = ...  # your turn: a list like ["optimizer=adamw"], on top of configs/spark_7b.yaml

# %%
if answered("exercise 3", my_settings):
    allowed = set("quantization dense_sampling max_rows micro_batch_tokens activation_checkpointing optimizer".split())
    changed = {setting.split("=")[0] for setting in my_settings}
    assert changed <= allowed, f"{sorted(changed - allowed)} would change what is learned; use {sorted(allowed)}"
    small = plan_of(seven_b, load_config(settings + my_settings))
    sampling, learning = sum(small.sampling.values()), sum(small.learning.values())
    assert small.peak <= 15 * GIB, (f"{small.peak / GIB:.1f} GiB: sampling takes {sampling / GIB:.1f}, learning "
                                    f"{learning / GIB:.1f}; lower what belongs to the larger one")
    print(f"exercise 3: right, {small.peak / GIB:.1f} GiB. Smaller pieces: slower, but the same run.")
