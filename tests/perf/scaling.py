"""Seconds per step against number of responses, response length, prompt length and model size, for the kit and TRL.

    python tests/perf/scaling.py [--out FILE.json] [--figure FILE.png]

Random weights of Llama's architecture with the starter's tokenizer; responses of fixed length. One quantity varies at
a time; the slope in a log-log plot says how the cost grows (1: linearly).
"""

import argparse
import json
import math
import statistics
import sys
import tempfile
from pathlib import Path

import step

AXES = {
    "responses per problem": (4, 8, 16, 32),
    "response tokens": (16, 32, 64, 128),
    "prompt tokens": (32, 64, 128, 256, 512),
    "hidden width": (64, 128, 256, 384),
}
START = {"responses per problem": 8, "response tokens": 32, "prompt tokens": 64, "hidden width": 192}


def random_model(folder: str, width: int) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

    from spark_lib.model.load import STARTER

    tokenizer = AutoTokenizer.from_pretrained(STARTER)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=3 * width, num_hidden_layers=4,
        num_attention_heads=width // 32, max_position_embeddings=2048, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )).save_pretrained(folder)


def point(setting: dict[str, int], args) -> dict[str, float]:
    """Median seconds per step of both sides."""
    from sides import Kit, Problem, Trl

    args = argparse.Namespace(**vars(args) | {"group": setting["responses per problem"],
                                              "max_new_tokens": setting["response tokens"]})
    with tempfile.TemporaryDirectory() as folder:
        random_model(folder, setting["hidden width"])
        kit, peer = Kit(folder, args), Trl(folder, args)
        # A digit is one token of the starter's tokenizer; three more come from the chat template.
        problems = [Problem(str(i) * (setting["prompt tokens"] - 3), "") for i in range(args.problems)]
        found = {"kit": [], "trl": []}
        for number in range(args.rounds + 1):
            seconds, groups = kit.step(problems, (number,), fixed=True)
            found["kit"].append(seconds["total"])
            found["trl"].append(peer.step(problems, groups)[0]["total"])
    return {side: statistics.median(values[1:]) for side, values in found.items()}


def slope(x: list[float], y: list[float]) -> float:
    """Of a straight line through the points in logarithms, by least squares."""
    return statistics.linear_regression([math.log(v) for v in x], [math.log(v) for v in y]).slope


def draw(report: dict, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator

    count = len(report["axes"])
    figure, panels = plt.subplots(1, count, figsize=(4 * count, 3.4), constrained_layout=True, squeeze=False)
    for panel, (axis, found) in zip(panels[0], report["axes"].items()):
        for side, colour in (("kit", "tab:blue"), ("trl", "tab:orange")):
            name = {"trl": "TRL"}.get(side, side)
            panel.loglog(found["x"], found[side], "o-", color=colour, label=f"{name}, slope {found['slope'][side]:.2f}")
        panel.set_xlabel(axis)
        panel.set_xticks(found["x"], [str(x) for x in found["x"]])
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter("{x:g}")
        panel.minorticks_off()
        panel.legend(frameon=False)
    panels[0, 0].set_ylabel("seconds per step")
    figure.savefig(path, dpi=110)


def main() -> int:
    parser = step.arguments(__doc__.splitlines()[0])
    parser.add_argument("--figure", type=Path, help="where to draw")
    args = parser.parse_args()
    step.prepare(args)
    report = {"machine": step.machine(), "start": START, "problems": args.problems, "axes": {}}
    for axis, values in AXES.items():
        points = [point(START | {axis: value}, args) for value in values]
        found = {"x": list(values)} | {side: [p[side] for p in points] for side in ("kit", "trl")}
        found["slope"] = {side: slope(values, found[side]) for side in ("kit", "trl")}
        report["axes"][axis] = found
        print(f"\n| {axis} | {' | '.join(map(str, values))} | slope |\n|---|{'---|' * (len(values) + 1)}")
        for side in ("kit", "trl"):
            cells = " | ".join(f"{value:.3f}" for value in found[side])
            print(f"| {side}, seconds | {cells} | {found['slope'][side]:.2f} |", flush=True)
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n")
    if args.figure:
        draw(report, args.figure)
    return 0


if __name__ == "__main__":
    sys.exit(main())
