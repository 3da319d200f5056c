"""What is not finite never lands: not in the weights, not in the optimiser, not in a checkpoint.

One NaN among the gradients makes their norm NaN, clipping then makes every gradient NaN, and the optimiser every
weight. So a step's loss and norm are looked at before the optimiser moves, tensors before they are written, and a
model's weights and logits before it is used: greedy decoding of NaN logits looks like a model that is wrong.
"""

import math
from collections.abc import Callable, Iterable

import torch

from spark_lib.config import Config, ConfigError

MOST_SKIPPED = 3  # steps in a row that were not finite, after which a run ends
REMEDIES = ("try a lower lr, a lower max_grad_norm, or lora=null on a model whose adapter overflows; beta > 0 with a "
            "policy far from its start overflows too")


class NotFinite(ConfigError):
    """A weight, an optimiser's state or a model's output is NaN or infinite; says which in one line."""


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether no number in it is NaN or infinite; integers always are. Needs no memory of the tensor's size."""
    if not tensor.is_floating_point() or not tensor.numel() or tensor.is_meta:
        return True
    low, high = tensor.detach().aminmax()  # both are NaN where one number is
    return math.isfinite(low) and math.isfinite(high)


def not_finite(tensors: Iterable[tuple[str, torch.Tensor]]) -> list[str]:
    return [name for name, tensor in tensors if isinstance(tensor, torch.Tensor) and not is_finite(tensor)]


def refuse(tensors: Iterable[tuple[str, torch.Tensor]], what: str) -> None:
    """Raise NotFinite, beginning with `what`, if one of the named tensors is not finite."""
    tensors = list(tensors)
    if broken := not_finite(tensors):
        raise NotFinite(f"{what}: NaN or infinite numbers in {len(broken)} of {len(tensors)} tensors, e.g. {broken[0]}")


def state_tensors(optimizer: torch.optim.Optimizer) -> list[tuple[str, torch.Tensor]]:
    """The tensors of an optimiser's state by a name, those without any (8-bit states are bytes and scales) included."""
    states = optimizer.state_dict()["state"].items()
    return [(f"{key} of parameter {i}", value) for i, state in states for key, value in state.items()]


@torch.no_grad()
def refuse_broken_model(model, tokenizer, name: str, weights: bool = True) -> None:
    """Raise NotFinite if a weight of the model, or a logit after a short text, is not finite. weights=False: logits
    only. A quantised weight is seen by its logits. tokenizer: or the processor of a vision-language model."""
    if weights:
        refuse(model.named_parameters(), f"model: '{name}' is broken")
    ids = getattr(tokenizer, "tokenizer", tokenizer)("1 + 1 = 2. Hello.")["input_ids"]
    known = model.get_input_embeddings().weight.shape[0]  # a tokenizer may have more tokens than its model
    ids = torch.tensor([[i for i in ids if i < known] or [0]], device=next(model.parameters()).device)
    logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    if not is_finite(logits):
        raise NotFinite(f"model: '{name}' gives logits that are NaN or infinite after a short text; its weights are "
                        f"damaged, or too large for {str(logits.dtype).removeprefix('torch.')}")


def refuse_broken_draws(logprobs: torch.Tensor) -> None:
    """Raise NotFinite if a drawn token's log-prob is NaN or infinite: it was drawn from no distribution."""
    if not is_finite(logprobs):
        raise NotFinite("sampling: the model's logits are NaN or infinite, so no token can be drawn. In training its "
                        f"weights have grown too large: {REMEDIES}")


class Guard:
    """Decides whether a step's update may land. Where a step has several updates, a copy of what learns and of the
    optimiser's state, on the CPU, takes those back that landed before the one that was not finite."""

    def __init__(self, config: Config, parameters: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer):
        self.parameters, self.optimizer = parameters, optimizer
        self.several = config.updates_per_step > 1 or config.schedule == "alternate"
        self.step: object = None
        self.skipped: list[dict] = []  # of the present step: what it was made of
        self.undo: Callable[[], None] | None = None

    def begin(self, step: object) -> bool:
        """To be called before each update; whether the step is still good. A step's later updates are not tried."""
        if step != self.step:
            self.step, self.skipped = step, []
            self.undo = remember(self.parameters, self.optimizer) if self.several else None
        return not self.skipped

    def passes(self, loss: float, norm: float, groups: list[list], demonstrations: list) -> bool:
        """Whether the gradients may go into the optimiser. If not, they are dropped and the step has changed nothing.

        loss, norm: over all processes, so that all decide alike; groups: of Rollouts; demonstrations: Problems."""
        if math.isfinite(loss) and math.isfinite(norm):
            return True
        self.optimizer.zero_grad()
        if self.undo:
            self.undo()
        self.skipped.append(made_of(loss, norm, groups, demonstrations))
        return False

    def measured(self) -> dict[str, float]:
        """What a skipped step's update reports; nothing for a good one."""
        return {"update/skipped": 1, "skipped": self.skipped} if self.skipped else {}


def made_of(loss: float, norm: float, groups: list[list], demonstrations: list) -> dict:
    """A row of skipped.jsonl: what a step that was not finite was made of. JSON has no NaN, so those are strings."""
    def number(value: float) -> float | str:
        return value if math.isfinite(value) else str(value)

    taught = [
        {"kind": group[0].problem.kind, "prompt": group[0].problem.prompt, "rewards": [r.reward for r in group],
         "prompt_tokens": len(group[0].prompt_ids), "tokens": [len(r.response_ids) for r in group],
         "lowest_logprob": number(min((p for r in group for p in r.logprobs), default=0.0))}
        for group in groups if len({r.reward for r in group}) > 1
    ]
    return {"loss": number(loss), "grad_norm": number(norm), "groups": taught, "demonstrations": len(demonstrations)}


def remember(parameters: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """Copies the parameters and the optimiser's state to the CPU; the function returned puts them back in place."""
    def copied(value):
        return value.detach().to("cpu", copy=True) if isinstance(value, torch.Tensor) else value

    weights = [copied(p) for p in parameters]
    states = {p: {key: copied(value) for key, value in state.items()} for p, state in optimizer.state.items()}

    @torch.no_grad()
    def undo() -> None:
        for p, weight in zip(parameters, weights):
            p.copy_(weight)
        for p in list(optimizer.state):
            if p not in states:
                del optimizer.state[p]
                continue
            for key, value in states[p].items():
                if isinstance(value, torch.Tensor):
                    optimizer.state[p][key].copy_(value)
                else:
                    optimizer.state[p][key] = value

    return undo
