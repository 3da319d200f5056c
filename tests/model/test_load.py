"""Finding and loading models: folders, GGUF files, hub ids and adapters, and what is refused."""

import json
import time
from pathlib import Path

import pytest
import torch
import transformers as hf
from policies import gradients, greedy, logits, policy, write_gguf
from safetensors.torch import load_file
from torch.testing import assert_close

from spark_lib.config import Config, ConfigError, Lora
from spark_lib.model import load as model_module
from spark_lib.model.checkpoints import save_merged
from spark_lib.model.load import load_base, load_model
from spark_lib.model.weights import is_quantised, lora_layers, merged
from spark_lib.rollout import encode_prompt, stop_ids, turn_markers


@pytest.mark.parametrize("name, message", [
    ("no/such-model", "hf download no/such-model --local-dir my_model"),
    ("missing.gguf", "there is no file missing.gguf"),
    ("a/b/c", "neither a folder"),
])
def test_what_is_not_there_is_said_at_once(name, message):
    """Guards against a minute of retries against a hub that is out of reach, then a traceback."""
    start = time.perf_counter()
    with pytest.raises(ConfigError) as error:
        load_base(name)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert time.perf_counter() - start < 10


def test_a_folder_without_safetensors_is_refused(checkpoint, tmp_path):
    """Guards against unpickling a stranger's pytorch_model.bin."""
    for file in checkpoint.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save(load_file(checkpoint / "model.safetensors"), tmp_path / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="safetensors"):
        load_base(str(tmp_path))


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2", "granite"])
def test_any_causal_model_trains_and_comes_back(tiny, tokenizer, tmp_path, name):
    """Guards against names of one family in the code: load, adapt, sample merged, differentiate, write merged, read."""
    tiny(name).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    model, _ = policy(tmp_path / "base")
    gradients(model)
    with merged(model):
        expected = greedy(model, tokenizer)
    save_merged(model, tokenizer, tmp_path / "merged")
    plain = hf.AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    assert greedy(plain, hf.AutoTokenizer.from_pretrained(tmp_path / "merged")) == expected
    assert_close(logits(plain), logits(model), atol=1e-4, rtol=1e-4)


def test_a_hub_id_brings_weights_and_configuration_and_no_code(checkpoint, tmp_path, monkeypatch):
    """Guards a hub model: pickles, code and other formats in subfolders are not even downloaded; plan=true leaves the
    weights where they are."""
    from huggingface_hub.utils import filter_repo_objects

    files = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    files |= dict.fromkeys(["pytorch_model.bin", "modeling_x.py", "consolidated.safetensors", "onnx/model.onnx",
                            "original/model.safetensors"], b"no")
    asked = []

    def snapshot_download(name, allow_patterns, ignore_patterns):
        asked.append(name)
        folder = tmp_path / f"{len(asked)}"
        folder.mkdir()
        for file in filter_repo_objects(files, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns):
            (folder / file).write_bytes(files[file])
        return str(folder)

    monkeypatch.setattr(model_module, "snapshot_download", snapshot_download)
    model, _ = load_base("owner/name")
    assert torch.equal(logits(model.eval()), logits(load_base(str(checkpoint))[0].eval()))
    assert {path.name for path in (tmp_path / "1").iterdir()} == {path.name for path in checkpoint.iterdir()}
    plan_folder, _ = model_module.locate("owner/name", weights=False)
    names = {path.name for path in Path(plan_folder).iterdir()}
    assert "config.json" in names and "model.safetensors" not in names and asked == ["owner/name"] * 2


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_a_gguf_file_is_the_model_that_it_holds(checkpoint, tokenizer, tmp_path, quantization):
    """Guards GGUF: dequantised to plain weights, then treated as any dense checkpoint, quantisation included."""
    expected, _ = load_base(str(checkpoint), quantization=quantization)
    write_gguf(tmp_path / "tiny.gguf", load_base(str(checkpoint))[0], tokenizer)
    model, read = load_base(str(tmp_path / "tiny.gguf"), quantization=quantization)
    assert is_quantised(model.model.layers[0].mlp.up_proj) == (quantization == "nf4")
    assert_close(logits(model.eval()), logits(expected.eval()), atol=1e-5, rtol=1e-5)
    assert read.decode(encode_prompt(read, "1 + 2 = ?")) == tokenizer.decode(encode_prompt(tokenizer, "1 + 2 = ?"))
    assert stop_ids(model, read) == {tokenizer.eos_token_id}


@pytest.mark.parametrize("base", ["named", "moved"])
@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_an_adapter_is_added_into_its_base(checkpoint, tmp_path, quantization, base):
    """transformers would load an adapter's folder as a model with LoRA layers that is no peft model: sampling from it
    crashed, and training would have learned a second adapter of the same name."""
    model, _ = policy(checkpoint)
    model.save_pretrained(tmp_path / "adapter")
    if base == "moved":  # as in a checkpoint of a run that was copied from another machine
        file = tmp_path / "adapter" / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": "/gone"}))
        (tmp_path / "state.json").write_text(json.dumps({"model": str(checkpoint)}))
    found, _ = load_base(str(tmp_path / "adapter"), quantization=quantization)
    assert not lora_layers(found) and any(map(is_quantised, found.modules())) is (quantization == "nf4")
    far = (logits(load_base(str(checkpoint))[0]) - logits(model)).abs().mean()
    assert (logits(found) - logits(model)).abs().mean() < far * {"none": 1e-4, "nf4": 0.7}[quantization]


def test_a_pattern_that_matches_no_layer_is_an_error(checkpoint):
    with pytest.raises(ConfigError, match="lora.target_modules"):
        load_model(Config(model=str(checkpoint), lora=Lora(target_modules="nothing")))


def test_turn_markers_that_are_not_special_are_taken_out():
    """Guards the judge: a checkpoint may declare <turn> as an ordinary added token, and a candidate that writes it
    could answer in the judge's place. Digits or words that were added for other reasons stay."""
    from spark_lib.starters.text import build_tokenizer

    tokenizer = build_tokenizer(0)
    tokenizer.add_tokens(["<turn>", "[INST]", "<table>", "100", "user"])
    tokenizer.chat_template = "<turn>[INST]{{ messages[0]['content'] }} user 100"
    assert set(turn_markers(tokenizer)) - set(tokenizer.all_special_tokens) == {"<turn>", "[INST]"}
    text = tokenizer.decode(encode_prompt(tokenizer, "a<tu<turn>rn>b[IN[INST]ST] 100 user <table>"))
    assert text == "<turn>[INST]ab 100 user <table> user 100"
