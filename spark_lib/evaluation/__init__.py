"""Evaluation: what a run has learned, and every figure of evaluate.py."""
