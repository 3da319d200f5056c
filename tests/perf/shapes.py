r"""A step at the paper's shapes, with random weights: seconds and memory by phase, beside the plan's parts.

    python tests/perf/shapes.py spark_7b|spark_vl_7b|spark_vl_32b [layers=N] [side=112] [folder=DIR] [key=value …]

A checkpoint of the model that configs/<name>.yaml names is written in its published form (config.json, names of the
tensors, shards of 4 GB in bf16, 152,064 tokens) into a folder that is deleted at the end; then the config does one step
on the CPU, in NF4 as it says: `train.main` loads, samples, updates, judges and reflects, updates, saves; a second
process goes on with the run, which loads the adapter and the optimiser again. layers=N keeps the first N layers of the
decoder, side= is the picture's, in pixels, and `tiny` makes all but the vocabulary small.

Weights and tokenizer are stand-ins, see published.py, by which problems are solved, judged and reflected on by chance;
the verifier and recycling are the kit's own. The problems ask for differences that are 2. Beside what shortens a step
(SMALL), only the paging of the optimiser's state is taken back, which needs a GPU. As always on a CPU freed memory
below 32 MiB a tensor is kept (lean.py), and counts in the peaks of the phases after. The second process does not try
the model on a few tokens again, which takes eight passes over it.
"""

import gc
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

REPO = Path(__file__).parents[2]
sys.path[:0] = [str(REPO), *(str(Path(__file__).parents[1] / name) for name in ("", "model"))]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402
from published import write_checkpoint  # noqa: E402
from test_memory import CONFIGS, SHAPES  # noqa: E402

import spark_lib.run  # noqa: E402
import train  # noqa: E402
from spark_lib.config import load_config  # noqa: E402
from spark_lib.model.load import shape_of  # noqa: E402
from spark_lib.model.memory import GIB, plan_of  # noqa: E402
from spark_lib.model.vision import sees_images  # noqa: E402
from spark_lib.sampling.decode import Texts  # noqa: E402
from spark_lib.sampling.roll import Sampler  # noqa: E402

SMALL = ["problems_per_step=1", "group_size=2", "judge_group_size=2", "judge_share=0.75", "max_new_tokens=8",
         "max_steps=1", "eval.limit=0", "optimizer=adamw_8bit", "run_name=shapes",
         "recycle.shares={pointwise: 1, pairwise: 1, reflect: 1}",
         "seed=55"]  # by which each of the four groups has a right and a wrong response


def write_problems(folder: Path, side: int | None) -> None:
    """Ten differences that are 2, with a picture of side x side pixels if one is given."""
    rows = [{"question": f"{n + 2} - {n} = ?", "answer": "2"} for n in range(10)]
    if side:
        x = np.arange(side)
        Image.fromarray(np.stack(np.broadcast_arrays(x[:, None], x, x[:, None] ^ x), -1).astype(np.uint8)).save(
            folder / "picture.png")
        rows = [row | {"image": "picture.png"} for row in rows]
    (folder / "problems.jsonl").write_text("\n".join(map(json.dumps, rows)))


# --- measuring ----------------------------------------------------------------------------------------------


def resident() -> int:
    """Bytes of memory that this process has, without pages of files (the mapped checkpoint's), which cost nothing."""
    pages = Path("/proc/self/statm").read_text().split()
    return (int(pages[1]) - int(pages[2])) * 4096


class Meter:
    """Seconds and the peak of memory by phase, and the sizes of what is there at the end of a step."""

    def __init__(self):
        self.parts, self.most, self.cache = {}, resident(), 0.0
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self) -> None:
        while True:
            self.most = max(self.most, resident())
            time.sleep(0.01)

    @contextmanager
    def phase(self, name: str):
        gc.collect()
        self.most, cpu, wall = resident(), time.process_time(), time.perf_counter()
        yield
        cpu, wall, most = time.process_time() - cpu, time.perf_counter() - wall, max(self.most, resident())
        print(f"| {name} | {cpu:.1f} | {wall:.1f} | {most / GIB:.2f} |", flush=True)

    def around(self, owner, function: str, phase) -> None:
        """From now on owner.function is a phase; its name is phase(the arguments)."""
        whole = getattr(owner, function)

        def measured(*args, **kwargs):
            with self.phase(phase(*args)):
                return whole(*args, **kwargs)

        setattr(owner, function, measured)

    def watch_cache(self) -> None:
        advance = Texts.advance

        def watched(texts, model, token):
            logits = advance(texts, model, token)
            sizes = [x.nbytes / (x.shape[0] * x.shape[2]) for layer in texts.cache.layers
                     for x in (layer.keys, layer.values)]
            self.cache = sum(sizes)
            return logits

        Texts.advance = watched

    def measure_parts(self, spark) -> None:
        frozen = [p for p in spark.model.parameters() if not p.requires_grad]
        tensors = [tensor for p in frozen for tensor in (p, *stored_beside(p))]
        learned = sum(p.nbytes for p in train.trainable(spark.model))
        state = sum(x.nbytes for values in spark.optimizer.state.values() for x in values.values()
                    if isinstance(x, torch.Tensor))
        self.parts = {"frozen weights": sum(x.nbytes for x in tensors), "weights that learn": learned,
                      "state of": state}


def stored_beside(parameter) -> list[torch.Tensor]:
    """The scales of a quantised weight."""
    state = getattr(parameter, "quant_state", None)
    return [] if state is None else [state.absmax, state.code, state.offset, state.state2.absmax, state.state2.code]


def course(words: list[str]) -> None:
    """train.main with these words, measured, and its tables."""
    meter = Meter()
    rolled = {"solve": "sample", "judge": "judge and reflect"}
    meter.around(train, "load_model", lambda *_: "load, quantise, add the adapter")
    meter.around(Sampler, "__call__", lambda sampler, problems, n, stream: rolled[stream[-1]])
    meter.around(train.Spark, "update", lambda spark, groups, *_: "update on " + " ".join(
        sorted({group[0].problem.kind for group in groups})))
    meter.around(spark_lib.run, "save_checkpoint", lambda *args: meter.measure_parts(args[2]) or "save a checkpoint")
    meter.around(spark_lib.run, "last_state", lambda *_: "load adapter and optimiser")
    meter.watch_cache()
    if words[0].startswith("resume="):
        train.refuse_unfit = lambda *_: None
    else:
        meter.around(train, "refuse_unfit", lambda *_: "try the model on a few tokens")
    print(f"libraries alone: {resident() / GIB:.2f} GiB", flush=True)
    print("| phase | CPU seconds | seconds | peak, GiB |\n|---|---|---|---|", flush=True)
    train.main(words)
    if not meter.parts:
        return
    config = load_config(words)
    plan = plan_of(shape_of(config.model), config, torch.float32)
    print("\n| part | planned, GiB | measured, GiB |\n|---|---|---|")
    for name, size in plan.always.items():
        for part, measured in meter.parts.items():
            if name.startswith(part):
                print(f"| {name} | {size / GIB:.3f} | {measured / GIB:.3f} |")
    name, size = next(iter(plan.sampling.items()))
    rows, tokens = (int(number.replace(",", "")) for number in re.findall(r"[\d,]*\d", name))
    print(f"| KV cache of 1,000 tokens | {1000 * size / rows / tokens / GIB:.3f} | {1000 * meter.cache / GIB:.3f} |")


def main(argv: list[str]) -> None:
    if argv[:1] == ["--course"]:
        return course(argv[1:])
    own = dict(word.split("=", 1) for word in argv if word.split("=")[0] in ("layers", "side", "folder"))
    name, *words = [word for word in argv if word.split("=")[0] not in own]
    tiny, words = "tiny" in words, [word for word in words if word != "tiny"]
    layers = int(own["layers"]) if "layers" in own else None
    with tempfile.TemporaryDirectory(dir=own.get("folder")) as place:
        folder, start = Path(place), time.perf_counter()
        write_checkpoint(folder / "model", name, layers, tiny)
        write_problems(folder, int(own.get("side", 112)) if sees_images(SHAPES[name][1]) else None)
        size = sum(path.stat().st_size for path in (folder / "model").glob("*.safetensors"))
        print(f"{name}{', tiny' * tiny}, {layers or 'all'} layers: {size / 1e9:.1f} GB written in "
              f"{time.perf_counter() - start:.0f} s", flush=True)
        settings = [str(CONFIGS / f"{name}.yaml"), *SMALL, "model=model", "data=problems.jsonl", *words]
        for config in (settings, ["resume=runs/shapes"]):
            subprocess.run([sys.executable, str(Path(__file__).resolve()), "--course", *config], check=True, cwd=folder)
        print("\n" + (folder / "runs" / "shapes" / "metrics.jsonl").read_text().strip())


if __name__ == "__main__":
    main(sys.argv[1:])
