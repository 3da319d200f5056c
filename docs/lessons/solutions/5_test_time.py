# Right and accepted, right, rejected and kept, wrong, rejected and fixed.
my_accuracy = 0.7 * (0.8 + 0.2 * 0.9) + 0.3 * 0.9 * 0.6

# |0.9 - 0.6| = 0.3 and |0.1 - 0.3| = 0.2, with half of the judgements each.
my_ece = (0.3 + 0.2) / 2

# Three times 131 against two times 141; the highest single trust is in 131; sums: 131 has 1.1, 141 has 1.6.
my_samples = [("131", 0.9), ("131", 0.1), ("131", 0.1), ("141", 0.8), ("141", 0.8)]
