"""SPARK: train one model to solve, judge and reflect.    python train.py [config.yaml] [key=value ...]

The algorithm (arXiv 2509.22624) is the function `train`: a step's rollouts teach the policy and, recycled into
judge and reflection problems, teach the same model to judge and reflect. Each line of it is a verb from spark_lib.
`python train.py --help` prints every key, with a WORD behind it those that have to do with it;
`python train.py resume=runs/<name>` goes on with a stopped run.
"""

from dataclasses import replace
from functools import partial

import torch
from accelerate import Accelerator

from spark_lib import report, seeds
from spark_lib.clock import Clock
from spark_lib.config import Config, load_config
from spark_lib.data.load import load_problems, problems_of_step
from spark_lib.evaluation import skills
from spark_lib.help import asked_for
from spark_lib.loss import joint_loss, micro_batches, rows_of_demonstrations, rows_of_groups
from spark_lib.model.checkpoints import save_merged, warm_base
from spark_lib.model.finite import Guard
from spark_lib.model.fit import refuse_unfit
from spark_lib.model.lean import keep_freed_memory, lean_lora
from spark_lib.model.load import load_model
from spark_lib.model.memory import card_bytes, halves, plan, until_it_fits
from spark_lib.model.optimizers import learning_rate, make_optimizer
from spark_lib.model.packing import pack, response_logprobs
from spark_lib.model.vision import text_tokenizer
from spark_lib.model.weights import compute_dtype, frozen_start, learning, starting_model, trainable
from spark_lib.problem import Problem
from spark_lib.recycle import recycle
from spark_lib.resuming import refuse_changes
from spark_lib.rewards import load_rule
from spark_lib.rollout import Rollout, encode
from spark_lib.run import Run
from spark_lib.sampling.roll import Sampler
from spark_lib.sampling.vllm import reach
from spark_lib.starters.warmup import lessons, warm_up
from spark_lib.stopping import run_script

MEASURED = ("tokens", "clipped", "kl", "nll", "sampled", "mismatch", "capped")  # of joint_loss


def train(spark: "Spark", data: list[Problem], run: Run) -> None:
    """The whole algorithm; one pass of the loop is one step."""
    config = spark.config
    for step in run.steps():
        # Solve: a group of responses to each problem, each marked right or wrong by rule.
        problems = problems_of_step(data, step, config.problems_per_step, config.seed)
        groups = spark.roll(problems, config.group_size, (step, "solve"))

        # Recycle: the responses and their marks become judge and reflection problems with known answers.
        source = groups
        if config.recycle.from_start:  # the paper's policy&reward baseline
            source = spark.roll(problems, config.group_size, (step, "start"), start_model=True)
        recycled = recycle(source, seeds.rng(config.seed, step, "recycle"), config)

        spark.set_learning_rate(learning_rate(config, step, run.progress))
        unlearned, judged, demonstrations = groups, [], []
        if config.schedule == "alternate":  # the authors' order: judge with weights that already learned to solve
            spark.update(unlearned, [], step)
            unlearned = []

        # Judge and reflect: problems like any other, for the same model; or imitate a judgement without sampling.
        if config.judge_loss == "grpo":
            judged = spark.roll(recycled, config.judge_group_size, (step, "judge"))
        else:
            demonstrations = [problem for problem in recycled if "demonstration" in problem.meta]

        # Learn: one policy-gradient update over every kind.
        learned = spark.update(unlearned + judged, demonstrations, step)
        run.log(groups + judged, learned)
        if run.done % config.save_every == 0:
            run.save()


class Spark:
    """The state of training (model, tokenizer, optimiser) and its two verbs: roll and update."""

    def __init__(self, config: Config, accelerator: Accelerator):
        reach(config)
        self.config, self.accelerator, self.clock = config, accelerator, Clock(accelerator.device.type == "cuda")
        self.dtype = compute_dtype(accelerator.device)
        self.micro_batch_tokens = config.micro_batch_tokens  # halved where memory runs out
        self.rule = load_rule(config.verifier) if config.verifier else None
        self.start(warm_base(config.resume) or config.model)

    def start(self, base: str) -> None:
        """Load the model `base` and begin with a fresh adapter and optimiser."""
        self.model = self.frozen = self.optimizer = self.guard = self.roll = None  # first let go of those that are
        config, accelerator = self.config, self.accelerator
        self.model, self.tokenizer = load_model(replace(config, model=base), accelerator.device)
        keep_freed_memory()
        refuse_unfit(self.model, self.tokenizer, base)
        lean_lora(self.model)
        self.frozen = frozen_start(self.model, config)
        self.optimizer = make_optimizer(config, trainable(self.model))
        self.guard = Guard(config, trainable(self.model), self.optimizer)
        self.roll = Sampler(self.model, self.tokenizer, config, accelerator, self.rule, self.clock, self.frozen)

    def set_learning_rate(self, rate: float) -> None:
        self.optimizer.param_groups[0]["lr"] = rate

    def update(self, groups: list[list[Rollout]], demonstrations: list[Problem], step: object) -> dict[str, float]:
        """One optimiser update (config.updates_per_step of them) on the groups that have something to teach.

        Rows are shared out among the processes and gradients summed once at the end, by hand: a process without
        rows, or with fewer micro-batches, then keeps no other waiting. A step whose loss or gradient is not finite
        changes nothing (model/finite.py). Returns what was measured on the way.
        """
        config, model, accelerator = self.config, self.model, self.accelerator
        rows = rows_of_groups(groups, config)
        text = text_tokenizer(self.tokenizer)
        targets = [text.encode(p.meta["demonstration"], add_special_tokens=False) for p in demonstrations]
        shown = [encode(model, self.tokenizer, problem) for problem in demonstrations]
        triples = [(ids, target + [text.eos_token_id], seen) for (ids, seen), target in zip(shown, targets)]
        rows += rows_of_demonstrations(self.roll.room.taken(triples), config.weights.imitation)
        if not self.guard.begin(step) or not rows:
            return {"update/rows": len(rows)} | self.guard.measured()
        mine = sorted(rows, key=len)[accelerator.process_index :: accelerator.num_processes]
        batches = [(part, None) for part in micro_batches(mine, self.micro_batch_tokens)]
        totals = torch.zeros(1 + len(MEASURED), dtype=torch.float64)
        with self.clock("train"), learning(model):
            for i in range(config.updates_per_step):
                batches, measured = self.add_gradients(batches, seeds.number(config.seed, step, "dropout", i))
                totals += accelerator.reduce(measured.to(accelerator.device), "sum").cpu()
                self.sum_gradients()
                norm = torch.nn.utils.clip_grad_norm_(trainable(model), config.max_grad_norm)
                if not self.guard.passes(totals[0].item(), norm.item(), groups, demonstrations):
                    return {"update/rows": len(rows)} | self.guard.measured()
                self.optimizer.step()
                self.optimizer.zero_grad()
        loss, tokens, clipped, kl, nll, sampled, mismatch, capped = totals.tolist()
        updates, sampled = config.updates_per_step, sampled or 1  # demonstrations alone were not sampled
        return {"update/rows": len(rows), "update/loss": loss / updates, "update/grad_norm": norm.item(),
                "update/clipped": clipped / tokens, "update/kl": kl / tokens, "update/nll": nll / tokens,
                "update/mismatch": mismatch / sampled, "update/capped": capped / sampled}

    def add_gradients(self, batches: list[tuple], seed: int) -> tuple[list[tuple], torch.Tensor]:
        """Gradients of the step's loss, micro-batch by micro-batch: pairs of rows and their log-probs before the first
        of the step's updates, None if this is the first. Where memory runs out, again from nothing with half the rows.

        Returns (the pairs, log-probs filled in; sums over tokens: the loss, then MEASURED).
        """

        config = self.config

        def attempt():
            torch.manual_seed(seed)
            pairs, totals = [], torch.zeros(1 + len(MEASURED), dtype=torch.float64)
            for rows, first in batches:
                batch = pack(rows, self.accelerator.device)
                logprobs = self.logprobs(self.model, batch)
                first = logprobs.detach() if first is None else first
                reference = self.reference(batch)
                loss, measured = joint_loss(logprobs, first, reference, batch, config.clip, config.importance_cap)
                loss.backward()
                totals += torch.tensor([loss.item(), *(measured[name] for name in MEASURED)])
                pairs.append((rows, first))
            return pairs, totals

        def halve() -> str:
            nonlocal batches
            self.optimizer.zero_grad()
            batches, self.micro_batch_tokens = halves(batches), self.micro_batch_tokens // 2
            return f"micro-batches of at most {self.micro_batch_tokens} tokens"

        return until_it_fits(attempt, halve)

    def logprobs(self, model, batch) -> torch.Tensor:
        """response_logprobs, computed in self.dtype also where the weights that learn are in fp32 (lora: null)."""
        with torch.autocast(self.accelerator.device.type, self.dtype, enabled=self.dtype != model.dtype):
            return response_logprobs(model, batch, self.config.temperature)

    def reference(self, batch) -> torch.Tensor | None:
        """Log-probs of the model before training; None at beta = 0, where they have no weight."""
        if not batch.beta.any():
            return None
        with torch.no_grad(), starting_model(self.model, self.frozen) as model:
            return self.logprobs(model, batch)

    def sum_gradients(self) -> None:
        if self.accelerator.num_processes == 1:
            return
        parameters = trainable(self.model)
        for p in parameters:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        flat = self.accelerator.reduce(torch.cat([p.grad.flatten() for p in parameters]), "sum")
        for p, grad in zip(parameters, flat.split([p.numel() for p in parameters])):
            p.grad.copy_(grad.view_as(p))


def main(argv: list[str]) -> None:
    if text := asked_for(argv):
        return print(text)
    config = load_config(argv)
    refuse_changes(config)
    if config.plan:
        return print(plan(config).text(card_bytes(config)))
    load = partial(load_problems, config.data, fields=config.fields, options=config.data_options,
                   check=config.verifier is None)
    data = load("train", seed=config.seed)
    heldout = load(config.eval.split, limit=config.eval.limit) if config.eval.limit else []
    made = lessons(config, heldout) if config.warmup.data and not warm_base(config.resume) else []
    spark = Spark(config, Accelerator(log_with=config.log_with, project_dir="runs"))
    data, heldout = spark.roll.room.fitting(data, heldout)
    with Run(spark) as run:
        if spark.tokenizer.chat_template is None:
            run.say(f"note: {config.model} has no chat template, so prompts read 'Question: … Answer:' "
                    '(docs/nothing-is-learned.md, "No chat template")')
        if made:
            warm_up(spark, made, run)
        spark.roll.start(run.folder)
        roll = spark.roll.evaluating
        judged = run.once("judge_set", lambda: skills.judge_set(heldout, roll("judge set"), config))
        before = run.once("before", lambda: skills.measure(heldout, judged, roll("before"), config))
        if before["skills"]:
            run.say(f"before training, % right of {len(heldout)} held out: {report.brief(before['skills'])}")
        train(spark, data, run)
        run.save()
        if run.stopping or run.finished:
            return
        run.finish(before, skills.measure(heldout, judged, roll("after"), config))
        if config.merge and run.main:
            folder = save_merged(spark.model, spark.tokenizer, run.folder / "merged")
            run.say(f"dense model with the adapter merged in: {folder}")


if __name__ == "__main__":
    run_script(main)
