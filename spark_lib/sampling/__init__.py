"""Sampling: our own decode loop, and the verb that samples and verifies."""
