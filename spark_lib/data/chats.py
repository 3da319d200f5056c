"""Chats: the turns of a conversation in the usual spellings, and which of them is the question.

ShareGPT writes from and value, OpenAI, TRL and verl write role and content, the content as a text or as a list of
parts. The last turn of the user is the question; what stands before it is its context, and what the assistant says
after it a worked solution, or the answer.
"""

import base64
import binascii
import json
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass

from spark_lib.config import ConfigError
from spark_lib.problem import Turn
from spark_lib.prompts import MARK

NAMES = ("message", "messages", "conversation", "conversations")  # of fields whose text can only be the JSON of a chat
ROLES = {
    "system": "system", "developer": "system", "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant",
    "function_call": "assistant", "tool": "tool", "function": "tool", "observation": "tool", "ipython": "tool",
}
SHORT = reprlib.Repr()  # of a value that is deep, or megabytes long
SHORT.maxstring = SHORT.maxother = 80


@dataclass
class Chat:
    """images: those of the context, then those of the question; reply: the assistant's last turn after it, if any."""

    question: str
    context: tuple[Turn, ...] = ()
    images: tuple = ()
    reply: str | None = None


def chat_of(value: object, name: str, where: str) -> Chat:
    """The question that stands in a field: a text, or a chat as a list or as its JSON text. Raises ConfigError."""
    if isinstance(value, str):
        is_json = name in NAMES or value.lstrip().startswith('[{"') and ('"role"' in value or '"from"' in value)
        if not is_json:
            return Chat(text_of(value, name, where))
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"data: {where}: '{name}' is not the JSON of a chat: {error}") from error
    turns = [(role, text, images) for role, text, images in turns_of(value, name, where) if text.strip() or images]
    asked = max((i for i, (role, _, _) in enumerate(turns) if role == "user"), default=None)
    if asked is None:
        raise ConfigError(f"data: {where}: '{name}' should be a chat with a turn of the user; it has "
                          + (", ".join(role for role, _, _ in turns) or "no turns"))
    replies = [text for role, text, _ in turns[asked + 1 :] if role == "assistant"]
    context = tuple((role, text_of(text, name, where)) for role, text, _ in turns[:asked])
    images = tuple(image for _, _, several in turns[: asked + 1] for image in several)
    return Chat(text_of(turns[asked][1], name, where), context, images, replies[-1] if replies else None)


def turns_of(value: object, name: str, where: str) -> list[tuple[str, str, list]]:
    """(role, text, images) of every turn. Raises ConfigError for what is no turn, and for a role that is none."""
    if isinstance(value, dict) and value and all(isinstance(column, list) for column in value.values()):
        value = [dict(zip(value, row)) for row in zip(*value.values())]  # as `datasets` stores a Sequence of turns
    if not isinstance(value, list):
        raise ConfigError(f"data: {where}: expected a text as '{name}', got {shown(value)}")
    turns = []
    for turn in value:
        role = isinstance(turn, dict) and (turn.get("role") or turn.get("from"))
        if not isinstance(role, str) or not {"content", "value"} & set(turn):
            raise ConfigError(f"data: {where}: a turn of '{name}' should have a role and a content (or from and "
                              f"value), got {shown(turn)}")
        if role.strip().lower() not in ROLES:
            raise ConfigError(f"data: {where}: '{name}' has a turn of {shown(role)}; known are {', '.join(ROLES)}")
        content = turn["content"] if turn.get("content") is not None else turn.get("value")
        if content is None and turn.get("tool_calls"):
            content = json.dumps(turn["tool_calls"], default=str)
        turns.append((ROLES[role.strip().lower()], *content_of(content, name, where)))
    return turns


def content_of(content: object, name: str, where: str) -> tuple[str, list]:
    """(text, images) of a turn's content; each image leaves its mark in the text. An image's part without the image
    means one of the row's images."""
    texts: list[str] = []
    images: list = []
    for part in content if isinstance(content, list) else [content]:
        if part is None or isinstance(part, str):
            texts += [part] if part else []
            continue
        kind = isinstance(part, dict) and (part.get("type") or next(iter(part), None))
        if kind in ("text", "input_text", "output_text"):
            texts.append(str(part.get("text")))
        elif kind in ("image", "image_url", "input_image"):
            image = part.get("image") or part.get("image_url")
            image = image.get("url") if isinstance(image, dict) and "url" in image else image
            images += [] if image is None else [decoded(image, where)]
            texts.append(MARK)
        else:
            raise ConfigError(f"data: {where}: the content of '{name}' should be a text or a list of texts and images, "
                              f"got {shown(part)}")
    return "\n".join(texts), images


def decoded(image: object, where: str) -> object:
    """The bytes of an image that stands in a URL of its own ("data:image/png;base64,…"); any other as it is."""
    if not isinstance(image, str) or not image.startswith("data:"):
        return image
    try:
        return base64.b64decode(image.partition(",")[2], validate=True)
    except binascii.Error as error:
        raise ConfigError(f"data: {where}: an image's data: URL is not base64: {error}") from error


def is_chat(value: object) -> bool:
    return isinstance(value, list) and any(isinstance(turn, dict) and ("role" in turn or "from" in turn)
                                           for turn in value)


def reply_of(value: object, name: str, where: str) -> object:
    """What the assistant says last where a field is a chat (TRL's completion); any other value as it is."""
    if not is_chat(value):
        return value
    said = [text for role, text, _ in turns_of(value, name, where) if role == "assistant" and text.strip()]
    if not said:
        raise ConfigError(f"data: {where}: '{name}' has no turn of the assistant")
    return said[-1]


def text_of(value: object, name: str, where: str) -> str:
    """A text, without the spaces around it. Raises ConfigError for what is none, or none that can be written down."""
    if not isinstance(value, str) or not (text := value.strip()):
        raise ConfigError(f"data: {where}: expected a text as '{name}', got {shown(value)}")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ConfigError(f"data: {where}: '{name}' is broken text: {error.reason}") from error
    return text


def named(names: Iterable) -> str:
    """The names of fields in a message, on one line and not too many."""
    return ", ".join(str(name) if str(name).isprintable() else shown(name) for name in names)[:1000]


def shown(value: object) -> str:
    """A value in a message, on one line and not long."""
    return SHORT.repr(value)[:120]
