# −w · A · (one-hot − p) = −0.5 · 2 · (1 − 0.5, 0 − 0.25, 0 − 0.25)
my_gradient = [-0.5, 0.25, 0.25]

# Too far the right way: no gradient. The wrong way: always one.
my_moves = [False, True, True, False]

# 1/(2 · 5) against 1/(2 · 50), and 1/55 against 1/55.
my_times = [10, 1]
