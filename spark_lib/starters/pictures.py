r"""The starter that sees: a tiny vision-language model, built here, so that images need no download either.

    python -m spark_lib.starters.pictures [seed] [folder]

transformers' Qwen2.5-VL classes (1.1 M parameters) with a tokenizer and teachers like the text starter's
(text.py), saved in the normal Hugging Face format and shipped in spark_lib/starters/pictures_model/. It counts
shapes in pictures (spark_lib/data/shapes.py), cell by cell:

    red circle 1, empty cell 1, blue square 1, ... red square 2. \boxed{2}
"""

import random
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_5_vl.processing_qwen2_5_vl import Qwen2_5_VLProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from spark_lib.data.load import solve_problem, split_of
from spark_lib.data.shapes import COLORS, EMPTY, MOST, SHAPES, Scene, draw, scene
from spark_lib.model import vision
from spark_lib.problem import KINDS
from spark_lib.prompts import MARK
from spark_lib.starters import text as starter
from spark_lib.starters.text import Teacher, drill, laid_out, learn, lesson_about, padded, probe_problem, thirds

FOLDER = Path(__file__).with_name("pictures_model")
# Of the cold start's later phases, see starter.teach. A starter that left the second at 72 to 79 % made errors
# from lack of skill, which few steps of SPARK do not mend; with these it leaves at 97 to 99 %.
PRACTICE, SETTLE, SKILLED, DECAY = 1500, 0.1, 0.85, 150
LOOKS = 100  # steps in which the vision tower alone learns to name cells
PICTURE = "<|vision_start|>" + "<|image_pad|>" * 9 + "<|vision_end|>"  # one token for each of its cells
NAMES = [EMPTY, *((color, shape) for color in COLORS for shape in SHAPES)]
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' }}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@dataclass(frozen=True)
class Counter(Teacher):
    """Counts the shapes of a scene."""

    skip: float = 0.2  # of a cell that counts: it is passed over
    extra: float = 0.1  # of a cell that does not: it is counted
    misread: float = 0.02  # of a cell: something else is seen

    def work(self, item: Scene, rng: random.Random) -> tuple[str, str]:
        """(every cell and the count so far, answer)."""
        steps, count = [], 0
        for cell in item.cells:
            seen = rng.choice(NAMES) if rng.random() < self.misread else cell
            counted = item.counts(seen)
            count += counted != (rng.random() < (self.skip if counted else self.extra))
            steps.append(f"{' '.join(seen)} {count}")
        return ", ".join(steps) + ".", str(count)


SLOPPY = Counter(skip=0.12, extra=0.06, misread=0.01)
FAULTLESS = Counter(0, 0, 0, 0, 0, 0, 0)
CARELESS = Counter(0.5, 0.5, 0.5, 0.5, skip=0.15, extra=0.1, misread=0.03)


def candidate(item: Scene, right: bool, rng: random.Random) -> tuple[str, str]:
    """(trace, answer) of a candidate; wrong ones are half the careless teacher's, half any other number."""
    if right:
        return FAULTLESS.solve(item, rng)
    truth = str(item.answer)
    answer = truth
    while answer == truth:
        trace, answer = CARELESS.solve(item, rng)
    if rng.random() < 0.5:
        wrong = str(rng.choice([n for n in range(MOST + 2) if n != item.answer]))
        trace, answer = re.sub(r"\d+\. \\boxed\{\d+\}", rf"{wrong}. \\boxed{{{wrong}}}", trace), wrong
    return trace, answer


def lesson(kind: str, teacher: Counter, rng: random.Random) -> tuple[str, str, Scene | None]:
    """(prompt, demonstration, what its picture shows) of one fresh training problem."""
    if kind == "drill":
        return *drill(rng), None
    while split_of((item := scene(rng)).key) != "train":
        pass
    return *lesson_about(kind, item.question, item, teacher, candidate, rng), item


def build_processor(seed: int) -> Qwen2_5_VLProcessor:
    """Tokenizer and image processor: patches of 8 x 8 pixels, four to a token, so that a cell is one token."""
    rng = random.Random(f"tokenizer-vl-{seed}")
    texts = [text for _ in range(300) for kind in KINDS for text in lesson(kind, CARELESS, rng)[:2]]
    special = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    tokenizer = starter.train_tokenizer([text.replace(MARK, "") for text in texts], special)
    images = Qwen2VLImageProcessorPil(
        patch_size=8, merge_size=2, size={"shortest_edge": 256, "longest_edge": 65536},
        image_mean=[0.5] * 3, image_std=[0.5] * 3,
    )
    return vision.images_only(Qwen2_5_VLProcessor)(images, tokenizer, chat_template=CHAT_TEMPLATE)


def build_model(tokenizer, seed: int) -> Qwen2_5_VLForConditionalGeneration:
    """Untrained weights: 4 layers of width 128, tied embeddings, and a tower of 2 layers of width 64."""
    torch.manual_seed(seed)
    ids = {f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{token}|>") for name, token in (
        ("image", "image_pad"), ("video", "video_pad"), ("vision_start", "vision_start"), ("vision_end", "vision_end"))}
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 1024, "initializer_range": 0.06,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [4, 6, 6]},
        "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
    }
    tower = {
        "depth": 2, "hidden_size": 64, "intermediate_size": 128, "num_heads": 4, "patch_size": 8, "window_size": 16,
        "fullatt_block_indexes": [0, 1], "out_hidden_size": 128, "initializer_range": 0.06,
    }
    config = Qwen2_5_VLConfig(text_config=text, vision_config=tower, tie_word_embeddings=True, **ids)
    return Qwen2_5_VLForConditionalGeneration(config)


def look(model, processor, scenes: list[Scene], rng: random.Random) -> tuple[torch.Tensor, torch.Tensor]:
    """((pictures x 9, width) what the vision tower makes of each cell, (pictures, 3) sizes) of new pictures."""
    pixels = processor.image_processor(images=[draw(item, rng) for item in scenes], return_tensors="pt")
    return torch.cat(model.get_image_features(**pixels).pooler_output), pixels["image_grid_thw"]


def learn_to_look(model, processor, rng: random.Random) -> None:
    """The vision tower learns to name the cells, with a head of its own, and is frozen: end to end nothing came of it.
    """
    head = torch.nn.Linear(model.config.text_config.hidden_size, len(NAMES))
    optimizer = torch.optim.AdamW([*model.model.visual.parameters(), *head.parameters()], lr=2e-3)
    for _ in range(LOOKS):
        scenes = [scene(rng) for _ in range(32)]
        cells, _ = look(model, processor, scenes, rng)
        names = torch.tensor([NAMES.index(cell) for item in scenes for cell in item.cells])
        torch.nn.functional.cross_entropy(head(cells), names).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.model.visual.requires_grad_(False)


def batch_of_lessons(tokenizer, size: int, mix: dict, teacher: Counter, rng: random.Random) -> list[tuple]:
    """As in starter.py; each part is (ids, weights, scenes)."""
    rows = []
    for kind in rng.choices(list(mix), list(mix.values()), k=size):
        prompt, demonstration, item = lesson(kind, teacher, rng)
        message = f"<|user|>{prompt.replace(MARK, PICTURE)}<|end|><|assistant|>"  # as the chat template has it
        rows.append((*laid_out(tokenizer, tokenizer.encode(message), demonstration), item))
    return [(padded([row[0] for row in part]), padded([row[1] for row in part]), [row[2] for row in part])
            for part in thirds(rows)]


def hidden_states(model, processor, part: tuple, rng: random.Random) -> torch.Tensor:
    """(rows, tokens, width) what the decoder makes of a part of a batch, with pictures drawn for it."""
    ids, _, scenes = part
    embeddings, is_image, grid = model.get_input_embeddings()(ids), ids == model.config.image_token_id, None
    if shown := [item for item in scenes if item is not None]:
        with torch.no_grad():
            cells, grid = look(model, processor, shown, rng)
        embeddings = embeddings.masked_scatter(is_image[..., None], cells)
    positions, _ = model.model.get_rope_index(ids, mm_token_type_ids=is_image.int(), image_grid_thw=grid)
    return model.get_decoder()(inputs_embeds=embeddings, position_ids=positions).last_hidden_state


def probe(model, processor, count: int = 40, kinds: tuple[str, ...] = KINDS) -> dict[str, float]:
    """Accuracy of each kind at T = 1, on validation pictures."""
    rng, problems = random.Random("probe"), []
    for kind in kinds:
        for i in range(count):
            while split_of((item := scene(rng)).key) != "validation":
                pass
            solved = solve_problem(item.question, str(item.answer), rng, image=draw(item, rng))
            problems.append(probe_problem(kind, i, solved, item, candidate, rng))
    return starter.accuracies(model, processor, problems, count, kinds)


def cold_start(seed: int = 0, max_steps: int = 6000, lr: float = 2e-3):
    """(model, processor) after supervised learning, deterministic by `seed`: the vision tower alone, then all but the
    tower in the phases of starter.teach. Raises RuntimeError."""
    processor = build_processor(seed)
    processor.max_pixels = vision.MOST_PIXELS
    model = build_model(processor.tokenizer, seed)
    rng = random.Random(f"cold-start-vl-{seed}")
    learn_to_look(model, processor, rng)

    def lessons(mix: dict, sloppy: bool) -> float:
        batch = batch_of_lessons(processor.tokenizer, 32, mix, SLOPPY if sloppy else FAULTLESS, rng)
        return learn(batch, model.lm_head, lambda part: hidden_states(model, processor, part, rng))

    starter.teach(model, lessons, partial(probe, model, processor), SKILLED, PRACTICE, DECAY, max_steps, lr,
                  settle=SETTLE)
    return model.requires_grad_(True).eval(), processor


if __name__ == "__main__":
    starter.main(cold_start, FOLDER)
