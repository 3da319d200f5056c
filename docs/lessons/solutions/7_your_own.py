import re

from spark_lib.verify import verify


# `verify` first: a right answer is right, however it came about. The full stop keeps 105 from matching 1058.
def my_score(text, problem):
    if verify(text, problem):
        return 1.0
    a, b, *_ = re.findall(r"\d+", problem.meta["question"])
    return 0.25 if f"{a} + {b} = {int(a) + int(b)}." in text else 0.0


# The mean of the others is (sum - own) / (n - 1).
def my_advantages(rewards):
    others = (rewards.sum(1, keepdim=True) - rewards) / (rewards.shape[1] - 1)
    return rewards - others


# Fewer rows at a time, and shorter micro-batches.
my_settings = ["max_rows=16", "micro_batch_tokens=2048"]
