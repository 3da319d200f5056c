"""How far a step is from what this machine's arithmetic allows, for the kit and for TRL.

    python tests/perf/limit.py [--model starter | FOLDER | FILE.gguf] [--out FILE.json]

Measures the rate of fp32 matrix products and of reading memory, counts the operations and bytes that the step must
cost at fixed response length whoever computes it, and divides measured times by that bound:

    generation        prompts once, then token by token: the longer of arithmetic and of reading all weights per token
    reference         one forward pass over prompts (once per group) and responses
    forward+backward  forward, gradient by the input (base weights are frozen: none by them), the adapter's products
"""

import json
import sys
import time

import step
import torch


def gemm_rate(size: int = 2048, rounds: int = 5) -> float:
    """fp32 operations per second of a large square product, the best of some rounds."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    return max(2 * size**3 / seconds(lambda: a @ b) for _ in range(rounds))


def bandwidth(size: int = 2**26, rounds: int = 5) -> float:
    """Bytes per second read by a sum over a tensor that no cache holds (256 MiB)."""
    x = torch.ones(size)
    return max(x.nbytes / seconds(x.sum) for _ in range(rounds))


def seconds(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def least(folder: str, prompt_tokens: int, args, rate: float, read: float) -> dict[str, float]:
    """Seconds that each phase must cost. prompt_tokens: of all problems together."""
    from sides import base_and_adapter_sizes

    size = base_and_adapter_sizes(folder)
    n, length = args.problems * args.group, args.max_new_tokens
    generated, tokens = n * length, prompt_tokens + n * length
    context = prompt_tokens / args.problems + length / 2  # tokens that a generated token looks back on
    attention = 4 * size["attention_width"] * (generated * context + prompt_tokens**2 / args.problems / 2)
    head = 2 * size["head"] * generated
    forward = 2 * size["layers"] * tokens + head + attention
    per_token = (2 * (size["layers"] + size["head"]) + 4 * size["attention_width"] * context) * n
    decode = length * max(per_token / rate, 4 * (size["layers"] + size["head"]) / read)
    return {
        "generation": decode + 2 * size["layers"] * prompt_tokens / rate,
        "reference": forward / rate if args.beta else 0.0,
        "forward+backward": (2 * forward + attention + 6 * size["adapter"] * tokens) / rate,
    }


def main() -> int:
    args = step.arguments(__doc__.splitlines()[0]).parse_args()
    step.prepare(args)
    from sides import model_folder, problems_for, prompt_lengths

    rate, read = gemm_rate(), bandwidth()
    report = step.measure(args, modes=("fixed",))
    if not report["loss_agrees"]:
        step.show(report)
        return 1
    folder = model_folder(args.model)
    rounds = [problems_for(args.model, "fixed", args.problems, number) for number in range(1, args.rounds + 1)]
    prompt_tokens = sum(sum(prompt_lengths(folder, problems)) for problems in rounds) / args.rounds
    bound = least(folder, prompt_tokens, args, rate, read)
    bound["total"] = sum(bound.values())
    over = {side: {phase: found[phase] / bound[phase] for phase in bound if bound[phase]}
            for side, found in report["seconds"]["fixed"].items()}
    report |= {"gemm_per_second": rate, "bytes_per_second": read, "bound": bound, "over_bound": over}
    print(f"{report['machine']}: {rate / 1e9:.0f} G fp32 operations/s, {read / 1e9:.1f} GB/s\n")
    print(f"| times the bound | {' | '.join(bound)} |\n|---|{'---|' * len(bound)}")
    print(f"| bound, seconds | {' | '.join(f'{value:.3f}' for value in bound.values())} |")
    for side, found in over.items():
        print(f"| {side} | {' | '.join(f'{found[phase]:.2f}' if phase in found else '' for phase in bound)} |")
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
