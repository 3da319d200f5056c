"""The memory plan against models that exist, and steps that run out of memory."""

from pathlib import Path

import pytest
import torch
import transformers as hf
from accelerate import Accelerator
from torch.autograd.graph import saved_tensors_hooks
from torch.testing import assert_close

from spark_lib.clock import Clock
from spark_lib.config import Config, ConfigError, Lora, load_config
from spark_lib.loss import Row
from spark_lib.model import memory
from spark_lib.model.lean import lean_lora
from spark_lib.model.load import load_base, load_model
from spark_lib.model.memory import GIB, halves, kept_bytes, plan_of, until_it_fits
from spark_lib.model.packing import LOGIT_NUMBERS, hidden_states, logit_chunk, pack
from spark_lib.model.weights import trainable
from spark_lib.problem import Problem
from spark_lib.rollout import Rollout
from spark_lib.sampling.decode import decode
from spark_lib.sampling.roll import Sampler

CONFIGS = Path(__file__).parents[2] / "configs"
QWEN = {"vocab_size": 151936, "max_position_embeddings": 32768}
# The published shapes of the models that the configs in configs/ are for, and the card that each is for.
SHAPES = {
    "gsm8k_qwen2.5_0.5b": (8, hf.Qwen2Config(
        hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14, num_key_value_heads=2,
        tie_word_embeddings=True, **QWEN)),
    "gsm8k_qwen2.5_1.5b": (12, hf.Qwen2Config(
        hidden_size=1536, intermediate_size=8960, num_hidden_layers=28, num_attention_heads=12, num_key_value_heads=2,
        tie_word_embeddings=True, **QWEN)),
    "qwen2.5_coder_1.5b": (8, hf.Qwen2Config(
        hidden_size=1536, intermediate_size=8960, num_hidden_layers=28, num_attention_heads=12, num_key_value_heads=2,
        tie_word_embeddings=True, **QWEN)),
    "spark_7b": (24, hf.Qwen2Config(
        hidden_size=3584, intermediate_size=18944, num_hidden_layers=28, num_attention_heads=28, num_key_value_heads=4,
        **QWEN | {"vocab_size": 152064})),
    "spark_32b_text": (80, hf.Qwen2Config(
        hidden_size=5120, intermediate_size=27648, num_hidden_layers=64, num_attention_heads=40, num_key_value_heads=8,
        **QWEN | {"vocab_size": 152064})),
}


def seeing(text: str, tower_mlp: int) -> hf.Qwen2_5_VLConfig:
    """Qwen2.5-VL with the decoder of the text model of the same size."""
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    decoder = {name: getattr(SHAPES[text][1], name) for name in (*names, "vocab_size")}
    tower = {"depth": 32, "hidden_size": 1280, "num_heads": 16, "patch_size": 14, "intermediate_size": tower_mlp,
             "out_hidden_size": decoder["hidden_size"]}
    return hf.Qwen2_5_VLConfig(text_config=decoder, vision_config=tower)


SHAPES |= {"spark_vl_7b": (24, seeing("spark_7b", 3420)), "spark_vl_32b": (80, seeing("spark_32b_text", 3456))}
TINY = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 100, "max_position_embeddings": 256,
        "bos_token_id": None, "eos_token_id": 4, "pad_token_id": 0}
TINY_SHAPES = {"qwen2": hf.Qwen2Config(**TINY, tie_word_embeddings=True), "llama": hf.LlamaConfig(**TINY),
               "gemma3": hf.Gemma3TextConfig(**TINY, sliding_window=16)}


def out_of_memory(times: int, after: int = 0):
    """A function that raises on its calls number after + 1 to after + times."""
    calls = iter(range(10**6))

    def check(*args, **kwargs):
        if after <= next(calls) < after + times:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.")

    return check


# --- out of memory --------------------------------------------------------------------------------------------


def test_sampling_that_runs_out_of_memory_gives_the_same_groups(monkeypatch, capsys):
    """Guards the repeated step: half the rows at a time, the same random numbers, and said in the log."""
    monkeypatch.setattr("spark_lib.sampling.roll.mark", lambda groups, rule: None)
    model, tokenizer = load_base("starter")
    problems = [Problem(f"{i} + 2 + 3 = ?", "") for i in range(4)]
    config = Config(max_rows=8, max_new_tokens=12)
    rows: list[int] = []

    def watched(model, prompts, uniforms, *others):
        rows.append(min(len(prompts) * uniforms.shape[1], others[-1]))
        if limit and rows[-1] > limit:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return decode(model, prompts, uniforms, *others)

    monkeypatch.setattr("spark_lib.rollout.decode", watched)
    rolls = {}
    for limit in (0, 2):
        roll = Sampler(model.eval(), tokenizer, config, Accelerator(), None, Clock())
        rolls[limit] = roll(problems, 2, ("test",))
    assert rows == [8, 8, 4, 2]
    for one, other in zip(sum(rolls[0], []), sum(rolls[2], []), strict=True):
        assert (one.problem, one.response_ids, one.text) == (other.problem, other.response_ids, other.text)
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
    err = capsys.readouterr()
    assert "4 responses are decoded at a time" in err.out + err.err and "2 responses" in err.out + err.err
    limit = 1
    with pytest.raises(ConfigError, match="dense_sampling=false"):
        roll(problems, 2, ("test",))


def rollouts() -> list[list[Rollout]]:
    """Two groups with something to learn, of unlike lengths."""
    groups = []
    for p in range(2):
        problem = Problem(f"{p} + 1 = ?", str(p + 1))
        ids = [[10 + p + i] * (3 + i + p) + [4] for i in range(4)]
        groups.append([Rollout(problem, [20, 21 + p], x, "", True, [], float(i % 2)) for i, x in enumerate(ids)])
    return groups


@pytest.mark.parametrize("words, after", [
    ([], 0), ([], 1), (["updates_per_step=2"], 1), (["updates_per_step=2"], 3), (["lora=null"], 1),
], ids=lambda value: " ".join(value) if isinstance(value, list) else f"after {value}")
def test_an_update_that_runs_out_of_memory_is_the_same_update(monkeypatch, capsys, words, after):
    """Guards against gradients of the failed try that stay in the sum, and, in the second update on the same rollouts,
    against a ratio to log-probs of other weights or rows. (Plain gradient descent: Adam's first step makes rounding
    errors as large as gradients.)"""
    import train

    learned, measured = {}, {}
    for times in (0, 2):
        config = load_config([*words, "lr_schedule=constant", "beta=0.1"])
        spark = train.Spark(config, Accelerator())
        spark.optimizer = torch.optim.SGD(trainable(spark.model), lr=1e-2)
        check, real = out_of_memory(times, after), spark.logprobs

        def failing(model, batch, spark=spark, check=check, real=real):
            logprobs = real(model, batch)
            if model is spark.model and torch.is_grad_enabled():
                logprobs.register_hook(check)  # in the backward pass: some gradients are there already
            return logprobs

        monkeypatch.setattr(spark, "logprobs", failing)
        spark.micro_batch_tokens = 32
        measured[times] = spark.update(rollouts(), [], 0)
        learned[times] = [p.detach().clone() for p in trainable(spark.model)]
        assert measured[times]["update/grad_norm"] > 0.01
        assert spark.micro_batch_tokens == 32 >> times
    assert "micro-batches of at most 8 tokens" in "".join(capsys.readouterr())
    for one, other in zip(learned[0], learned[2]):
        assert_close(one, other, atol=1e-7, rtol=1e-6)
    assert measured[0] == pytest.approx(measured[2], rel=1e-4, abs=1e-9)


def test_halves_keep_every_response_and_what_is_known_of_it():
    rows = [Row([1], [[2, 3], [4]], [1.0, 2.0], [0.1, 0.2], 0.0),
            Row([5, 6], [[7], [8], [9]], [1.0] * 3, [0.1] * 3, 0.0)]
    known = torch.tensor([[0.2, 0.3], [0.4, 0.0], [0.7, 0.0], [0.8, 0.0], [0.9, 0.0]])
    batches, found = [(rows, known)], []
    for _ in range(3):
        batches = halves(batches)
    for (row,), values in batches:
        (response,) = row.responses
        assert values.shape == (1, len(response))
        found += [(token, round(value, 1)) for token, value in zip(response, values[0].tolist())]
    assert found == [(token, token / 10) for token in (2, 3, 4, 7, 8, 9)]
    with pytest.raises(ConfigError, match="single response does not fit"):
        halves(batches)


def test_nothing_is_held_while_it_is_tried_again():
    """Guards the retry itself: inside the except clause the error would keep the tensors of the failed try alive."""
    import weakref

    held, tries = [], []

    def attempt():
        tensor = torch.zeros(10)
        tries.append(all(reference() is None for reference in held))
        held.append(weakref.ref(tensor))
        if len(tries) < 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return "done"

    assert until_it_fits(attempt, lambda: "half") == "done"
    assert tries == [True] * 3


# --- the plan -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TINY_SHAPES)
@pytest.mark.parametrize("quantization", ["none", "nf4", "int8"])
def test_weights_as_planned_are_the_weights_that_are_loaded(name, quantization, tmp_path, tokenizer):
    """Against the bytes of a model that was loaded with bitsandbytes: packed weights, scales, and what stays dense."""
    hf.AutoModelForCausalLM.from_config(TINY_SHAPES[name]).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model, _ = load_base(str(tmp_path), quantization=quantization, dtype=torch.bfloat16)
    real = 0
    for p in model.parameters():
        real += p.nbytes
        if quantization == "nf4" and hasattr(p, "quant_state"):
            state = p.quant_state
            real += state.absmax.nbytes + state.state2.absmax.nbytes
        if quantization == "int8" and p.dtype == torch.int8:
            real += p.SCB.nbytes
    planned = plan_of(TINY_SHAPES[name], Config(quantization=quantization)).always
    (weights,) = (size for part, size in planned.items() if part.startswith("frozen weights"))
    assert weights == pytest.approx(real, rel=0.01)


@pytest.mark.parametrize("lora", [Lora(), None], ids=["adapter", "all weights"])
def test_what_learns_as_planned_is_what_learns(lora, tmp_path, tokenizer):
    hf.AutoModelForCausalLM.from_config(TINY_SHAPES["qwen2"]).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model, _ = load_model(Config(model=str(tmp_path), lora=lora))
    optimizer = torch.optim.AdamW(trainable(model))
    for p in trainable(model):
        p.grad = torch.zeros_like(p)
    optimizer.step()
    planned = plan_of(TINY_SHAPES["qwen2"], Config(lora=lora))
    (weights,) = (size for part, size in planned.always.items() if part.startswith("weights that learn"))
    assert weights == planned.learning["gradients"] == sum(p.nbytes for p in trainable(model))
    state = sum(t.nbytes for s in optimizer.state.values() for name, t in s.items() if name != "step")
    assert planned.always["state of adamw"] == state


@pytest.mark.parametrize("name", TINY_SHAPES)
def test_the_cache_as_planned_is_the_cache_that_sampling_fills(name):
    """Sliding windows hold their window only. fp32 here, bf16 in the plan."""
    config = Config(problems_per_step=2, group_size=3, max_rows=6, max_new_tokens=20)
    config.recycle.kinds = []
    model = hf.AutoModelForCausalLM.from_config(TINY_SHAPES[name]).eval()
    cache = hf.DynamicCache(config=model.config)
    total = memory.QUESTION + 20
    with torch.no_grad():
        model(input_ids=torch.zeros(6, total, dtype=torch.long), past_key_values=cache, use_cache=True)
    real = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    (planned,) = (size for part, size in plan_of(TINY_SHAPES[name], config).sampling.items() if "KV" in part)
    assert planned == real / 2


@pytest.mark.parametrize("name", TINY_SHAPES)
@pytest.mark.parametrize("lora", [Lora(r=4), None], ids=["adapter", "all weights"])
def test_activations_as_planned_are_those_that_training_keeps(name, lora, tmp_path, tokenizer):
    """Against the tensors that a real forward pass saves, with PyTorch's own attention kernel. A part missing from the
    plan (a text's copy of its prompt's keys, the repeated keys) is far more than 5 %. All weights are fp32 and learn
    under autocast: their copies in bf16 are kept, and what is between the layers is fp32."""
    hf.AutoModelForCausalLM.from_config(TINY_SHAPES[name]).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model, _ = load_model(Config(model=str(tmp_path), lora=lora))
    lean_lora(model)
    rows = [Row([5] * 20, [[6] * 12, [7] * 9], [1.0] * 2, [1.0] * 2, 0.0)] * 3
    batch = pack(rows)
    base = model.get_base_model() if lora else model
    others = {p.untyped_storage()._cdata for p in model.parameters()}
    kept = {}

    def keep(tensor):
        if tensor.untyped_storage()._cdata not in others:
            kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    dtype = torch.bfloat16 if lora is None else torch.float32
    autocast = torch.autocast("cpu", dtype, enabled=lora is None)
    with autocast, saved_tensors_hooks(keep, lambda tensor: tensor):
        hidden_states(base, batch)
    masks = {mask.untyped_storage()._cdata: mask.untyped_storage().nbytes()
             for pair in batch.masks.values() for mask in pair}
    real = sum(tensor.untyped_storage().nbytes() for name, tensor in kept.items() if name not in masks)
    with torch.device("meta"):
        shadow = hf.AutoModelForCausalLM.from_config(TINY_SHAPES[name])
        shadow = memory.add_adapter(shadow.requires_grad_(False), Config(lora=lora)) if lora else shadow
    lean_lora(shadow)
    activations, of_masks = kept_bytes(shadow, rows, dtype)
    assert activations == pytest.approx(real, rel=0.05)
    assert of_masks == sum(masks.values())


def test_logits_never_pass_what_is_planned():
    """Guards the largest of all buffers: at a 151k vocabulary 2048 tokens' logits would take 5 GiB at the peak."""
    assert logit_chunk(454) == 2048 and logit_chunk(151936) * 151936 <= LOGIT_NUMBERS < 2 * logit_chunk(151936) * 151936


@pytest.mark.slow
def test_every_switch_saves_what_it_is_for():
    """Guards the advice in the docs: each setting lowers its own part and nothing else grows."""
    shape = SHAPES["gsm8k_qwen2.5_1.5b"][1]

    def sizes(**settings) -> tuple[float, float, float]:
        made = plan_of(shape, Config(**settings))
        return tuple(sum(parts.values()) for parts in (made.always, made.sampling, made.learning))

    always, sampling, learning = sizes()
    assert sizes(quantization="nf4")[0] < sizes(quantization="int8")[0] < always
    assert sizes(quantization="nf4", dense_sampling=False)[1] == sampling < sizes(quantization="nf4")[1]
    assert sizes(activation_checkpointing=True)[2] < learning / 5
    assert sizes(micro_batch_tokens=4096)[2] < learning / 2
    assert sizes(max_rows=16)[1] < sampling
    full = sizes(lora=None)
    assert sizes(lora=None, optimizer="adamw_8bit")[0] < full[0] and sizes(lora=None, beta=0.0)[0] < full[0]


def test_all_weights_and_quantised_layers_need_more():
    """Guards lora: null, whose fp32 weights are computed with as copies in bf16: of the head beside a chunk of logits,
    and of every layer until the forward pass ends, even where activations are dropped. And NF4, which is made dense
    layer by layer."""

    def learning(**settings) -> dict[str, float]:
        made = plan_of(TINY_SHAPES["llama"], Config(max_new_tokens=8, micro_batch_tokens=512, **settings)).learning
        return {part.split(",")[0]: size for part, size in made.items()}

    dense, full, dropped = learning(), learning(lora=None), learning(lora=None, activation_checkpointing=True)
    linear = 3 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128)
    assert full["logits"] - dense["logits"] == 2 * 100 * 64
    inputs = 4 * 3 * 64 * (memory.QUESTION + 8 * 8)  # fp32, 3 layers, 8 responses of 8 tokens to a question
    assert dropped["activations"] == pytest.approx(full["activations"] / 3 + inputs + 2 * linear)
    assert learning(quantization="nf4")["one layer"] == 2 * 64 * 128 and "one layer" not in dense


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * ("32b" in name)) for name in SHAPES]
)
def test_shipped_configs_fit_their_cards_as_their_comments_say(name):
    card, shape = SHAPES[name]
    path = CONFIGS / f"{name}.yaml"
    planned = plan_of(shape, load_config([str(path)]))
    assert planned.peak < card * GIB
    assert f"plan: {planned.peak / GIB:.1f} GiB of {card}" in path.read_text()
    assert "fits" in planned.text(card * GIB) and "lacks" in planned.text(card / 4 * GIB)


def test_the_plan_needs_no_weights(tmp_path, capsys, monkeypatch):
    """The real command, on a folder that has a config.json and nothing else."""
    from train import main

    shape = SHAPES["gsm8k_qwen2.5_0.5b"][1]
    shape.save_pretrained(tmp_path)
    monkeypatch.chdir(tmp_path)
    main([str(CONFIGS / "gsm8k_qwen2.5_0.5b.yaml"), f"model={tmp_path}", "plan=true", "card=8GB"])
    out = capsys.readouterr().out
    assert "a card of 8 GB: fits" in out and "KV cache" in out and not (tmp_path / "runs").exists()
    with pytest.raises(ConfigError, match="hf download Qwen/Qwen2.5-0.5B-Instruct"):
        main([str(CONFIGS / "gsm8k_qwen2.5_0.5b.yaml"), "plan=true"])
