"""Draws learning curves: mean over seeds with 95 % intervals, one panel for each column."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from inspo.comparison.comparison import RETURN, WIN_RATE, Comparison
from inspo.comparison.curves import Curves, dataset_score
from inspo.comparison.grouping import Column, Row
from inspo.comparison.statistics import mean_curve
from inspo.utils.files import write_atomically
from inspo.utils.pictures import drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

SUFFIXES = (".png", ".pdf")
# Okabe and Ito's colours can be told apart by the colour-blind. Further rows repeat them with
# another line style.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
LINE_STYLES = ("-", "--", ":", "-.")
DATASET_LINE = {"color": "0.45", "linestyle": (0, (1, 1.5)), "linewidth": 1}
AXIS_LABELS = {RETURN: "test return", WIN_RATE: "test win rate"}
PANELS_PER_LINE = 3
FONT = {"title": 9.5, "label": 9.0, "tick": 8.0, "legend": 8.5}
# Sizes in inches.
PANEL_WIDTH, PANEL_HEIGHT = 3.2, 2.4
LEGEND_LINE, LEGEND_HANDLE, LEGEND_LETTER = 0.19, 0.55, 0.068
PNG_DPI = 200
MARGIN = 0.06  # of the range of values, above and below it
THOUSANDS_FROM = 10_000  # gradient steps


def draw(comparison: Comparison, curves: Curves, stem: Path) -> list[Path]:
    """Writes the figure as `stem`.png and `stem`.pdf.

    Returns:
        the files. Without curves there are none, and older files of these names are removed. What
        cannot be drawn is missing, with a warning.
    """
    files = [stem.with_name(stem.name + suffix) for suffix in SUFFIXES]
    written: list[Path] = []
    if curves:
        with drawing(stem):
            _write(comparison, curves, files, written)
    for path in files:
        if path not in written:
            path.unlink(missing_ok=True)
    return written


def _write(comparison: Comparison, curves: Curves, files: list[Path], written: list[Path]) -> None:
    """Adds each file to `written` as soon as it is there."""
    import matplotlib

    # Type 42 embeds fonts as text, as publishers ask.
    with matplotlib.rc_context({"pdf.fonttype": 42, "font.family": "DejaVu Sans"}):
        figure = make_figure(comparison, curves)
        for path in files:
            _save(figure, path)
            written.append(path)


def make_figure(comparison: Comparison, curves: Curves) -> "Figure":
    """A panel for each column that has curves, and one legend for all of them."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    rows = sorted({row for row, _ in curves})
    columns = sorted({column for _, column in curves})
    n_across = 2 if len(columns) == 4 else min(len(columns), PANELS_PER_LINE)
    n_down = math.ceil(len(columns) / n_across)
    width = PANEL_WIDTH * n_across

    entries = _legend_entries(rows, curves)
    if any(dataset_score(comparison, column) is not None for column in columns):
        entries.append(Line2D([], [], **DATASET_LINE, label="mean of the dataset"))
    longest = max(len(entry.get_label()) for entry in entries)
    fitting = int(width / (LEGEND_HANDLE + LEGEND_LETTER * longest))
    entries_per_line = min(max(fitting, 1), len(entries))
    legend_lines = math.ceil(len(entries) / entries_per_line) + 1  # and its title

    height = PANEL_HEIGHT * n_down + LEGEND_LINE * legend_lines
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(n_down, n_across, squeeze=False).flatten()
    for axis, column in zip(axes, columns, strict=False):
        _draw_panel(axis, comparison, column, rows, curves)
    for axis in axes[len(columns) :]:
        axis.remove()
    figure.legend(
        handles=entries,
        loc="outside lower center",
        ncols=entries_per_line,
        fontsize=FONT["legend"],
        frameon=False,
        title="mean over n seeds, with its 95 % t-interval",
        title_fontsize=FONT["legend"],
    )
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
        colour, style = _look(position)
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
    axis.tick_params(labelsize=FONT["tick"])
    axis.grid(alpha=0.25, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
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
        colour, style = _look(position)
        counts = sorted({len(seeds) for (other, _), seeds in curves.items() if other == row})
        n = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        label = f"{row.label}, n={n}"
        entries.append(Line2D([], [], color=colour, linestyle=style, linewidth=1.5, label=label))
    return entries


def _look(position: int) -> tuple[str, str]:
    """Colour and line style of a row."""
    cycle, colour = divmod(position, len(COLOURS))
    return COLOURS[colour], LINE_STYLES[cycle % len(LINE_STYLES)]


def _save(figure: "Figure", path: Path) -> None:
    # Without a date the same numbers give the same file.
    metadata = {"CreationDate": None} if path.suffix == ".pdf" else None
    with write_atomically(path) as temporary:
        figure.savefig(
            temporary,
            format=path.suffix[1:],
            dpi=PNG_DPI,
            metadata=metadata,
            bbox_inches="tight",
        )
