# 16 · 8 = 128 responses solve; as many again judge; 128 / 4 = 32.
my_recycled = 32

# Those whose marks are not all alike.
my_groups = [group for group in groups + judged if len({r.reward for r in group}) > 1]


def my_moved(before, after):
    return after[0] > before[1] or after[1] < before[0]
