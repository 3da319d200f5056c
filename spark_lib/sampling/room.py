"""Room: a prompt with the longest response to it must lie within the model's positions.

Beyond them GPT-2's class ends in an error and a rotary model runs on in silence, on positions that it never saw. What
does not fit is left out and counted, or ends the run before it begins (`too_long`).
"""

import io
import math

from PIL import Image

from spark_lib import progress, prompts, seeds
from spark_lib.config import Config, ConfigError
from spark_lib.model.kinds import positions_of
from spark_lib.model.vision import image_size, images_of, text_tokenizer
from spark_lib.model.weights import base_of
from spark_lib.problem import Problem
from spark_lib.rollout import encode_prompt

PAGE = 'docs/models.md, "How long a text may be"'


class Room:
    """What a model has room for. `left_out` counts the texts that it had none for."""

    def __init__(self, model, tokenizer, config: Config):
        self.config, self.processor, self.tokenizer = config, tokenizer, text_tokenizer(tokenizer)
        shape = base_of(model).config
        self.positions = positions_of(shape)
        self.image = image_size(shape, config)[1]  # tokens of the largest
        self.frame = len(encode_prompt(self.tokenizer, ""))  # tokens of the chat template
        self.left_out = 0

    def holds(self, problem: Problem) -> bool:
        """Whether the longest response to this problem ends within the model's positions.

        A token is a byte of the text or more (and some tokenizers put a space before it), so only texts with more bytes
        than there is room for are tokenised.
        """
        if self.positions is None:
            return True
        left = self.positions - self.config.max_new_tokens - sum(map(self.image_tokens, images_of(problem)))
        if not problem.context and self.frame + 1 + len(problem.prompt.encode()) <= left:
            return True
        return len(encode_prompt(self.tokenizer, problem.prompt, problem.context)) <= left

    def image_tokens(self, image) -> int:
        """At most so many, from its size alone. Qwen's grow with the image; in others any is taken for the largest."""
        reader = self.processor.image_processor
        if not hasattr(reader, "merge_size"):
            return self.image
        if not isinstance(image, Image.Image):
            image = Image.open(io.BytesIO(image) if isinstance(image, bytes) else image)
        pixels = image.width * image.height
        wanted = min(max(pixels, reader.size["shortest_edge"]), self.config.max_pixels)
        side = reader.patch_size * reader.merge_size / math.sqrt(wanted / pixels)
        return (math.ceil(image.width / side) + 1) * (math.ceil(image.height / side) + 1)

    def kept(self, problems: list[Problem], part: range) -> list[int]:
        """The places of the problems that fit. The others in `part`, which are to be asked now, are counted, and their
        number is said again as it doubles.

        Raises ConfigError with too_long=refuse.
        """
        places = [i for i, problem in enumerate(problems) if self.holds(problem)]
        if lost := len(set(part).difference(places)):
            if self.config.too_long == "refuse":
                raise ConfigError(f"too_long: {lost} of {len(problems)} prompts leave {self.limits}")
            before, self.left_out = self.left_out, self.left_out + lost
            if self.left_out.bit_length() > before.bit_length():
                progress.say(f"note: {self.left_out} prompts so far were not asked, as they leave {self.limits} "
                             f"({PAGE})")
        return places

    @property
    def limits(self) -> str:
        return (f"no room for a response of {self.config.max_new_tokens} tokens within the model's {self.positions:,} "
                "positions; lower max_new_tokens")

    def taken(self, texts: list[tuple]) -> list[tuple]:
        """Those (prompt ids, response ids, ...) that the model has positions for; the others are counted."""
        taken = [text for text in texts if self.positions is None or len(text[0]) + len(text[1]) <= self.positions]
        self.left_out += len(texts) - len(taken)
        return taken

    def fitting(self, data: list[Problem], heldout: list[Problem]) -> tuple[list[Problem], list[Problem]]:
        """The problems that fit, before a run; the others are counted in a line. Raises ConfigError if none is left, or
        as too_long says."""
        found = []
        for name, problems in (("training", data), ("held-out", heldout)):
            kept = [problem for problem in problems if self.holds(problem)]
            if lost := len(problems) - len(kept):
                remedy = " or set too_long=drop, which leaves them out" * bool(kept)
                if self.config.too_long == "refuse" or not kept:
                    raise ConfigError(f"data: {lost} of {len(problems)} {name} problems leave {self.limits}{remedy}")
                progress.say(f"note: left out {lost} of {len(problems)} {name} problems, as they leave {self.limits} "
                             f"({PAGE})")
            found.append(kept)
        self.tell_of_judging(data)
        return found[0], found[1]

    def tell_of_judging(self, data: list[Problem]) -> None:
        """Say it if judge problems about these may turn out too long: those that show whole responses. Raises
        ConfigError with too_long=refuse."""
        if self.positions is None or not data:
            return
        kinds, view = self.config.recycle.kinds, self.config.recycle.view
        shown = 0 if view == "answer" else 2 if "pairwise" in kinds else 1 if kinds else 0
        longest = max(data, key=lambda problem: sum(map(len, (problem.prompt, *(text for _, text in problem.context)))))
        asked = prompts.render("pairwise", seeds.rng("room"), question=longest.prompt, a="", b="")
        prompt = len(encode_prompt(self.tokenizer, asked, longest.context))
        prompt += sum(map(self.image_tokens, images_of(longest)))
        total = prompt + (shown + 1) * self.config.max_new_tokens
        if not shown or total <= self.positions:
            return
        most = max(0, (self.positions - prompt) // (shown + 1))
        text = (f"judge problems show up to {shown} responses and may take {total:,} tokens with their own, and the "
                f"model has {self.positions:,} positions; ")
        remedy = f"max_new_tokens={most} or recycle.view=answer leaves room" if most else "set recycle.view=answer"
        if self.config.too_long == "refuse":
            raise ConfigError(f"too_long: {text}{remedy}")
        progress.say(f"note: {text}those that are too long are not asked; {remedy} ({PAGE})")
