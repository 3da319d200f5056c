"""Every class of transformers that a user would try first, from a tiny random config: sampled from and trained as its
own plain forward pass says, or refused at load in one line. docs/models.md has the table that this file proves.
"""

import pytest
import torch
import transformers as hf
from peft import PeftModel
from torch.testing import assert_close

import evaluate
import train
from spark_lib.config import Config, ConfigError, Lora
from spark_lib.loss import Row
from spark_lib.model import fit
from spark_lib.model.checkpoints import save_merged
from spark_lib.model.kinds import refuse_kind
from spark_lib.model.load import add_adapter, load_base, load_model
from spark_lib.model.memory import plan_of
from spark_lib.model.packing import pack, response_logprobs
from spark_lib.model.weights import lora_layers, merged
from spark_lib.sampling.decode import decode

SIZE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 256, "initializer_range": 0.3, "vocab_size": 300,
        "bos_token_id": None, "eos_token_id": 4, "pad_token_id": 0}
OWN = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, "vocab_size": 300, "eos_token_id": 4}  # older names
HEAD, WINDOW = {"head_dim": 8}, {"sliding_window": 8}
MLA = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8,
       "num_key_value_heads": 4}
EXPERTS = {"moe_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2}
ROUTED = {"moe_intermediate_size": 32, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1,
          "first_k_dense_replace": 1}
STATE = {"mamba_d_state": 8, "mamba_n_heads": 8, "mamba_d_head": 8}
LINEAR = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
          "num_hidden_layers": 4}

DENSE = {
    "Llama": {}, "Qwen2": {}, "Qwen3": HEAD, "Mistral": WINDOW, "Ministral": HEAD | WINDOW, "Gemma": HEAD,
    "Gemma2": HEAD | WINDOW | {"final_logit_softcapping": 2.0}, "Gemma3Text": HEAD | WINDOW, "Phi": {}, "Phi3": {},
    "Granite": {"logits_scaling": 4.0}, "Olmo": {}, "Olmo2": {}, "Olmo3": WINDOW, "SmolLM3": {}, "GPT2": OWN,
    "GPTNeoX": {}, "GPTBigCode": OWN, "OPT": {"ffn_dim": 64, "word_embed_proj_dim": 32}, "StableLm": {},
    "Starcoder2": WINDOW, "Cohere": {}, "Cohere2": WINDOW, "Glm": HEAD, "Glm4": HEAD, "Exaone4": WINDOW,
    "Ernie4_5": HEAD, "HunYuanDenseV1": HEAD, "SeedOss": HEAD, "Nemotron": {}, "Helium": HEAD, "Arcee": {},
    "Apertus": {}, "NanoChat": {}, "Persimmon": {},
}
MIXTURES = {
    "Mixtral": {"num_local_experts": 4}, "Qwen2Moe": EXPERTS | {"shared_expert_intermediate_size": 32},
    "Qwen3Moe": EXPERTS | HEAD, "Olmoe": {"num_experts": 4, "num_experts_per_tok": 2},
    "GraniteMoe": {"num_local_experts": 4}, "Phimoe": {"num_local_experts": 4}, "DeepseekV2": ROUTED | MLA | HEAD,
    "DeepseekV3": ROUTED | MLA, "Glm4Moe": ROUTED | HEAD, "GptOss": HEAD | WINDOW | {"num_local_experts": 4},
    "Ernie4_5_Moe": {"moe_intermediate_size": 32, "moe_num_experts": 4, "moe_k": 2, "moe_layer_start_index": 0},
}
SAMPLED_ONLY = {  # evaluate.py takes them, train.py does not
    "Falcon": {"alibi": False}, "Bloom": {"n_layer": 2, "n_head": 4},
    "Mpt": {"d_model": 32, "n_layers": 2, "n_heads": 4},
    "GPTJ": OWN | {"rotary_dim": 4}, "CodeGen": OWN | {"rotary_dim": 4}, "Doge": {},
    "GPTNeo": {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]},
    "Llama4Text": HEAD | {"intermediate_size_mlp": 64, "num_local_experts": 2, "attention_chunk_size": 8},
}
RECURRENT = {
    "Mamba": {"state_size": 8}, "Mamba2": {"state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 1},
    "FalconMamba": {"state_size": 8}, "Rwkv": {}, "xLSTM": {"num_heads": 4},
    "RecurrentGemma": {"num_hidden_layers": 3, "lru_width": 32}, "Qwen3Next": LINEAR | EXPERTS, "Qwen3_5Text": LINEAR,
    "Jamba": {"attn_layer_period": 2, "attn_layer_offset": 1}, "Bamba": STATE | {"attn_layer_indices": [1]},
    "Zamba": {"num_hidden_layers": 4, "attn_layer_period": 2, "attn_layer_offset": 1},
    "Lfm2": {"layer_types": ["conv", "full_attention"]}, "FalconH1": STATE | {"mamba_d_ssm": 64},
    "GraniteMoeHybrid": STATE | {"layer_types": ["mamba", "attention"]},
    "MiniMax": {"layer_types": ["linear_attention", "full_attention"]},
}
PROMPTS = [list(range(10, 15)), list(range(30, 41))]


def config_of(name: str, **extra):
    own = (DENSE | MIXTURES | SAMPLED_ONLY | RECURRENT).get(name, {})
    return getattr(hf, f"{name}Config")(**(own if own.items() >= OWN.items() else SIZE | own), **extra)


def build(name: str, **extra):
    """A tiny model whose every parameter matters: biases, sinks and norms are moved away from 0 and 1."""
    torch.manual_seed(0)
    model = hf.AutoModelForCausalLM.from_config(config_of(name, **extra)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim < 2:
                parameter.add_(torch.randn_like(parameter) * 0.05)
            elif parameter.std() < 0.01:
                parameter.normal_(0, 0.3)
    return model


def adapted(model):
    """With an adapter of our own making that already changes the model."""
    before = model(input_ids=torch.tensor([PROMPTS[0]]), use_cache=False).logits
    model = add_adapter(model.requires_grad_(False), Config(lora=Lora(r=4, alpha=8))).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.3)
        assert (model(input_ids=torch.tensor([PROMPTS[0]]), use_cache=False).logits - before).abs().max() > 0.01
    return model


def plain(model, prompt: list[int], response: list[int]) -> list[float]:
    """Log-probs of the response by the model's own forward pass over the whole text."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + response]), use_cache=False).logits[0].float()
    return logits.log_softmax(-1)[len(prompt) - 1 : -1].gather(1, torch.tensor(response)[:, None])[:, 0].tolist()


def differences(model) -> tuple[float, float]:
    """Largest differences of the sampler's log-probs and of the update's from the plain forward pass: two responses of
    up to 12 tokens to each of two prompts of different length, beyond the windows of those that have one."""
    uniforms = torch.rand(2, 2, 12, generator=torch.Generator().manual_seed(0))
    with merged(model):
        sampled = decode(model, PROMPTS, uniforms, {4}, 1.0)
    expected = [plain(model, PROMPTS[i // 2], ids) for i, (ids, _) in enumerate(sampled)]
    rows = [Row(p, [ids for ids, _ in sampled[2 * i : 2 * i + 2]], [1.0] * 2, [1.0] * 2, 0.0)
            for i, p in enumerate(PROMPTS)]
    batch = pack(rows)
    trained = response_logprobs(model, batch, 1.0)
    trained[batch.valid].sum().backward()
    gradients = [p.grad for p in model.parameters() if p.requires_grad]
    assert any(g is not None and g.norm() > 0 for g in gradients)
    flat = torch.tensor([x for row in expected for x in row])
    return tuple((torch.tensor(found) - flat).abs().max().item()
                 for found in ([x for _, row in sampled for x in row], trained[batch.valid].tolist()))


@pytest.mark.parametrize("lora", [True, False], ids=["adapter", "all weights"])
@pytest.mark.parametrize("name", DENSE | MIXTURES)
def test_sampled_and_trained_as_the_plain_forward_pass_says(name, lora):
    """StableLM and Nemotron drop what they do not know on the way to their layers: until the batch travelled on the
    mask, they were trained on responses that saw one another, and their log-probs were off by 9 and 13. Mixtral and
    its kin ended in "'MixtralExperts' object has no attribute 'weight'"."""
    model = build(name)
    model = adapted(model) if lora else model
    refuse_kind(model.config)
    alone = fit.read_alone(model)
    fit.refuse_misread(model, alone)
    fit.refuse_leaks(model, alone)
    assert max(differences(model)) < 1e-4


@pytest.mark.parametrize("name", SAMPLED_ONLY)
def test_a_model_that_can_only_be_sampled_from_is_refused_for_training(name):
    """Doge was trained in silence on responses that saw one another: it makes a mask of its own out of ours."""
    model = build(name)
    refuse_kind(model.config)
    alone = fit.read_alone(model)
    fit.refuse_misread(model, alone)
    with pytest.raises(ConfigError, match="^model: ") as error:
        fit.refuse_leaks(model, alone)
    assert "\n" not in str(error.value)
    uniforms = torch.rand(2, 2, 12, generator=torch.Generator().manual_seed(0))
    for i, (ids, logprobs) in enumerate(decode(build(name), PROMPTS, uniforms, {4}, 1.0)):
        assert logprobs == pytest.approx(plain(model, PROMPTS[i // 2], ids), abs=1e-4)


@pytest.mark.parametrize("name", RECURRENT)
def test_a_recurrent_model_is_refused_by_its_configuration(name):
    """Before a weight is read; until then it ended in a traceback in the cache."""
    for refuse in (refuse_kind, lambda shape: plan_of(shape, Config())):
        with pytest.raises(ConfigError, match="is recurrent") as error:
            refuse(config_of(name))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["T5", "Whisper"])
def test_an_encoder_decoder_is_refused_by_its_configuration(name):
    with pytest.raises(ConfigError, match="no causal language model"):
        refuse_kind(getattr(hf, f"{name}Config")())


def test_a_model_that_looks_ahead_is_refused():
    """BERT has a class for causal language models, which looks at both sides unless its config says is_decoder."""
    both, decoder = build("Bert"), build("Bert", is_decoder=True)
    with pytest.raises(ConfigError, match="as if it looked ahead"):
        fit.refuse_misread(both, fit.read_alone(both))
    fit.refuse_misread(decoder, fit.read_alone(decoder))
    with pytest.raises(ConfigError, match="see one another"):
        fit.refuse_leaks(decoder, fit.read_alone(decoder))


# --- through the files of a checkpoint ------------------------------------------------------------------------


def write(name: str, tokenizer, folder, **extra):
    ends = {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id}
    torch.manual_seed(0)
    shape = getattr(hf, f"{name}Config")(**SIZE | (DENSE | MIXTURES | SAMPLED_ONLY | RECURRENT)[name] | ends | extra)
    hf.AutoModelForCausalLM.from_config(shape).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("words", [[], ["lora=null"]], ids=["adapter", "all weights"])
@pytest.mark.parametrize("name, message", [("Mamba", "is recurrent"), ("Falcon", "mixes tokens in a way of its own"),
                                           ("Doge", "see one another")])
def test_what_cannot_be_trained_says_so_before_anything_runs(tokenizer, tmp_path, monkeypatch, name, message, words):
    """By both command lines, and before there is a run's folder; evaluate.py takes what can be sampled from, if it need
    not judge."""
    folder = write(name, tokenizer, tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        train.main([f"model={folder}", "eval.limit=0", *words])
    with pytest.raises(ConfigError, match=message):
        evaluate.main([folder, "limit=2"])
    assert not (tmp_path / "runs").exists()
    few = ["limit=2", "parts=[samples]", "samples=2", "max_new_tokens=4"]
    if name == "Mamba":
        with pytest.raises(ConfigError, match=message):
            evaluate.main([folder, *few])
    else:
        evaluate.main([folder, *few])
        assert list(tmp_path.glob("runs/*/results.json"))


@pytest.mark.parametrize("name", ["Mixtral", "Qwen3Moe", "DeepseekV3", "Phimoe"])
def test_of_a_mixture_of_experts_attention_is_adapted_and_the_result_is_peft_s(tokenizer, tmp_path, caplog, name):
    """all-linear leaves out experts, routers and dense MLPs, which peft takes for experts, and says so; the adapter's
    files and the merged model are what plain peft and transformers read."""
    folder = write(name, tokenizer, tmp_path / "base")
    model, _ = load_model(Config(model=folder, lora=Lora(r=4, alpha=8)))
    assert "all-linear adapts the" in caplog.text
    layers = [key for key, module in model.named_modules() if module in lora_layers(model)]
    assert layers and all("self_attn" in key for key in layers)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_B" in key:
                parameter.normal_(0, 0.3)
    text = torch.tensor([PROMPTS[1]])
    expected = model(input_ids=text, use_cache=False).logits
    model.save_pretrained(tmp_path / "adapter")
    theirs = PeftModel.from_pretrained(load_base(folder)[0], tmp_path / "adapter").eval()
    assert_close(theirs(input_ids=text, use_cache=False).logits, expected, atol=1e-5, rtol=1e-5)
    save_merged(model, tokenizer, tmp_path / "merged")
    dense = hf.AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    assert_close(dense(input_ids=text, use_cache=False).logits, expected, atol=1e-4, rtol=1e-4)


def test_naming_experts_is_an_error(tokenizer, tmp_path):
    folder = write("Qwen3Moe", tokenizer, tmp_path)
    with pytest.raises(ConfigError, match="lora.target_modules: .* names experts"):
        load_model(Config(model=folder, lora=Lora(target_modules=".*(up_proj|gate_proj|down_proj)")))


@pytest.mark.parametrize("settings", [{}, {"lora": None}, {"quantization": "nf4"}], ids=["adapter", "all", "nf4"])
@pytest.mark.parametrize("name", ["Mixtral", "DeepseekV3", "GptOss"])
def test_the_plan_follows_experts(name, settings):
    """They are products that the meta device knows in bf16 only. Twice the experts' width, and the plan grows by what
    their weights take: 2 bytes each frozen (never quantised), else 14 with AdamW's state and the KL term's copy."""
    wide = {"moe_intermediate_size": 512} if name == "DeepseekV3" else {"intermediate_size": 512}
    twice = {key: 2 * value for key, value in wide.items()}
    shapes = [config_of(name), config_of(name)]
    for shape, sizes in zip(shapes, (wide, twice)):
        shape.update(sizes)
    counts = [sum(p.numel() for key, p in hf.AutoModelForCausalLM.from_config(s).named_parameters()) for s in shapes]
    small, large = (plan_of(shape, Config(**settings)) for shape in shapes)
    grown = sum(large.always.values()) - sum(small.always.values())
    each = 2 if "lora" not in settings else 4 + 8 + 2
    assert grown == pytest.approx(each * (counts[1] - counts[0]), rel=0.35 if name == "DeepseekV3" else 0.02)
    assert large.peak > small.peak
