"""What SPARK adds to a step, beyond the sampling and training of its judge and reflection problems.

    python tests/perf/recycling.py [--model starter | FOLDER] [--out FILE.json]

Runs the loop of train.py twice at the same number of responses per step, with recycling and policy-only, and splits
each step's time. Then times the update on the judge and reflection groups as they are, a prompt's responses side by
side in one row, against the same responses with a prompt each.
"""

import json
import statistics
import sys
import time

import step


class Steps:
    """Stands for a Run: a number of steps, and what was rolled in them; writes nothing."""

    done, progress, say = 1, 0.0, print

    def __init__(self, count: int):
        self.count, self.groups = count, []

    def steps(self):
        for number in range(self.count):
            self.groups.clear()
            yield number

    def log(self, groups: list, learned: dict) -> None:
        self.groups += groups

    def save(self) -> None:
        raise AssertionError("save_every is larger than the number of steps")


def split(kinds: list[str], args) -> tuple[dict[str, float], list]:
    """(seconds per step: sampling, verifying, training, the rest, overhead as a share; groups of the last step)."""
    from accelerate import Accelerator
    from sides import Config, load_problems, model_folder, train

    config = Config(model=model_folder(args.model), max_new_tokens=args.max_new_tokens, save_every=10**6)
    config.recycle.kinds = kinds
    if not kinds:  # as many responses as with recycling
        config.problems_per_step += config.judge_problems * config.judge_group_size // config.group_size
    spark = train.Spark(config, Accelerator(cpu=True))
    data = load_problems(config.data, "train", 1000)
    train.train(spark, data, Steps(1))  # not measured: first use of everything
    spark.clock.seconds.clear()
    run, start = Steps(args.rounds), time.perf_counter()
    train.train(spark, data, run)
    total = time.perf_counter() - start
    phases = {name: spark.clock.seconds[name] / args.rounds for name in ("sample", "verify", "train")}
    phases |= {"total": total / args.rounds, "rest": total / args.rounds - sum(phases.values())}
    phases["overhead"] = 1 - (phases["sample"] + phases["train"]) / phases["total"]
    phases["tokens"] = sum(len(r.response_ids) for group in run.groups for r in group)
    return phases, run.groups


def sharing(groups: list, args) -> dict[str, float]:
    """Seconds of forward and backward on the recycled groups with shared prompts, and with a prompt per response."""
    from sides import Kit, Row, micro_batches, model_folder, pack, response_logprobs

    kit = Kit(model_folder(args.model), args)
    shared = [Row(g[0].prompt_ids, [r.response_ids for r in g], [1.0] * len(g), [1.0] * len(g), 0.0)
              for g in groups if g[0].problem.kind != "solve"]
    if not shared:
        sys.exit("no response ended within --max-new-tokens, so nothing could be recycled; allow more")
    alone = [Row(row.prompt, [response], [1.0], [1.0], 0.0) for row in shared for response in row.responses]
    found = {"shared": [], "alone": []}
    for _ in range(args.rounds + 1):
        for name, rows in (("shared", shared), ("alone", alone)):
            start = time.perf_counter()
            for part in micro_batches(rows, args.micro_batch_tokens):
                response_logprobs(kit.model, pack(part), 1.0).sum().backward()
            found[name].append(time.perf_counter() - start)
    seconds = {name: statistics.median(values[1:]) for name, values in found.items()}
    prompt = statistics.mean(len(row.prompt) for row in shared)
    response = statistics.mean(len(row.responses[0]) for row in alone)
    return seconds | {"ratio": seconds["alone"] / seconds["shared"], "prompt": prompt, "response": response}


def main() -> int:
    args = step.arguments(__doc__.splitlines()[0]).parse_args()
    step.prepare(args)
    from sides import Config

    spark, groups = split(Config().recycle.kinds, args)
    policy, _ = split([], args)
    report = {"machine": step.machine(), "spark": spark, "policy_only": policy, "sharing": sharing(groups, args)}
    names = list(spark)
    print(f"{report['machine']}\n\n| a step | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for name in ("spark", "policy_only"):
        print(f"| {name} | {' | '.join(f'{report[name][key]:.3f}' for key in names)} |")
    found = report["sharing"]
    print(f"\nupdate on judge and reflection groups, prompts of {found['prompt']:.0f} and responses of "
          f"{found['response']:.0f} tokens: {found['shared']:.3f} s with shared prompts, {found['alone']:.3f} s with a "
          f"prompt per response: {found['ratio']:.2f} times")
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
