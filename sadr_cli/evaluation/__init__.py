"""Evaluation: the paper's benchmarks and their error measures."""
