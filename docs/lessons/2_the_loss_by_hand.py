# %% [markdown]
# # 2. The loss by hand
#
# After this lesson you can compute the gradient of a token on paper, say why the printed loss is 0 while the model
# learns all the same, and say what the ratio, the clip, the KL term and the three normalisations are for.
#
# The whole loss is `joint_loss`, the last function of [loss.py](../../spark_lib/loss.py): a dozen lines, and the sums
# for the log. Have it open beside this page.

# %%
import matplotlib.pyplot as plt
import numpy
import torch
from lesson import GREY, RIGHT, WRONG, answered, show

from spark_lib import seeds
from spark_lib.loss import Row, group_advantages, joint_loss, token_weights
from spark_lib.model.packing import pack

# %% [markdown]
# ## A model small enough for paper
#
# It knows three words and says each with a fixed probability. Its only weights are three numbers, the logits $z$, and
# $p = \mathrm{softmax}(z)$. "141" is the right answer.

# %%
words = ["141", "131", "oops"]
logits = torch.tensor([0.5, 0.25, 0.25]).log().requires_grad_()
print(dict(zip(words, logits.softmax(0).tolist())))

# %% [markdown]
# ## One token, three times
#
# Say the model drew "131" and its advantage is −1. The loss of this one token, with a weight $w = 1$, is
#
# $$\mathrm{loss} = -w \, A \, \rho, \qquad \rho = \frac{p_{131}}{p^{\mathrm{old}}_{131}}$$
#
# where $p^{\mathrm{old}}$ is the same probability when the step began, a constant. So at first $\rho = 1$, and its
# derivative is that of $\log p$. On paper, the derivative of a log-softmax is "one-hot minus probabilities":
#
# $$\frac{\partial \log p_k}{\partial z_j} = [j = k] - p_j \qquad\Rightarrow\qquad
# \frac{\partial \, \mathrm{loss}}{\partial z_j} = -w A \, ([j = k] - p_j)$$
#
# With $A = -1$ that is $(0 - 0.5,\; 1 - 0.25,\; 0 - 0.25)$. Now by torch, and by the kit.

# %%
on_paper = [-0.5, 0.75, -0.25]

logprob = logits.log_softmax(0)[1]
ratio = (logprob - logprob.detach()).exp()  # is 1, but has a derivative
(by_torch,) = torch.autograd.grad(-1.0 * -1.0 * ratio, logits)


def loss_of(logits, row, old=None, reference=None):
    """joint_loss of a row for our model, whose words do not depend on what was said before."""
    batch = pack([row])  # rows as tensors; batch.target is (responses, tokens)
    logprobs = logits.log_softmax(0)[batch.target]
    old = logprobs.detach() if old is None else old
    return joint_loss(logprobs, old, reference, batch, clip=0.2)[0]


one = Row(prompt=[0], responses=[[1]], advantages=[-1.0], weights=[1.0], beta=0.0)
(by_kit,) = torch.autograd.grad(loss_of(logits, one), logits)
print("on paper", on_paper, "\nby torch", by_torch.tolist(), "\nby kit  ", by_kit.tolist())
assert torch.allclose(by_torch, torch.tensor(on_paper)) and torch.allclose(by_kit, by_torch)

# %% [markdown]
# The optimiser goes *against* the gradient: the logit of "131" falls, the others rise, "141" most, as it was
# likeliest. Nobody told the model that "141" is right. It only learned that "131" is not.
#
# ## The loss is 0, and the model learns
#
# Let the model answer in groups of eight, mark them, and update the logits, again and again. Look at the two columns.

# %%
z = logits.detach().clone().requires_grad_()
random = seeds.generator("lesson 2")
for step in range(8):
    drawn = torch.multinomial(z.detach().softmax(0), 8, replacement=True, generator=random)
    advantages = group_advantages((drawn == 0).float()[None])[0].tolist()
    row = Row([0], [[word] for word in drawn.tolist()], advantages, token_weights([1] * 8, "dapo", 1), beta=0.0)
    loss = loss_of(z, row)
    (gradient,) = torch.autograd.grad(loss, z)
    print(f"step {step}   loss {abs(loss.item()):.6f}   gradient {gradient.norm():.2f}   p(141) {z.softmax(0)[0]:.2f}")
    z = (z - 1.0 * gradient).detach().requires_grad_()

# %% [markdown]
# Every ratio is 1 when a step begins, so the loss is minus the mean advantage, and the advantages of a group sum to 0.
# The *value* says nothing; the *slope* is what the optimiser uses. Where the slope is 0 too, all eight were right: the
# group without variance of lesson 1. To see progress look at the rewards. (In a real run the printed loss is not
# exactly 0: responses have different lengths, and there is a KL term.)
#
# ## Ratio and clip
#
# With `updates_per_step` above 1, rollouts are used again after the model has moved. Then $\rho \neq 1$: above 1 where
# the token has become likelier than it was. The clip takes away the reward for going further than 20 %:
#
# $$\mathrm{loss} = -\min(\rho A, \; \mathrm{clip}(\rho, 0.8, 1.2) \, A)$$
#
# We ask the kit for the loss and its slope at some ratios: the slope by the log-prob, which is $-\rho A$ where nothing
# is clipped (by $\rho$ it would be $-A$, as in the figure). A slope of 0 means: this token teaches nothing more.

# %%
def at_ratio(ratio, advantage):
    """(loss, slope by the log-prob) of one token at this ratio."""
    batch = pack([Row([0], [[0]], [advantage], [1.0], 0.0)])
    logprob = torch.tensor([[ratio]]).log().requires_grad_()
    loss, _ = joint_loss(logprob, torch.zeros(1, 1), None, batch, clip=0.2)
    return loss.item(), torch.autograd.grad(loss, logprob)[0].item()


for advantage in (1.0, -1.0):
    slopes = {ratio: round(at_ratio(ratio, advantage)[1], 2) + 0.0 for ratio in (0.7, 0.9, 1.0, 1.1, 1.3)}
    print(f"advantage {advantage:+.0f}: slope by ratio {slopes}")

# %% [markdown]
# The minimum makes the clip one-sided. A good token that has already become likelier by more than 20 % is left alone,
# and so is a bad one that has become less likely by more than 20 %. But a bad token that has become *likelier* is
# still pushed down: what went the wrong way is always called back.
#
# ## The KL term
#
# A model that only chases rewards may forget how to write. The term $\beta \cdot \mathrm{KL}$ holds it near the model
# $q$ that it began as. KL is a mean over everything that the model could say; the kit estimates it from the tokens
# that it did say ("k3"): with $d = \log q - \log p$ of the token, $\mathrm{KL} \approx e^d - d - 1$. That is never
# negative, and 0 only where both agree. And its mean is right: we check that over all three words.

# %%
p, q = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.5, 0.25, 0.25])
estimates = []
for word in range(3):
    row = Row([0], [[word]], advantages=[0.0], weights=[1.0], beta=1.0)
    estimates.append(loss_of(p.log(), row, reference=q.log()[torch.tensor([[word]])]).item())
print("estimates", [round(e, 3) for e in estimates])
print(f"their mean under p {sum(p * torch.tensor(estimates)):.4f}   KL(p, q) {(p * (p / q).log()).sum():.4f}")

# %% [markdown]
# ## Three normalisations
#
# A step has responses of different lengths. How much does each token weigh? `token_weights` has three answers. We
# compare a response of 4 tokens with one of 16, in a run whose limit is 32 tokens.

# %%
lengths, names = [4, 16], ["grpo", "dapo", "dr_grpo"]
weights = {name: token_weights(lengths, name, max_new_tokens=32) for name in names}
print("            a token of each        each as a whole")
for name, (short, long) in weights.items():
    print(f"{name:9} {short:9.4f} {long:9.4f}     {4 * short:9.3f} {16 * long:9.3f}")

# %%
figure, (clip, kl, bars) = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
ratios = numpy.linspace(0.4, 1.6, 61)
for advantage, color in ((1.0, RIGHT), (-1.0, WRONG)):
    clip.plot(ratios, [at_ratio(r, advantage)[0] for r in ratios], color=color, label=f"advantage {advantage:+.0f}")
clip.axvspan(0.8, 1.2, color=GREY, alpha=0.2)
clip.plot([1, 1], [-1, 1], "k.")
clip.set(title="Loss of a token (a step begins at the dots)", xlabel="ratio", ylabel="loss")
clip.legend(frameon=False)
gaps = numpy.linspace(-1.5, 1.5, 61)  # log p - log q
only_kl, here = pack([Row([0], [[0]], advantages=[0.0], weights=[1.0], beta=1.0)]), torch.zeros(1, 1)
kl.plot(gaps, [joint_loss(here, here, here - gap, only_kl, clip=0.2)[0] for gap in gaps], color="black")
kl.set(title="KL term of a token", xlabel="log p − log q", ylabel="estimate, nats")
for i, label in enumerate(("short", "long")):
    places = [x - 0.2 + 0.4 * i for x in range(3)]
    bars.bar(places, [weights[name][i] for name in names], 0.4, color=("#1f77b4", "#aec7e8")[i],
             label=f"a token of the {label} response ({lengths[i]} tokens)")
bars.set(title="Weight of a token", xticks=range(3), ylim=(0, 0.16))
bars.set_xticklabels(names)
bars.legend(frameon=False, fontsize=8)
show(figure, "2_the_loss_by_hand")

# %% [markdown]
# `grpo` gives each response the same say, so each token of a long one weighs less: a long wrong answer is pushed down
# more gently, token by token, than a short one, and models learn to be long when they are wrong ([arXiv
# 2503.20783](https://arxiv.org/abs/2503.20783)). `dapo` (the kit's default) gives each token the same say. `dr_grpo`
# does so with a constant that does not depend on what was sampled.
#
# ## Exercises
#
# [Solutions](solutions/2_the_loss_by_hand.py) are apart.
#
# **1.** The three-word model, with probabilities 0.5, 0.25, 0.25, draws "141". Its advantage is +2 and its weight 1/2.
# What is the gradient of the loss by the three logits?

# %%
my_gradient = ...  # your turn: a list of three numbers, from paper

# %%
if answered("exercise 1", my_gradient):
    row = Row([0], [[0]], advantages=[2.0], weights=[0.5], beta=0.0)
    (true,) = torch.autograd.grad(loss_of(logits, row), logits)
    mine = torch.tensor(my_gradient, dtype=torch.float)
    assert abs(mine.sum()) < 1e-3, "a gradient by logits sums to 0: probability that one word gains others lose"
    assert not torch.allclose(mine, -true), "the logits go that way; the gradient of the loss points the other way"
    assert torch.allclose(mine, true, atol=1e-3), "one-hot minus probabilities, times −w · A: are both w and A in it?"
    print("exercise 1: right. The optimiser raises z of 141, whose advantage is positive.")

# %% [markdown]
# **2.** The clip is 0.2. Which of these tokens still have a gradient? (A = +1, ratio 1.3), (A = +1, ratio 0.7), (A =
# −1, ratio 1.3), (A = −1, ratio 0.7). First say, then look at the figure.

# %%
my_moves = ...  # your turn: four truth values, True for a token that still has a gradient

# %%
if answered("exercise 2", my_moves):
    assert len(my_moves) == 4, "four tokens, four truth values"
    for (advantage, ratio), mine in zip([(1.0, 1.3), (1.0, 0.7), (-1.0, 1.3), (-1.0, 0.7)], my_moves):
        moves = at_ratio(ratio, advantage)[1] != 0
        went = "likelier" if ratio > 1 else "less likely"
        assert mine == moves, (
            f"A = {advantage:+.0f}, ratio {ratio}: it became {went}, which is {'not ' * moves}what its advantage "
            f"wants, so the clip {'does not stop' if moves else 'stops'} it")
    print("exercise 2: right. The clip stops what went far the right way, never what went the wrong way.")

# %% [markdown]
# **3.** Two wrong responses, of 5 and of 50 tokens, with the same advantage. How many times as hard is each token of
# the short one pushed as each of the long one: with `grpo`, and with `dapo`?

# %%
my_times = ...  # your turn: two numbers

# %%
if answered("exercise 3", my_times):
    for name, mine in zip(("grpo", "dapo"), my_times, strict=True):
        short, long = token_weights([5, 50], name, max_new_tokens=64)
        say = {"grpo": "response has the same say, shared out among its tokens", "dapo": "token has the same say"}[name]
        assert abs(mine - short / long) < 1e-6, f"{name}: each {say}"
    print("exercise 3: right. With grpo it pays to be long where one is wrong.")
