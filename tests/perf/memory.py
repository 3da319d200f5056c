"""Measured GPU memory against the plan.    python tests/perf/memory.py [8GB|12GB|24GB|80GB|tiny] …

For each named card: a model with random weights of the shape that the card's config in configs/ is for, one batch of
responses sampled to the last token (no stop token), one update on the longest rows. Prints the peak of each phase
beside the plan's, as a table for docs/models.md; text models only. On the CPU, with `tiny`, the same code runs and
measures nothing.
"""

import sys
import tempfile
from pathlib import Path

import torch
import transformers as hf
from accelerate import Accelerator

sys.path[:0] = [str(Path(__file__).parents[2]), *(str(Path(__file__).parents[1] / name) for name in ("", "model"))]
from test_memory import CONFIGS, SHAPES, TINY_SHAPES  # noqa: E402

from spark_lib.config import Config, load_config  # noqa: E402
from spark_lib.model.memory import CUDA, GIB, Plan, longest_rows, plan_of, texts  # noqa: E402
from spark_lib.model.vision import sees_images  # noqa: E402
from spark_lib.model.weights import (  # noqa: E402
    base_of,
    compute_dtype,
    learning,
    merged,
)
from spark_lib.sampling.decode import decode  # noqa: E402
from spark_lib.starters.text import build_tokenizer  # noqa: E402
from train import Spark  # noqa: E402


def build(shape, config: Config, folder: str, device: torch.device) -> Spark:
    """The state of training with random weights, made where they are needed and loaded as any checkpoint."""
    dtype = compute_dtype(device)
    torch.set_default_dtype(dtype)
    with torch.device(device):
        hf.AutoModelForCausalLM.from_config(shape, dtype=dtype).save_pretrained(folder)
    torch.set_default_dtype(torch.float32)
    build_tokenizer(0).save_pretrained(folder)
    config.model = folder
    return Spark(config, Accelerator())


def peak() -> float:
    """Bytes at the most since the last call, 0.6 GiB for CUDA itself included; NaN without a GPU."""
    if not torch.cuda.is_available():
        return float("nan")
    most = torch.cuda.max_memory_allocated() + CUDA
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return most


def sample_longest(spark: Spark, config: Config) -> None:
    """Every kind of batch of the plan, decoded to the last token."""
    for prompt, n, responses in texts(config, base_of(spark.model).config):
        rows = min(responses, max(1, config.max_rows // n) * n)
        uniforms = torch.rand(rows // n, n, config.max_new_tokens)
        with merged(spark.model, config.dense_sampling) as model:
            decode(model, [[5] * prompt] * (rows // n), uniforms, {-1}, 1.0)


def learn_longest(spark: Spark, config: Config) -> None:
    """Every kind of micro-batch of the plan, then one update."""
    for prompt, n, _ in texts(config, base_of(spark.model).config):
        rows = longest_rows(prompt, config.max_new_tokens, n, config.micro_batch_tokens)
        with learning(spark.model):
            spark.add_gradients([(rows, None)], 0)
    spark.optimizer.step()
    spark.optimizer.zero_grad()


def measure(name: str, shape, config: Config) -> None:
    planned: Plan = plan_of(shape, config)
    with tempfile.TemporaryDirectory() as folder:
        spark = build(shape, config, folder, Accelerator().device)
    peak()
    always = sum(planned.always.values())
    for phase, run in (("sampling", sample_longest), ("learning", learn_longest)):
        run(spark, config)
        most, plan = peak(), always + sum(getattr(planned, phase).values())
        off = 100 * (plan / most - 1)
        print(f"| {name} | {phase} | {plan / GIB:.1f} | {most / GIB:.1f} | {off:+.0f} % |", flush=True)


def main(cards: list[str]) -> None:
    print("| config | phase | planned, GiB | measured, GiB | plan off by |\n|---|---|---|---|---|")
    for name, (card, shape) in SHAPES.items():
        if f"{card}GB" in cards and not sees_images(shape):
            measure(name, shape, load_config([str(CONFIGS / f"{name}.yaml")]))
    if "tiny" in cards:
        measure("tiny", TINY_SHAPES["qwen2"], Config(max_new_tokens=8, problems_per_step=2, micro_batch_tokens=512))


if __name__ == "__main__":
    main(sys.argv[1:])
