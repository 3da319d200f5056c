"""What the tests of data share: rows, and the problems of every split."""

from spark_lib.data.load import load_problems

SPLITS = ("train", "validation", "test")


def sums(numbers, **more) -> list[dict]:
    return [{"question": f"{i} + 1 = ?", "answer": str(i + 1)} | more for i in numbers]


def load_all(spec: str, **options) -> dict:
    return {split: load_problems(spec, split, **options) for split in SPLITS}


def questions(problems) -> set[str]:
    return {problem.meta["question"] for problem in problems}
