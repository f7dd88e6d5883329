"""Draws learning curves: mean over seeds with 95 % intervals, one panel for each column."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from inspo.comparison.canvas import (
    AXIS_LABELS,
    DATASET_LINE,
    FONT,
    PANEL_HEIGHT,
    PANEL_WIDTH,
    dataset_entries,
    figure_with_legend,
    look,
    panels_across,
    plain_axis,
    write_figure,
)
from inspo.comparison.comparison import WIN_RATE, Comparison
from inspo.comparison.curves import Curves, dataset_score
from inspo.comparison.grouping import Column, Row
from inspo.comparison.statistics import mean_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

MARGIN = 0.06  # of the range of values, above and below it
THOUSANDS_FROM = 10_000  # gradient steps


def draw(comparison: Comparison, curves: Curves, stem: Path) -> list[Path]:
    """Writes the figure as `stem`.png and `stem`.pdf. Returns the files; without curves, none."""
    return write_figure(stem, lambda: make_figure(comparison, curves) if curves else None)


def make_figure(comparison: Comparison, curves: Curves) -> "Figure":
    """A panel for each column that has curves, and one legend for all of them."""
    rows = sorted({row for row, _ in curves})
    columns = sorted({column for _, column in curves})
    n_across = panels_across(len(columns))
    n_down = math.ceil(len(columns) / n_across)
    figure = figure_with_legend(
        PANEL_WIDTH * n_across,
        PANEL_HEIGHT * n_down,
        [*_legend_entries(rows, curves), *dataset_entries(comparison)],
        "mean over n seeds, with its 95 % t-interval",
    )
    axes = figure.subplots(n_down, n_across, squeeze=False).flatten()
    for axis, column in zip(axes, columns, strict=False):
        _draw_panel(axis, comparison, column, rows, curves)
    for axis in axes[len(columns) :]:
        axis.remove()
    return figure


def shown_range(values: Sequence[float]) -> tuple[float, float]:
    """Limits of the y axis: all `values`, with a margin.

    Intervals are cut off there. That of two seeds is nine times as wide as their distance, and
    would flatten the curves.
    """
    low, high = min(values), max(values)
    margin = MARGIN * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def _draw_panel(
    axis: "Axes", comparison: Comparison, column: Column, rows: Sequence[Row], curves: Curves
) -> None:
    values: list[float] = []
    last_step = 0
    alpha = 0.18 if len(rows) <= 4 else 0.1  # many bands on top of each other hide the lines
    for position, row in enumerate(rows):
        if (row, column) not in curves:
            continue
        steps, mean, half_width = mean_curve(curves[row, column])
        last_step = max(last_step, int(steps[-1]))
        values += [history[step] for history in curves[row, column] for step in steps]
        colour, style = look(position)
        marker = "o" if len(steps) == 1 else None
        axis.plot(steps, mean, style, color=colour, marker=marker, linewidth=1.5, zorder=3)
        if half_width is not None:
            low, high = mean - half_width, mean + half_width
            axis.fill_between(steps, low, high, color=colour, alpha=alpha, linewidth=0, zorder=2)
    of_dataset = dataset_score(comparison, column)
    if of_dataset is not None:
        values.append(of_dataset)
        axis.axhline(of_dataset, **DATASET_LINE, zorder=1)

    metric = comparison.metrics[column]
    axis.set_ylim((-0.03, 1.03) if metric == WIN_RATE else shown_range(values))
    axis.set_ylabel(AXIS_LABELS[metric], fontsize=FONT["label"])
    axis.set_title(column.title, fontsize=FONT["title"])
    plain_axis(axis)
    _label_steps(axis, last_step)


def _label_steps(axis: "Axes", last_step: int) -> None:
    text = "gradient steps"
    if last_step >= THOUSANDS_FROM:
        text += " (thousands)"
        axis.xaxis.set_major_formatter(lambda step, _: f"{step / 1000:g}")
    axis.set_xlabel(text, fontsize=FONT["label"])
    axis.set_xlim(0, last_step or None)


def _legend_entries(rows: Sequence[Row], curves: Curves) -> "list[Line2D]":
    from matplotlib.lines import Line2D

    entries = []
    for position, row in enumerate(rows):
        colour, style = look(position)
        counts = sorted({len(seeds) for (other, _), seeds in curves.items() if other == row})
        n = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        label = f"{row.label}, n={n}"
        entries.append(Line2D([], [], color=colour, linestyle=style, linewidth=1.5, label=label))
    return entries
