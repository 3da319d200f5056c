"""What a box content says: one spelling, numbers, units, times, words, lists, equations and mathematics.

verify.py asks these modules in order; they import nothing of ours but each other.
"""
