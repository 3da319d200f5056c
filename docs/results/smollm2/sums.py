"""Writes configs/sums.jsonl, the problems of configs/smollm2_135m.yaml, each worked out in a line for its warm-up.

    python docs/results/smollm2/sums.py > configs/sums.jsonl
"""

import json
import random

COUNT = 3000  # 80 % of the problems for training, 10 % each for validation and test

rng, seen = random.Random(0), set()
while len(seen) < COUNT:
    first, second = rng.randint(100, 999), rng.randint(2, 9)
    question, total = f"Calculate {first} + {second}.", first + second
    if question not in seen:
        seen.add(question)
        solution = f"{first} + {second} = {total}. \\boxed{{{total}}}"
        print(json.dumps({"question": question, "answer": str(total), "solution": solution}))
