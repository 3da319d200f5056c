"""The optimiser and the learning rate of a step."""

import math

import bitsandbytes as bnb
import torch

from spark_lib.config import Config, ConfigError

# Bytes of state per trained parameter: two moments in fp32, or in 8 bits with an fp32 scale per 256 of them.
STATE_BYTES = {"adamw": 8.0, "paged_adamw": 8.0, "adamw_8bit": 2 + 8 / 256, "paged_adamw_8bit": 2 + 8 / 256}


def make_optimizer(config: Config, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """AdamW without weight decay: torch's, or bitsandbytes' with its state in 8 bits (tensors of at least 4096
    elements) or in memory that moves to the CPU when the GPU is full ("paged"). Raises ConfigError."""
    if config.optimizer.startswith("paged") and parameters[0].device.type != "cuda":
        raise ConfigError(f"optimizer: {config.optimizer} pages between a GPU and the CPU, and there is no GPU here; "
                          f"take {config.optimizer.removeprefix('paged_')}")
    kinds = {"adamw": torch.optim.AdamW, "adamw_8bit": bnb.optim.AdamW8bit, "paged_adamw": bnb.optim.PagedAdamW,
             "paged_adamw_8bit": bnb.optim.PagedAdamW8bit}
    return kinds[config.optimizer](parameters, lr=config.lr, weight_decay=0.0)


def learning_rate(config: Config, step: int, progress: float) -> float:
    """The rate of a step, counted from 0; progress: the part of the run that is done, from 0 to 1.

    It rises over warmup_steps and follows the schedule all along.
    """
    warm = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    fall = {"constant": 1.0, "linear": 1 - progress, "cosine": (1 + math.cos(math.pi * progress)) / 2}
    return config.lr * warm * fall[config.lr_schedule]
