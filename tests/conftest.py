"""Fixtures: a real tokenizer, tiny random models of several classes, a mock model with known logits, rollouts by hand.

Nothing here needs a network or a checkpoint.
"""

import contextlib
import importlib.util
import io
import math
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import transformers as hf
from peft import LoraConfig, get_peft_model
from stops import SMALL

import train
from spark_lib.evaluation.benchmarks import load_benchmark
from spark_lib.loss import Row
from spark_lib.problem import Problem
from spark_lib.rollout import Rollout
from spark_lib.starters.text import build_tokenizer

torch.set_num_threads(1)  # tiny matrices: a second thread only costs
BENCHMARK_FIXTURES = Path(__file__).parent / "fixtures" / "benchmarks"
QUESTIONS = ("Why?", "What is 11 + 22 + 33 = ?", "a", "Solve the problem step by step. Write the final answer.")
PROBLEMS = [Problem(question, "66") for question in QUESTIONS]  # together, the short ones are padded
CHROMIUM = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]
PAD, EOS = 0, 4  # of the tiny models; also found in the middle of responses below
ROWS = [
    Row([10, 11, 12], [[20, 21, EOS], [22, EOS], [23, 24, 25, 26, 27, EOS]], [1.0, -2.0, 0.5], [0.1, 0.2, 0.3], 0.05),
    Row([13], [[EOS], [PAD, EOS, 28, PAD, 29]], [-1.0, 1.5], [0.4, 0.1], 0.05),
    Row([14, PAD, 15, EOS, 16, 17, 18], [[30, 30, 30], [31, 32, 33, 34, EOS], [35]], [0.7, -0.7, 2.0], [0.2] * 3, 0.05),
]


@pytest.fixture
def own_cache(monkeypatch, tmp_path_factory):
    """Leaves the user's cache of data sets alone."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.getbasetemp() / "datasets")


@pytest.fixture
def no_figures(monkeypatch):
    """They take half of the time of a small run, and few tests are about them."""
    monkeypatch.setattr("spark_lib.report.figure", lambda *_: None)


@pytest.fixture(scope="session")
def whole(tmp_path_factory) -> Path:
    """The folder of a run by stops.SMALL that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setattr("spark_lib.report.figure", lambda *_: None)
        train.main(SMALL)
    return folder / "runs" / "a"


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """An empty folder that the test is in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def needs(*modules: str, listed: str) -> None:
    """Skip the test where these are not installed; where CI is set they have to be, or nobody would run it. listed: the
    file that names them."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        leave_out(f"needs {', '.join(missing)}: pip install -r {listed}")


def leave_out(told: str) -> None:
    pytest.fail(told) if os.environ.get("CI") else pytest.skip(told)


def run_here(main: Callable[[list[str]], None], folder: Path, *words: str) -> str:
    """The command line `words` of train.main or evaluate.main in `folder`, in this process: no library is imported
    anew. Returns what it prints."""
    printed = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed):
        main(list(words))
    return printed.getvalue()


def two_processes(script: str, folder: Path, *words: str) -> subprocess.CompletedProcess:
    """`python <script>.py words` in two processes on the CPU, where `accelerate launch --cpu` starts one only."""
    main = folder / f"two_{script}.py"
    main.write_text(
        f"import sys\nsys.path.insert(0, {str(Path(__file__).parents[1])!r})\nimport {script}\n"
        f"from accelerate import PartialState\n{script}.main(sys.argv[1:])\n"
        "assert PartialState().num_processes == 2\n"
    )
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "true"}
    return subprocess.run(
        [*launcher, str(main), *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


def fixture_benchmark(name: str, **fields) -> list[Problem]:
    """The problems of the small file in the benchmark's real schema."""
    return load_benchmark(name, str(BENCHMARK_FIXTURES), **fields)


@pytest.fixture(scope="session")
def tokenizer():
    """Byte-level BPE with a chat template; special tokens <|pad|> <|system|> <|user|> <|assistant|> <|end|>."""
    return build_tokenizer(0)


@pytest.fixture(scope="session")
def tiny(tokenizer):
    """tiny("llama") -> a fresh random model: 2 layers of width 32, weights large enough that every token matters.

    mistral and gemma3 look back 8 tokens only; gemma2 caps its logits and granite divides them.
    """
    ends = {"vocab_size": len(tokenizer), "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id,
            "initializer_range": 0.3}
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "max_position_embeddings": 256, "pad_token_id": tokenizer.pad_token_id}
    configs = {
        "llama": hf.LlamaConfig(**ends, **size),
        "qwen2": hf.Qwen2Config(**ends, **size, tie_word_embeddings=True),
        "gpt2": hf.GPT2Config(**ends, n_embd=32, n_layer=2, n_head=4, n_positions=256),  # dropout 0.1 in train mode
        "mistral": hf.MistralConfig(**ends, **size, sliding_window=8),
        "gemma3": hf.Gemma3TextConfig(**ends, **size, head_dim=8, sliding_window=8),
        "gemma2": hf.Gemma2Config(**ends, **size, head_dim=8, sliding_window=256, final_logit_softcapping=2.0),
        "granite": hf.GraniteConfig(**ends, **size, logits_scaling=4.0),
    }

    def build(name: str, seed: int = 0):
        torch.manual_seed(seed)
        return hf.AutoModelForCausalLM.from_config(configs[name]).eval()

    return build


@pytest.fixture(scope="session")
def checkpoint(tokenizer, tmp_path_factory) -> Path:
    """The folder of a tiny Qwen2 with random weights, wide enough for blocks of 64."""
    folder = tmp_path_factory.mktemp("checkpoint")
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
             "num_key_value_heads": 2, "max_position_embeddings": 512, "initializer_range": 0.1}
    torch.manual_seed(0)
    ends = {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    hf.Qwen2ForCausalLM(hf.Qwen2Config(**shape, **ends, tie_word_embeddings=True)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def add_lora(model, seed: int = 0):
    """The model with a LoRA adapter that already changes it: peft would start with B = 0."""
    torch.manual_seed(seed)
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules="all-linear"))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.3)
    return model.eval()


class MockModel(torch.nn.Module):
    """A language model with known logits: `table[first, last]` after a text that begins and ends with these tokens.

    table: (vocabulary, vocabulary, vocabulary). The first token is read from the cache, where the mock keeps the text
    as keys and values, so a row that got another row's cache draws from the wrong distribution. `sizes` lists the
    rows of each forward pass.
    """

    def __init__(self, table: torch.Tensor, eos_token_id: int | list[int] | None):
        super().__init__()
        self.table = torch.nn.Parameter(table)
        self.config = hf.LlamaConfig(num_hidden_layers=1, hidden_size=1, num_attention_heads=1, vocab_size=len(table))
        self.generation_config = hf.GenerationConfig(eos_token_id=eos_token_id)
        self.sizes: list[int] = []

    def forward(self, input_ids, attention_mask, position_ids, use_cache, past_key_values=None, logits_to_keep=0):
        assert use_cache and not self.training
        assert torch.equal(position_ids, (attention_mask.cumsum(1) - 1).clamp(min=0)[:, -input_ids.shape[1] :])
        self.sizes.append(len(input_ids))
        cache = hf.DynamicCache() if past_key_values is None else past_key_values
        text, _ = cache.update(*[input_ids[:, None, :, None].float()] * 2, 0)  # (rows, 1, tokens, 1)
        text = text[:, 0, :, 0].long()
        assert text.shape == attention_mask.shape
        first = text.gather(1, attention_mask.argmax(1, keepdim=True))
        logits = self.table[first.expand_as(input_ids), input_ids]
        return SimpleNamespace(logits=logits[:, -logits_to_keep:], past_key_values=cache)


class StubTokenizer:
    """A text is its token ids, written out: "0 1 2"."""

    eos_token_id, chat_template, added_tokens_decoder, all_special_tokens = 7, None, {}, []

    def __call__(self, text: str) -> dict:
        return {"input_ids": [int(word) for word in text.removeprefix("Question: ").removesuffix("\nAnswer:").split()]}

    def decode(self, ids, skip_special_tokens):
        return " ".join(map(str, ids))


def chain(*path: int, size: int = 8) -> torch.Tensor:
    """A table in which every token of the path is always followed by the next one."""
    table = torch.zeros(size, size)
    for last, following in zip(path, path[1:]):
        table[last] = -math.inf
        table[last, following] = 0.0
    return table.expand(size, size, size)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def spoken(groups) -> list[list[list[int]]]:
    return [[r.response_ids for r in group] for group in groups]


@pytest.fixture(scope="session")
def arithmetic_problem():
    """arithmetic_problem() -> 12 + 34 + 56 = ?, whose answer 102 does not occur in the question."""

    def build(numbers: tuple[int, ...] = (12, 34, 56), **fields) -> Problem:
        question = " + ".join(map(str, numbers)) + " = ?"
        return Problem(f"Work it out.\n{question}", str(sum(numbers)), meta={"question": question}, **fields)

    return build


@pytest.fixture(scope="session")
def rollout(arithmetic_problem):
    r"""rollout("141") -> a finished response that works up to \boxed{141}; any field can be given."""

    def build(answer: str = "141", problem: Problem | None = None, **fields) -> Rollout:
        text = f"I add up. So \\boxed{{{answer}}}"
        given = {"prompt_ids": [5, 6], "response_ids": [7, 8, 4], "text": text, "finished": True,
                 "logprobs": [-1.0, -1.0, -1.0]}
        return Rollout(problem or arithmetic_problem(), **given | fields)

    return build


@pytest.fixture
def rng() -> random.Random:
    return random.Random(0)


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium."""
    needs("playwright", listed="tests/browser/requirements.txt")
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if not program:
        leave_out("needs chromium, from the system's packages")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=CHROMIUM)
        yield opened
        opened.close()


@pytest.fixture
def visit(browser):
    """visit(file, address, …) -> the opened page. At the test's end: nothing was asked of any network, and the console
    is empty."""
    said, pages = [], []

    def go(file: Path, address: str = "", **options):
        page = browser.new_context(**{"viewport": {"width": 1280, "height": 800}} | options).new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: request.url.startswith(("file:", "data:")) or said.append(request.url))
        page.goto(f"{file.as_uri()}#{address}")
        pages.append(page)
        return page

    yield go
    for page in pages:
        page.context.close()
    assert said == []
