"""Explicit randomness: every random choice has its own stream, named by (seed, step, phase).

Nothing seeds the world, and a resumed run needs no saved random state: the names say it all.
"""

import hashlib
import random

import torch


def number(*name) -> int:
    """A 63-bit seed from any names; the same on every machine (Python's own hash is salted per process)."""
    return int.from_bytes(hashlib.sha256(repr(name).encode()).digest()[:8], "big") >> 1


def generator(*name) -> torch.Generator:
    """A torch generator on the CPU, e.g. generator(config.seed, step, "solve")."""
    return torch.Generator().manual_seed(number(*name))


def rng(*name) -> random.Random:
    """The same for Python's random."""
    return random.Random(number(*name))
