"""Starters: the two shipped models, how they were made, and the warm-up of others."""
