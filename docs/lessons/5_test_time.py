# %% [markdown]
# # 5. Test time
#
# After this lesson you can let a model judge and correct its own answers, say what that costs in tokens, compare it
# with votes that cost the same, and read a calibration diagram.
#
# A trained model is not used up by one answer. SPARK's model can *judge* what it answered, and where its verdict is
# No, *reflect* and answer again ([reflect.py](../../spark_lib/reflect.py), Eq. 9–11 of the paper). The reference answer
# takes no part: at test time nobody knows it.

# %%
import contextlib
import io
import shutil
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
from accelerate import Accelerator
from lesson import GREY, RIGHT, WRONG, answered, show

from spark_lib import seeds
from spark_lib.config import load_config
from spark_lib.data.load import arithmetic, load_problems
from spark_lib.evaluation import assessment, metrics
from spark_lib.evaluation.predictions import Predictions
from spark_lib.evaluation.settings import load_evaluation
from spark_lib.reflect import Candidate, best_of_n, majority_vote, weighted_vote
from spark_lib.rewards import clusters, mark
from spark_lib.rollout import sample
from spark_lib.run import Run
from train import Spark, train

config = load_config(["max_steps=40", "problems_per_step=4", "judge_share=0.6", "lr=2e-3", "run_name=lesson-5"])
spark = Spark(config, Accelerator())
heldout = arithmetic("test", 50, seed=0)

# %% [markdown]
# ## What we measure
#
# `listen` asks the model everything that `python evaluate.py` asks: an answer to each of 50 held-out problems, two
# rounds of judging and reflecting on it, and beside that six more answers and a judgement of each. `figures` counts.
# (evaluate.py answers greedily. We sample at temperature 1, for a reason that comes further down.) One draw of 50
# answers may be off by a dozen points, so that answers and rounds are drawn five times, with five seeds.


# %%
def measured(name: str) -> tuple[assessment.Said, dict]:
    """Everything that the present model says about the held-out problems, and its figures (docs/metrics.md)."""

    def roll(problems, n, stage, temperature, part):
        return spark.roll(problems, n, ("lesson 5", stage), part=part, whole=True)

    kept = Path(tempfile.mkdtemp()) / "predictions.jsonl"
    predict = Predictions(kept, roll, spark.model, spark.tokenizer, config, spark.accelerator, 512)
    parts = [["samples=6"], *[["parts=[reflect]"]] * 4]  # votes and judgements once, rounds with five seeds
    with contextlib.redirect_stdout(io.StringIO()):  # it says what it is about to ask
        said = [assessment.listen(heldout, predict, name, seed, load_evaluation(["greedy=false", *words]), config)
                for seed, words in enumerate(parts)]
    found = assessment.figures(said[0], config.recycle.right_at)
    found["tts"] = assessment.figures(assessment.together(said), config.recycle.right_at)["tts"]
    curves = {method: found[method] for method in ("majority_vote", "best_of_n", "weighted_vote")}
    found["equal_tokens"] = assessment.at_equal_tokens(found["tts"]["tokens"], curves)
    return assessment.together(said), found


said, before = measured("before")
story = max(said.turns, key=lambda turns: (turns[0].reward == 0, len(turns)))  # one that begins with a wrong answer
print(story[0].problem.meta["question"], "reference answer:", story[0].problem.answer)
for turn in story:
    print(f"  {turn.problem.kind:9}  {turn.text}")

# %% [markdown]
# Each `solve` or `reflect` is an answer; each `pointwise` is the model's own verdict on the answer above it. That was
# the starter, before any training. Does it gain by talking to itself?


# %%
def table(name: str, found: dict) -> None:
    for k, (right, tokens) in enumerate(zip(found["tts"]["accuracy"], found["tts"]["tokens"])):
        print(f"{name}, {k} rounds: {right:4.0%} right, {tokens:3.0f} tokens a problem, "
              f"{found['tts']['fixed'][k]} fixed, {found['tts']['broken'][k]} broken")


table("starter", before)
judge = before["pointwise"]
print(f"its judge says Yes to {judge['recall_yes']:.0%} of right answers, No to {judge['recall_no']:.0%} of wrong ones")

# %% [markdown]
# (Fixed and broken are counted over five times 50 answers.) Rounds cost nearly three times the tokens and bring little:
# this judge waves most wrong answers through, and what is waved through is not corrected. In the paper it is worse: on
# the untrained model, judging and reflecting *lowers* accuracy (Table 5, 49.1 to 39.9).
#
# ## Forty small steps later
#
# Now `train()`, with more than half of the responses for judging and reflecting, as these need to learn most. To learn
# much in less than a minute, the steps have a quarter of the quickstart's problems, and the rate is higher.

# %%
shutil.rmtree("runs/lesson-5", ignore_errors=True)  # of an earlier try
with contextlib.redirect_stdout(io.StringIO()), Run(spark) as run:
    train(spark, load_problems("arithmetic"), run)
said, after = measured("after")
table("starter", before)
table("trained", after)
judge = after["pointwise"]
print(f"its judge says Yes to {judge['recall_yes']:.0%} of right answers, No to {judge['recall_no']:.0%} of wrong ones")

# %% [markdown]
# The two rounds now gain nearly twelve points. This judge finds most wrong answers, and it rejects a third of the right
# ones as well, so that the first round breaks many. The second mends ten of those. What was accepted is neither judged
# again nor reflected on, which is why the second round is cheaper than the first. (The quickstart trains several times
# as long: [its table](../results/quickstart.md) has the same figures over seeds.)
#
# ## The same tokens, spent on votes
#
# A fair comparison gives the other methods the same tokens. With n answers sampled independently one can take the most
# frequent (`majority_vote`), the one with the judge's highest P(Yes) (`best_of_n`), or the answer with the largest sum
# of P(Yes) (`weighted_vote`). The last two pay for n judgements as well.

# %%
budgets = [f"{tokens:.0f} tokens" for tokens in after["tts"]["tokens"]]
print(f"{'':18}", *(f"{budget:>11}" for budget in budgets))
print(f"{'judge and reflect':18}", *(f"{right:11.0%}" for right in after["tts"]["accuracy"]))
for method, reached in after["equal_tokens"].items():
    print(f"{method:18}", *(f"{right:11.0%}" for right in reached))
greedy = sample(spark.model, spark.tokenizer, heldout, 1, config.max_new_tokens, 0.0, seeds.generator("greedy"))
mark(greedy, None)
print(f"\ngreedy, one answer: {sum(group[0].reward for group in greedy) / len(greedy):.0%}")

# %% [markdown]
# In the first column every line is one sampled answer, first the mean over five draws, then over six others: where they
# differ you see chance at work. Between two numbers of samples the table interpolates: two answers with their
# judgements cost more than the last column has, so that `best_of_n` and `weighted_vote` cannot differ here yet.
#
# On this task votes are hard to beat. The starter's faults in solving are slips, made at random, so that wrong answers
# scatter and right ones agree. Greedy decoding leaves out the chance altogether, and with it most of the slips: here it
# is the cheapest method of all, which is why this lesson samples.
#
# So when is it worth while to judge?
# - When errors *agree*: if every sample forgets the same carry, the majority is wrong, and more votes make it surer.
# - When answers cannot be counted: no two proofs, programs or essays are the same.
# - When answers are long and verdicts short. Here a verdict costs more than an answer, as it works the sum out again.
#
# ## Does it know when it is right?
#
# P(Yes) is the probability of `Yes` against `No` at the place where the judge writes its verdict
# ([confidence.py](../../spark_lib/sampling/confidence.py)). A judge is *calibrated* if, of the answers to which it
# gives 80 %, 80 % are right. The diagram sorts judgements into bins by P(Yes) and shows the share that was right in
# each: the nearer to the diagonal, the better. ECE is the mean distance from it, each bin weighted by its judgements.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
lines = (("starter: judge, reflect", before["tts"], GREY), ("trained: judge, reflect", after["tts"], WRONG),
         ("trained: majority vote", after["majority_vote"], "#1f77b4"),
         ("trained: best of n", after["best_of_n"], "#ff7f0e"))
for name, found, color in lines:
    left.plot(found["tokens"], [100 * share for share in found["accuracy"]], "o-", ms=4, color=color, label=name)
left.set(title="What test-time tokens buy", xlabel="tokens per problem", ylabel="% right", xscale="log")
left.set_xticks([25, 50, 100, 200, 400], [25, 50, 100, 200, 400], minor=False)
left.minorticks_off()
for name, found, color in (("starter", before["pointwise"], GREY), ("trained", after["pointwise"], RIGHT)):
    bins = found["bins"]
    sizes = [900 * one["count"] / found["n"] for one in bins]
    right.scatter([b["probability"] for b in bins], [b["frequency"] for b in bins], sizes, color=color, alpha=0.7,
                  label=f"{name}, ECE {found['ece']:.2f}")
right.plot([0, 1], [0, 1], "--", color="black", linewidth=0.8)
right.set(title="Calibration (area: number of judgements)", xlabel="P(Yes)", ylabel="share of right answers",
          xlim=(-0.1, 1.1), ylim=(-0.1, 1.1))
left.legend(frameon=False, fontsize=8, loc="lower right")
for handle in right.legend(frameon=False, fontsize=8, loc="lower right").legend_handles:
    handle.set_sizes([40])
show(figure, "5_test_time")

# %% [markdown]
# The trained judge tells right from wrong better, and yet look at its big dot at the left: of the answers that it calls
# wrong, many are right. It worked the sum out again, slipped, and compared with its own wrong result; by the time it
# writes the verdict, it shows no doubt. Nothing in training asks for doubt either: a verdict earns 1 or 0, however
# sure it was. To measure the doubt one has to let it judge several times and take the mean.
#
# ## Exercises
#
# [Solutions](solutions/5_test_time.py) are apart.
#
# **1.** A model answers 70 % of its problems right. Its judge says Yes to 80 % of the right answers and No to 90 % of
# the wrong ones. A reflection keeps a right answer right in 9 of 10 cases and turns a wrong one right in 6 of 10. What
# is the accuracy after one round?

# %%
my_accuracy = ...  # your turn: a number between 0 and 1; Python may compute it

# %%
if answered("exercise 1", my_accuracy):
    assert abs(my_accuracy - (0.7 + 0.3 * 0.9 * 0.6)) > 0.002, (
        "right answers that are judged wrong are reflected on too, and some of them break")
    assert abs(my_accuracy - (0.7 * 0.9 + 0.3 * 0.6)) > 0.002, "that is reflecting on everything; the judge picks some"
    assert abs(my_accuracy - 0.848) < 0.002, (
        "add up: right and accepted; right, rejected and kept; wrong, rejected and fixed")
    print("exercise 1: right. 16.2 points fixed, 1.4 broken; what the judge waved through could have been 1.8 more.")

# %% [markdown]
# **2.** A judge gives 0.9 to 100 answers, of which 60 are right, and 0.1 to 100 others, of which 30 are right. What is
# its ECE?

# %%
my_ece = ...  # your turn: a number

# %%
if answered("exercise 2", my_ece):
    bins = metrics.reliability([0.9] * 100 + [0.1] * 100, [1] * 60 + [0] * 40 + [1] * 30 + [0] * 70)
    assert abs(my_ece - 0.05) > 1e-6, "too sure on both sides does not cancel out: take distances"
    assert abs(my_ece - 0.5) > 1e-6, "that is the sum of the two distances; ECE is their mean, weighted by count"
    assert abs(my_ece - metrics.ece(bins)) < 1e-6, "a distance per bin: |0.9 - 60/100| and |0.1 - 30/100|"
    print("exercise 2: right. It does know more than a coin, but says so much too loudly.")

# %% [markdown]
# **3.** The reference answer is 141. Write five sampled answers with the judge's P(Yes) for each, such that the
# majority is wrong, the best of n is wrong as well, and the weighted vote is right.

# %%
my_samples = ...  # your turn: five pairs like ("131", 0.4)

# %%
if answered("exercise 3", my_samples):
    assert len(my_samples) == 5 and all(0 <= p <= 1 for _, p in my_samples), "five answers, each P(Yes) from 0 to 1"
    labels = clusters([answer for answer, _ in my_samples], str.__eq__)
    pool = [Candidate(label, p, answer == "141", 26, 55) for label, (answer, p) in zip(labels, my_samples)]
    votes = majority_vote(pool), majority_vote(pool[::-1])  # of as many votes the first would win
    assert not any(vote.right for vote in votes), "the majority is right, or there is none: let a wrong one lead"
    assert not best_of_n(pool).right, "the best of n is right: let the judge trust some wrong answer most"
    assert weighted_vote(pool).right, "the weighted vote is wrong: the right answer's P(Yes) must add up to most"
    print("exercise 3: right. Many votes of little trust lose to a few of much; one loud mistake does not win.")
