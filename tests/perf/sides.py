"""The two sides of a measurement: the same GRPO step by the kit and by TRL's GRPOTrainer.

Both load the same weights, carry the same LoRA adapter and use the code that a run uses: Spark.roll and Spark.update
here; GRPOTrainer._generate_and_score_completions, compute_loss, backward and the optimiser's step there. Rewards are
set by hand (0 and 1 in turn), so every group has something to teach and both sides train on every response.
"""

import contextlib
import math
import sys
import tempfile
import time
import types
from collections import defaultdict
from pathlib import Path

import torch
from accelerate import Accelerator
from peft import LoraConfig
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, LogitsProcessor

sys.path.insert(0, str(Path(__file__).parents[2]))

import train
from spark_lib import rollout
from spark_lib.config import Config
from spark_lib.data.load import load_problems
from spark_lib.loss import Row, joint_loss, micro_batches, rows_of_groups  # noqa: F401
from spark_lib.model.load import STARTER
from spark_lib.model.packing import pack, response_logprobs
from spark_lib.model.weights import trainable
from spark_lib.problem import Problem

# Questions whose answers differ in length, for the measurement with naturally varying lengths.
QUESTIONS = (
    "Name a colour. Reply with one word.", "Is the sun a star? Answer yes or no.", "What is 7 + 5? Give a number.",
    "Write one sentence about the sea.", "Translate 'good morning' into French.", "Name three fruits.",
    "Why is the sky blue? Explain in two sentences.", "Say hello.", "What is the capital of Italy? One word.",
    "Give a synonym of 'happy'.", "Count from one to five.", "How many legs has a spider? Reply with a number.",
)


def model_folder(name: str) -> str:
    """A folder of safetensors for 'starter', a folder, or a .gguf file, which is dequantised once beside it."""
    if name == "starter":
        return str(STARTER)
    path = Path(name)
    if path.suffix != ".gguf":
        return name
    folder = path.with_suffix("")
    if not (folder / "config.json").exists():
        AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(folder)
        read = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
        del read.config.quantization_config
        model = AutoModelForCausalLM.from_config(read.config)  # `read` counts as quantised and cannot be saved
        model.load_state_dict(read.state_dict())
        model.save_pretrained(folder)
    return str(folder)


def problems_for(name: str, mode: str, count: int, seed: int) -> list[Problem]:
    """Additions, as the quickstart trains on; for natural lengths of other models than the starter, QUESTIONS."""
    if name == "starter" or mode == "fixed":
        return load_problems("arithmetic", "train", count, seed)
    return [Problem(QUESTIONS[(seed * count + i) % len(QUESTIONS)], "") for i in range(count)]


def prompt_lengths(folder: str, problems: list[Problem]) -> list[int]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return [len(rollout.encode_prompt(tokenizer, problem.prompt)) for problem in problems]


def base_and_adapter_sizes(folder: str) -> dict[str, int]:
    """Numbers in the weights that multiply every token: those of the layers, of the head, of the adapter; and the
    width of all attention heads of all layers together."""
    config = AutoConfig.from_pretrained(folder)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    head = model.get_output_embeddings()
    linear = [m.weight for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head]
    dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return {
        "layers": sum(w.numel() for w in linear), "head": head.weight.numel(),
        "adapter": sum(Config().lora.r * sum(w.shape) for w in linear),
        "attention_width": config.num_hidden_layers * config.num_attention_heads * dim,
    }


class Side:
    """`seconds` of the last step: generation, reference, forward+backward, rest, total."""

    def __init__(self):
        self.seconds: dict[str, float] = defaultdict(float)

    @contextlib.contextmanager
    def timed(self, phase: str):
        start = time.perf_counter()
        yield
        self.seconds[phase] += time.perf_counter() - start

    def timing(self, owner: object, method: str, phase: str) -> None:
        """From now on, every call of owner.method adds to the phase."""
        original = getattr(owner, method)

        def call(*args, **kwargs):
            with self.timed(phase):
                return original(*args, **kwargs)

        setattr(owner, method, call)

    def split(self, total: float) -> dict[str, float]:
        found = {phase: self.seconds[phase] for phase in ("generation", "reference", "forward+backward")}
        self.seconds.clear()
        return found | {"rest": total - sum(found.values()), "total": total}


class Kit(Side):
    """The kit's own step."""

    def __init__(self, folder: str, args):
        super().__init__()
        self.n = args.group
        self.config = Config(
            model=folder, group_size=args.group, problems_per_step=args.problems, max_new_tokens=args.max_new_tokens,
            beta=args.beta, micro_batch_tokens=args.micro_batch_tokens, loss="dapo", lr=1e-5,
        )
        self.spark = train.Spark(self.config, Accelerator(cpu=not torch.cuda.is_available()))
        self.model, self.tokenizer = self.spark.model, self.spark.tokenizer
        self.timing(self.spark, "reference", "reference")

    def step(self, problems: list[Problem], stream: tuple, fixed: bool) -> tuple[dict[str, float], list]:
        """(seconds by phase, groups). fixed: no token ends a response, so all have max_new_tokens."""
        stop_ids = rollout.stop_ids
        rollout.stop_ids = (lambda model, tokenizer: set()) if fixed else stop_ids
        start = time.perf_counter()
        groups = self.spark.roll(problems, self.n, stream)
        for group in groups:
            for i, r in enumerate(group):
                r.reward = float(i % 2)
        self.spark.update(groups, [], 0)
        total = time.perf_counter() - start
        rollout.stop_ids = stop_ids
        clock = self.spark.clock.seconds
        self.seconds["generation"] = clock.pop("sample")
        self.seconds["forward+backward"] = clock.pop("train") - self.seconds["reference"]
        return self.split(total), groups

    def loss_and_gradient(self, groups: list, advantages: list[float]) -> tuple[float, torch.Tensor]:
        """(loss, gradient as one vector) of the update that `step` would make with these advantages, one a response."""
        rows, total, given = rows_of_groups(groups, self.config), 0.0, iter(advantages)
        for row in rows:
            row.advantages = [next(given) for _ in row.responses]
        for part in micro_batches(rows, self.config.micro_batch_tokens):
            batch = pack(part)
            logprobs = response_logprobs(self.model, batch, self.config.temperature)
            loss, _ = joint_loss(logprobs, logprobs.detach(), self.spark.reference(batch), batch, self.config.clip)
            loss.backward()
            total += loss.item()
        return total, take_gradient(self.model)


class SetLengths(LogitsProcessor):
    """Row i ends with EOS as its `lengths[i]`-th token, or never if that is None: both sides then do equal work."""

    def __init__(self, eos: list[int], lengths: list[int | None], prompt: int):
        self.eos, self.prompt = torch.tensor(eos), prompt
        self.lengths = torch.tensor([math.inf if length is None else length for length in lengths])

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        ends = (input_ids.shape[1] - self.prompt + 1 >= self.lengths).to(scores.device)
        scores[:, self.eos] = -math.inf
        if ends.any():
            scores[ends] = -math.inf
            scores[ends, self.eos[0]] = 0.0
        return scores


class Trl(Side):
    """TRL's trainer on the same weights."""

    def __init__(self, folder: str, args):
        super().__init__()
        from trl import GRPOConfig, GRPOTrainer

        self.n, self.parts = args.group, args.peer_parts
        rows, gpu = args.group * args.problems, torch.cuda.is_available()
        self.folder = tempfile.TemporaryDirectory()
        settings = GRPOConfig(
            output_dir=self.folder.name, use_cpu=not gpu, bf16=gpu, report_to="none", learning_rate=1e-5,
            per_device_train_batch_size=rows // self.parts, gradient_accumulation_steps=self.parts,
            num_generations=args.group, max_completion_length=args.max_new_tokens, temperature=1.0, top_p=1.0, top_k=0,
            beta=args.beta, loss_type="dapo", gradient_checkpointing=False,
            use_bias_correction_kl=False,  # TRL's default multiplies the KL term by the ratio; the paper does not
            logging_strategy="no",
        )
        from datasets import Dataset

        defaults = Config().lora
        self.trainer = GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16 if gpu else torch.float32),
            args=settings,
            reward_funcs=lambda completions, **_: [float(i % 2) for i in range(len(completions))],
            train_dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": "?"}]}] * rows),
            processing_class=AutoTokenizer.from_pretrained(folder),
            peft_config=LoraConfig(task_type="CAUSAL_LM", r=defaults.r, lora_alpha=defaults.alpha,
                                   lora_dropout=defaults.dropout, target_modules=defaults.target_modules),
        )
        self.model = self.trainer.model
        self.trainer.current_gradient_accumulation_steps = self.parts
        self.trainer.create_optimizer()
        self.model.train()
        self.model.generate = types.MethodType(generate_with(type(self.model).generate, self), self.model)
        self.timing(self.trainer, "_generate_single_turn", "generation")

    def step(self, problems: list[Problem], groups: list) -> tuple[dict[str, float], list[int]]:
        """(seconds by phase, generated tokens by row), responses being as long as those of `groups`."""
        trainer = self.trainer
        self.lengths = [len(r.response_ids) if r.finished else None for group in groups for r in group]
        examples = [{"prompt": [{"role": "user", "content": p.prompt}]} for p in problems for _ in range(self.n)]
        start = time.perf_counter()
        logprobs = trainer._get_per_token_logps_and_entropies
        self.timing(trainer, "_get_per_token_logps_and_entropies", "reference")
        inputs = trainer._generate_and_score_completions(examples)
        trainer._get_per_token_logps_and_entropies = logprobs
        with self.timed("forward+backward"):
            self.backward(inputs)
            torch.nn.utils.clip_grad_norm_(trainable(self.model), 1.0)
            trainer.optimizer.step()
            trainer.optimizer.zero_grad()
        total = time.perf_counter() - start
        return self.split(total), inputs["completion_mask"].sum(1).tolist()

    def backward(self, inputs: dict) -> float:
        """The loss, in `parts` micro-batches, with its gradient left in the parameters."""
        from trl.trainer.utils import split_tensor_dict

        total = 0.0
        for part in split_tensor_dict(inputs, self.parts):
            loss = self.trainer.compute_loss(self.model, part)
            loss.backward()  # loss_type dapo is a sum over all parts: nothing is left to divide
            total += loss.item()
        return total

    def loss_and_gradient(self, groups: list, advantages: list[float]) -> tuple[float, torch.Tensor]:
        """The same for the kit's own responses and advantages, laid out as TRL does."""
        flat = [r for group in groups for r in group]
        before, after = max(len(r.prompt_ids) for r in flat), max(len(r.response_ids) for r in flat)

        def tensor(rows: list[list[int]]) -> torch.Tensor:
            return torch.tensor(rows)

        inputs = {
            "prompt_ids": tensor([[0] * (before - len(r.prompt_ids)) + r.prompt_ids for r in flat]),
            "prompt_mask": tensor([[0] * (before - len(r.prompt_ids)) + [1] * len(r.prompt_ids) for r in flat]),
            "completion_ids": tensor([r.response_ids + [0] * (after - len(r.response_ids)) for r in flat]),
            "completion_mask": tensor([[1] * len(r.response_ids) + [0] * (after - len(r.response_ids)) for r in flat]),
            "advantages": torch.tensor(advantages),
            "num_items_in_batch": torch.tensor(sum(len(r.response_ids) for r in flat)),
        }
        with torch.no_grad(), self.model.disable_adapter():
            inputs["ref_per_token_logps"], _, _ = self.trainer._get_per_token_logps_and_entropies(
                self.model, torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1),
                torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1), after,
            )
        return self.backward(inputs), take_gradient(self.model)


def generate_with(generate, side: Trl):
    """TRL's call of generate(), with the lengths that side.lengths asks for."""

    def call(model, **kwargs):
        processor = SetLengths(side.trainer.eos_token_ids, side.lengths, kwargs["input_ids"].shape[1])
        return generate(model, **kwargs, logits_processor=[processor])

    return call


def take_gradient(model) -> torch.Tensor:
    """The adapter's gradient as one vector, ordered by name; it is then forgotten."""
    named = sorted((name, p) for name, p in model.named_parameters() if p.requires_grad)
    gradient = torch.cat([p.grad.flatten() for _, p in named])
    model.zero_grad()
    return gradient


@torch.no_grad()
def same_adapter(kit: Kit, peer: Trl, scale: float) -> None:
    """Both sides' adapters become one and the same, with B of the given scale: at B = 0 ratio and KL are trivial."""
    torch.manual_seed(0)
    theirs = dict(peer.model.named_parameters())
    for name, p in kit.model.named_parameters():
        if "lora_" in name:
            if "lora_B" in name:
                p.normal_(0, scale)
            theirs[name].copy_(p)


def disagreement(kit: Kit, peer: Trl, groups: list) -> dict[str, float]:
    """How far loss and gradient of the two sides differ on identical responses and advantages, relative."""
    same_adapter(kit, peer, 0.02)
    # Not centred, as a group's advantages are: on-policy their loss is nearly 0, and 0 has no relative difference.
    advantages = [1.5 + math.sin(i) for i in range(sum(map(len, groups)))]
    loss, gradient = kit.loss_and_gradient(groups, advantages)
    peers_loss, peers_gradient = peer.loss_and_gradient(groups, advantages)
    same_adapter(kit, peer, 0.0)
    return {
        "loss": abs(loss - peers_loss) / abs(peers_loss),
        "gradient_norm": abs(gradient.norm() - peers_gradient.norm()).item() / peers_gradient.norm().item(),
        "gradient": (gradient - peers_gradient).norm().item() / peers_gradient.norm().item(),
    }
