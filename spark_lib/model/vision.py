"""Vision: what a vision-language model sees of a problem's images.

Images become tensors by the checkpoint's own processor, and vectors by its own vision tower; here they take the places
that the processor kept for them among the prompt's token embeddings. All that comes after, the sampler's cache and the
packed rows of the loss, is the decoder's, which never hears of images, so that nothing is tied to one family of models.
"""

import base64
import hashlib
import inspect
import io
import math
from dataclasses import dataclass, replace

import torch
from PIL import Image, ImageOps
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

from spark_lib.config import ConfigError
from spark_lib.prompts import MARK, plain

MOST_PIXELS = Image.MAX_IMAGE_PIXELS  # 89 million, of an image file; more are taken for broken, or meant to break
PARTS = ("visual", "vision_model", "vision_tower", "connector", "multi_modal_projector")  # beside the decoder
MOST_ASPECT = 100  # longer side to shorter; processors refuse extremes


# --- files ----------------------------------------------------------------------------------------------------


def images_of(problem) -> tuple:
    """A problem's images as a tuple, mostly of none or one."""
    image = problem.image
    return () if image is None else image if isinstance(image, tuple) else (image,)


def load_image(image: str | bytes | Image.Image, most_pixels: float = math.inf) -> Image.Image:
    """A path, the bytes of an image file or an image as RGB, scaled down to at most `most_pixels`.

    Transparent parts become white. Raises ValueError for what cannot be an image of use, OSError for a broken file.
    """
    if not isinstance(image, Image.Image):
        try:
            image = Image.open(io.BytesIO(image) if isinstance(image, bytes) else image)
        except Image.DecompressionBombError as error:
            raise ValueError(str(error)) from error
        check_size(*image.size)  # known from the file's head, before memory is taken for its pixels
        image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    scale = math.sqrt(most_pixels / (image.width * image.height))
    if scale < 1:
        image = image.resize([max(1, int(side * scale)) for side in image.size], Image.Resampling.BICUBIC)
    return image


def check_size(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise ValueError(f"{width:,} x {height:,} pixels are too many (at most {MOST_PIXELS:,})")
    if max(width, height) > MOST_ASPECT * min(width, height):
        raise ValueError(f"{width:,} x {height:,} pixels are too long and narrow (at most 1 to {MOST_ASPECT})")


def thumbnail(image: str | bytes | Image.Image, side: int = 256) -> str:
    """A small PNG of it as base64 text; tiny images are enlarged, so that one sees their pixels."""
    image = load_image(image)
    scale = side / max(image.size)
    scale = max(1, int(scale)) if scale > 1 else scale
    how = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    file = io.BytesIO()
    image.resize([max(1, int(size * scale)) for size in image.size], how).save(file, "png")
    return base64.b64encode(file.getvalue()).decode()


def content_key(image: str | bytes | Image.Image) -> str:
    """A short name for what an image is: its path, or a hash of its bytes or pixels."""
    if isinstance(image, str):
        return image
    return hashlib.sha256(image if isinstance(image, bytes) else image.tobytes()).hexdigest()[:16]


# --- the model's parts ----------------------------------------------------------------------------------------


def sees_images(config) -> bool:
    """Whether a checkpoint of this transformers configuration is a vision-language model."""
    return hasattr(config, "vision_config") and type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING


def dense_parts() -> list[str]:
    """What of a vision-language model is not quantised, as transformers wants it: expressions that match a module's
    whole name from its beginning (`visual` alone would not find `model.visual`)."""
    return ["lm_head", rf"(?:.*\.)?(?:{'|'.join(PARTS)})"]


def image_size(shape, config) -> tuple[int, int]:
    """(patches, tokens) of the largest image in a model of this transformers configuration; none if it sees none.
    config: a Config."""
    if not sees_images(shape):
        return 0, 0
    tower = shape.vision_config
    merged = getattr(tower, "spatial_merge_size", None) or getattr(shape, "scale_factor", 1)  # Qwen; Idefics3, SmolVLM
    pixels = tower.image_size**2 if hasattr(shape, "image_seq_length") else config.max_pixels  # LLaVA: always the same
    patches = pixels // tower.patch_size**2
    return patches, patches // merged**2


def load_processor(folder: str, config, max_pixels: int):
    """The checkpoint's processor (tokenizer, images, chat template). An image costs it at most what `max_pixels` do.

    Videos are left out: the part of Qwen2.5-VL's processor that reads them needs torchvision. Without that, images are
    processed by PIL.
    """
    processor = images_only(PROCESSOR_MAPPING[type(config)]).from_pretrained(folder, local_files_only=True)
    processor.max_pixels = max_pixels
    size = processor.image_processor.size
    if hasattr(processor.image_processor, "merge_size"):  # Qwen: sizes are numbers of pixels
        size["longest_edge"] = min(size["longest_edge"], max_pixels)
        size["shortest_edge"] = min(size["shortest_edge"], max_pixels)
    elif hasattr(processor.image_processor, "max_image_size"):  # Idefics3, SmolVLM: a side, enlarged to whole tiles
        tile = processor.image_processor.max_image_size["longest_edge"]
        size["longest_edge"] = min(size["longest_edge"], max(1, math.isqrt(max_pixels) // tile) * tile)
    return processor


def reads_videos(config) -> bool:
    """Whether the published processor of this model reads videos too, for which transformers needs torchvision."""
    return "video_processor" in PROCESSOR_MAPPING[type(config)].get_attributes()


def images_only(processor_class: type) -> type:
    """The class without the part that reads videos."""
    parts = [part for part in processor_class.get_attributes() if part != "video_processor"]
    return type(processor_class.__name__, (processor_class,), {"get_attributes": classmethod(lambda _: list(parts))})


def refuse_other_attention(base) -> None:
    """Raise ConfigError for a vision-language model whose decoder is not the text model that our loops take it for."""
    reasons = {"token_type_ids": "lets the tokens of an image see one another"}
    for argument, reason in reasons.items():
        if argument in inspect.signature(base.forward).parameters:
            raise ConfigError(f"model: {type(base).__name__} {reason}, which the sampler and the loss do not; give a "
                              "model like Qwen2.5-VL, SmolVLM or LLaVA, whose decoder is causal")


def text_tokenizer(tokenizer):
    """The tokenizer itself, or that of a vision-language model's processor."""
    return getattr(tokenizer, "tokenizer", tokenizer)


# --- what is seen ---------------------------------------------------------------------------------------------


@dataclass
class Seen:
    """What a model sees of the images in one prompt.

    pixels: the processor's tensors by name; along their first dimension, image by image (tile by tile, or patch by
        patch), so that those of several prompts are put together by joining them.
    places: (image tokens,) where their vectors go among the prompt's tokens.
    positions: (3, prompt tokens) time, row and column of every token in models with M-RoPE (arXiv 2409.12191): a text
        token has three times the same one. None in others.
    """

    pixels: dict[str, torch.Tensor]
    places: torch.Tensor
    positions: torch.Tensor | None

    def longer(self, tokens: int) -> "Seen":
        """The same for a prompt that goes on with this many tokens of text."""
        if self.positions is None:
            return self
        return replace(self, positions=torch.cat([self.positions, text_positions(self.positions, tokens)], 1))


def text_positions(prompt: torch.Tensor, tokens: int) -> torch.Tensor:
    """(3, tokens) M-RoPE positions of a text behind a prompt with positions (3, prompt tokens)."""
    return (prompt.max() + 1 + torch.arange(tokens)).expand(3, -1)


def packed_positions(prompts: list[tuple[int, Seen | None]], responses: list[tuple[int, int]]) -> torch.Tensor:
    """(1, T) positions of all prompts, then of all responses, which go on from their prompt's end; (3, 1, T) where some
    prompt has M-RoPE positions. prompts: length and what is seen; responses: the number of their prompt, length."""
    if not any(seen and seen.positions is not None for _, seen in prompts):
        positions = [j for length, _ in prompts for j in range(length)]
        return torch.tensor([positions + [prompts[i][0] + j for i, length in responses for j in range(length)]])
    of_prompts = [seen.positions if seen else torch.arange(length).expand(3, -1) for length, seen in prompts]
    of_responses = [text_positions(of_prompts[i], length) for i, length in responses]
    return torch.cat(of_prompts + of_responses, 1)[:, None]


def content_of(prompt: str, images: list[Image.Image], clean) -> list[dict]:
    """The parts of a user message: the images at their marks, those without one first, and between them the text,
    passed through `clean`. Marks in excess are text: the last ones are the question's."""
    texts = prompt.rsplit(MARK, len(images)) if images else [prompt]
    first = len(images) - len(texts) + 1
    parts = [{"type": "image", "image": image} for image in images[:first]]
    for text, image in zip(texts, [*images[first:], None]):
        parts += [{"type": "text", "text": clean(text)}] * bool(clean(text))
        parts += [{"type": "image", "image": image}] * (image is not None)
    return parts


def see(base, processor, messages: list[dict]) -> tuple[list[int], Seen | None]:
    """(prompt ids, what is seen of its images, None if there are none) of a prompt's messages.

    messages: their content is {"type": "text", "text": ...} and {"type": "image", "image": PIL image} parts, in order.
    """
    images = [part["image"] for message in messages for part in message["content"] if part["type"] == "image"]
    if processor.chat_template is None:
        texts = ["".join(part["text"] if part["type"] == "text" else processor.image_token for part in m["content"])
                 for m in messages]
        text = plain([(message["role"], text) for message, text in zip(messages, texts)])
        inputs = processor(text=[text], images=images or None, return_tensors="pt")
    else:
        inputs = processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
    ids = inputs["input_ids"]
    if not images:
        return ids[0].tolist(), None
    texts = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")
    pixels = {name: tensor for name, tensor in inputs.items() if name not in texts}
    if pixels["pixel_values"].ndim == 5:  # Idefics3 and SmolVLM: (1, tiles, ...), a batch of one
        pixels = {name: tensor.transpose(0, 1) for name, tensor in pixels.items()}
    is_image = ids == base.config.image_token_id
    positions = None
    if hasattr(base.base_model, "get_rope_index"):
        positions, _ = base.base_model.get_rope_index(
            ids, mm_token_type_ids=is_image.int(), image_grid_thw=pixels["image_grid_thw"]
        )
        positions = positions[:, 0]
    return ids[0].tolist(), Seen(pixels, is_image[0].nonzero()[:, 0], positions)


def token_embeddings(base, ids: torch.Tensor, seen: list[Seen], places: torch.Tensor) -> torch.Tensor:
    """(rows, tokens, width) embeddings of ids (rows, tokens), at `places` in the flattened ids those of the images."""
    names = seen[0].pixels
    pixels = {name: torch.cat([one.pixels[name] for one in seen]).to(ids.device) for name in names}
    pixels = {name: x.to(base.dtype) if x.is_floating_point() else x for name, x in pixels.items()}
    found = base.get_image_features(**pixels)
    vectors = torch.cat([vector.flatten(0, -2) for vector in found.pooler_output])
    embeddings = base.get_input_embeddings()(ids)
    flat = embeddings.flatten(0, 1).index_copy(0, places, vectors.to(embeddings.dtype))
    return flat.view_as(embeddings)
