"""Evaluation: the benchmarks of the paper, and the error measures behind them.

:mod:`sadr_cli.evaluation.measures.metrics` holds the measures as functions of plain arrays;
:func:`sadr_cli.evaluation.data.aflw2000.load` and its neighbours read a benchmark's truth;
:mod:`sadr_cli.evaluation.measures.scoring` turns truth and predictions into tables.
"""
