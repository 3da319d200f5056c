"""Writes the problems of tries 8 to 10 (tries.md), each worked out in a line for the warm-up.

    python docs/results/smollm2/largest.py > largest.jsonl
"""

import json
import random

COUNT, NUMBERS = 3000, 7  # 80 % of the problems for training, 10 % each for validation and test

rng, seen = random.Random(0), set()
while len(seen) < COUNT:
    numbers = rng.sample(range(10, 100), NUMBERS)
    question = f"Which number is the largest: {', '.join(map(str, numbers))}?"
    if question not in seen:
        seen.add(question)
        solution = f"The largest is {max(numbers)}. \\boxed{{{max(numbers)}}}"
        print(json.dumps({"question": question, "answer": str(max(numbers)), "solution": solution}))
