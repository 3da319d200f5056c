"""Checkpoints that are written whole or not at all, and the merged model for other programs."""

import copy
import json
import os
import pickle
import re
import shutil
import struct
import zipfile
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError
from safetensors.torch import load_file

from spark_lib.config import Config, ConfigError
from spark_lib.model.finite import refuse, state_tensors
from spark_lib.model.load import STARTER, STARTER_VL, load_base, peft_warnings, shape_of
from spark_lib.model.vision import MOST_PIXELS, dense_parts, reads_videos, sees_images
from spark_lib.model.weights import dense_weight, is_quantised

ADAPTER = Path("adapter") / "adapter_model.safetensors"
MOMENTS = {"exp_avg", "exp_avg_sq", "state1", "state2"}  # as torch and bitsandbytes call them
# What reading a damaged file ends in; torch's unpickler, following bytes that mean nothing, in almost anything.
UNREADABLE = (OSError, ValueError, LookupError, TypeError, RuntimeError, EOFError, AttributeError, AssertionError,
              ArithmeticError, struct.error, pickle.UnpicklingError, zipfile.BadZipFile, SafetensorError)


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    aside = path.with_name(path.name + ".partial")
    with open(aside, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def read_json(path: Path):
    """The content of a .json file of ours. Raises ConfigError."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: it is missing or damaged ({first_line(error)})") from error


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def flush(path: Path) -> None:
    """Have a file's content, or a folder's names, on the disk: a power cut then does not take it back."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def save_checkpoint(run: Path, step: int, spark, state: dict) -> Path:
    """Write runs/<name>/checkpoint-<step>: adapter/ in PEFT's own format (or model/), optimiser, state.json.

    Everything goes to a folder aside, is flushed to the disk and then renamed, so that a checkpoint that bears
    its name is complete whatever happens. Every random number derives from (seed, step, phase), so the step is
    all the state that randomness and the data's position have. Older checkpoints go, except the one before.
    Raises NotFinite, or ConfigError where the disk takes no more; the checkpoints that there are stay as they are.
    """
    refuse([(name, p) for name, p in spark.model.named_parameters() if p.requires_grad],
           f"checkpoint-{step} is not written, as the weights have diverged")
    refuse(state_tensors(spark.optimizer), f"checkpoint-{step} is not written, as the optimiser has diverged")
    final, aside = run / f"checkpoint-{step}", run / f"checkpoint-{step}.partial"
    for left in run.glob("checkpoint-*.partial"):
        shutil.rmtree(left)
    try:
        folder = aside / ("adapter" if isinstance(spark.model, PeftModel) else "model")
        folder.mkdir(parents=True)
        spark.model.save_pretrained(folder)
        sort_modules(folder / "adapter_config.json")
        spark.tokenizer.save_pretrained(folder)
        torch.save(spark.optimizer.state_dict(), aside / "optimizer.pt")
        (aside / "state.json").write_text(json.dumps(state | {"step": step}, indent=1))
        for path in [*aside.rglob("*"), aside]:
            flush(path)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors have no OSError for a full disk
        free = shutil.disk_usage(run).free
        shutil.rmtree(aside, ignore_errors=True)  # the space may be needed for the last lines of the metrics
        raise ConfigError(f"{final}: it cannot be written ({first_line(error)}; {free / 1e6:,.0f} MB of the disk are "
                          "free); make space") from error
    if final.exists():
        shutil.rmtree(final)
    aside.rename(final)
    flush(run)
    drop_old(run)
    return final


def drop_old(run: Path) -> None:
    """Delete all but the last checkpoint, which must be a good one, and the one before."""
    for old in checkpoints(run)[:-2]:
        shutil.rmtree(old)


def sort_modules(config: Path) -> None:
    """peft writes the names of the adapted layers as a set has them, in another order each time."""
    if config.exists():
        content = json.loads(config.read_text(encoding="utf-8"))
        if isinstance(content["target_modules"], list):
            content["target_modules"].sort()
            config.write_text(json.dumps(content, indent=2, sort_keys=True), encoding="utf-8")


def checkpoints(run: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    found = [path for path in run.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted(found, key=lambda path: int(path.name.split("-")[1]))


def last_checkpoint(run: Path) -> Path | None:
    found = checkpoints(run)
    return found[-1] if found else None


def warm_base(run: str | Path | None) -> str | None:
    """The base model of a run that began with a warm-up (starters/warmup.py), else None."""
    folder = Path(run or "") / "warm"
    return str(folder) if run and folder.is_dir() else None


def load_checkpoint(checkpoint: Path, model, optimizer) -> dict:
    """Put adapter (or all weights) and optimiser back and return the state that was saved with them.

    Raises ConfigError if a file is missing, damaged or of another checkpoint, NotFinite if a tensor is not finite."""
    state = state_of(checkpoint)
    if isinstance(model, PeftModel):
        set_peft_model_state_dict(model, read_adapter(checkpoint, model))
    else:
        model.load_state_dict(read_model(checkpoint, model))
    try:
        with zipfile.ZipFile(checkpoint / "optimizer.pt") as parts:
            if damaged := parts.testzip():  # by its checksum, at which torch does not look
                raise ValueError(f"{damaged} in it is not what was written")
        saved = torch.load(checkpoint / "optimizer.pt", weights_only=True)
        optimizer.load_state_dict(saved)
    except UNREADABLE as error:
        raise ConfigError(f"{checkpoint / 'optimizer.pt'}: it is missing, damaged or of another run "
                          f"({first_line(error)})") from error
    refuse(state_tensors(optimizer), str(checkpoint / "optimizer.pt"))
    for parameter, moments in optimizer.state.items():
        if any(moments[key].shape != parameter.shape for key in MOMENTS & moments.keys()):
            raise ConfigError(f"{checkpoint / 'optimizer.pt'}: it is of another run, whose tensors have other shapes")
    return state


def state_of(checkpoint: Path) -> dict:
    """A checkpoint's state.json. Raises ConfigError."""
    state = read_json(checkpoint / "state.json")
    wanted = {"step": int, "sampled_tokens": int, "seconds": dict, "model": str, "quantization": str}
    if not isinstance(state, dict) or any(not isinstance(state.get(key), kind) for key, kind in wanted.items()):
        raise ConfigError(f"{checkpoint / 'state.json'}: it is damaged; expected are {', '.join(wanted)}")
    if checkpoint.name != f"checkpoint-{state['step']}":
        raise ConfigError(f"{checkpoint / 'state.json'}: it is of another checkpoint, that of step {state['step']}")
    return state


def read_adapter(checkpoint: Path, model: PeftModel) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint's adapter, which must be the model's by name and shape, and finite. Raises
    ConfigError."""
    file = checkpoint / ADAPTER
    try:
        tensors = load_file(file)
    except UNREADABLE as error:
        raise ConfigError(f"{file}: it is missing or damaged ({first_line(error)})") from error
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    wanted = {name: tensor.shape for name, tensor in get_peft_model_state_dict(model).items()}
    if shapes != wanted:
        name = sorted(shapes.items() ^ wanted.items())[0][0]
        have, expected = (tuple(of[name]) if name in of else "missing" for of in (shapes, wanted))
        raise ConfigError(f"{file}: it is the adapter of another model or of other layers: in it {name} is {have}, and "
                          f"in this run's {expected}")
    refuse(tensors.items(), str(file))
    return tensors


def read_model(checkpoint: Path, model) -> dict[str, torch.Tensor]:
    """The weights of a checkpoint of a run without adapter, finite. Raises ConfigError."""
    folder, options = checkpoint / "model", {"dtype": model.dtype, "local_files_only": True, "use_safetensors": True}
    try:
        saved, report = type(model).from_pretrained(folder, output_loading_info=True, **options)
        wrong = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
        if wrong:
            raise ValueError(f"{wrong[0]} is missing or has another shape")
    except UNREADABLE as error:
        raise ConfigError(f"{folder}: it is missing, damaged or of another model ({first_line(error)})") from error
    refuse(saved.named_parameters(), str(folder))
    return saved.state_dict()


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
        try:
            return load_base(str(checkpoint / "model"), device, max_pixels=max_pixels)
        except SafetensorError as error:
            raise ConfigError(f"{checkpoint / 'model'}: it is damaged ({first_line(error)})") from error
    state = state_of(checkpoint)
    base = warm_base(folder) or state["model"]
    try:
        model, tokenizer = load_base(base, device, state["quantization"], max_pixels=max_pixels)
    except ConfigError as error:  # gone, moved, or misspelt by a damaged file
        raise ConfigError(f"{checkpoint}: the base that its adapter was trained on is not there. {error}") from error
    try:
        with peft_warnings():
            model = PeftModel.from_pretrained(model, checkpoint / "adapter").eval()
    except UNREADABLE as error:
        raise ConfigError(f"{checkpoint / 'adapter'}: it is missing, damaged or of another model "
                          f"({first_line(error)})") from error
    read_adapter(checkpoint, model)
    return model, tokenizer


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
    refuse(dense.named_parameters(), f"{folder} is not written")
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


def how_to_use(folder: Path, config: Config) -> str:
    """Where the report is, and the Python that loads the result without this kit."""
    newest = last_checkpoint(folder)
    built_in = {"starter": STARTER, "starter_vl": STARTER_VL}.get(config.model)
    source = warm_base(folder) or (os.path.relpath(built_in) if built_in else config.model)
    shape = shape_of(config.model)
    sees = sees_images(shape)
    dense = f", llm_int8_skip_modules={dense_parts()}" if sees else ""
    options = {"none": "", "int8": f", quantization_config=BitsAndBytesConfig(load_in_8bit=True{dense})",
               "nf4": ", quantization_config=BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type='nf4', "
                      f"bnb_4bit_use_double_quant=True{dense})"}[config.quantization]
    if source.endswith(".gguf"):
        options = f", gguf_file='{Path(source).name}', quantization_config=GgufConfig(dequantize=True)"
        source = str(Path(source).parent)
    auto, reader = "AutoModelForCausalLM", "AutoTokenizer"
    if sees:
        auto, reader = "AutoModelForImageTextToText", "AutoProcessor"
    classes = [auto, reader] + [name for name in ("BitsAndBytesConfig", "GgufConfig") if name in options]
    result = newest / ("adapter" if config.lora else "model")
    needs = ["# pip install torchvision: this processor reads videos too"] if sees and reads_videos(shape) else []
    lines = [*needs, f"from transformers import {', '.join(classes if config.lora else classes[:2])}",
             f"{reader.removeprefix('Auto').lower()} = {reader}.from_pretrained('{result}')"]
    if config.lora:
        lines += ["from peft import PeftModel",
                  f"model = {auto}.from_pretrained('{source}'{options})",
                  f"model = PeftModel.from_pretrained(model, '{result}')"]
    else:
        lines += [f"model = {auto}.from_pretrained('{result}')"]
    head = (f"report: {folder}/report.html, to be opened in a browser; {folder}/report.md, {folder}/report.png\n"
            "load the result with transformers and peft:")
    return "\n    ".join([head, *lines])
