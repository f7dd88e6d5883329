"""Draws final scores as bars: one group for each column, one bar for each row."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from inspo.comparison.canvas import (
    AXIS_LABELS,
    COLOURS,
    FONT,
    PANEL_HEIGHT,
    dataset_entries,
    figure_with_legend,
    look,
    plain_axis,
    write_figure,
)
from inspo.comparison.comparison import Comparison
from inspo.comparison.curves import dataset_score
from inspo.comparison.grouping import Column, Row
from inspo.comparison.statistics import CellScores, mean_half_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

HATCHES = ("", "//", "..", "xx")  # tell rows apart whose colours repeat
GROUP_WIDTH = 0.84  # of the space between two groups
LETTERS_PER_LINE = 22  # of a group's title
# Sizes in inches.
BAR, GAP, SIDE = 0.2, 0.35, 0.9
NARROWEST, WIDEST = 3.2, 9.6

Cells = Mapping[tuple[Row, Column], CellScores]


def draw(comparison: Comparison, cells: Cells, stem: Path) -> list[Path]:
    """Writes the figure as `stem`.png and `stem`.pdf. Returns the files."""
    return write_figure(stem, lambda: make_figure(comparison, cells))


def make_figure(comparison: Comparison, cells: Cells) -> "Figure":
    """A panel for each metric, because returns and win rates have different scales."""
    by_metric: dict[str, list[Column]] = {}
    for column in comparison.columns:
        by_metric.setdefault(comparison.metrics[column], []).append(column)
    most = max(map(len, by_metric.values()))
    width = SIDE + most * (BAR * len(comparison.rows) + GAP)
    figure = figure_with_legend(
        min(max(width, NARROWEST), WIDEST),
        PANEL_HEIGHT * len(by_metric),
        [*_legend_entries(comparison.rows), *dataset_entries(comparison)],
        "mean over seeds, with its 95 % t-interval",
    )
    axes = figure.subplots(len(by_metric), 1, squeeze=False).flatten()
    for axis, (metric, columns) in zip(axes, by_metric.items(), strict=True):
        _draw_panel(axis, comparison, cells, columns)
        axis.set_ylabel(AXIS_LABELS[metric], fontsize=FONT["label"])
    return figure


def _draw_panel(
    axis: "Axes", comparison: Comparison, cells: Cells, columns: Sequence[Column]
) -> None:
    bar_width = GROUP_WIDTH / len(comparison.rows)
    for place, column in enumerate(columns):
        for position, row in enumerate(comparison.rows):
            cell = cells.get((row, column))
            if cell is None:
                continue
            x = place - GROUP_WIDTH / 2 + (position + 0.5) * bar_width
            half_width = mean_half_width(cell.scores)
            axis.bar(
                x,
                cell.mean,
                bar_width * 0.92,
                yerr=half_width,
                capsize=2,
                error_kw={"linewidth": 0.9},
                **_bar_look(position),
            )
        of_dataset = dataset_score(comparison, column)
        if of_dataset is not None:
            ends = (place - GROUP_WIDTH / 2, place + GROUP_WIDTH / 2)
            axis.hlines(of_dataset, *ends, colors="0.45", linestyles=(0, (1, 1.5)), linewidth=1)
    titles = [_wrapped(column.title) for column in columns]
    axis.set_xticks(range(len(columns)), titles, fontsize=FONT["tick"])
    axis.axhline(0, color="0.3", linewidth=0.6)
    plain_axis(axis)
    axis.grid(visible=False, axis="x")


def _legend_entries(rows: Sequence[Row]) -> "list[Patch]":
    from matplotlib.patches import Patch

    return [Patch(**_bar_look(position), label=row.label) for position, row in enumerate(rows)]


def _bar_look(position: int) -> dict[str, str | float]:
    colour, _ = look(position)
    hatch = HATCHES[position // len(COLOURS) % len(HATCHES)]
    return {"facecolor": colour, "hatch": hatch, "edgecolor": "white", "linewidth": 0.0}


def _wrapped(title: str) -> str:
    """A column's title, its dataset on a line of its own."""
    parts = title.rsplit(", ", 1)
    return "\n".join(
        line
        for part in parts
        for line in textwrap.wrap(part, LETTERS_PER_LINE, break_long_words=False)
    )
