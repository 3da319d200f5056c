"""The model: loading, LoRA, the reference model, and checkpoints that are written whole or not at all."""

import contextlib
import json
import os
import shutil
import warnings
from pathlib import Path

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from spark_lib.config import Config, ConfigError

STARTER = Path(__file__).with_name("starter_model")


def load_base(name: str, device: torch.device | str = "cpu"):
    """(model, tokenizer) of 'starter', a local folder or a hub id; bf16 on an accelerator, fp32 on the CPU.

    Reads safetensors only and runs no code that comes with a checkpoint. Raises ConfigError.
    """
    transformers.utils.logging.disable_progress_bar()
    source = str(STARTER) if name == "starter" else name
    dtype = torch.float32 if torch.device(device).type == "cpu" else torch.bfloat16
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
        model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"model: cannot load '{name}': {str(error).strip().splitlines()[0]} Give the folder of a Hugging Face "
            "checkpoint with safetensors weights; without a model hub in reach, download it elsewhere and copy it here"
        ) from error
    return model.to(device), tokenizer


def load_model(config: Config, device: torch.device | str = "cpu"):
    """(model with a fresh LoRA adapter, tokenizer). The adapter changes nothing yet: its B matrices are zero."""
    model, tokenizer = load_base(config.model, device)
    lora = config.lora
    torch.manual_seed(config.seed)  # the adapter's A matrices
    settings = LoraConfig(
        task_type="CAUSAL_LM", r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
    )
    with warnings.catch_warnings():  # peft 0.21 asks transformers for a name that is deprecated there
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
        # fp32 adapter weights (autocast_adapter_dtype, on by default): in bf16, Adam's small steps would round away.
        model = get_peft_model(model, settings)
    return model.eval(), tokenizer


@contextlib.contextmanager
def adapter_dropout(model):
    """Within this block the adapter's dropout is on, and nothing else: the base stays as it samples."""
    dropouts = [layer.lora_dropout for layer in model.modules() if isinstance(layer, LoraLayer)]
    for dropout in dropouts:
        dropout.train()
    try:
        yield
    finally:
        for dropout in dropouts:
            dropout.eval()


def load_trained(folder: str | Path, device: torch.device | str = "cpu"):
    """(model, tokenizer) of a run's folder (its last checkpoint), or of anything that load_base takes."""
    checkpoint = last_checkpoint(Path(folder)) if Path(folder).is_dir() else None
    if checkpoint is None:
        return load_base(str(folder), device)
    base = json.loads((checkpoint / "state.json").read_text())["model"]
    model, tokenizer = load_base(base, device)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
        return PeftModel.from_pretrained(model, checkpoint / "adapter").eval(), tokenizer


@contextlib.contextmanager
def merged(model):
    """Within this block the adapter is added into the dense weights, so that sampling pays nothing for it.

    The base weights are set aside and put back, not subtracted again: no rounding adds up over the steps.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, LoraLayer)]
    if not layers:
        yield model
        return
    kept = [layer.get_base_layer().weight.data for layer in layers]
    with torch.no_grad():
        for layer, weight in zip(layers, kept):
            layer.get_base_layer().weight.data = (weight.float() + layer.get_delta_weight("default")).to(weight.dtype)
    try:
        with model.disable_adapter():
            yield model
    finally:
        for layer, weight in zip(layers, kept):
            layer.get_base_layer().weight.data = weight


def trainable(model) -> list[torch.nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


# --- checkpoints ---------------------------------------------------------------------------------------------


def save_checkpoint(run: Path, step: int, spark, state: dict) -> Path:
    """Write runs/<name>/checkpoint-<step>: adapter in PEFT's own format, optimiser, state.json.

    Everything goes to a folder aside, is flushed to the disk and then renamed, so that a checkpoint that bears
    its name is complete whatever happens. Every random number derives from (seed, step, phase), so the step is
    all the state that randomness and the data's position have. Older checkpoints go, except the one before.
    """
    final, aside = run / f"checkpoint-{step}", run / f"checkpoint-{step}.partial"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    spark.model.save_pretrained(aside / "adapter")
    spark.tokenizer.save_pretrained(aside / "adapter")
    torch.save(spark.optimizer.state_dict(), aside / "optimizer.pt")
    (aside / "state.json").write_text(json.dumps(state | {"step": step}, indent=1))
    for path in [*aside.rglob("*"), aside]:
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
    if final.exists():
        shutil.rmtree(final)
    aside.rename(final)
    for old in checkpoints(run)[:-2]:
        shutil.rmtree(old)
    return final


def checkpoints(run: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    found = [path for path in run.glob("checkpoint-*") if path.suffix != ".partial"]
    return sorted(found, key=lambda path: int(path.name.split("-")[1]))


def last_checkpoint(run: Path) -> Path | None:
    found = checkpoints(run)
    return found[-1] if found else None


def load_checkpoint(checkpoint: Path, model, optimizer) -> dict:
    """Put adapter and optimiser back and return the state that was saved with them."""
    set_peft_model_state_dict(model, load_file(checkpoint / "adapter" / "adapter_model.safetensors"))
    optimizer.load_state_dict(torch.load(checkpoint / "optimizer.pt", weights_only=True))
    return json.loads((checkpoint / "state.json").read_text())
