"""What a run leaves for other programs, and full fine-tuning that goes on."""

import itertools
import json
from pathlib import Path

import pytest
import torch
import transformers as hf
from peft import PeftModel
from policies import greedy, logits, write_gguf
from safetensors.torch import load_file

from spark_lib.model.checkpoints import load_trained
from spark_lib.model.load import load_base
from spark_lib.model.weights import is_quantised, merged
from spark_lib.rollout import encode_prompt

REPO = Path(__file__).parents[2]
SMALL = ["max_steps=2", "problems_per_step=4", "judge_share=0.4", "eval.limit=0", "run_name=a", "lr=4e-3"]


def run_printed_lines(said: str):
    """(model, tokenizer) by the Python that a run prints at its end, pasted into an empty program. Of a model that sees
    there is no tokenizer, and its processor is not loaded: transformers' reads videos, with torchvision."""
    lines = said.split("load the result with transformers and peft:\n")[1].splitlines()
    lines = [line.strip() for line in itertools.takewhile(lambda line: line.startswith("    "), lines)]
    names: dict = {}
    exec("\n".join(line for line in lines if not line.startswith("processor = ")), names)
    return names["model"], names.get("tokenizer")


def test_the_result_of_a_gguf_base_is_loaded_as_printed(checkpoint, tokenizer, tmp_path, monkeypatch, capsys):
    """Guards the longest of those lines: file name, folder and dequantisation."""
    from train import main

    write_gguf(tmp_path / "tiny.gguf", load_base(str(checkpoint))[0], tokenizer)
    monkeypatch.chdir(tmp_path)
    main([*SMALL, "max_steps=1", "max_new_tokens=8", "recycle.kinds=[]", f"model={tmp_path / 'tiny.gguf'}"])
    out = capsys.readouterr()
    theirs, their_tokenizer = run_printed_lines(out.out + out.err)
    loaded, tokenizer = load_trained("runs/a")
    assert torch.equal(logits(theirs.eval()), logits(loaded))
    assert encode_prompt(their_tokenizer, "1 + 2 = ?") == encode_prompt(tokenizer, "1 + 2 = ?")


@pytest.mark.parametrize("words", [
    ["quantization=nf4", "optimizer=adamw_8bit", "activation_checkpointing=true", "warmup_steps=2"],
    ["quantization=int8", "dense_sampling=false"],
    ["lora=null", "recycle.from_start=true", "lr=1e-4"],
], ids=["nf4", "int8", "all weights"])
def test_a_run_learns_and_other_programs_can_use_the_result(tmp_path, monkeypatch, capsys, words):
    """The real command line: the printed lines of Python load the result, and the merged model says the same."""
    from train import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "spark_lib").symlink_to(REPO / "spark_lib")
    main([*SMALL, "merge=true", *words])
    out = capsys.readouterr()
    rows = [json.loads(line) for line in open("runs/a/metrics.jsonl")]
    assert rows[1]["update/rows"] > 0 and rows[1]["update/kl"] > 0
    theirs, their_tokenizer = run_printed_lines(out.out + out.err)
    loaded, tokenizer = load_trained("runs/a")
    theirs = theirs.float() if "lora=null" in words else theirs
    assert isinstance(theirs, PeftModel) == ("lora=null" not in words)
    assert greedy(theirs.eval(), their_tokenizer) == greedy(loaded, tokenizer)
    plain = hf.AutoModelForCausalLM.from_pretrained("runs/a/merged").eval()
    assert not any(is_quantised(module) for module in plain.modules())
    with merged(loaded):
        assert greedy(plain, tokenizer) == greedy(loaded, tokenizer)
    base, _ = load_base("starter")
    assert not torch.equal(logits(plain), logits(base.eval()))


def test_the_result_of_a_model_that_sees_is_loaded_as_printed(tmp_path, monkeypatch, capsys):
    """Guards the vision tower: loaded without naming it, transformers would quantise it, and the adapter was trained
    on what the dense one sees."""
    from train import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "spark_lib").symlink_to(REPO / "spark_lib")
    main([*SMALL, "max_steps=1", "max_new_tokens=8", "recycle.kinds=[]", "model=starter_vl", "data=shapes",
          "quantization=nf4"])
    out = capsys.readouterr()
    theirs, _ = run_printed_lines(out.out + out.err)
    loaded, _ = load_trained("runs/a", quantization="nf4")
    theirs, loaded = ({name for name, module in m.named_modules() if is_quantised(module)} for m in (theirs, loaded))
    assert theirs == loaded and not any("visual" in name for name in theirs)


def test_full_fine_tuning_goes_on_bit_for_bit(tmp_path, monkeypatch):
    """Guards the checkpoint of all weights, and the reference: after resuming it is still the model before training."""
    from train import main

    monkeypatch.chdir(tmp_path)
    settings = ["lora=null", "lr=1e-4", "lr_schedule=constant", "problems_per_step=4", "eval.limit=0",
                "recycle.kinds=[]"]
    main([*settings, "max_steps=3", "run_name=whole"])
    main([*settings, "max_steps=2", "run_name=cut"])
    main(["resume=runs/cut", "max_steps=3"])
    assert Path("runs/whole/metrics.jsonl").read_bytes() == Path("runs/cut/metrics.jsonl").read_bytes()
    first, second = (load_file(f"runs/{name}/checkpoint-3/model/model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(first[name], second[name]) for name in first)
