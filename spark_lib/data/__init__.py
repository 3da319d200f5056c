"""Data: where problems come from."""
