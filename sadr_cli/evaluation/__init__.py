"""Evaluation: the benchmarks of the paper, and the error measures behind them.

:mod:`sadr_cli.evaluation.metrics` holds the measures as functions of plain arrays;
:func:`sadr_cli.evaluation.aflw2000.load` and its neighbours read a benchmark's truth;
:mod:`sadr_cli.evaluation.scoring` turns truth and predictions into tables.
"""
