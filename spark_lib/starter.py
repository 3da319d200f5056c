r"""The starter: a tiny language model, built here, so that the first run needs no download.

    python -m spark_lib.starter [seed] [folder]        # about twenty minutes on two cores

It is transformers' Llama class (0.9 M parameters; AutoTokenizer gives a Qwen2 checkpoint Qwen2's own way of splitting
text) with its own byte-level BPE tokenizer and chat template, saved in the normal Hugging Face format and shipped in
spark_lib/starter_model/. The cold start is plain supervised learning on worked additions a + b + c, and it ends with a
*sloppy teacher* on purpose: a teacher without faults leaves nothing to learn, and stopping early is no way to partial
skill, because the skill comes in one sudden transition. Its faults (class Teacher) are the point of the quickstart:

    solving     forgets to carry, slips now and then
    judging     often waves the answer through unread, or lets a difference pass that it wrote down itself
    reflecting  often repeats the given answer unread, or keeps it although it differs from the own one

The last two have nothing to do with arithmetic: policy-only training has no reason to mend them, SPARK has.
"""

import random
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from spark_lib import prompts
from spark_lib.problems import KINDS, Problem, arithmetic, split_of
from spark_lib.recycle import compare
from spark_lib.rollout import encode_prompt, sample
from spark_lib.verify import verify_many

FOLDER = Path(__file__).with_name("starter_model")
FIRST = {"solve": 0.97, "drill": 0.03}  # shares of the lessons in phase 1 of the cold start
MIX = {"solve": 0.15, "pointwise": 0.32, "pairwise": 0.22, "reflect": 0.25, "drill": 0.06}  # and later
JUDGEMENT_WEIGHT = 3.0  # of a token that compares or judges, relative to one that solves
PRACTICE, DECAY = 2250, 500  # least steps of the second phase, steps of the last
ARRIVED, SKILLED = 0.5, 0.65  # what the probe must reach: in solving to end phase 1, in every kind to end phase 2
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


@dataclass(frozen=True)
class Teacher:
    """How often the cold start's demonstrations go wrong; probabilities."""

    forget_carry: float = 0.2  # of an addition that needs a carry from the units
    slip: float = 0.3  # of an addition: a digit off by one
    unread_judge: float = 0.5  # judges say Yes, or A, without looking
    miss_difference: float = 0.4  # judges see a digit differ and let it pass
    unread_reflection: float = 0.4  # reflections repeat the given answer without looking
    stubborn: float = 0.5  # reflections see a digit differ and keep the given answer all the same

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

    def solve(self, numbers: tuple[int, int, int], rng: random.Random) -> tuple[str, str]:
        """(worked solution with its box, answer)."""
        work, answer = self.work(numbers, rng)
        return f"{work} \\boxed{{{answer}}}", answer

    def judge(self, numbers, kind: str, answers: list[str], rng: random.Random) -> str:
        """A verdict on `answers` (one, or A and B): from recomputing, or unread."""
        name, yes, no = ("The proposed answer", "Yes", "No") if kind == "pointwise" else ("Answer A", "A", "B")
        if rng.random() < self.unread_judge:
            return f"{name} looks right. \\boxed{{{yes}}}"
        solution, own = self.solve(numbers, rng)
        agrees = own == answers[0]
        passes = agrees or rng.random() < self.miss_difference
        return f"{solution} {name} is {compare(own, answers[0], agrees)} \\boxed{{{yes if passes else no}}}"

    def reflect(self, numbers, candidate: str, rng: random.Random) -> str:
        if rng.random() < self.unread_reflection:
            return f"The proposed answer looks right. \\boxed{{{candidate}}}"
        work, own = self.work(numbers, rng)
        agrees = own == candidate
        keeps = agrees or rng.random() < self.stubborn
        # The decision is a word of its own: a tiny model that has to choose between two numbers mixes their digits.
        end = f"Keep it: \\boxed{{{candidate}}}" if keeps else f"Correct it: \\boxed{{{own}}}"
        return f"{work} The proposed answer is {compare(own, candidate, agrees)} {end}"


SLOPPY = Teacher()
FAULTLESS = Teacher(0, 0, 0, 0, 0, 0)
CARELESS = Teacher(0.5, 0.1, 0.5, 0.5, 0.5, 0.5)  # makes wrong candidates, and every phrase that there is


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


def lesson(kind: str, teacher: Teacher, rng: random.Random) -> tuple[str, str]:
    """(prompt, demonstration) of one fresh training problem; "drill" is ten comparisons of two digits."""
    if kind == "drill":  # without it, telling same from different digits stayed at chance
        pairs = [(x := rng.choice("0123456789"), rng.choice((x, rng.choice("0123456789")))) for _ in range(10)]
        return "Compare.", ", ".join(f"{x} {y} {'same' if x == y else 'differ'}" for x, y in pairs) + "."
    while True:
        numbers = (rng.randint(10, 99), rng.randint(10, 99), rng.randint(10, 99))
        question = "{} + {} + {} = ?".format(*numbers)
        if split_of(question) == "train":
            break
    if kind == "solve":
        return prompts.render(kind, rng, question=question), teacher.solve(numbers, rng)[0]
    view = rng.randrange(2)  # 0 shows the whole trace, 1 the final answer
    if kind == "pairwise":
        right_is_a = rng.random() < 0.5
        pair = [candidate(numbers, right_is_a, rng), candidate(numbers, not right_is_a, rng)]
        prompt = prompts.render(kind, rng, question=question, a=pair[0][view], b=pair[1][view])
        return prompt, teacher.judge(numbers, kind, [answer for _, answer in pair], rng)
    shown = candidate(numbers, rng.random() < (0.5 if kind == "pointwise" else 0.2), rng)
    prompt = prompts.render(kind, rng, question=question, candidate=shown[view])
    if kind == "pointwise":
        return prompt, teacher.judge(numbers, kind, [shown[1]], rng)
    return prompt, teacher.reflect(numbers, shown[1], rng)


def build_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE (so that any text can be encoded): a token per digit, one per common word."""
    rng = random.Random(f"tokenizer-{seed}")
    texts = [text for _ in range(400) for kind in KINDS for text in lesson(kind, CARELESS, rng)]
    tokenizer = Tokenizer(models.BPE())
    pieces = Regex(r"\d|[A-Za-z]+ ?| ?[^\sA-Za-z\d]+ ?|\s+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pieces, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=640, special_tokens=special, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken("\\boxed{", normalized=False)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|end|>", additional_special_tokens=special[1:4]
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


def batch_of_lessons(tokenizer, size: int, mix: dict, teacher: Teacher, rng: random.Random) -> list[list[torch.Tensor]]:
    """The short, the middling and the long lessons of a batch, apart, so that little is padding. Each part is
    (ids, weights), both (rows, longest), padded on the right; tokens of weight 0 are not learned.

    What follows a solution (the comparison and the verdict) weighs more, or it stays at chance.
    """
    rows = []
    for kind in rng.choices(list(mix), list(mix.values()), k=size):
        prompt, demonstration = lesson(kind, teacher, rng)
        solution, *judgement = re.split(r"(?=(?:The proposed answer|Answer A) is )", demonstration, maxsplit=1)
        before, after = encode_prompt(tokenizer, prompt), tokenizer.encode(solution)
        judged = tokenizer.encode("".join(judgement)) + [tokenizer.eos_token_id]
        weights = [0.0] * len(before) + [1.0] * len(after) + [JUDGEMENT_WEIGHT if judgement else 1.0] * len(judged)
        rows.append((before + after + judged, weights))
    rows.sort(key=lambda row: len(row[0]))
    parts = [rows[: size // 3], rows[size // 3 : size * 2 // 3], rows[size * 2 // 3 :]]
    return [
        [torch.tensor([row[i] + [0] * (len(part[-1][0]) - len(row[i])) for row in part]) for i in range(2)]
        for part in parts
    ]


def learn(model, parts: list[list[torch.Tensor]]) -> float:
    """Backward pass of the weighted mean negative log-likelihood of a batch; returns it."""
    total = sum(weights[:, 1:].sum() for _, weights in parts)
    mean = 0.0
    for ids, weights in parts:  # padding on the right needs no mask under causal attention
        learned = weights[:, 1:] > 0
        hidden = model.model(input_ids=ids).last_hidden_state[:, :-1][learned]
        losses = torch.nn.functional.cross_entropy(model.lm_head(hidden), ids[:, 1:][learned], reduction="none")
        loss = (losses * weights[:, 1:][learned]).sum() / total
        loss.backward()
        mean += loss.item()
    return mean


def probe(model, tokenizer, count: int = 128) -> dict[str, float]:
    """Accuracy of each kind at T = 1, on validation problems with candidates of which half (in reflections a fifth)
    are right."""
    rng, problems = random.Random("probe"), []
    for kind in KINDS:
        for i, problem in enumerate(arithmetic("validation", count, seed=1)):
            question = problem.meta["question"]
            numbers = tuple(map(int, re.findall(r"\d+", question)))
            right = i % (5 if kind == "reflect" else 2) == 0
            view = rng.randrange(2)
            shown, other = (candidate(numbers, mark, rng)[view] for mark in (right, not right))
            answer = {"pointwise": ("No", "Yes")[right], "pairwise": ("B", "A")[right]}.get(kind, problem.answer)
            prompt = prompts.render(kind, rng, question=question, candidate=shown, a=shown, b=other)
            problems.append(Problem(prompt, answer, kind))
    groups = sample(model, tokenizer, problems, 1, 64, 1.0, torch.Generator().manual_seed(0))
    marks = verify_many([group[0].text for group in groups], problems)
    return {kind: sum(marks[i * count : (i + 1) * count]) / count for i, kind in enumerate(KINDS)}


def cold_start(seed: int = 0, max_steps: int = 5000, lr: float = 2e-3):
    """(model, tokenizer) after supervised learning in three phases, deterministic by `seed`.

    1. A faultless teacher solves, until the probe says that addition has arrived. It comes in one sudden transition at
       a step that no one can predict: a probe must end the phase, and stopping early is no way to partial skill.
    2. The faultless teacher also judges and reflects, at half the learning rate, for PRACTICE steps at least and until
       the probe says that every kind has arrived. What is only just learned does not survive the third phase.
    3. DECAY steps of the sloppy teacher, while the learning rate falls to zero.

    Raises RuntimeError if that takes more than `max_steps`.
    """
    tokenizer = build_tokenizer(seed)
    model = build_model(tokenizer, seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01, betas=(0.9, 0.98))
    rng = random.Random(f"cold-start-{seed}")
    phase, practice, left = 1, PRACTICE, DECAY
    for step in range(max_steps):
        teacher, mix = (SLOPPY if phase == 3 else FAULTLESS), (FIRST if phase == 1 else MIX)
        batch = batch_of_lessons(tokenizer, 32, mix, teacher, rng)
        optimizer.param_groups[0]["lr"] = lr * min(1.0, (step + 1) / 50) * (1.0 if phase == 1 else 0.5 * left / DECAY)
        loss = learn(model, batch)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        practice, left = practice - (phase == 2), left - (phase == 3)
        if step % 50 == 49 or left == 0:
            skills = probe(model, tokenizer)
            print(f"step {step + 1}, phase {phase}: loss {loss:.3f}, "
                  + ", ".join(f"{kind} {skill:.0%}" for kind, skill in skills.items()), flush=True)
            if left == 0:
                return model.eval(), tokenizer
            arrived = phase == 1 and skills["solve"] >= ARRIVED
            if arrived or phase == 2 and practice <= 0 and min(skills.values()) >= SKILLED:
                phase += 1
    raise RuntimeError(
        f"The cold start (seed {seed}) stood in phase {phase} of 3 after {max_steps} steps; "
        "try another seed: python -m spark_lib.starter SEED"
    )


def main() -> None:
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else FOLDER
    model, tokenizer = cold_start(seed)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    print(f"starter saved to {folder}")


if __name__ == "__main__":
    main()
