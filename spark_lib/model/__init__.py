"""The model: loading, packed forward passes, images, memory, optimisers, checkpoints."""

import logging

# Without a hub it warns of a CPU kernel that it could not fetch, which 4-bit layers do not use here (see load_base), in
# words that read like an error.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
