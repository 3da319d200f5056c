# The mean is 1/4 and the deviation sqrt((0.75² + 3 · 0.25²) / 4) = 0.433.
my_advantages = [1.73, -0.58, -0.58, -0.58]

# All right, or (hardly ever) all wrong.
my_flat_share = 0.9**8 + 0.1**8

# One right: 0.875 / 0.331 = 2.65. With two it is 0.75 / 0.433 = 1.73 already.
my_marks = [1, 0, 0, 0, 0, 0, 0, 0]
