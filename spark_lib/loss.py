r"""The loss: groups in, one scalar out. Pure tensors.

GRPO (PAPER steps 3 and 4) over every kind of problem at once, which is SPARK's joint training:

    A_i   = (r_i - mean(r)) / sqrt(mean((r - mean(r))^2) + eps)                 within the group
    ratio = exp(logp - logp_old)                                                per response token
    KL    = exp(logp_ref - logp) - (logp_ref - logp) - 1                        the "k3" estimator, per token
    loss  = sum over tokens of  w * ( -min(ratio * A, clip(ratio) * A) + beta * KL )

w spreads the loss over the step's tokens (token_weights) times the weight of the kind. It is fixed before the
step is cut into micro-batches, so the gradient does not depend on their size.

Departures from the paper. logp_old is the update's own first log-prob, detached, not the sampler's: one update
on fresh rollouts is strictly on-policy, and two numerics of one policy never make a ratio. A demonstration
(judge_loss: sft) is a response whose advantage is 1 and whose KL is left out: the gradient of -ratio is then
exactly that of its negative log-likelihood. Groups whose rewards are all equal are dropped before any forward.

A group is one training row: the prompt once, then its responses side by side, each seeing the prompt and itself.
"""

from dataclasses import dataclass

import torch
from torch.utils.checkpoint import checkpoint

from spark_lib.rollout import Rollout

LOGIT_CHUNK = 2048  # response tokens whose logits (tokens x vocabulary) exist at a time, or fewer:
LOGIT_NUMBERS = 2**26  # so that there are no more than these; at the peak each costs some 18 bytes


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

    beta is the weight of the KL term for the whole row."""

    prompt: list[int]
    responses: list[list[int]]
    advantages: list[float]
    weights: list[float]
    beta: float

    def __len__(self) -> int:
        return len(self.prompt) + sum(map(len, self.responses))


def rows_of_groups(groups: list[list[Rollout]], config) -> list[Row]:
    """Training rows of the groups whose rewards differ; weights count the dropped groups' responses too."""
    lengths = [len(r.response_ids) for group in groups for r in group]
    weights = iter(token_weights(lengths, config.loss, config.max_new_tokens))
    rows = []
    for group in groups:
        own = [next(weights) * getattr(config.weights, group[0].problem.kind) for _ in group]
        rewards = torch.tensor([[r.reward for r in group]], dtype=torch.float64)
        if rewards.min() == rewards.max() or not any(own):
            continue
        advantages = group_advantages(rewards, scale=config.loss != "dr_grpo")[0].tolist()
        rows.append(Row(group[0].prompt_ids, [r.response_ids for r in group], advantages, own, config.beta))
    return rows


def rows_of_demonstrations(demonstrations: list[tuple[list[int], list[int]]], weight: float) -> list[Row]:
    """Training rows of (prompt ids, target ids) to imitate; together `weight` x token-mean log-likelihood."""
    total = sum(len(target) for _, target in demonstrations)
    return [Row(prompt, [target], [1.0], [weight / total], 0.0) for prompt, target in demonstrations]


def micro_batches(rows: list[Row], max_tokens: int) -> list[list[Row]]:
    """Rows of like length together, at most `max_tokens` with padding; a row that is too long alone is split.

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
            part = slice(start, end)
            pieces.append(Row(row.prompt, row.responses[part], row.advantages[part], row.weights[part], row.beta))
            start = end
    pieces.sort(key=len, reverse=True)
    batches: list[list[Row]] = []
    for piece in pieces:  # the first row of a batch is its longest
        if batches and len(batches[-1][0]) * (len(batches[-1]) + 1) <= max_tokens:
            batches[-1].append(piece)
        else:
            batches.append([piece])
    return batches


@dataclass
class Batch:
    """Tensors of some rows, padded on the right. R is the most response tokens of a row.

    input_ids, positions: (rows, tokens); positions of each response go on from the prompt's end.
    mask: (rows, 1, tokens, tokens), added to attention scores: 0 where a token may look, else the lowest float.
    source: (rows, R) column whose output predicts the response token; target: (rows, R) that token.
    valid: (rows, R) true for real tokens; advantages, weights, beta: (rows, R).
    """

    input_ids: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    source: torch.Tensor
    target: torch.Tensor
    valid: torch.Tensor
    advantages: torch.Tensor
    weights: torch.Tensor
    beta: torch.Tensor


def pack(rows: list[Row], device="cpu", dtype=torch.float32) -> Batch:
    """Lay out rows as tensors.

    A prompt `p q` with responses `a b` and `c` becomes

        column      0 1 2 3 4        source of a, b, c: 1, 2, 1
        token       p q a b c        c sees p, q and itself, but not a or b
        position    0 1 2 3 2
        segment     0 0 1 1 2
    """
    columns = {name: [] for name in ("input_ids", "positions", "segment")}
    answers = {name: [] for name in ("source", "target", "valid", "advantages", "weights", "beta")}
    for row in rows:
        p = len(row.prompt)
        ids, position, segment = list(row.prompt), list(range(p)), [0] * p
        source, advantage, weight = [], [], []
        for i, response in enumerate(row.responses):
            source += [p - 1] + list(range(len(ids), len(ids) + len(response) - 1))
            ids += response
            position += range(p, p + len(response))
            segment += [i + 1] * len(response)
            advantage += [row.advantages[i]] * len(response)
            weight += [row.weights[i]] * len(response)
        for name, values in zip(columns, (ids, position, segment)):
            columns[name].append(values)
        count = len(source)
        for name, values in zip(answers, (source, ids[p:], [True] * count, advantage, weight, [row.beta] * count)):
            answers[name].append(values)

    def padded(values: list[list], fill, multiple: int = 1) -> torch.Tensor:
        longest = -(-max(map(len, values)) // multiple) * multiple
        return torch.tensor([v + [fill] * (longest - len(v)) for v in values], device=device)

    # To PyTorch's attention kernel on a GPU, a mask whose width is no multiple of 8 is worth a copy per layer, all of
    # which are kept for the backward pass.
    multiple = 1 if torch.device(device).type == "cpu" else 8
    segment = padded(columns["segment"], -1, multiple)  # (rows, tokens); -1 is padding
    width = segment.shape[1]
    query, key = segment[:, :, None], segment[:, None, :]
    causal = torch.ones(width, width, dtype=torch.bool, device=device).tril()
    # Padding looks at itself (equal segments), so that no row of the softmax is empty.
    allowed = causal & ((key == 0) | (key == query))
    mask = torch.zeros(allowed.shape, dtype=dtype, device=device).masked_fill_(~allowed, torch.finfo(dtype).min)
    return Batch(
        padded(columns["input_ids"], 0, multiple), padded(columns["positions"], 0, multiple), mask[:, None],
        **{name: padded(values, 0) for name, values in answers.items()},
    )


def response_logprobs(model, batch: Batch, temperature: float) -> torch.Tensor:
    """(rows, R) log-prob of every response token under softmax(logits / temperature); 0 where there is none.

    Logits are made only where a response token is predicted, and in chunks that are made again in the backward
    pass: at a 151k vocabulary they, not the weights, are what runs out of memory.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    hidden = base.get_decoder()(
        input_ids=batch.input_ids, attention_mask=layer_masks(base.config, batch), position_ids=batch.positions,
        use_cache=False,
    ).last_hidden_state
    valid = batch.valid.bool()
    rows = valid.nonzero()[:, 0]
    hidden = hidden[rows, batch.source[valid]]  # (response tokens, width)
    target = batch.target[valid]

    def logprobs(hidden: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        logits = to_logits(base, hidden).float() / temperature
        return logits.gather(1, target[:, None]).squeeze(1) - logits.logsumexp(1)

    chunk = logit_chunk(base.config.get_text_config().vocab_size)
    chunks = zip(hidden.split(chunk), target.split(chunk))
    if len(target) <= chunk:
        flat = logprobs(hidden, target)
    else:
        flat = torch.cat([checkpoint(logprobs, h, t, use_reentrant=False) for h, t in chunks])
    return torch.zeros_like(batch.weights).masked_scatter(valid, flat)


def logit_chunk(vocabulary: int) -> int:
    return max(1, min(LOGIT_CHUNK, LOGIT_NUMBERS // vocabulary))


def layer_masks(config, batch: Batch):
    """The mask in the form that the model takes: windowed too for layers with a sliding window, which by position,
    not by column, reaches back over the prompt. transformers uses a mask of four dimensions as it is."""
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    if not window or kinds is not None and "sliding_attention" not in kinds:
        return batch.mask
    distance = batch.positions[:, None, :, None] - batch.positions[:, None, None, :]
    windowed = batch.mask.masked_fill(distance >= window, torch.finfo(batch.mask.dtype).min)
    return windowed if kinds is None else {"full_attention": batch.mask, "sliding_attention": windowed}


def to_logits(base, hidden: torch.Tensor) -> torch.Tensor:
    """What the model's own forward makes of hidden states: the head, then Cohere's and Granite's scale, Gemma's cap."""
    logits = base.get_output_embeddings()(hidden)
    logits = logits * getattr(base.config, "logit_scale", 1.0) / getattr(base.config, "logits_scaling", 1.0)
    cap = getattr(base.config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


def joint_loss(
    logprobs: torch.Tensor, old: torch.Tensor, reference: torch.Tensor | None, batch: Batch, clip: float
) -> tuple[torch.Tensor, dict[str, float]]:
    """(loss, metrics) of one micro-batch; losses of a step's micro-batches add up to the step's loss.

    logprobs, old, reference: (rows, R) of response_logprobs now, before the step's first update (no gradient), and
    of the reference model (None where no row has beta > 0). Metrics are sums over tokens, to be divided by "tokens".
    """
    ratio = (logprobs - old).exp()
    clipped = ratio.clamp(1 - clip, 1 + clip)
    loss = -torch.minimum(ratio * batch.advantages, clipped * batch.advantages)
    metrics = {
        "tokens": batch.valid.sum().item(),
        "clipped": ((clipped * batch.advantages < ratio * batch.advantages) & batch.valid.bool()).sum().item(),
    }
    metrics["kl"] = 0.0
    if reference is not None:
        difference = reference - logprobs
        kl = difference.exp() - difference - 1
        loss = loss + batch.beta * kl
        metrics["kl"] = (kl.detach() * batch.valid).sum().item()
    return (batch.weights * batch.valid * loss).sum(), metrics
