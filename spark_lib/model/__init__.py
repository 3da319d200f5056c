"""The model: loading, packed forward passes, images, memory, optimisers, checkpoints."""
