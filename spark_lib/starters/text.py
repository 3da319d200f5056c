r"""The starter: a tiny language model, built here, so that the first run needs no download.

    python -m spark_lib.starters.text [seed] [folder]        # about twenty minutes on two cores

It is transformers' Llama class (0.9 M parameters; AutoTokenizer gives a Qwen2 checkpoint Qwen2's own way of splitting
text) with its own byte-level BPE tokenizer and chat template, saved in the normal Hugging Face format and shipped in
spark_lib/starters/text_model/. The cold start is plain supervised learning on worked additions a + b + c, and it ends
with a *sloppy teacher* on purpose: a teacher without faults leaves nothing to learn, and stopping early is no way to
partial skill, because the skill comes in one sudden transition. Its faults (classes Teacher and Adder) are the point
of the quickstart:

    solving     slips by a digit, now and then forgets to carry
    judging     often waves the answer through unread, or lets a difference pass that it wrote down itself
    reflecting  often repeats the given answer unread, or keeps it although it differs from the own one

The last two have nothing to do with arithmetic: policy-only training has no reason to mend them, SPARK has.
"""

import inspect
import random
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from spark_lib import prompts
from spark_lib.data.load import arithmetic, split_of
from spark_lib.problem import KINDS, Problem
from spark_lib.recycle import compare
from spark_lib.rollout import encode_prompt, sample
from spark_lib.starters.built_from import stamp
from spark_lib.verify import verify_many

FOLDER = Path(__file__).with_name("text_model")
FIRST = {"solve": 0.97, "drill": 0.03}  # shares of the lessons in phase 1 of the cold start
MIX = {"solve": 0.15, "pointwise": 0.32, "pairwise": 0.22, "reflect": 0.25, "drill": 0.06}  # and later
JUDGEMENT_WEIGHT = 3.0  # of a token that compares or judges, relative to one that solves
PRACTICE, SETTLE, SKILLED, DECAY = 2250, 0.1, 0.85, 500  # of the cold start's later phases, see teach
ARRIVED = 0.5  # what the probe must reach in solving to end phase 1
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


@dataclass(frozen=True)
class Teacher:
    """How often the cold start's demonstrations go wrong in judging and reflecting; probabilities. A teacher of a task
    adds its own faults and `work`: item, rng -> (what is written on the way, answer)."""

    unread_judge: float = 0.5  # judges say Yes, or A, without looking
    miss_difference: float = 0.4  # judges see a digit differ and let it pass
    unread_reflection: float = 0.4  # reflections repeat the given answer without looking
    stubborn: float = 0.5  # reflections see a digit differ and keep the given answer all the same

    def solve(self, item, rng: random.Random) -> tuple[str, str]:
        """(worked solution with its box, answer)."""
        work, answer = self.work(item, rng)
        return f"{work} \\boxed{{{answer}}}", answer

    def judge(self, item, kind: str, answers: list[str], rng: random.Random) -> str:
        """A verdict on `answers` (one, or A and B): from working it out, or unread."""
        name, yes, no = ("The proposed answer", "Yes", "No") if kind == "pointwise" else ("Answer A", "A", "B")
        if rng.random() < self.unread_judge:
            return f"{name} looks right. \\boxed{{{yes}}}"
        solution, own = self.solve(item, rng)
        agrees = own == answers[0]
        passes = agrees or rng.random() < self.miss_difference
        return f"{solution} {name} is {compare(own, answers[0], agrees)} \\boxed{{{yes if passes else no}}}"

    def reflect(self, item, candidate: str, rng: random.Random) -> str:
        if rng.random() < self.unread_reflection:
            return f"The proposed answer looks right. \\boxed{{{candidate}}}"
        work, own = self.work(item, rng)
        agrees = own == candidate
        keeps = agrees or rng.random() < self.stubborn
        # The decision is a word of its own: a tiny model that has to choose between two numbers mixes their digits.
        end = f"Keep it: \\boxed{{{candidate}}}" if keeps else f"Correct it: \\boxed{{{own}}}"
        return f"{work} The proposed answer is {compare(own, candidate, agrees)} {end}"


@dataclass(frozen=True)
class Adder(Teacher):
    """Adds three numbers."""

    forget_carry: float = 0.2  # of an addition that needs a carry from the units
    slip: float = 0.3  # of an addition: a digit off by one

    def add(self, x: int, y: int, rng: random.Random) -> int:
        total = x + y
        if x % 10 + y % 10 >= 10 and rng.random() < self.forget_carry:
            total -= 10
        if rng.random() < self.slip:
            total += rng.choice((-10, -1, 1, 10))
        return total

    def work(self, numbers: tuple[int, int, int], rng: random.Random) -> tuple[str, str]:
        """(both sums written out, answer)."""
        a, b, c = numbers
        first = self.add(a, b, rng)
        answer = self.add(first, c, rng)
        return f"{a} + {b} = {first}. {first} + {c} = {answer}.", str(answer)


SLOPPY = Adder()
FAULTLESS = Adder(0, 0, 0, 0, 0, 0)
CARELESS = Adder(0.5, 0.5, 0.5, 0.5, forget_carry=0.5, slip=0.1)  # makes wrong candidates, and every phrase there is


def candidate(numbers, right: bool, rng: random.Random) -> tuple[str, str]:
    """(trace, answer) of a candidate; wrong ones are half the careless teacher's, half off by up to 20."""
    truth = str(sum(numbers))
    if right:
        return FAULTLESS.solve(numbers, rng)
    for _ in range(20):
        trace, answer = CARELESS.solve(numbers, rng)
        if answer != truth:
            break
    if answer == truth or rng.random() < 0.5:
        wrong = str(int(truth) + rng.choice((-1, 1)) * rng.randint(1, 20))
        trace, answer = trace.replace(f"= {answer}.", f"= {wrong}.").replace(f"{{{answer}}}", f"{{{wrong}}}"), wrong
    return trace, answer


def lesson(kind: str, teacher: Adder, rng: random.Random) -> tuple[str, str]:
    """(prompt, demonstration) of one fresh training problem; "drill" is ten comparisons of two digits."""
    if kind == "drill":
        return drill(rng)
    while True:
        numbers = (rng.randint(10, 99), rng.randint(10, 99), rng.randint(10, 99))
        question = "{} + {} + {} = ?".format(*numbers)
        if split_of(question) == "train":
            break
    return lesson_about(kind, question, numbers, teacher, candidate, rng)


def drill(rng: random.Random) -> tuple[str, str]:
    """(prompt, demonstration). Without it, telling same from different digits stayed at chance."""
    pairs = [(x := rng.choice("0123456789"), rng.choice((x, rng.choice("0123456789")))) for _ in range(10)]
    return "Compare.", ", ".join(f"{x} {y} {'same' if x == y else 'differ'}" for x, y in pairs) + "."


def lesson_about(
    kind: str, question: str, item, teacher: Teacher, candidate: Callable, rng: random.Random
) -> tuple[str, str]:
    """(prompt, demonstration). candidate: item, right, rng -> (trace, answer) of a right or wrong one to judge."""
    if kind == "solve":
        return prompts.render(kind, rng, question=question), teacher.solve(item, rng)[0]
    view = rng.randrange(2)  # 0 shows the whole trace, 1 the final answer
    if kind == "pairwise":
        right_is_a = rng.random() < 0.5
        pair = [candidate(item, right_is_a, rng), candidate(item, not right_is_a, rng)]
        prompt = prompts.render(kind, rng, question=question, a=pair[0][view], b=pair[1][view])
        return prompt, teacher.judge(item, kind, [answer for _, answer in pair], rng)
    shown = candidate(item, rng.random() < (0.5 if kind == "pointwise" else 0.2), rng)
    prompt = prompts.render(kind, rng, question=question, candidate=shown[view])
    if kind == "pointwise":
        return prompt, teacher.judge(item, kind, [shown[1]], rng)
    return prompt, teacher.reflect(item, shown[1], rng)


def build_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """The tokenizer of the additions, trained on every kind of lesson."""
    rng = random.Random(f"tokenizer-{seed}")
    return train_tokenizer([text for _ in range(400) for kind in KINDS for text in lesson(kind, CARELESS, rng)])


def train_tokenizer(texts: list[str], more_special: tuple[str, ...] = ()) -> PreTrainedTokenizerFast:
    """Byte-level BPE (so that any text can be encoded): a token per digit, one per common word."""
    tokenizer = Tokenizer(models.BPE())
    pieces = Regex(r"\d|[A-Za-z]+ ?| ?[^\sA-Za-z\d]+ ?|\s+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pieces, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", *more_special]
    trainer = trainers.BpeTrainer(
        vocab_size=640, special_tokens=special, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken("\\boxed{", normalized=False)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|end|>",
        additional_special_tokens=special[1:4] + special[5:],
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def build_model(tokenizer, seed: int) -> LlamaForCausalLM:
    """Untrained weights: 4 layers of width 128, tied embeddings."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=384, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=1024, tie_word_embeddings=True,
        initializer_range=0.06,  # the usual 0.02 is for wide models; addition arrives much later with it
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    ))


def batch_of_lessons(tokenizer, size: int, mix: dict, teacher: Adder, rng: random.Random) -> list[list[torch.Tensor]]:
    """The short, the middling and the long lessons of a batch, apart, so that little is padding. Each part is
    (ids, weights), both (rows, longest), padded on the right; tokens of weight 0 are not learned."""
    rows = []
    for kind in rng.choices(list(mix), list(mix.values()), k=size):
        prompt, demonstration = lesson(kind, teacher, rng)
        rows.append(laid_out(tokenizer, encode_prompt(tokenizer, prompt), demonstration))
    return [[padded([row[i] for row in part]) for i in range(2)] for part in thirds(rows)]


def laid_out(tokenizer, before: list[int], demonstration: str) -> tuple[list[int], list[float]]:
    """(ids, weights) of a prompt's ids and a demonstration. What follows a solution (the comparison and the verdict)
    weighs more, or it stays at chance."""
    solution, *judgement = re.split(r"(?=(?:The proposed answer|Answer A) is )", demonstration, maxsplit=1)
    after = tokenizer.encode(solution)
    judged = tokenizer.encode("".join(judgement)) + [tokenizer.eos_token_id]
    weights = [0.0] * len(before) + [1.0] * len(after) + [JUDGEMENT_WEIGHT if judgement else 1.0] * len(judged)
    return before + after + judged, weights


def thirds(rows: list[tuple]) -> list[list[tuple]]:
    """Rows that begin with their ids: the short, the middling and the long ones."""
    rows, size = sorted(rows, key=lambda row: len(row[0])), len(rows)
    return [rows[: size // 3], rows[size // 3 : size * 2 // 3], rows[size * 2 // 3 :]]


def padded(values: list[list]) -> torch.Tensor:
    """(rows, longest), with zeros on the right."""
    longest = max(map(len, values))
    return torch.tensor([row + [0] * (longest - len(row)) for row in values])


def learn(parts: list[tuple], head, hidden_states: Callable) -> float:
    """Backward pass of the weighted mean negative log-likelihood of a batch; returns it. Parts begin with ids and
    weights; hidden_states(part) -> (rows, tokens, width): padding on the right needs no mask under causal attention."""
    total = sum(part[1][:, 1:].sum() for part in parts)
    mean = 0.0
    for part in parts:
        ids, weights = part[0][:, 1:], part[1][:, 1:]
        learned = weights > 0
        logits = head(hidden_states(part)[:, :-1][learned])
        losses = torch.nn.functional.cross_entropy(logits, ids[learned], reduction="none")
        loss = (losses * weights[learned]).sum() / total
        loss.backward()
        mean += loss.item()
    return mean


def probe_problem(kind: str, i: int, solved: Problem, item, candidate: Callable, rng: random.Random) -> Problem:
    """The i-th problem of one kind about a validation problem, with candidates of which half (in reflections a fifth)
    are right."""
    question, right = solved.meta["question"], i % (5 if kind == "reflect" else 2) == 0
    view = rng.randrange(2)
    shown, other = (candidate(item, mark, rng)[view] for mark in (right, not right))
    answer = {"pointwise": ("No", "Yes")[right], "pairwise": ("B", "A")[right]}.get(kind, solved.answer)
    prompt = prompts.render(kind, rng, question=question, candidate=shown, a=shown, b=other)
    return Problem(prompt, answer, kind, solved.image)


def probe(model, tokenizer, count: int = 128, kinds: tuple[str, ...] = KINDS) -> dict[str, float]:
    """Accuracy of each kind at T = 1, on validation problems."""
    rng, problems = random.Random("probe"), []
    for kind in kinds:
        for i, problem in enumerate(arithmetic("validation", count, seed=1)):
            numbers = tuple(map(int, re.findall(r"\d+", problem.meta["question"])))
            problems.append(probe_problem(kind, i, problem, numbers, candidate, rng))
    return accuracies(model, tokenizer, problems, count, kinds)


def accuracies(model, tokenizer, problems: list[Problem], count: int, kinds: tuple[str, ...]) -> dict[str, float]:
    """Of `count` problems of each kind, one kind after the other, at T = 1."""
    groups = sample(model, tokenizer, problems, 1, 64, 1.0, torch.Generator().manual_seed(0))
    marks = verify_many([group[0].text for group in groups], problems)
    return {kind: sum(marks[i * count : (i + 1) * count]) / count for i, kind in enumerate(kinds)}


def cold_start(seed: int = 0, max_steps: int = 6000, lr: float = 2e-3):
    """(model, tokenizer) after supervised learning (`teach`), deterministic by `seed`. Raises RuntimeError."""
    tokenizer = build_tokenizer(seed)
    model = build_model(tokenizer, seed)
    rng = random.Random(f"cold-start-{seed}")

    def lessons(mix: dict, sloppy: bool) -> float:
        batch = batch_of_lessons(tokenizer, 32, mix, SLOPPY if sloppy else FAULTLESS, rng)
        return learn(batch, model.lm_head, lambda part: model.model(input_ids=part[0]).last_hidden_state)

    teach(model, lessons, partial(probe, model, tokenizer), SKILLED, PRACTICE, DECAY, max_steps, lr, SETTLE)
    return model.eval(), tokenizer


def teach(
    model, lessons: Callable, probe: Callable, skilled: float, practice: int, decay: int, max_steps: int, lr: float,
    settle: float = 1.0,
) -> None:
    """Supervised learning in three phases.

    1. A faultless teacher solves, until the probe says that the skill has arrived. It comes in one sudden transition at
       a step that no one can predict: a probe must end the phase, and stopping early is no way to partial skill.
    2. The faultless teacher also judges and reflects, at half the learning rate, for `practice` steps at least and
       until the probe says that every kind is at `skilled`; starters that left this phase earlier made weaker judges.
       In these steps the rate falls to `settle` times what it was.
    3. `decay` steps of the sloppy teacher, while the learning rate falls to zero.

    lessons(mix, sloppy): the loss of a batch, after its backward pass; probe(kinds=...): accuracy by kind. Raises
    RuntimeError if that takes more than `max_steps`.
    """
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=lr, weight_decay=0.01, betas=(0.9, 0.98))
    phase, practised, left = 1, 0, decay
    for step in range(max_steps):
        settled = 1 - (1 - settle) * min(1.0, practised / practice)
        factor = {1: min(1.0, (step + 1) / 50), 2: 0.5 * settled, 3: 0.5 * left / decay}[phase]
        optimizer.param_groups[0]["lr"] = lr * factor
        loss = lessons(FIRST if phase == 1 else MIX, phase == 3)
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        practised, left = practised + (phase == 2), left - (phase == 3)
        if step % 50 == 49 or left == 0:
            skills = probe(kinds=("solve",) if phase == 1 else KINDS)
            print(f"step {step + 1}, phase {phase}: loss {loss:.3f}, "
                  + ", ".join(f"{kind} {skill:.0%}" for kind, skill in skills.items()), flush=True)
            if left == 0:
                return
            arrived = phase == 1 and skills["solve"] >= ARRIVED
            if arrived or phase == 2 and practised >= practice and min(skills.values()) >= skilled:
                phase += 1
    raise RuntimeError(f"The cold start stood in phase {phase} of 3 after {max_steps} steps; try another seed")


def main(cold_start: Callable = cold_start, folder: Path = FOLDER) -> None:
    """The command line of both starters."""
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else folder
    model, tokenizer = cold_start(seed)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    stamp(folder, Path(inspect.getfile(cold_start)), seed)
    print(f"starter saved to {folder}")


if __name__ == "__main__":
    main()
