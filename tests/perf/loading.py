"""How long a large data file takes to load and how much memory.    python tests/perf/loading.py [rows] [folder]

Rows of 25 words with answers of five forms, as .jsonl and as .parquet, each read in a process of its own, twice, as a
run does: all of the training split, then 200 held-out problems. Printed are the CPU seconds of both loads, the wall
clock's, and the peak of the resident memory less what the libraries take.
"""

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow
import pyarrow.parquet

REPO = Path(__file__).parents[2]
FORMS = ("{}", "{}.5", "\\frac{{{}}}{{7}}", "x^2+{}x-1", "{} apples")
WORDS = "the of a train leaves station at speed and arrives how many apples are left in total when half".split()


def write(folder: Path, count: int) -> list[Path]:
    rng = random.Random(0)
    rows = [{"question": f"Problem {i}: {' '.join(rng.choices(WORDS, k=25))}?", "answer": FORMS[i % 5].format(i)}
            for i in range(count)]
    paths = [folder / "rows.jsonl", folder / "rows.parquet"]
    paths[0].write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), paths[1])
    return paths


def measure(path: str) -> None:
    from spark_lib.data.load import load_problems

    def peak() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    cpu, wall, before = time.process_time(), time.time(), peak()
    found = [len(load_problems(path, split, limit=limit)) for split, limit in (("train", None), ("test", 200))]
    print(f"{Path(path).name}: {found} problems, {time.process_time() - cpu:.1f} s of a CPU core, "
          f"{time.time() - wall:.1f} s, {peak() - before:.0f} MB")


def main(argv: list[str]) -> None:
    if argv[:1] == ["--of"]:
        return measure(argv[1])
    with tempfile.TemporaryDirectory(dir=argv[1] if len(argv) > 1 else None) as folder:
        for path in write(Path(folder), int(argv[0]) if argv else 1_000_000):
            subprocess.run([sys.executable, __file__, "--of", str(path)], check=True, cwd=REPO,
                           env={"PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"})


if __name__ == "__main__":
    main(sys.argv[1:])
