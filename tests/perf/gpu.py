"""Sampling, update and memory on a GPU, at the shapes of Qwen2.5, by the kit and by TRL.

    python tests/perf/gpu.py --shape 1.5b [--out FILE.json]        shapes: tiny (works on a CPU too), 1.5b, 7b

Random weights, LoRA on all linear layers, 8 problems x 8 responses x 512 tokens of fixed length. TRL generates with
transformers' generate() and, where a GPU is, with its continuous batching. Decode must read all weights, and the keys
and values so far, for every token: `bandwidth` is the share of the measured memory bandwidth that this comes to.
"""

import json
import statistics
import sys
import tempfile
import time

import step
import torch

SHAPES = {  # hidden, intermediate, layers, heads, key-value heads, vocabulary
    "tiny": (64, 128, 2, 4, 2, 454),
    "1.5b": (1536, 8960, 28, 12, 2, 151936),
    "7b": (3584, 18944, 28, 28, 4, 152064),
}


def random_model(folder: str, shape: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config

    from spark_lib.model.load import STARTER

    hidden, intermediate, layers, heads, kv_heads, vocabulary = SHAPES[shape]
    tokenizer = AutoTokenizer.from_pretrained(STARTER)
    tokenizer.save_pretrained(folder)
    config = Qwen2Config(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=kv_heads, max_position_embeddings=4096,
        tie_word_embeddings=shape != "7b", bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)


def bytes_per_second(device: str) -> float:
    """Of a copy within the device's memory, reading and writing counted."""
    x = torch.ones(2**28 if device == "cuda" else 2**24, device=device)
    y, times = torch.empty_like(x), []
    for _ in range(10):
        start = time.perf_counter()
        y.copy_(x)
        synchronize()
        times.append(time.perf_counter() - start)
    return 2 * x.nbytes / min(times)


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def run(side, problems: list, args, unfinished) -> dict[str, float]:
    """Medians of a side's steps, tokens per second of its sampling, and the GPU's peak memory in bytes."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    rounds = []
    for number in range(args.rounds + 1):
        found = side.step(problems, unfinished) if unfinished else side.step(problems, (number,), fixed=True)
        rounds.append(found[0])
    seconds = {phase: statistics.median(r[phase] for r in rounds[1:]) for phase in step.PHASES}
    tokens = args.problems * args.group * args.max_new_tokens
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return seconds | {"tokens_per_second": tokens / seconds["generation"], "peak": peak}


def decode_bytes(model, folder: str, prompt: int, args) -> float:
    """Bytes that sampling must read: all weights once per token, and every response's keys and values so far."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder)
    weights = sum(p.nbytes for name, p in model.named_parameters() if "lora_" not in name and "embed" not in name)
    if config.tie_word_embeddings:
        weights += model.get_input_embeddings().weight.nbytes  # the head
    width = config.num_key_value_heads * config.hidden_size // config.num_attention_heads
    cached = 2 * config.num_hidden_layers * width * model.dtype.itemsize * (prompt + args.max_new_tokens / 2)
    return args.max_new_tokens * (weights + args.problems * args.group * cached)


def main() -> int:
    parser = step.arguments(__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="1.5b")
    parser.set_defaults(problems=8, max_new_tokens=512, peer_parts=8, rounds=2)
    args = parser.parse_args()
    step.prepare(args)
    from sides import Kit, Problem, Trl, prompt_lengths

    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = torch.cuda.get_device_name() if device == "cuda" else step.machine()
    report = {"machine": name, "shape": args.shape, "bytes_per_second": bytes_per_second(device)}
    problems = [Problem(f"{10 + i} + 20 + 30 = ?", "") for i in range(args.problems)]
    with tempfile.TemporaryDirectory() as folder:
        random_model(folder, args.shape)
        prompt = prompt_lengths(folder, problems)[0]
        kit = Kit(folder, args)
        report["kit"] = run(kit, problems, args, None)
        must = decode_bytes(kit.model, folder, prompt, args)
        del kit
        unfinished = [[step.Unfinished()] * args.group for _ in problems]
        for key, batching in (("trl", False), ("trl, continuous batching", True)):
            if batching and device == "cpu":
                continue  # it needs a GPU
            peer = Trl(folder, args)
            peer.trainer.use_transformers_continuous_batching = batching
            report[key] = run(peer, problems, args, unfinished)
            del peer
    sides = [key for key in report if key == "kit" or key.startswith("trl")]
    print(f"{name}, {args.shape}, {report['bytes_per_second'] / 1e9:.0f} GB/s\n")
    print("| side | tokens/s of sampling | bandwidth | update, s | step, s | peak, GiB |\n|---|---|---|---|---|---|")
    for key in sides:
        found = report[key]
        found["bandwidth"] = must / found["generation"] / report["bytes_per_second"]
        update = found["reference"] + found["forward+backward"]
        print(f"| {key} | {found['tokens_per_second']:.0f} | {found['bandwidth']:.1%} | {update:.2f} "
              f"| {found['total']:.2f} | {found['peak'] / 2**30:.1f} |")
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
