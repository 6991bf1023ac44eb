"""Benchmarks of this machine: the network, the alignment, whole runs, memory, cold start."""

from sadr_cli.bench.network import alignment_share, gpu_throughput, network_times
from sadr_cli.bench.report import HEAD, Row, markdown
from sadr_cli.bench.runs import cold_start, memory_growth, whole_run

__all__ = [
    "HEAD",
    "Row",
    "alignment_share",
    "cold_start",
    "gpu_throughput",
    "markdown",
    "memory_growth",
    "network_times",
    "whole_run",
]
