"""Sampling on a vLLM server in place of our own loop, for GPUs where it is faster: the only file that knows of vLLM.

Token ids go there and come back, never text, with the log-probs of what was drawn; weights go there as the folder of an
adapter on the base that the server was started with. Nothing is believed unseen: whenever the weights have changed, a
few tokens are scored by our own forward pass. What an engine gives up is in docs/scale.md.

    python -m spark_lib.sampling.vllm [config.yaml] [key=value ...]    prints the command that starts the server
"""

import contextlib
import hashlib
import json
import math
import re
import secrets
import shlex
import shutil
import sys
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

import torch
from accelerate.utils import broadcast_object_list, gather_object
from peft import PeftModel, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer

from spark_lib.config import Config, ConfigError, load_config
from spark_lib.loss import Row
from spark_lib.model.checkpoints import save_merged, warm_base
from spark_lib.model.load import base_of_adapter, load_base, locate, shape_of
from spark_lib.model.memory import texts
from spark_lib.model.packing import pack, response_logprobs
from spark_lib.model.vision import sees_images
from spark_lib.model.weights import base_of, compute_dtype
from spark_lib.problem import Problem
from spark_lib.rollout import Rollout, encode_prompt, rollout_of, stop_ids

BOUND = 0.05  # nats a token by which the server may differ on average: fp32 differs by 1e-4, bf16 by some 0.01
PATIENCE = {"connect": 10, "sample": 1800, "other": 120}  # seconds without an answer that are taken for a hang
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # values of --max-lora-rank
TRIED = ("What is 12 + 34?", "Write one sentence about the sea.", "Is 7 a prime number? Answer Yes or No.")
TEXT_ONLY = "vllm: for models that see images only our own loop samples; leave it null"
HELP = "python -m spark_lib.sampling.vllm prints the command that starts it"


def ask(address: str, path: str, body: dict | None = None, seconds: float | None = None) -> bytes:
    """The server's answer to a GET, or to a POST of `body`. Raises ConfigError, one line, whatever goes wrong."""
    place = urlsplit(address)
    connection = HTTPConnection(place.hostname, place.port or 80, timeout=PATIENCE["connect"])
    seconds = seconds or PATIENCE["other"]
    try:
        try:
            connection.connect()
        except OSError as error:
            raise ConfigError(f"vllm: no server at {address} ({error}); {HELP}") from error
        connection.sock.settimeout(seconds)
        connection.request("POST" if body else "GET", path, body and json.dumps(body),
                           {"Content-Type": "application/json"})
        response = connection.getresponse()
        content = response.read()
    except TimeoutError as error:
        raise ConfigError(f"vllm: {address}{path} has not answered for {seconds} s; it hangs, or was asked for more "
                          "at once than it can do") from error
    except (OSError, HTTPException) as error:
        raise ConfigError(f"vllm: the connection to {address} was lost ({type(error).__name__}: {error}); see the "
                          "server's log and start it again") from error
    finally:
        connection.close()
    if response.status != 200:
        said = " ".join(content.decode("utf-8", "replace").split())[:300]
        raise ConfigError(f"vllm: {address}{path} answered {response.status}: {said}")
    return content


def reach(config: Config) -> None:
    """Raise ConfigError before anything is loaded for what would fail afterwards: an address that is none, weights that
    a server cannot be handed, no server. (After a warm-up it serves that one's result; until then it may be absent.)"""
    if config.vllm is None:
        return
    if not re.fullmatch(r"http://[^/\s]+", config.vllm):
        raise ConfigError(f"vllm: expected an address like http://127.0.0.1:8000, got '{config.vllm}'")
    if config.lora is None:
        raise ConfigError("vllm: lora=null trains all weights, and a server takes an adapter only; keep lora (r=64 or "
                          "more comes near), or sample with our own loop (vllm=null)")
    if not config.warmup.data or warm_base(config.resume):
        ask(config.vllm, "/v1/models")


class Engine:
    """A vLLM server that samples with the weights of `model`. The same calls are made in every process of a run."""

    def __init__(self, config: Config, model, tokenizer, accelerator, folder: Path):
        """folder: of the run; adapters are written below it, so the server must see the same files. Tries the server
        out. Raises ConfigError."""
        self.address, self.config, self.model, self.tokenizer = config.vllm, config, model, tokenizer
        self.accelerator, self.folder = accelerator, folder.resolve() / "engine"
        if sees_images(base_of(model).config):
            raise ConfigError(TEXT_ONLY)
        self.stops = stop_ids(base_of(model), tokenizer)
        self.digest, self.gap = None, math.nan
        adapted = [base_of(model).get_input_embeddings(), base_of(model).get_output_embeddings()]
        if any(isinstance(layer, LoraLayer) for layer in adapted):
            raise ConfigError("lora.target_modules: vLLM takes no adapter on the embeddings or the head; leave them "
                              "out, e.g. all-linear")
        served = json.loads(self.together(lambda: ask(self.address, "/v1/models")))["data"]
        base = next(one for one in served if not one.get("parent"))
        self.base, self.limit, self.name = base["id"], base["max_model_len"], base["id"]
        # What a run that was killed has left is cleared away first.
        self.loaded = [one["id"] for one in served if Path(one.get("root") or "").is_relative_to(self.folder)]
        self.together(self.stop)
        self.hand_over()

    def together(self, act: Callable):
        """act() in this process; what goes wrong in one is raised in all, so that none waits for one that has ended."""
        found, wrong = None, None
        try:
            found = act()
        except ConfigError as error:
            wrong = str(error)
        for error in filter(None, gather_object([wrong])):
            raise ConfigError(error)
        return found

    def hand_over(self) -> None:
        """Make the server sample with the present weights; nothing to do while they have not changed.

        Each adapter gets a folder and a name that never were before: under a known name the server may go on with what
        it has cached of the old weights. The old one goes only when the new one has proved right.
        """
        digest = digest_of(self.model)
        if digest == self.digest:
            return
        name, old = f"spark-{secrets.token_hex(6)}", self.name
        name = broadcast_object_list([name if isinstance(self.model, PeftModel) else self.base])[0]

        def hand_over() -> None:
            if name != self.base:
                self.model.save_pretrained(self.folder / name)
                self.load(name)
            self.gap = self.difference(name)
            with open(self.folder.with_suffix(".jsonl"), "a", encoding="utf-8") as file:
                file.write(json.dumps({"adapter": name, "difference": self.gap}) + "\n")
            if old != self.base:
                self.unload(old)

        self.together(hand_over if self.accelerator.is_main_process else lambda: None)
        self.name, self.digest = name, digest

    def load(self, name: str) -> None:
        try:
            ask(self.address, "/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(self.folder / name)})
        except ConfigError as error:
            if "answered" not in str(error):
                raise
            raise ConfigError(f"{error}. It did not take the adapter in {self.folder / name}: is --max-lora-rank at "
                              "least lora.r, VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, and the folder seen from there? "
                              f"{HELP}") from error
        self.loaded.append(name)

    def unload(self, name: str) -> None:
        ask(self.address, "/v1/unload_lora_adapter", {"lora_name": name})
        self.loaded.remove(name)
        shutil.rmtree(self.folder / name)

    def difference(self, name: str) -> float:
        """Mean absolute difference of log-probs, in nats a token, between the server and our own forward pass, of some
        tokens that it samples. Raises ConfigError if it is above BOUND."""
        temperature, n = self.config.temperature, 2
        prompts = [encode_prompt(self.tokenizer, question) for question in TRIED]
        drawn = self.complete(name, prompts, n, min(16, self.config.max_new_tokens), temperature)
        rows = [Row(prompt, [ids for ids, _ in group], [0.0] * n, [0.0] * n, 0.0, sampled=[known for _, known in group])
                for prompt, group in zip(prompts, drawn)]
        batch = pack(rows, self.accelerator.device)
        with torch.no_grad():
            own = response_logprobs(self.model, batch, temperature)
        gap = (own - batch.sampled)[batch.valid].abs().mean().item()
        if not gap <= BOUND:
            raise ConfigError(
                f"vllm: log-probs of {self.address} differ from our own by {gap:.3g} nats a token, more than {BOUND}; "
                f"it serves another base ({self.base}) than this run's, or old weights, or reports them before the "
                f"temperature (--logprobs-mode processed_logprobs). {HELP}"
            )
        return gap

    def sample(
        self, problems: list[Problem], n: int, max_new_tokens: int, temperature: float, start_model: bool, count
    ) -> list[list[Rollout]]:
        """As rollout.sample, of this process's share of the problems. start_model: with the base alone."""
        self.hand_over()

        def complete() -> list[list[Rollout]]:
            prompts = [encode_prompt(self.tokenizer, problem.prompt) for problem in problems]
            drawn = self.complete(self.base if start_model else self.name, prompts, n, max_new_tokens, temperature)
            responses = sum(map(len, drawn))
            count(sum(len(ids) for group in drawn for ids, _ in group), responses, responses)
            return [[rollout_of(problem, prompt, *one, self.tokenizer, self.stops) for one in group]
                    for problem, prompt, group in zip(problems, prompts, drawn)]

        return self.together(complete)

    def complete(
        self, name: str, prompts: list[list[int]], n: int, max_new_tokens: int, temperature: float
    ) -> list[list[tuple[list[int], list[float]]]]:
        """n times (ids, log-probs) for every prompt, by the adapter of this name. Every field that a checkpoint's
        generation_config could set is said. No seed: on a CPU it ends the server."""
        if not prompts:
            return []
        longest = max(map(len, prompts)) + max_new_tokens
        if longest > self.limit:
            raise ConfigError(f"vllm: a prompt and max_new_tokens={max_new_tokens} together need {longest} tokens, and "
                              f"the server was started with --max-model-len {self.limit}")
        each = n if temperature else 1  # it draws greedy responses once
        content = ask(self.address, "/v1/completions", {
            "model": name, "prompt": prompts, "n": each, "max_tokens": max_new_tokens, "min_tokens": 0,
            "temperature": temperature, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0,
            "presence_penalty": 0.0, "frequency_penalty": 0.0, "stop_token_ids": sorted(self.stops), "ignore_eos": True,
            "logprobs": 0, "return_token_ids": True, "add_special_tokens": False, "skip_special_tokens": False,
        }, PATIENCE["sample"])
        try:
            choices = sorted(json.loads(content)["choices"], key=lambda choice: choice["index"])
            if len(choices) != len(prompts) * each:
                raise ValueError(f"{len(choices)} responses to {len(prompts)} prompts, {each} each")
            drawn = [read(choice, prompts[i // each], max_new_tokens, self.stops) for i, choice in enumerate(choices)]
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"vllm: {self.address} did not answer what was asked ({type(error).__name__}: {error}); "
                              "is it vLLM 0.28 or newer?") from error
        return [drawn[i : i + each] * (n // each) for i in range(0, len(drawn), each)]

    def tried(self) -> str:
        """What the first trial found, in a line."""
        return f"sampling on {self.address}, whose log-probs differ from our own by {self.gap:.2g} nats a token"

    def stop(self) -> None:
        """Leave nothing behind, on the server or in the run's folder."""
        if self.accelerator.is_main_process:
            with contextlib.suppress(ConfigError):  # a server that has died holds nothing any more
                for name in self.loaded:
                    ask(self.address, "/v1/unload_lora_adapter", {"lora_name": name})
            self.loaded = []
            shutil.rmtree(self.folder, ignore_errors=True)


def digest_of(model) -> str:
    """A name for what the adapter holds."""
    digest = hashlib.sha256()
    adapter = get_peft_model_state_dict(model) if isinstance(model, PeftModel) else {}
    for name, tensor in sorted(adapter.items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read(choice: dict, prompt: list[int], limit: int, stops: set[int]) -> tuple[list[int], list[float]]:
    """(ids, log-probs) of one of the server's choices. Raises ValueError if it is not what was asked for."""
    ids, logprobs = choice["token_ids"], choice["logprobs"]["token_logprobs"]
    if choice["prompt_token_ids"] != prompt:
        raise ValueError("it continued another prompt than was sent")
    if len(logprobs) != len(ids) or not all(math.isfinite(logprob) and logprob < 1e-3 for logprob in logprobs):
        raise ValueError(f"{len(ids)} tokens with the log-probs {logprobs[:3]} …")
    if not ids or len(ids) > limit or (len(ids) < limit and ids[-1] not in stops) or stops & set(ids[:-1]):
        raise ValueError(f"a response of {len(ids)} tokens (of {limit}) that no stop token ends")
    return ids, logprobs


# --- the server's side ------------------------------------------------------------------------------------------


def dense_base(config: Config) -> Path:
    """The folder that the server must load: the checkpoint itself where it is plain, else runs/served/<name>, written
    now. An adapter of a GGUF file or a quantised base is trained on its dequantised weights; the server reads neither.
    """
    name = warm_base(config.resume) or config.model
    folder, gguf = locate(name)
    if not gguf and config.quantization == "none" and not base_of_adapter(Path(folder)):
        return Path(folder)
    model, tokenizer = load_base(name, "cuda" if torch.cuda.is_available() else "cpu", config.quantization)
    written = Path("runs", "served", f"{Path(name).name.removesuffix('.gguf')}-{config.quantization}")
    written.parent.mkdir(parents=True, exist_ok=True)
    return save_merged(model, tokenizer, written)


def server_command(config: Config, folder: Path) -> list[str]:
    """The words of the command that starts a server for this config, in an environment that has vLLM."""
    shape = shape_of(str(folder)).get_text_config()
    longest = max(prompt + config.max_new_tokens for prompt, _, _ in texts(config, shape))
    most = getattr(shape, "max_position_embeddings", None) or longest
    rank = next((rank for rank in RANKS if rank >= config.lora.r), config.lora.r)
    dtype = compute_dtype("cuda" if torch.cuda.is_available() else "cpu")
    options = {
        "model": folder.resolve(), "dtype": str(dtype).removeprefix("torch."), "max-model-len": min(longest, most),
        "max-lora-rank": rank, "max-num-seqs": config.max_rows, "logprobs-mode": "processed_logprobs",
        "generation-config": "vllm", "seed": config.seed, "host": "127.0.0.1",
        "port": urlsplit(config.vllm or "").port or 8000,
    }
    flags = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return ["python", "-m", "vllm.entrypoints.openai.api_server", "--enable-lora", *flags]


def main(argv: list[str]) -> None:
    config = load_config(argv)
    if sees_images(shape_of(config.model)):
        raise ConfigError(TEXT_ONLY)
    command = " ".join(map(shlex.quote, server_command(config, dense_base(config))))
    address = config.vllm or "http://127.0.0.1:8000"
    print(f"""The server, in an environment that has vLLM, in this folder or with the same files in sight:

VLLM_ALLOW_RUNTIME_LORA_UPDATING=True HF_HUB_OFFLINE=1 {command}

Several GPUs: add --tensor-parallel-size N for a model that is larger than one, --data-parallel-size N for more at a
time. On the GPU that trains as well: --gpu-memory-utilization 0.4. Elsewhere: --host, see docs/scale.md. Then:

{" ".join(["python train.py", *argv])} vllm={address}""")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ConfigError as error:
        sys.exit(f"error: {error}")
