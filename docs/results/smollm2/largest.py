"""Writes configs/largest.jsonl, the problems of configs/smollm2_135m.yaml, each worked out in a line for its warm-up.

    python docs/results/smollm2/largest.py > configs/largest.jsonl
"""

import json
import random

COUNT, NUMBERS = 3000, 4  # 80 % of the problems for training, 10 % each for validation and test

rng, seen = random.Random(0), set()
while len(seen) < COUNT:
    numbers = rng.sample(range(10, 100), NUMBERS)
    question = f"Which number is the largest: {', '.join(map(str, numbers))}?"
    if question not in seen:
        seen.add(question)
        solution = f"The largest is {max(numbers)}. \\boxed{{{max(numbers)}}}"
        print(json.dumps({"question": question, "answer": str(max(numbers)), "solution": solution}))
