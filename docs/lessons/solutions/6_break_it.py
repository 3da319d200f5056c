from spark_lib.verify import verify

# Mean reward of the right responses minus that of the wrong ones.
paid = {truth: [r["reward"] for step in responses for r in step if r["truth"] == truth] for truth in (1, 0)}
my_j = sum(paid[1]) / len(paid[1]) - sum(paid[0]) / len(paid[0])

# Or "pointwise/accuracy_no": near 0, or not there at all.
my_figure = "pointwise/said_yes"


# The kit's verifier: the last balanced box, and two answers in it are none.
def my_rule(text, problem):
    return float(verify(text, problem))
