r"""Checkpoints of the paper's models without their weights: in published form and shape, with random numbers.

What is stand-in. Weights are one block of normal numbers of the initializer's range, over and over. The tokenizer has
Qwen2's pieces and special tokens and as many tokens, its merges are made of our prompts' words and of frequent letters,
and \boxed{ is one token; the chat template is the short form of ChatML. Random weights never box an answer, so a few
rows of the embeddings and of the head are planted: behind the end of a prompt they write \boxed{, one of ANSWERS with
like chances, }, and the end of the turn.
"""

import itertools
import json
import math
import re
from pathlib import Path

import numpy as np
import torch
import transformers as hf
from test_memory import SHAPES
from tokenizers import AddedToken, pre_tokenizers

from spark_lib import prompts
from spark_lib.model.load import shape_of
from spark_lib.model.vision import sees_images

SHARD = 4 * 10**9  # bytes
BLOCK = 2**24 - 3  # a prime: rows of the tiled block do not repeat before it has gone through all of them

# --- the tokenizer ------------------------------------------------------------------------------------------

SPECIAL = """<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|>
<|quad_start|> <|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|>""".split()
PLAIN = """<tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|>
<|file_sep|>""".split()
FIRST_SPECIAL = 151643
BOX = "\\boxed{"  # one token here, so that a response takes four
LETTERS = "Ġetaoinshrdlcumwfgypbvkxjqz"  # by frequency; the first is a space, as byte-level tokens write it
WORDS = ("Yes", "No")
CHAT = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['content'] is string %}{{ m['content'] }}"
    "{% else %}{% for part in m['content'] %}{% if part['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def build_tokenizer(base: bool) -> hf.Qwen2Tokenizer:
    """Bytes, WORDS, the words of our prompts, then pairs of letters and pairs of these until there are FIRST_SPECIAL
    tokens; then Qwen's special ones. base: not instructed, where a text ends with <|endoftext|>."""
    words = [*WORDS, *re.findall("Ġ?[A-Za-z]+", Path(prompts.__file__).read_text(encoding="utf-8").replace(" ", "Ġ"))]
    pairs = [(x, y) for x in LETTERS for y in LETTERS[1:]]
    whole, inner = ["".join(pair) for pair in pairs], ["".join(pair) for pair in pairs if pair[0] in LETTERS[1:]]
    frequent = (pair for far in range(len(whole)) for pair in diagonal(whole, inner, far))
    tokens = {token: i for i, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = []
    for pair in itertools.chain(((word[:i], word[i]) for word in words for i in range(1, len(word))), pairs, frequent):
        if "".join(pair) not in tokens and len(tokens) < FIRST_SPECIAL:
            tokens["".join(pair)] = len(tokens)
            merges.append(pair)
    tokenizer = hf.Qwen2Tokenizer(vocab=tokens, merges=merges, pad_token=SPECIAL[0],
                                  eos_token=SPECIAL[0] if base else SPECIAL[2])
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in (*PLAIN, BOX)])
    tokenizer.chat_template = CHAT
    return tokenizer


def diagonal(firsts: list[str], seconds: list[str], far: int) -> list[tuple[str, str]]:
    """The pairs whose places in the lists add up to `far`: frequent with frequent first."""
    return [(firsts[i], seconds[far - i]) for i in range(max(0, far - len(seconds) + 1), far + 1)]


# --- the checkpoint -----------------------------------------------------------------------------------------

TEXT = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
TINY = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2}
TINY_TOWER = {"depth": 2, "hidden_size": 64, "intermediate_size": 128, "num_heads": 4, "fullatt_block_indexes": [1],
              "out_hidden_size": 128}
IMAGES = {"min_pixels": 3136, "max_pixels": 12845056, "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2,
          "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
          "image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2_5_VLProcessor"}


def published(name: str, layers: int | None, tiny: bool) -> dict:
    """config.json as it is published, but for `layers`."""
    shape = SHAPES[name][1]
    visual, text = sees_images(shape), shape.get_text_config()
    content = {key: getattr(text, key) for key in TEXT} | (TINY if tiny else {})
    content["num_hidden_layers"] = min(layers or math.inf, content["num_hidden_layers"])
    content |= {
        "architectures": ["Qwen2_5_VLForConditionalGeneration" if visual else "Qwen2ForCausalLM"],
        "model_type": "qwen2_5_vl" if visual else "qwen2", "vocab_size": text.vocab_size, "attention_dropout": 0.0,
        "bos_token_id": 151643, "eos_token_id": 151645 if visual else 151643, "hidden_act": "silu",
        "initializer_range": 0.02, "max_position_embeddings": 128000 if visual else 131072, "rms_norm_eps": 1e-6,
        "rope_theta": 1e6, "use_sliding_window": False, "sliding_window": 32768 if visual else 131072,
        "max_window_layers": 28, "tie_word_embeddings": False, "torch_dtype": "bfloat16", "use_cache": True,
    }
    if visual:
        tower = {key: getattr(shape.vision_config, key) for key in TINY_TOWER} | (TINY_TOWER if tiny else {})
        content |= {
            "vision_start_token_id": 151652, "vision_end_token_id": 151653, "vision_token_id": 151654,
            "image_token_id": 151655, "video_token_id": 151656,
            "rope_scaling": {"type": "mrope", "mrope_section": [4, 6, 6] if tiny else [16, 24, 24]},
            "vision_config": tower | {
                "hidden_act": "silu", "in_chans": 3, "patch_size": 14, "spatial_merge_size": 2, "window_size": 112,
                "spatial_patch_size": 14, "temporal_patch_size": 2, "tokens_per_second": 2}}
    return content


def write_checkpoint(folder: Path, name: str, layers: int | None, tiny: bool) -> None:
    folder.mkdir()
    content = published(name, layers, tiny)
    (folder / "config.json").write_text(json.dumps(content, indent=2))
    tokenizer = build_tokenizer(base=content["eos_token_id"] == FIRST_SPECIAL)
    if "vision_config" in content:
        (folder / "preprocessor_config.json").write_text(json.dumps(IMAGES, indent=2))
        (folder / "chat_template.json").write_text(json.dumps({"chat_template": CHAT}))
        tokenizer.chat_template = None
    tokenizer.save_pretrained(folder)
    ends = [content["eos_token_id"], content["bos_token_id"]]
    (folder / "generation_config.json").write_text(json.dumps({
        "bos_token_id": ends[1], "eos_token_id": ends[0], "do_sample": True, "temperature": 0.7, "top_p": 0.8,
        "top_k": 20, "repetition_penalty": 1.05}))  # of which the sampler must take the end alone
    places = write_tensors(folder, shape_of(str(folder)))
    plant(places, tokenizer)


def write_tensors(folder: Path, shape) -> dict[str, tuple[Path, int, tuple[int, ...]]]:
    """The sharded weights of a transformers configuration: random, tensor by tensor; of norms 1 and of biases 0.
    Returns for each tensor its file, its place in it in bytes, and its shape."""
    auto = hf.AutoModelForImageTextToText if sees_images(shape) else hf.AutoModelForCausalLM
    with torch.device("meta"):
        state = auto.from_config(shape, dtype=torch.bfloat16).state_dict()
    names = {name: re.sub(r"^model\.(language_model|visual)", lambda m: {"visual": "visual"}.get(m[1], "model"), name)
             for name in state}  # as they were when these checkpoints were published
    shards, size = [[]], 0
    for name, tensor in state.items():
        if size + tensor.nbytes > SHARD and shards[-1]:
            shards, size = [*shards, []], 0
        shards[-1].append((names[name], tensor))
        size += tensor.nbytes
    generator = torch.Generator().manual_seed(0)
    block = (torch.randn(BLOCK, generator=generator) * shape.get_text_config().initializer_range).bfloat16()
    block = block.view(torch.int16).numpy()
    places, start = {}, 0
    for i, shard in enumerate(shards, 1):
        path = folder / f"model-{i:05d}-of-{len(shards):05d}.safetensors"
        header, end = {"__metadata__": {"format": "pt"}}, 0
        for name, tensor in shard:
            header[name] = {"dtype": "BF16", "shape": [*tensor.shape], "data_offsets": [end, end + tensor.nbytes]}
            end += tensor.nbytes
        text = json.dumps(header).encode()
        with open(path, "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for name, tensor in shard:
                places[name] = (path, file.tell(), tuple(tensor.shape))
                if tensor.ndim == 1:
                    value = torch.full(tensor.shape, float(name.endswith("weight")), dtype=torch.bfloat16)
                    value.view(torch.int16).numpy().tofile(file)
                    continue
                left = tensor.numel()
                while left:
                    part = block[start : start + left]
                    part.tofile(file)
                    left, start = left - len(part), (start + len(part)) % BLOCK
    index = {"metadata": {"total_size": sum(tensor.nbytes for tensor in state.values())},
             "weight_map": {name: path.name for name, (path, _, _) in places.items()}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
    return places


ANSWERS = ("2", "Yes", "No", "A", "B")
SPIKE = 2048.0  # far above what layers add to a coordinate, so that the norm makes it nearly the root of the width
LOGIT = 30.0  # of what may follow: far above log 152,064, which all other tokens come to


def plant(places: dict, tokenizer) -> None:
    """Have a text go on from the end of a prompt to a boxed answer and its end: each token of that path has a
    coordinate of its own in which its embedding is large, and so are the head's rows of the tokens that may follow."""
    start = tokenizer.encode("\n")
    follow: dict[int, set[int]] = {}
    for answer in ANSWERS:
        path = [*start, *tokenizer.encode(f"\\boxed{{{answer}}}"), tokenizer.eos_token_id]
        for token, following in itertools.pairwise(path):
            follow.setdefault(token, set()).add(following)
    embeddings, head = (memory_of(places[name]) for name in ("model.embed_tokens.weight", "lm_head.weight"))
    for token in set().union(*follow.values()):
        head[token] = torch.from_numpy(head[token]).view(torch.bfloat16).div(8).view(torch.int16)  # like chances
    for coordinate, (token, following) in enumerate(follow.items()):
        embeddings[token, coordinate] = bits(SPIKE)
        head[sorted(following), coordinate] = bits(LOGIT / head.shape[1] ** 0.5)


def memory_of(place: tuple[Path, int, tuple[int, ...]]) -> np.memmap:
    path, offset, shape = place
    return np.memmap(path, np.int16, "r+", offset, shape)


def bits(value: float) -> int:
    return torch.tensor(value, dtype=torch.bfloat16).view(torch.int16).item()
