r"""The loss: groups in, one scalar out. Pure tensors.

GRPO (PAPER steps 3 and 4) over every kind of problem at once, which is SPARK's joint training:

    A_i   = (r_i - mean(r)) / sqrt(mean((r - mean(r))^2) + eps)                 within the group
    ratio = exp(logp - logp_old)                                                per response token
    KL    = exp(logp_ref - logp) - (logp_ref - logp) - 1                        the "k3" estimator, per token
    loss  = sum over tokens of  w * ( -c * min(ratio * A, clip(ratio) * A) + beta * KL )

w spreads the loss over the step's tokens (token_weights) times the weight of the kind. It is fixed before the
step is cut into micro-batches, so the gradient does not depend on their size. c is 1, or with importance_cap
corrects for a sampler that draws by other numerics than are trained (importance_weights).

Departures from the paper. logp_old is the update's own first log-prob, detached, not the sampler's: one update
on fresh rollouts is strictly on-policy, and two numerics of one policy never make a ratio. A demonstration
(judge_loss: sft) is a response whose advantage is 1 and whose KL is left out: the gradient of -ratio is then
exactly that of its negative log-likelihood. Groups whose rewards are all equal are dropped before any forward.

A group is one training row: the prompt once, and its responses. model/packing.py lays rows out as tensors and asks the
model for their log-probs; here are only numbers.
"""

from collections import Counter
from dataclasses import dataclass, replace

import torch


def group_advantages(rewards: torch.Tensor, scale: bool = True, eps: float = 1e-6) -> torch.Tensor:
    """rewards (groups, n) -> advantages (groups, n); scale=False leaves out the division (Dr. GRPO)."""
    centred = rewards - rewards.mean(1, keepdim=True)
    return centred / (centred.square().mean(1, keepdim=True) + eps).sqrt() if scale else centred


def token_weights(lengths: list[int], loss: str, max_new_tokens: int) -> list[float]:
    """The weight of one token of each response, given the lengths of all responses of the step.

    grpo     1 / (responses * own length)       every response counts the same; short ones get more per token
    dapo     1 / (tokens of the step)           every token counts the same
    dr_grpo  1 / (responses * max_new_tokens)   a constant, and advantages are not divided by their deviation
    """
    if loss == "grpo":
        return [1 / (len(lengths) * length) for length in lengths]
    total = {"dapo": sum(lengths), "dr_grpo": len(lengths) * max_new_tokens}[loss]
    return [1 / total for _ in lengths]


@dataclass
class Row:
    """One training row: a prompt, some responses to it, and per response its advantage and token weight.

    beta is the weight of the KL term for the whole row; seen: what the prompt shows of images (vision.Seen); sampled:
    the sampler's log-probs of the responses' tokens, None of responses that nobody sampled (demonstrations)."""

    prompt: list[int]
    responses: list[list[int]]
    advantages: list[float]
    weights: list[float]
    beta: float
    seen: object = None
    sampled: list[list[float]] | None = None

    def __len__(self) -> int:
        return len(self.prompt) + sum(map(len, self.responses))

    def part(self, which: slice) -> "Row":
        """The same prompt with these of its responses."""
        return replace(
            self, responses=self.responses[which], advantages=self.advantages[which], weights=self.weights[which],
            sampled=self.sampled and self.sampled[which],
        )


def verdict_scales(groups: list[list]) -> dict[tuple[str, str], float]:
    """A weight for each right verdict (kind, answer) of the judge problems: 1 / sqrt(how many there are) (RL Tango,
    arXiv 2505.15034), relative to the mean over the kind's problems, so that judging as a whole weighs what it did."""
    asked = Counter((group[0].problem.kind, group[0].problem.answer) for group in groups)
    scales = {}
    for kind in ("pointwise", "pairwise"):
        counts = {answer: n for (k, answer), n in asked.items() if k == kind}
        mean = sum(n**0.5 for n in counts.values()) / max(1, sum(counts.values()))  # of 1 / sqrt(n), n times each
        scales |= {(kind, answer): n**-0.5 / mean for answer, n in counts.items()}
    return scales


def rows_of_groups(groups: list[list], config) -> list[Row]:
    """Training rows of the groups of Rollouts whose rewards differ; weights count the other groups' responses too."""
    lengths = [len(r.response_ids) for group in groups for r in group]
    weights = iter(token_weights(lengths, config.loss, config.max_new_tokens))
    scales = verdict_scales(groups) if config.balance_verdicts else {}
    rows = []
    for group in groups:
        problem = group[0].problem
        scale = scales.get((problem.kind, problem.answer), 1.0) * getattr(config.weights, problem.kind)
        own = [next(weights) * scale for _ in group]
        rewards = torch.tensor([[r.reward for r in group]], dtype=torch.float64)
        if rewards.min() == rewards.max() or not any(own):
            continue
        advantages = group_advantages(rewards, scale=config.loss != "dr_grpo")[0].tolist()
        first, responses = group[0], [r.response_ids for r in group]
        sampled = [r.logprobs for r in group]
        rows.append(Row(first.prompt_ids, responses, advantages, own, config.beta, first.seen, sampled))
    return rows


def rows_of_demonstrations(demonstrations: list[tuple[list[int], list[int], object]], weight: float) -> list[Row]:
    """Training rows of (prompt ids, target ids, what the prompt shows of images) to imitate; together `weight` x
    token-mean log-likelihood."""
    total = sum(len(target) for _, target, _ in demonstrations)
    return [Row(prompt, [target], [1.0], [weight / total], 0.0, seen) for prompt, target, seen in demonstrations]


def micro_batches(rows: list[Row], max_tokens: int) -> list[list[Row]]:
    """Rows of like length together, at most `max_tokens` tokens; a row that is too long alone is split.

    A row keeps at least one response, so a single response longer than `max_tokens` still makes a batch.
    """
    pieces = []
    for row in rows:
        start = 0
        while start < len(row.responses):
            end, size = start + 1, len(row.prompt) + len(row.responses[start])
            while end < len(row.responses) and size + len(row.responses[end]) <= max_tokens:
                size += len(row.responses[end])
                end += 1
            pieces.append(row.part(slice(start, end)))
            start = end
    batches: list[list[Row]] = []
    for piece in sorted(pieces, key=len, reverse=True):
        if batches and sum(map(len, batches[-1])) + len(piece) <= max_tokens:
            batches[-1].append(piece)
        else:
            batches.append([piece])
    return batches


def importance_weights(logprobs: torch.Tensor, sampled: torch.Tensor, cap: float) -> torch.Tensor:
    """(N, R) min(exp(logp - logp_sampled), cap) of every token, without a gradient; 1 where nothing was sampled (nan).

    Another program draws from the same weights by other numerics, so its distribution q is not quite the policy p. With
    the weight p / q, the mean of A * grad log p over what q draws is that over what p would draw; the cap bounds its
    variance for a little bias (truncated importance sampling, Ionides 2008). One weight per token, not per response:
    gaps of 0.01 a token would multiply to a factor of 2.7 over 100 tokens.
    """
    return torch.where(sampled.isnan(), 1.0, (logprobs.detach() - sampled).exp().clamp(max=cap))


def joint_loss(
    logprobs: torch.Tensor, old: torch.Tensor, reference: torch.Tensor | None, batch, clip: float,
    cap: float | None = None,
) -> tuple[torch.Tensor, dict[str, float]]:
    """(loss, metrics) of one micro-batch; losses of a step's micro-batches add up to the step's loss.

    logprobs, old, reference: (N, R) of response_logprobs now, before the step's first update (no gradient), and
    of the reference model (None where no row has beta > 0). cap: of importance_weights; None leaves them out. Metrics
    are sums over tokens, to be divided by "tokens", and "mismatch" and "capped" by "sampled".
    """
    ratio = (logprobs - old).exp()
    clipped = ratio.clamp(1 - clip, 1 + clip)
    loss = -torch.minimum(ratio * batch.advantages, clipped * batch.advantages)
    sampled = ~batch.sampled.isnan()
    metrics = {
        "tokens": batch.valid.sum().item(),
        "clipped": ((clipped * batch.advantages < ratio * batch.advantages) & batch.valid).sum().item(),
        "nll": -(logprobs.detach() * batch.valid).sum().item(),
        "kl": 0.0,
        "sampled": sampled.sum().item(),
        "mismatch": (old - batch.sampled)[sampled].abs().sum().item(),
        "capped": 0,
    }
    if cap is not None:
        weights = importance_weights(old, batch.sampled, cap)
        loss = weights * loss
        metrics["capped"] = ((weights == cap) & sampled).sum().item()
    if reference is not None:
        difference = reference - logprobs
        kl = difference.exp() - difference - 1
        loss = loss + batch.beta * kl
        metrics["kl"] = (kl.detach() * batch.valid).sum().item()
    return (batch.weights * batch.valid * loss).sum(), metrics
