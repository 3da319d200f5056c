"""The model: where it is found, how it is loaded and quantised, and its adapter."""

import contextlib
import json
import logging
import re
import warnings
from pathlib import Path

import bitsandbytes as bnb
import torch
import transformers
from huggingface_hub import snapshot_download
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora.layer import ParamWrapper
from torch.nn.modules.conv import _ConvNd
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    BitsAndBytesConfig,
    GgufConfig,
)

from spark_lib import progress
from spark_lib.config import Config, ConfigError
from spark_lib.model import vision
from spark_lib.model.kinds import refuse_kind
from spark_lib.model.lean import give_back_freed_memory
from spark_lib.model.weights import compute_dtype

STARTER, STARTER_VL = (Path(__file__).parents[1] / "starters" / f"{name}_model" for name in ("text", "pictures"))

LARGE = 10**9  # bytes of weights from which on loading takes so long that it is told


# --- finding and loading -------------------------------------------------------------------------------------


def locate(name: str, weights: bool = True) -> tuple[str, str | None]:
    """(folder, name of the GGUF file in it or None) of what `model:` names.

    'starter', 'starter_vl', a .gguf file, a folder, or else a hub id, which is downloaded unless it is in the cache
    (weights=False: its configuration only). From here on nothing asks the network. Raises ConfigError.
    """
    path = {"starter": STARTER, "starter_vl": STARTER_VL}.get(name) or Path(name).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ConfigError(f"model: there is no file {path}")
        return str(path.parent), path.name
    if path.is_dir():
        return str(path), None
    try:
        wanted = ["*.json", "*.jinja", "*.txt", "*.model"] + ["*.safetensors"] * weights
        return snapshot_download(name, allow_patterns=wanted, ignore_patterns=["*/*", "consolidated*"]), None
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"model: '{name}' is neither a folder nor a .gguf file here, and as a hub id it could not be fetched "
            f"({str(error).strip().splitlines()[0].rstrip('.')}). Without a hub in reach: elsewhere run "
            f"'hf download {name} --local-dir my_model', copy the folder here and set model=my_model"
        ) from error


def base_of_adapter(folder: Path) -> str | None:
    """What `model:` named where the peft adapter in this folder was trained; None if there is no adapter."""
    if not (folder / "adapter_config.json").is_file():
        return None
    base = str(json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"])
    checkpoint = folder.parent / "state.json"  # of a run: it knows the name of a GGUF file, and of a moved starter
    if checkpoint.is_file() and not (Path(base) / "config.json").is_file():
        return json.loads(checkpoint.read_text())["model"]
    return base


def shape_of(name: str):
    """The transformers configuration of anything that `locate` takes; reads nothing else. Raises ConfigError."""
    folder, gguf = locate(name, weights=False)
    if base := base_of_adapter(Path(folder)):
        return shape_of(base)
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, **({"gguf_file": gguf} if gguf else {}))
    except (OSError, ValueError, KeyError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"model: cannot read the configuration of '{name}': {first} Give the folder of a Hugging "
                          "Face checkpoint with config.json and safetensors weights, or a .gguf file") from error


def quantization_config(quantization: str, dtype: torch.dtype, visual: bool = False) -> BitsAndBytesConfig | None:
    """bitsandbytes' settings for 'nf4' (double quantisation: 4.13 bits per weight) or 'int8'; None for 'none'.

    visual: of a vision-language model, all but whose decoder stays as it is.
    """
    dense = vision.dense_parts() if visual else None  # None: the head alone
    if quantization == "nf4":
        return BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype,
            llm_int8_skip_modules=dense,
        )
    return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=dense) if quantization == "int8" else None


def announce(name: str, folder: Path, gguf: str | None) -> None:
    """Say that large weights are read, and let transformers draw its bar for them and for no others."""
    size = sum(path.stat().st_size for path in ([folder / gguf] if gguf else folder.glob("*.safetensors")))
    logs = transformers.utils.logging
    if size < LARGE:
        return logs.disable_progress_bar()
    progress.say(f"loading {name}, {size / 1e9:.1f} GB")
    return logs.enable_progress_bar() if progress.draws() else logs.disable_progress_bar()


def load_base(
    name: str, device: torch.device | str = "cpu", quantization: str = "none", dtype: torch.dtype | None = None,
    max_pixels: int = vision.MOST_PIXELS,
):
    """(model, tokenizer) of anything that `locate` takes, in `dtype` or else compute_dtype(device). A vision-language
    model comes with its processor in the tokenizer's place; an image costs it at most what `max_pixels` do.

    The linear layers but the head and a vision tower's are quantised on request; embeddings, norms and head stay in
    `dtype` (peft's prepare_model_for_kbit_training would make them fp32, at a 151k vocabulary gigabytes). A GGUF file
    is dequantised, an adapter is added into its base; then they are treated like a dense checkpoint. Reads safetensors
    and GGUF only and runs no code that comes with a checkpoint.
    Raises ConfigError.
    """
    give_back_freed_memory()
    folder, gguf = locate(name)
    announce(name, Path(folder), gguf)
    dtype = dtype or compute_dtype(device)
    source = {"local_files_only": True} | ({"gguf_file": gguf} if gguf else {})
    settings = {"dtype": dtype, "use_safetensors": True}
    shape = shape_of(str(Path(folder, gguf or "")))  # found already: the hub is asked once
    refuse_kind(shape)
    visual = vision.sees_images(shape)
    packed = quantization_config(quantization, dtype, visual)
    quantised = settings | {"quantization_config": packed, "device_map": {"": device}} if packed else settings
    base = base_of_adapter(Path(folder))
    try:
        if base:
            model, tokenizer = load_base(base, dtype=dtype, max_pixels=max_pixels)
            with peft_warnings():
                model = PeftModel.from_pretrained(model, folder).merge_and_unload()
        elif visual:
            tokenizer = vision.load_processor(folder, shape, max_pixels)
        else:
            tokenizer = AutoTokenizer.from_pretrained(folder, **source)
        if gguf:
            dense = GgufConfig(dequantize=True)
            model = AutoModelForCausalLM.from_pretrained(folder, **source, **settings, quantization_config=dense)
        elif not base:
            auto = AutoModelForImageTextToText if visual else AutoModelForCausalLM
            model = auto.from_pretrained(folder, **source, **quantised)
        if packed and (gguf or base):
            content = {"config": model.config, "state_dict": model.state_dict()}
            model = type(model).from_pretrained(None, **content, **quantised)
    except (OSError, ValueError, KeyError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"model: cannot load '{name}': {first} Give a causal or a vision-language model: the folder of a "
            "Hugging Face checkpoint with safetensors weights, or a .gguf file"
        ) from error
    if visual:
        vision.refuse_other_attention(model)
    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            # On CPUs with AVX512-BF16, bitsandbytes' forward in eval mode packs the weight anew for a kernel without a
            # backward pass; from then on gradients miss the base layer and dequantising returns garbage.
            module.support_avx512bf16_for_cpu = False
    return model if packed else model.to(device), tokenizer


def load_model(config: Config, device: torch.device | str = "cpu"):
    """(policy, tokenizer). A fresh adapter changes nothing yet: its B matrices are zero.

    Without an adapter (`lora: null`) the weights are fp32 whatever the device: in bf16, Adam's small steps would
    round away. Computation is in compute_dtype all the same, see train.Spark.
    """
    if config.lora is None:
        model, tokenizer = load_base(config.model, device, dtype=torch.float32, max_pixels=config.max_pixels)
    else:
        model, tokenizer = load_base(config.model, device, config.quantization, max_pixels=config.max_pixels)
        torch.manual_seed(config.seed)  # the adapter's A matrices
        model = add_adapter(model.requires_grad_(False), config)
    if config.activation_checkpointing:
        base = model.get_base_model() if config.lora else model
        # The newer name is missing in transformers 5.17.
        enable = getattr(base, "activation_checkpointing_enable", None) or base.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    return model.eval(), tokenizer


def add_adapter(model, config: Config) -> PeftModel:
    """The model with a fresh LoRA adapter in fp32 (peft's autocast_adapter_dtype, its default). Raises ConfigError.

    all-linear leaves a vision tower as it is, and in a mixture of experts all but attention; a regular expression may
    name a tower's layers.
    """
    lora, targets, frozen = config.lora, config.lora.target_modules, None
    if targets == "all-linear" and (blocks := expert_blocks(model)):
        targets = attention_layers(model, blocks)
        logging.getLogger(__name__).warning(
            "lora: of this mixture of experts all-linear adapts the %d linear layers of attention; experts, router and "
            "what else there is in its blocks (%s) stay as they are", len(targets), ", ".join(sorted(blocks)))
    elif targets == "all-linear" and vision.sees_images(model.config):
        decoder = next(name for name, module in model.named_modules() if module is model.get_decoder())
        frozen = rf"(?!{re.escape(decoder)}\.).*"  # whatever does not begin with the decoder's name
    settings = LoraConfig(
        task_type="CAUSAL_LM", r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout,
        target_modules=targets, exclude_modules=frozen,
    )
    try:
        with peft_warnings():
            model = get_peft_model(model, settings)
    except ValueError as error:
        raise ConfigError(f"lora.target_modules: {str(error).splitlines()[0]}") from error
    if any(isinstance(layer, ParamWrapper) for layer in model.modules()):
        raise ConfigError(f"lora.target_modules: '{targets}' names experts, which are one tensor for all of a layer "
                          "and have no adapter here; name layers of attention, as all-linear does, or set lora=null")
    return model


def expert_blocks(model) -> set[str]:
    """What the blocks with experts are called in each layer of the decoder, e.g. {"mlp"}; empty if there are none. The
    experts of a layer are one parameter (experts, width, width)."""
    return {name.split(".")[-2] for name, module in model.get_decoder().named_modules()
            if not isinstance(module, _ConvNd) and any(p.ndim == 3 for p in module.parameters(recurse=False))}


def attention_layers(model, blocks: set[str]) -> list[str]:
    """Names of the decoder's linear layers outside of these blocks. (peft takes the names of a dense MLP's layers for
    those of experts, so in such a model there is no adapting the one without the other.)"""
    inside = {id(module) for module in model.get_decoder().modules()} - {id(model.get_output_embeddings())}
    return [name for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear) and id(module) in inside and not blocks & set(name.split("."))]


@contextlib.contextmanager
def peft_warnings():
    """peft 0.21 asks transformers for a name that is deprecated there."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
        yield


# --- the weights that learn, that are compared with, and that are sampled with ------------------------------------
