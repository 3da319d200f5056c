"""Sampling when waiting responses take the places of finished ones, against batches that are waited for.

    python tests/perf/refill.py --model FILE.gguf [--problems 16 --group 4 --rows 16] [--out FILE.json]

64 responses of natural length at 16 rows. Both are the kit's own decode, called once with all prompts, or once for
each batch of `rows`, as it was before; they take turns, and draw the same responses from the same random numbers. A
pass is one forward pass over one token a row.
"""

import argparse
import json
import statistics
import sys
import time

import step


def measure(args) -> dict:
    import torch
    from sides import model_folder, problems_for

    from spark_lib.model.load import load_base
    from spark_lib.rollout import encode_prompt, stop_ids
    from spark_lib.sampling.decode import decode

    model, tokenizer = load_base(model_folder(args.model))
    model.eval()
    stops, passes = stop_ids(model, tokenizer), []

    def count(module, inputs, kwargs, out) -> None:
        if kwargs["input_ids"].shape[1] == 1:
            passes.append(len(out.logits))

    model.register_forward_hook(count, with_kwargs=True)

    def batches(prompts: list, uniforms: torch.Tensor, rows: int) -> list:
        size = rows // args.group
        parts = (slice(i, i + size) for i in range(0, len(prompts), size))
        return [one for part in parts for one in decode(model, prompts[part], uniforms[part], stops, 1.0)]

    ways = {"batches": batches, "refilled": lambda prompts, uniforms, rows: decode(
        model, prompts, uniforms, stops, 1.0, max_rows=rows)}
    found = {way: {"seconds": [], "passes": [], "rows": []} for way in ways}
    tokens, differing = [], 0
    for number in range(args.rounds + 1):
        problems = problems_for(args.model, "variable", args.problems, number)
        prompts = sorted((encode_prompt(tokenizer, problem.prompt) for problem in problems), key=len)
        uniforms = torch.rand(args.problems, args.group, args.max_new_tokens,
                              generator=torch.Generator().manual_seed(number))
        said = {}
        for way in list(ways)[:: 1 if number % 2 else -1]:
            passes.clear()
            start = time.perf_counter()
            said[way] = ways[way](prompts, uniforms, args.rows)
            seconds = time.perf_counter() - start
            if number:  # the first is for warming up
                found[way]["seconds"].append(seconds)
                found[way]["passes"].append(len(passes))
                found[way]["rows"].append(sum(passes) / len(passes))
        differing += sum(one[0] != other[0] for one, other in zip(*said.values()))
        tokens.append(sum(len(ids) for ids, _ in said["refilled"]))
    medians = {way: {name: statistics.median(values) for name, values in of.items()} for way, of in found.items()}
    ratios = [a / b for a, b in zip(found["batches"]["seconds"], found["refilled"]["seconds"])]
    return {"machine": step.machine(), "settings": {k: str(v) for k, v in vars(args).items()}, "median": medians,
            "ratio": statistics.median(ratios), "ratio_range": [min(ratios), max(ratios)],
            "passes_ratio": medians["batches"]["passes"] / medians["refilled"]["passes"],
            "tokens": statistics.mean(tokens), "responses": args.problems * args.group * (args.rounds + 1),
            "differing": differing}


def main() -> int:
    parser: argparse.ArgumentParser = step.arguments(__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=16)
    parser.set_defaults(problems=16, group=4, max_new_tokens=128, rounds=3)
    args = parser.parse_args()
    step.prepare(args)
    report = measure(args)
    print("| | passes | rows a pass | seconds |\n|---|---|---|---|")
    for way, of in report["median"].items():
        print(f"| {way} | {of['passes']:.0f} | {of['rows']:.1f} | {of['seconds']:.2f} |")
    low, high = report["ratio_range"]
    print(f"{report['ratio']:.2f} times faster ({low:.2f} to {high:.2f}), {report['passes_ratio']:.2f} times fewer "
          f"passes; {report['differing']} of {report['responses']} responses differ")
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
