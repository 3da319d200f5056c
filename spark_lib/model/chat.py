"""Chat: the turns of a prompt, in the roles that a model's own chat template knows."""

from collections.abc import Callable, Iterable

from jinja2 import TemplateError
from PIL import Image

from spark_lib.config import ConfigError
from spark_lib.model.vision import content_of
from spark_lib.problem import Turn
from spark_lib.prompts import MARK


def known_roles(tokenizer, turns: list[Turn], content: Callable = str) -> list[Turn]:
    """The turns as they are where the chat template shows every one of them, else in the two roles of `folded`.

    Gemma's template raises at a system turn and others leave it out without a word, so that both are tried with a word
    per turn. content: a text as the template reads it, in a vision-language model's a list of parts. Raises
    ConfigError.
    """
    reason = "it leaves a turn out"
    for tried in (turns, folded(turns)):
        words = [f"turn{i}." for i in range(len(tried))]
        messages = [{"role": role, "content": content(word)} for (role, _), word in zip(tried, words)]
        try:
            shown = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except (TemplateError, TypeError) as error:
            reason = str(error)
            continue
        if all(word in shown for word in words):
            return tried
    raise ConfigError(f"model: its chat template cannot show turns before the question ({reason}); give a model with "
                      "the template of a chat")


def folded(turns: Iterable[Turn]) -> list[Turn]:
    """The same turns as user and assistant in alternation, which every template knows: what neither of them said, and
    what stands before the first question, becomes part of the user's turn after it."""
    made: list[Turn] = []
    for role, text in turns:
        role = "assistant" if role == "assistant" and made else "user"
        if made and made[-1][0] == role:
            made[-1] = role, f"{made[-1][1]}\n\n{text}"
        else:
            made.append((role, text))
    return made


def messages_of(processor, turns: list[Turn], images: list[Image.Image], clean) -> list[dict]:
    """The messages of a prompt's turns, the question last, in roles that the processor's chat template knows. Images
    stand at the marks of their turn, in their order; those without any stand first in the question."""
    if len(turns) > 1 and processor.chat_template is not None:
        turns = known_roles(processor, turns, lambda text: [{"type": "text", "text": text}])
    left = max(0, len(images) - turns[-1][1].count(MARK))  # for the turns before the question
    messages, start = [], 0
    for role, text in turns[:-1]:
        end = start + min(text.count(MARK), left - start)
        messages.append({"role": role, "content": content_of(text, images[start:end], clean)})
        start = end
    return [*messages, {"role": "user", "content": content_of(turns[-1][1], images[start:], clean)}]
