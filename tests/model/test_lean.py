"""Cheaper ways of computing the same: against peft's own forward and backward pass."""

import subprocess
import sys

import pytest
import torch
import transformers as hf
from accelerate import Accelerator
from conftest import add_lora
from torch.testing import assert_close

from spark_lib.config import Config
from spark_lib.model.lean import LeanLora, lean_lora
from spark_lib.model.load import load_base
from spark_lib.model.weights import is_quantised, lora_layers
from train import Spark

IDS = torch.tensor([[10, 11, 12, 13], [20, 21, 22, 23]])


def logits_and_gradients(model) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    logits = model(input_ids=IDS).logits
    logits.float().log_softmax(-1)[..., 30].sum().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}
    model.zero_grad()
    return logits.detach(), gradients


@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2"])
def test_lean_lora_is_peft_lora(tiny, name):
    """Guards the scale alpha / r, and gpt2, whose weights lie the other way round."""
    model = add_lora(tiny(name)).double()
    expected, gradients = logits_and_gradients(model)
    lean_lora(model)
    found, lean_gradients = logits_and_gradients(model)
    assert_close(found, expected, atol=1e-10, rtol=1e-10)
    assert lean_gradients.keys() == gradients.keys()
    for key, gradient in gradients.items():
        assert gradient.norm() > 0
        assert_close(lean_gradients[key], gradient, atol=1e-9, rtol=1e-9)
    with model.disable_adapter():
        assert not torch.equal(model(input_ids=IDS).logits, expected)


def test_the_adapter_stays_in_fp32_under_a_bf16_base(tiny):
    """Guards small steps: the product runs in bf16, but weights and gradients that Adam sees must not be rounded."""
    model = add_lora(tiny("llama").bfloat16())
    expected, gradients = logits_and_gradients(model)
    lean_lora(model)
    found, lean_gradients = logits_and_gradients(model)
    assert found.dtype == torch.bfloat16
    assert (found - expected).float().norm() < 0.03 * expected.float().norm()
    for key, gradient in lean_gradients.items():
        assert gradient.dtype == torch.float32
        assert (gradient - gradients[key]).norm() < 0.1 * gradients[key].norm()


@pytest.mark.parametrize("dtype, off", [(torch.float32, 1e-4), (torch.bfloat16, 0.1)], ids=["fp32", "bf16"])
@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_on_a_quantised_base_it_is_the_same(tiny, tokenizer, tmp_path, quantization, dtype, off):
    """QLoRA: peft has forward passes of their own for bitsandbytes' layers."""
    tiny("qwen2").save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = add_lora(load_base(str(tmp_path), quantization=quantization, dtype=dtype)[0].requires_grad_(False))
    expected, gradients = logits_and_gradients(model)
    lean_lora(model)
    assert all(is_quantised(layer.get_base_layer()) and layer.lora_variant for layer in lora_layers(model))
    found, lean_gradients = logits_and_gradients(model)
    assert found.dtype == dtype and (found - expected).float().norm() <= off * expected.float().norm()
    assert lean_gradients.keys() == gradients.keys()
    for key, gradient in gradients.items():
        assert gradient.norm() > 0 and lean_gradients[key].dtype == torch.float32
        assert (lean_gradients[key] - gradient).norm() <= off * gradient.norm()


def test_without_an_adapter_nothing_changes(tiny):
    model = tiny("llama")
    expected = model(input_ids=IDS).logits
    lean_lora(model)
    assert torch.equal(model(input_ids=IDS).logits, expected)


def test_training_uses_it():
    """Guards the call in train.py: without it nothing changes but the time that a step takes."""
    spark = Spark(Config(), Accelerator(cpu=True))
    assert all(isinstance(layer.lora_variant["default"], LeanLora) for layer in lora_layers(spark.model))


def test_dropout_of_the_adapter_still_works(tiny):
    """Guards lora.dropout: the lean forward must not forget it."""
    model = add_lora(tiny("llama"))
    lean_lora(model)
    layer = model.base_model.model.model.layers[0].self_attn.q_proj
    layer.lora_dropout["default"] = torch.nn.Dropout(0.5).train()
    assert not torch.equal(model(input_ids=IDS).logits, model(input_ids=IDS).logits)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_freed_memory_is_kept():
    """Guards the numbers of mallopt's options: tensors made again and again must not fault their pages in anew."""
    code = """
import random, resource, sys, torch
if sys.argv[1] == "keep":
    from spark_lib.model.lean import keep_freed_memory
    keep_freed_memory()
draw = random.Random(0)
for number in range(20):
    if number == 10:  # the heap has grown to what is needed
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensors = [tensor + 1 for tensor in [torch.ones(draw.randrange(1_000, 6_000_000)) for _ in range(10)]]
    draw.shuffle(tensors)
    while tensors:
        tensors.pop()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    faults = [int(subprocess.run([sys.executable, "-c", code, word], capture_output=True, text=True, check=True).stdout)
              for word in ("keep", "default")]
    assert faults[0] < 0.01 * faults[1]


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_the_largest_freed_tensors_are_not_kept():
    """Dense copies of a 7B's quantised layers left 8 GiB behind: small tensors settle between them, and the next ones
    do not fit the holes."""
    code = """
import torch
from spark_lib.model.lean import keep_freed_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

keep_freed_memory()
before, small = resident(), []
for megabytes in (40, 80, 60, 120, 50, 200):
    torch.ones(megabytes * 250_000)
    small.append(torch.ones(250_000))
print(resident() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 40e6


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_no_memory_is_kept_of_loading(tokenizer, tmp_path):
    """Freed memory was kept from a run's start: of loading Qwen2.5-7B in NF4 more than 10 GiB stayed behind for weights
    of 7. Here it is kept already, as it is when a second model is loaded."""
    shape = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 16, "num_attention_heads": 4,
             "num_key_value_heads": 2, "vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id}
    hf.Qwen2ForCausalLM(hf.Qwen2Config(**shape, bos_token_id=None)).bfloat16().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    code = """
import ctypes, sys
from spark_lib.model.lean import keep_freed_memory
from spark_lib.model.load import load_base
names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
class Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in names]
mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Mallinfo
first = load_base(sys.argv[1], quantization="nf4")  # imports what it needs
keep_freed_memory()
before = mallinfo().fordblks
model, _ = load_base(sys.argv[1], quantization="nf4")
print(mallinfo().fordblks - before, sum(p.nbytes for p in model.parameters()))
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    kept, weights = map(int, done.stdout.split())
    assert kept < 0.3 * weights
