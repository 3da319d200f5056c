"""A stand-in for a vLLM server: its interface over our own loop, in a thread of the test, with faults on demand."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import torch
from peft import PeftModel

from spark_lib.model.load import load_base
from spark_lib.sampling.decode import decode

# Every field that a checkpoint's generation_config, or the server's defaults, could otherwise set.
FIELDS = {"model", "prompt", "n", "max_tokens", "min_tokens", "temperature", "top_p", "top_k", "min_p",
          "repetition_penalty", "presence_penalty", "frequency_penalty", "stop_token_ids", "ignore_eos", "logprobs",
          "return_token_ids", "add_special_tokens", "skip_special_tokens"}


class Stub(ThreadingHTTPServer):
    """fault: what goes wrong, from the completion number `after` on (of the adapter: from the first on); see answer.

    loaded, unloaded: names of adapters in order. asked: bodies of the completions."""

    daemon_threads = True

    def __init__(self, name: str = "starter", port: int = 0, max_rank: int = 16, max_model_len: int = 512):
        super().__init__(("127.0.0.1", port), Handler)
        self.base, self.max_rank, self.max_model_len = name, max_rank, max_model_len
        self.model = load_base(name)[0].eval()
        self.fault, self.after, self.lock, self.released = None, 0, threading.Lock(), threading.Event()
        self.adapters: dict[str, str] = {}
        self.loaded: list[str] = []
        self.unloaded: list[str] = []
        self.asked: list[dict] = []
        self.generator = torch.Generator().manual_seed(0)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def models(self) -> dict:
        cards = [{"id": self.base, "root": self.base, "parent": None, "max_model_len": self.max_model_len}]
        return {"data": cards + [{"id": n, "root": path, "parent": self.base} for n, path in self.adapters.items()]}

    def load(self, name: str, path: str) -> tuple[int, dict | str]:
        if self.fault == "no runtime loading":
            return 404, {"detail": "Not Found"}
        rank = json.loads((Path(path) / "adapter_config.json").read_text())["r"]
        if rank > self.max_rank:
            return 400, {"error": {"message": f"LoRA rank {rank} is greater than max_lora_rank {self.max_rank}."}}
        if name in self.loaded:
            return 400, {"error": {"message": f"The lora adapter '{name}' has already been loaded."}}
        if isinstance(self.model, PeftModel):
            self.model.load_adapter(path, name)
        else:
            self.model = PeftModel.from_pretrained(self.model, path, adapter_name=name).eval()
        self.adapters[name] = path
        self.loaded.append(name)
        return 200, f"Success: LoRA adapter '{name}' added successfully."

    def unload(self, name: str) -> tuple[int, dict | str]:
        if name not in self.adapters:
            return 404, {"error": {"message": f"The lora adapter '{name}' cannot be found."}}
        del self.adapters[name]
        self.unloaded.append(name)
        return 200, f"Success: LoRA adapter '{name}' removed successfully."

    def complete(self, body: dict) -> tuple[int, dict]:
        self.asked.append(body)
        name = body["model"]
        if name != self.base and name not in self.adapters:
            return 404, {"error": {"message": f"The model `{name}` does not exist."}}
        if self.fault == "stale adapter":  # the newest is listed, and one before it, or none, is used
            name = self.loaded[0] if len(self.loaded) > 1 else self.base
        model, off = self.model, contextlib.nullcontext()
        if name != self.base:
            model.set_adapter(name)
        elif isinstance(model, PeftModel):
            off = model.disable_adapter()
        uniforms = torch.rand(len(body["prompt"]), body["n"], body["max_tokens"], generator=self.generator)
        with off:
            drawn = decode(model, body["prompt"], uniforms, set(body["stop_token_ids"]), body["temperature"])
        choices = [choice_of(i, body, *one) for i, one in enumerate(drawn)]
        if self.fault == "other prompts":
            choices[-1]["prompt_token_ids"] = choices[-1]["prompt_token_ids"][1:]
        if self.fault == "fewer tokens":
            longest = max(choices, key=lambda choice: len(choice["token_ids"]))
            longest["token_ids"].pop()
            longest["logprobs"]["token_logprobs"].pop()
        if self.fault == "fewer responses":
            choices.pop()
        if self.fault == "no log-probs":
            choices[0]["logprobs"]["token_logprobs"][0] = None
        if self.fault == "raw log-probs":
            for choice in choices:
                known = choice["logprobs"]
                known["token_logprobs"] = [logprob * body["temperature"] for logprob in known["token_logprobs"]]
        return 200, {"choices": choices[::-1]}  # in no order that may be relied on


def choice_of(i: int, body: dict, ids: list[int], logprobs: list[float]) -> dict:
    return {"index": i, "prompt_token_ids": body["prompt"][i // body["n"]], "token_ids": ids, "text": "…",
            "logprobs": {"token_logprobs": logprobs}, "finish_reason": "stop"}


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_) -> None:
        pass

    def do_GET(self) -> None:
        self.answer(200, self.server.models())

    def do_POST(self) -> None:
        stub, body = self.server, json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with stub.lock:
            if self.path == "/v1/load_lora_adapter":
                return self.answer(*stub.load(body["lora_name"], body["lora_path"]))
            if self.path == "/v1/unload_lora_adapter":
                return self.answer(*stub.unload(body["lora_name"]))
            stub.after -= 1
            fault = stub.fault if stub.after < 0 else None
            if fault == "dead":
                stub.socket.close()  # no connection is taken any more
            if fault in ("dead", "lost"):
                return self.connection.close()
            if fault == "HTTP 500":
                return self.answer(500, {"error": {"message": "EngineCore encountered\nan issue."}})
            if fault == "no JSON":
                return self.answer(200, "<html>")
        if fault == "hang":
            stub.released.wait(60)
            return None
        with stub.lock:
            status, content = stub.complete(body)
        text = json.dumps(content)
        return self.answer(status, text[: len(text) // 2] if fault == "half an answer" else content, len(text))

    def answer(self, status: int, content: dict | str, promised: int = 0) -> None:
        data = (content if isinstance(content, str) else json.dumps(content)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(max(len(data), promised)))
        self.end_headers()
        self.wfile.write(data)


@contextlib.contextmanager
def stub(**settings) -> Iterator[Stub]:
    server = Stub(**settings)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()
