from spark_lib.verify import verify

# Mean reward of the right responses minus that of the wrong ones.
paid = {truth: [r["reward"] for step in responses for r in step if r["truth"] == truth] for truth in (1, 0)}
my_j = sum(paid[1]) / len(paid[1]) - sum(paid[0]) / len(paid[0])

# A verifier that is right; as many wrong candidates as right ones; a twentieth of the rate.
my_mends = {
    "noisy": ["noise.false_negative=0", "noise.false_positive=0"],
    "one-class": ["recycle.pointwise_right=0.5"],
    "fast": ["lr=1.5e-3"],
}


# The kit's verifier: the last balanced box, and two answers in it are none.
def my_rule(text, problem):
    return float(verify(text, problem))
