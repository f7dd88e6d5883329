"""Exports a comparison as JSON in the layout of marl-eval (Gorsane et al., NeurIPS 2022).

environment -> task -> algorithm -> run -> step -> metric. A value here is the mean over the test
episodes of one evaluation, because run folders keep means. The absolute metric is the score that
the table shows.
"""

import json
from typing import Any

from inspo.comparison.comparison import Comparison
from inspo.comparison.curves import Curves
from inspo.comparison.grouping import Column, Row

METRIC_NAMES = {"test_return_mean": "return", "test_battle_won_mean": "win_rate"}
Record = dict[str, Any]


def to_json(comparison: Comparison, curves: Curves) -> str:
    """The JSON text. Its environments are the columns' environments, its tasks their datasets."""
    result: dict[str, dict[str, dict[str, Record]]] = {}
    for row, column in comparison.cells:
        tasks = result.setdefault(column.environment, {})
        algorithms = tasks.setdefault(column.dataset, {})
        name = row.label.replace(",", ";")  # marl-eval refuses names with a comma
        algorithms[name] = _runs(comparison, curves, row, column)
    return json.dumps(result, indent=1)


def _runs(comparison: Comparison, curves: Curves, row: Row, column: Column) -> Record:
    """Run -> step -> metric, of one cell."""
    metric = METRIC_NAMES[comparison.metrics[column]]
    runs = comparison.cells[row, column]
    histories = curves.get((row, column), [])
    # A run without a curve has its score alone.
    has_curves = len(histories) == len(runs)
    records = {}
    for number, run in enumerate(runs):
        history = histories[number] if has_curves else {}
        evaluations = {
            f"step_{i}": {"step_count": step, metric: [value]}
            for i, (step, value) in enumerate(sorted(history.items()))
        }
        score = comparison.score(run, column)
        name = f"seed_{run.config.seed}"
        if name in records:  # pooled runs may share a seed
            name += f"_{number}"
        records[name] = {**evaluations, "absolute_metrics": {metric: [score]}}
    return records
