"""Optimisers and the learning rate."""

import bitsandbytes as bnb
import pytest
import torch

from spark_lib.config import Config, ConfigError
from spark_lib.model.optimizers import learning_rate, make_optimizer


@pytest.mark.parametrize("schedule, halfway, end", [("constant", 1.0, 1.0), ("linear", 0.5, 0.0), ("cosine", 0.5, 0.0)])
def test_the_learning_rate_follows_schedule_and_warm_up(schedule, halfway, end):
    config = Config(lr=2.0, lr_schedule=schedule)
    for progress, factor in ((0.0, 1.0), (0.5, halfway), (1.0, end)):
        assert learning_rate(config, 0, progress) == pytest.approx(2.0 * factor)
    config.warmup_steps = 4
    assert [learning_rate(config, step, 0.0) for step in range(6)] == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    assert learning_rate(config, 1, 0.5) == pytest.approx(halfway)


@pytest.mark.parametrize("name, kind", [("adamw", torch.optim.AdamW), ("adamw_8bit", bnb.optim.AdamW8bit)])
def test_optimisers_step_as_adamw_does_and_come_back_from_a_file(tmp_path, name, kind):
    """One step of Adam moves every weight by about lr; the 8-bit state must survive saving (weights_only)."""
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.zeros(64, 128))  # more than 4096 numbers, so that the state is in 8 bits
    optimizer = make_optimizer(Config(optimizer=name, lr=1e-2), [weight])
    assert type(optimizer) is kind
    gradient = torch.randn(64, 128)
    for _ in range(2):
        weight.grad = gradient.clone()
        optimizer.step()
    assert (weight.detach() + 2e-2 * gradient.sign()).abs().mean() < 1e-3  # 8 bits blur the smallest gradients
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    twin = torch.nn.Parameter(weight.detach().clone())
    resumed = make_optimizer(Config(optimizer=name, lr=1e-2), [twin])
    resumed.load_state_dict(torch.load(tmp_path / "optimizer.pt", weights_only=True))
    for parameter, owner in ((weight, optimizer), (twin, resumed)):
        parameter.grad = gradient.clone()
        owner.step()
    assert torch.equal(weight, twin)


def test_paging_without_a_gpu_is_an_error():
    """bitsandbytes would warn and not page."""
    with pytest.raises(ConfigError, match="take adamw_8bit"):
        make_optimizer(Config(optimizer="paged_adamw_8bit"), [torch.nn.Parameter(torch.zeros(2))])
