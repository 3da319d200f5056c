"""SPARK kit: one model that solves, judges and reflects (arXiv 2509.22624), trained on one GPU."""
