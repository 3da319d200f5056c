r"""Every prompt the model is ever given, with the answer form it asks for.

Each template names the form `\boxed{…}`, which is the only place that the verifier reads (the authors'
judge templates asked for `\box{}` and were never credited). Several phrasings per kind, so that a judge
learns the task and not one sentence. The question stands last: the model then works it out in the same
context as when it solves, and what it learns there carries over (see docs/method.md).
"""

import random

MARK = "<image>"  # in a prompt, where an image stands; images without a mark stand at the beginning
SOLVE = (
    "Reason step by step, then repeat the final answer in \\boxed{{}}.\n{question}",
    "Solve the problem step by step. Write the final answer in \\boxed{{}}.\n{question}",
    "Work this out and put the final answer in \\boxed{{}}.\n{question}",
)
POINTWISE = (
    "Judge a proposed answer.\nProposed: {candidate}\n"
    "Solve the problem, compare, then write \\boxed{{Yes}} if it is correct or \\boxed{{No}} if not.\n{question}",
    "Is this answer right?\nAnswer: {candidate}\n"
    "Work it out, compare, then write \\boxed{{Yes}} or \\boxed{{No}}.\n{question}",
    "Someone answered the problem below.\nAnswer: {candidate}\n"
    "Check it step by step. Write \\boxed{{Yes}} if the final answer is correct, else \\boxed{{No}}.\n{question}",
)
PAIRWISE = (
    "Two answers, one is correct.\nA: {a}\nB: {b}\n"
    "Solve the problem, compare, then write \\boxed{{A}} or \\boxed{{B}} for the correct one.\n{question}",
    "Which answer is right?\nA: {a}\nB: {b}\n"
    "Work it out, compare, then write \\boxed{{A}} or \\boxed{{B}}.\n{question}",
    "Compare two answers to the problem below.\nA: {a}\nB: {b}\n"
    "Check step by step. Write \\boxed{{A}} if A is correct, \\boxed{{B}} if B is.\n{question}",
)
REFLECT = (
    "A first answer, which may be wrong: {candidate}\n"
    "Check it, correct it if it is wrong, and put the final answer in \\boxed{{}}.\n{question}",
    "Reflect on this answer.\nAnswer: {candidate}\n"
    "If it is wrong, solve the problem again. Write the right final answer in \\boxed{{}}.\n{question}",
    "Someone answered the problem below.\nAnswer: {candidate}\n"
    "Judge it. Keep it if it is correct, else correct it. Write the final answer in \\boxed{{}}.\n{question}",
)
# One phrasing each, as figures should be comparable: what a benchmark asks (evaluation/benchmarks.py).
REASON = "Reason step by step, then "
BENCHMARK = {
    "answer": SOLVE[0],
    "letter": REASON + "write the letter of the right option in \\boxed{{}}.\n{question}",
    "letters": REASON + "write the letters of all right options in \\boxed{{}}, like \\boxed{{A, C}}.\n{question}",
    "word": REASON + "write the answer, one word, number or letter, in \\boxed{{}}.\n{question}",
    "yes or no": REASON + "write \\boxed{{Yes}} or \\boxed{{No}}.\n{question}",
    "best of four": "Four answers to a request.\nA: {a}\nB: {b}\nC: {c}\nD: {d}\n"
    "Which follows the request best? Compare them, then write \\boxed{{A}}, \\boxed{{B}}, \\boxed{{C}} or "
    "\\boxed{{D}}.\n{question}",
    "better of two": "Two answers to a question about the image.\nA: {a}\nB: {b}\n"
    "Which is better? Compare them, then write \\boxed{{A}} or \\boxed{{B}}.\n{question}",
    "rating": "An answer to a request.\nAnswer: {candidate}\nHow helpful, relevant and accurate is it? Depth and "
    "detail do not matter. Judge it, then write a whole number from 1 (bad) to 10 (good) in \\boxed{{}}.\n{question}",
}
TEMPLATES = {"solve": SOLVE, "pointwise": POINTWISE, "pairwise": PAIRWISE, "reflect": REFLECT}


def render(kind: str, rng: random.Random, **fields: str) -> str:
    """One phrasing of `kind`, drawn by `rng`, with its fields filled in (untrusted text is never a template)."""
    return rng.choice(TEMPLATES[kind]).format(**fields)


def plain(turns: list[tuple[str, str]]) -> str:
    """(role, text) turns for a model without a chat template, with the opening of the reply."""
    forms = {"user": "Question: {}\n", "assistant": "Answer: {}\n"}
    return "".join(forms.get(role, "{}\n").format(text) for role, text in turns) + "Answer:"


def without(text: str, markers: list[str]) -> str:
    """The text with all markers taken out; again and again, as taking one out may join the halves of another."""
    while any(marker in text for marker in markers):
        for marker in markers:
            text = text.replace(marker, "")
    return text
