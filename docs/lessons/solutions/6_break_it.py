from spark_lib.verify import extract_boxed

# Mean reward of the right responses minus that of the wrong ones.
paid = {truth: [r["reward"] for step in responses for r in step if r["truth"] == truth] for truth in (1, 0)}
my_j = sum(paid[1]) / len(paid[1]) - sum(paid[0]) / len(paid[0])

# A verifier that is right; as many wrong candidates as right ones; a twentieth of the rate. What one sees: ● stands by
# right answers again; judgements are long again, as they look before they say Yes; the curve does not fall.
my_mends = {
    "noisy": ["noise.false_negative=0", "noise.false_positive=0"],
    "one-class": ["recycle.pointwise_right=0.5"],
    "fast": ["lr=1.5e-3"],
}


# The last box holds the answer, the whole answer, and nothing but the answer.
def my_rule(text, problem):
    return float(extract_boxed(text) == problem.answer)
