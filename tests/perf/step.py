"""One GRPO step by the kit and by TRL, interleaved in one process.

    python tests/perf/step.py --peer trl [--model starter | FOLDER | FILE.gguf] [--out FILE.json]

Same weights, LoRA, prompts, number of generated tokens per response, loss, dtype, threads and malloc settings. The
kit samples first; TRL's generate() is then made to end each response at the very length that ours had. Loss and
gradient of both sides are compared on identical input first: if they disagree, no ratio is printed (exit status 1).
Times are medians over --rounds after one unmeasured round; peak memory (RSS) is taken in a process per side.
"""

import argparse
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path

# glibc gives freed blocks back to the system and faults them in again at every operation: 1.3 to 2.5 times the time.
# Both sides get the setting (it must be there when the process starts).
MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "1000000000000", "MALLOC_TOP_PAD_": "67108864"}
# Relative. A gradient is a sum of many that nearly cancel, so rounding shows more in it than in its length.
AGREE = {"loss": 1e-4, "gradient_norm": 1e-4, "gradient": 1e-4}
PHASES = ("generation", "reference", "forward+backward", "rest", "total")


def arguments(description: str) -> argparse.ArgumentParser:
    """What the scripts of this folder have in common."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", default="starter", help="'starter', a folder, or a .gguf file")
    parser.add_argument("--problems", type=int, default=4)
    parser.add_argument("--group", type=int, default=8, help="responses per problem")
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--beta", type=float, default=1e-3)
    parser.add_argument("--micro-batch-tokens", type=int, default=16384)
    parser.add_argument("--peer-parts", type=int, default=1, help="micro-batches of TRL's update")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="0: as torch chooses")
    parser.add_argument("--cpu-time", action="store_true", help="count processor time, where others share the machine")
    parser.add_argument("--out", type=Path, help="where to write the JSON")
    return parser


def prepare(args) -> None:
    """Start again with the malloc settings, then set threads and silence what is no result."""
    if any(os.environ.get(name) != value for name, value in MALLOC.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | MALLOC)
    import torch
    import transformers

    warnings.filterwarnings("ignore")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.cpu_time:
        time.perf_counter = time.process_time


def machine() -> str:
    import torch

    named = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    name = named[1] if named else platform.processor()
    return f"{name}, {torch.get_num_threads()} thread(s), torch {torch.__version__}"


def measure(args, modes: tuple[str, ...] = ("fixed", "variable")) -> dict:
    """What the docstring above says, without the memory; "seconds" and "ratio" are missing if the losses disagree."""
    from sides import Kit, Trl, disagreement, model_folder, problems_for

    folder = model_folder(args.model)
    kit, peer = Kit(folder, args), Trl(folder, args)
    _, groups = kit.step(problems_for(args.model, "variable", args.problems, 0), (0, "warm"), fixed=False)
    difference = disagreement(kit, peer, groups)
    report = {"machine": machine(), "settings": {k: str(v) for k, v in vars(args).items()}, "difference": difference,
              "loss_agrees": all(difference[name] <= limit for name, limit in AGREE.items())}
    if not report["loss_agrees"]:
        return report
    report |= {"seconds": {}, "ratio": {}, "tokens": {}, "ratio_range": {}}
    for mode in modes:
        rounds = []
        for number in range(args.rounds + 1):
            problems = problems_for(args.model, mode, args.problems, number)
            ours, groups = kit.step(problems, (number, mode), mode == "fixed")
            theirs, lengths = peer.step(problems, groups)
            assert lengths == [len(r.response_ids) for group in groups for r in group], "the sides did unequal work"
            rounds.append((ours, theirs, sum(lengths)))
        rounds = rounds[1:]
        ratios = [theirs["total"] / ours["total"] for ours, theirs, _ in rounds]
        report["seconds"][mode] = {
            side: {phase: statistics.median(r[i][phase] for r in rounds) for phase in PHASES}
            for i, side in enumerate(("kit", "trl"))
        }
        report["ratio"][mode] = statistics.median(ratios)
        report["ratio_range"][mode] = [min(ratios), max(ratios)]
        report["tokens"][mode] = statistics.mean(r[2] for r in rounds)
    return report


def peak_alone(args) -> dict[str, int]:
    """Peak RSS in bytes of this process, which runs one side only; both sides import the same packages.

    TRL needs lengths to reproduce: responses of max_new_tokens, which is also where the memory peaks.
    """
    import trl  # noqa: F401
    from sides import Kit, Trl, model_folder, problems_for

    folder = model_folder(args.model)
    side = (Kit if args.side == "kit" else Trl)(folder, args)
    loaded = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    for number in range(2):
        problems = problems_for(args.model, "fixed", args.problems, number)
        if args.side == "kit":
            side.step(problems, (number, "fixed"), fixed=True)
        else:
            side.step(problems, [[Unfinished()] * args.group for _ in problems])
    # Not getrusage's ru_maxrss: across fork and exec it keeps the peak of the process that started this one.
    peak = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    phases = side.spark.clock.memory.values() if args.side == "kit" else ()  # where the kit begins to count anew
    return {"loaded": loaded, "peak": max([int(peak[1]) * 1024, *phases])}


class Unfinished:
    """Stands for a response that goes on to the limit."""

    finished, response_ids = False, ()


def peaks(args) -> dict[str, dict[str, int]]:
    found = {}
    for side in ("kit", "trl"):
        words = [sys.executable, __file__, *sys.argv[1:], "--side", side]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        found[side] = json.loads(done.stdout.splitlines()[-1])
    return found


def show(report: dict) -> None:
    print(report["machine"])
    print("relative difference on identical input:",
          ", ".join(f"{name} {value:.1e}" for name, value in report["difference"].items()))
    if not report["loss_agrees"]:
        return print("The two sides do not compute the same loss and gradient; a ratio of their times means nothing.")
    for mode, sides in report["seconds"].items():
        low, high = report["ratio_range"][mode]
        print(f"\n{mode} length, {report['tokens'][mode]:.0f} tokens a step: "
              f"TRL / kit = {report['ratio'][mode]:.2f} ({low:.2f} to {high:.2f})\n")
        print(f"| seconds | {' | '.join(PHASES)} |\n|---|{'---|' * len(PHASES)}")
        for side, seconds in sides.items():
            print(f"| {side} | {' | '.join(f'{seconds[phase]:.3f}' for phase in PHASES)} |")
        print("| ratio |", " | ".join(
            f"{sides['trl'][p] / sides['kit'][p]:.2f}" if sides["kit"][p] > 1e-4 else "" for p in PHASES), "|")
    for side, bytes_ in report["memory"].items():
        print(f"peak memory of {side}: {bytes_['peak'] / 2**20:.0f} MiB ({bytes_['loaded'] / 2**20:.0f} when loaded)")
    print(f"kit / TRL: {report['memory_ratio']:.2f}")


def main() -> int:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--peer", choices=["trl"], default="trl")
    parser.add_argument("--side", choices=["kit", "trl"], help=argparse.SUPPRESS)  # measure one side's memory
    args = parser.parse_args()
    prepare(args)
    if args.side:
        print(json.dumps(peak_alone(args)))
        return 0
    report = measure(args)
    if report["loss_agrees"]:
        report["memory"] = peaks(args)
        report["memory_ratio"] = report["memory"]["kit"]["peak"] / report["memory"]["trl"]["peak"]
    show(report)
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n")
    return 0 if report["loss_agrees"] else 1


if __name__ == "__main__":
    sys.exit(main())
