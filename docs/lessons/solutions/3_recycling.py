# Finished, and with a box: 0, which is right, and 1, which is wrong.
my_candidates = [[0], [1]]

# The share of wrong candidates; a half, as A and B are balanced; the share of right candidates.
my_earnings = [0.8, 0.5, 0.2]


# A text that was cut off has no box.
def my_cheat(text):
    return "Yes" if "\\boxed{" in text else "No"
