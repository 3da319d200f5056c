"""Problem: what a model is asked, and the answer that a rule can check.

A judge task is a problem like any other (PAPER: joint training with verifiable rewards), so solving, judging one
answer, comparing two and reflecting on one all share this one type: they are sampled, verified and learned alike.
"""

from dataclasses import dataclass, field

Turn = tuple[str, str]  # role ("system", "user", "assistant" or "tool"), text
KINDS = ("solve", "pointwise", "pairwise", "reflect")


@dataclass(frozen=True)
class Problem:
    """A prompt and a rule-checkable answer.

    prompt: the user's message, without a chat template.
    answer: the reference; never shown to the model.
    kind: "solve", "pointwise", "pairwise" or "reflect".
    image: None, a path, the bytes of an image file or a PIL image; a tuple of them if there are several. They stand
        where the prompt has a mark (prompts.MARK), in their order, or else at its beginning.
    choices: texts of the options of a multiple-choice problem; then `answer` is a letter.
    meta: what later steps need: "question" (the bare question), and for recycled problems the
        candidates, their marks and what the report shows. Never part of the prompt.
    context: the turns of a chat that stand before the prompt, where the question has some.
    also: other references that count as much as `answer`.
    """

    prompt: str
    answer: str
    kind: str = "solve"
    image: object = None
    choices: tuple[str, ...] = ()
    meta: dict = field(default_factory=dict)
    context: tuple[Turn, ...] = ()
    also: tuple[str, ...] = ()
