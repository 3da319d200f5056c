"""Writes worked sums, the warm-up of the tries on sums (tries.md).

    python docs/results/smollm2/worked.py > worked_sums.jsonl
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))
from spark_lib.data.load import split_of
from spark_lib.data.sources import read_rows

COUNT = 300
OPTIONS = {"min_terms": 2, "max_terms": 2, "min_digits": 2, "max_digits": 2, "operators": ["+"],
           "allow_parentheses": False, "seed": 1, "size": 600}  # the run's own problems have seed 0

rows = [row for row in read_rows("reasoning_gym:basic_arithmetic", {}, OPTIONS) if split_of(row.question) == "train"]
for row in list({row.question: row for row in rows}.values())[:COUNT]:
    calculation = row.question.removeprefix("Calculate ").removesuffix(".")
    solution = f"{calculation} = {row.answer}. \\boxed{{{row.answer}}}"
    print(json.dumps({"question": row.question, "answer": row.answer, "solution": solution}))
