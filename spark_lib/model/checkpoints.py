"""Checkpoints that are written whole or not at all, and the merged model for other programs."""

import copy
import json
import os
import shutil
from pathlib import Path

import torch
from peft import PeftModel, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file

from spark_lib.model.load import load_base, peft_warnings
from spark_lib.model.vision import MOST_PIXELS
from spark_lib.model.weights import dense_weight, is_quantised


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    aside = path.with_name(path.name + ".partial")
    with open(aside, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def save_checkpoint(run: Path, step: int, spark, state: dict) -> Path:
    """Write runs/<name>/checkpoint-<step>: adapter/ in PEFT's own format (or model/), optimiser, state.json.

    Everything goes to a folder aside, is flushed to the disk and then renamed, so that a checkpoint that bears
    its name is complete whatever happens. Every random number derives from (seed, step, phase), so the step is
    all the state that randomness and the data's position have. Older checkpoints go, except the one before.
    """
    final, aside = run / f"checkpoint-{step}", run / f"checkpoint-{step}.partial"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    folder = aside / ("adapter" if isinstance(spark.model, PeftModel) else "model")
    spark.model.save_pretrained(folder)
    spark.tokenizer.save_pretrained(folder)
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


def warm_base(run: str | Path | None) -> str | None:
    """The base model of a run that began with a warm-up (see warmup.py), else None."""
    folder = Path(run or "") / "warm"
    return str(folder) if run and folder.is_dir() else None


def load_checkpoint(checkpoint: Path, model, optimizer) -> dict:
    """Put adapter (or all weights) and optimiser back and return the state that was saved with them."""
    if isinstance(model, PeftModel):
        set_peft_model_state_dict(model, load_file(checkpoint / "adapter" / "adapter_model.safetensors"))
    else:
        saved = type(model).from_pretrained(checkpoint / "model", dtype=model.dtype, local_files_only=True)
        model.load_state_dict(saved.state_dict())
    optimizer.load_state_dict(torch.load(checkpoint / "optimizer.pt", weights_only=True))
    return json.loads((checkpoint / "state.json").read_text())


def load_trained(
    folder: str | Path, device: torch.device | str = "cpu", quantization: str = "none", max_pixels: int = MOST_PIXELS
):
    """(model, tokenizer) of a run's folder (its last checkpoint, on the base that it was trained on), or of anything
    that load_base takes with `quantization`."""
    checkpoint = last_checkpoint(Path(folder)) if Path(folder).is_dir() else None
    if checkpoint is None:
        model, tokenizer = load_base(str(folder), device, quantization, max_pixels=max_pixels)
        return model.eval(), tokenizer
    if (checkpoint / "model").is_dir():
        return load_base(str(checkpoint / "model"), device, max_pixels=max_pixels)
    state = json.loads((checkpoint / "state.json").read_text())
    base = warm_base(folder) or state["model"]
    model, tokenizer = load_base(base, device, state["quantization"], max_pixels=max_pixels)
    with peft_warnings():
        return PeftModel.from_pretrained(model, checkpoint / "adapter").eval(), tokenizer


def save_merged(model, tokenizer, folder: Path) -> Path:
    """Write the model with its adapter added in as a plain dense checkpoint, which transformers, vLLM and lm-eval read.

    A quantised base is dequantised: these are the weights that the adapter was trained with, so the text stays the
    same. The tensors go to the CPU one by one; a GPU need not hold a dense copy.
    """
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    config = copy.deepcopy(base.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.device("meta"):
        dense = type(base)(config)
    dense.load_state_dict(dense_state(base), assign=True)
    dense.tie_weights()
    dense.generation_config = base.generation_config
    aside = folder.with_name(folder.name + ".partial")
    shutil.rmtree(aside, ignore_errors=True)
    dense.save_pretrained(aside)
    tokenizer.save_pretrained(aside)
    shutil.rmtree(folder, ignore_errors=True)
    return aside.rename(folder)


def dense_state(base) -> dict[str, torch.Tensor]:
    """The state of the model as it would be named and shaped had it never been quantised nor adapted, on the CPU."""
    state: dict[str, torch.Tensor] = {}
    for name, module in base.named_modules():  # an adapted layer comes before the `base_layer` in it
        if ".lora_" in name:
            continue
        own = name.removesuffix(".base_layer")
        if f"{own}.weight" not in state and (isinstance(module, LoraLayer) or is_quantised(module)):
            state[f"{own}.weight"] = dense_weight(module, base.dtype).cpu()
        tensors = dict(module.named_parameters(recurse=False))
        for key, buffer in module.named_buffers(recurse=False):
            if key not in module._non_persistent_buffers_set:
                tensors[key] = buffer
        for key, tensor in tensors.items():
            state.setdefault(f"{own}.{key}".lstrip("."), tensor.detach().cpu())
    return state
