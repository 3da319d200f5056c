"""What a model's configuration gives away before a weight is read: its kind, and how long a text it reads."""

from transformers import DynamicCache
from transformers.cache_utils import LinearAttentionCacheLayerMixin
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from spark_lib.config import ConfigError
from spark_lib.model.vision import sees_images

OTHERS = "give a model like Llama, Qwen, Mistral, Gemma, Phi, Granite or OLMo (docs/models.md has a table)"


def refuse_kind(shape) -> None:
    """Raise ConfigError for a transformers configuration of a model that keeps a state in place of its tokens' keys and
    values, or that is no decoder."""
    name = shape.model_type
    if not sees_images(shape) and (type(shape) not in MODEL_FOR_CAUSAL_LM_MAPPING or shape.is_encoder_decoder):
        raise ConfigError(f"model: {name} is no causal language model, which goes on with a text; give one, or a "
                          "vision-language model")
    if keeps_state(shape):
        raise ConfigError(f"model: {name} is recurrent: layers of it (state-space, linear attention or convolution) "
                          "keep one state in place of every token's keys and values, which neither sampling a group "
                          f"behind one prompt nor the update can share; {OTHERS}")


def keeps_state(shape) -> bool:
    text = shape.get_text_config(decoder=True)
    if text.model_type in ("rwkv", "xlstm"):  # older: with no cache that transformers knows
        return True
    return any(isinstance(layer, LinearAttentionCacheLayerMixin) for layer in DynamicCache(config=text).layers)


def positions_of(shape) -> int | None:
    """The most tokens of a text, prompt and response, by a transformers configuration; None where there is no limit to
    be known (ALiBi). A sliding window is none: what lies behind it is no longer seen, but the text goes on."""
    text = shape.get_text_config(decoder=True)
    limit = getattr(text, "max_position_embeddings", None)
    if limit is None or getattr(text, "alibi", False):
        return None
    rope = getattr(text, "rope_parameters", None) or {}
    for scaling in [rope] if "rope_type" in rope else [one for one in rope.values() if isinstance(one, dict)]:
        if scaling.get("rope_type") in ("linear", "dynamic", "yarn"):  # others write the scaled limit itself
            trained = scaling.get("original_max_position_embeddings") or text.max_position_embeddings
            limit = max(limit, int(trained * scaling.get("factor", 1.0)))
    return limit
