"""What the tests of models share: a policy whose adapter changes it, its gradients, logits and greedy responses."""

import json
from pathlib import Path

import torch

from spark_lib.config import Config, Lora
from spark_lib.loss import Row
from spark_lib.model.load import load_model
from spark_lib.model.packing import pack, response_logprobs
from spark_lib.problem import Problem
from spark_lib.rollout import sample

ROWS = [Row([10, 11, 12], [[20, 21, 4], [22, 4]], [1.0, -2.0], [0.1, 0.2], 0.05),
        Row([13, 14], [[30, 31, 32, 4]], [0.5], [0.3], 0.05)]
PROBLEMS = [Problem("1 + 2 = ?", "3"), Problem("45 + 6 = ?", "51")]


def policy(checkpoint: Path, **settings):
    """A policy whose adapter already changes it."""
    model, tokenizer = load_model(Config(**{"model": str(checkpoint), "lora": Lora(r=4, alpha=8)} | settings))
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1)
    return model, tokenizer


def gradients(model) -> dict[str, torch.Tensor]:
    batch = pack(ROWS)
    (response_logprobs(model, batch, 1.0) * batch.weights).sum().backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}
    model.zero_grad()
    assert found and all(grad.norm() > 0 for grad in found.values())
    return found


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(5, 25)[None], use_cache=False).logits


def greedy(model, tokenizer) -> list[list[int]]:
    groups = sample(model, tokenizer, PROBLEMS, 1, 12, 0.0, torch.Generator())
    return [r.response_ids for (r,) in groups]


def write_gguf(path: Path, model, tokenizer) -> None:
    """A GGUF file of a tiny Qwen2, by the format's own package."""
    import gguf

    config, state = model.config, model.state_dict()
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    words = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    special = set(tokenizer.all_special_tokens) | {t.content for t in tokenizer.added_tokens_decoder.values()}
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_types([gguf.TokenType.CONTROL if word in special else gguf.TokenType.NORMAL for word in words])
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_chat_template(tokenizer.chat_template)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, config.num_hidden_layers)
    for name, tensor in state.items():
        if name != "lm_head.weight":
            writer.add_tensor(names.get_name(name, (".weight", ".bias")), tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
