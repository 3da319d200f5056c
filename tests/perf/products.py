"""Rate of decoding's matrix products at SmolLM2-135M's shapes: plain, cut into columns, and packed by oneDNN.

    MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=1000000000000 python tests/perf/products.py [rows]

fp32 on one thread; a table of G operations/s, the best of 15.
"""

import sys
import time

import torch

SHAPES = {"attention": (576, 576), "MLP, up": (576, 1536), "MLP, down": (1536, 576), "head": (576, 49_152)}


def rate(product, operations: int) -> float:
    """G operations/s, the best of 15."""
    found = []
    for _ in range(15):
        start = time.perf_counter()
        product()
        found.append(operations / (time.perf_counter() - start) / 1e9)
    return max(found)


def products(x: torch.Tensor, weight: torch.Tensor) -> tuple:
    """x @ weight.T in three ways, each a function without arguments."""
    columns, packed = weight.split(4096), torch.ops.mkldnn._reorder_linear_weight(weight, len(x))
    return (lambda: x @ weight.T, lambda: [x @ part.T for part in columns],
            lambda: torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], ""))


def main() -> None:
    torch.set_num_threads(1)
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 32
    print(f"| {rows} rows | plain | in columns of 4096 | packed |\n|---|---|---|---|")
    for name, (inputs, outputs) in SHAPES.items():
        ways = products(torch.randn(rows, inputs), torch.randn(outputs, inputs))
        print(f"| {name} | " + " | ".join(f"{rate(way, 2 * rows * inputs * outputs):.0f}" for way in ways) + " |")


if __name__ == "__main__":
    main()
