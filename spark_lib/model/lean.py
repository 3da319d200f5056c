"""Settings that make training cheaper and change nothing else."""

import ctypes
import platform

import torch
from peft.tuners.lora.layer import LoraLayer, LoraVariant
from torch.nn import functional as F

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's names for mallopt(3), and what it begins with
KEPT = 32 * 2**20  # bytes; the most that glibc takes for a threshold
DEFAULTS = {M_TRIM_THRESHOLD: 128 * 1024, M_MMAP_THRESHOLD: 128 * 1024}


def keep_freed_memory() -> None:
    """Tell glibc to keep the memory that tensors leave behind, for the next ones; on other systems nothing is done.
    To be called once a model is loaded.

    By default every large tensor on the CPU is mapped from the system and given back at once, and the system clears
    page by page what it hands out: on small models that takes more time than the arithmetic. Tensors above KEPT
    are given back all the same: clearing their pages is little beside what is computed with them, while those of many
    sizes, as the dense copies of quantised layers are, leave holes that do not fit the next ones.
    """
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, KEPT)
        mallopt(M_TRIM_THRESHOLD, -1)


def give_back_freed_memory() -> None:
    """The opposite, for while a model is loaded, and at once. Each quantised weight comes of far larger tensors: in the
    holes that these leave behind the next weights settle, and the next large tensors find no hole that is large enough.
    What was kept so came to more than the model itself.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for option, value in DEFAULTS.items():
            libc.mallopt(option, value)
        libc.malloc_trim(ctypes.c_size_t(0))


class LeanLora(LoraVariant):
    """x W' + s (x A') B' with the scale and the sum inside the last product.

    peft's own forward makes two more passes over tensors of the layer's full width, one more in the backward pass,
    and with a bf16 base it keeps an fp32 copy of every input; here A and B are cast instead, which are small.
    """

    @staticmethod
    def forward(module: LoraLayer, active_adapter: str, x: torch.Tensor, result: torch.Tensor, **kwargs):
        a, b = (part[active_adapter].weight.to(result.dtype) for part in (module.lora_A, module.lora_B))
        low = F.linear(module.lora_dropout[active_adapter](x), a).flatten(0, -2)  # (tokens, r)
        return torch.addmm(result.flatten(0, -2), low, b.T, alpha=module.scaling[active_adapter]).view_as(result)


def lean_lora(model) -> None:
    """From now on the linear layers' adapters are computed by LeanLora. Parameters and checkpoints stay peft's."""
    for layer in model.modules():
        if isinstance(layer, LoraLayer) and "default" in layer.lora_A and layer.lora_A["default"].weight.ndim == 2:
            layer.lora_variant["default"] = LeanLora()
            layer.cast_input_dtype_enabled = False
