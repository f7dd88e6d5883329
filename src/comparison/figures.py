"""Learning curves: mean over seeds with its 95 % interval, a panel for each column of the table."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from inspo.comparison.grouping import RETURN, WIN_RATE, Column, Comparison, Row, title
from inspo.comparison.runs import UnusableError, read_history
from inspo.comparison.statistics import curve
from inspo.utils.files import write_atomically

SUFFIXES = (".png", ".pdf")
# Okabe and Ito's colours, told apart by the colour-blind too; beyond them, the same again in other line styles.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
LINE_STYLES = ("-", "--", ":", "-.")
AXIS_LABELS = {RETURN: "test return", WIN_RATE: "test win rate"}
PANELS_PER_ROW = 3
PANEL = (3.2, 2.4)  # inches
FONT = {"title": 9.5, "label": 9.0, "tick": 8.0, "legend": 8.5}
LETTER, LEGEND_LINE = 0.068, 0.19  # inches: a letter's width and a line's height in the legend
MARGIN = 0.06  # of the values' range, above and below it
DATASET_LINE = {"color": "0.45", "linestyle": (0, (1, 1.5)), "linewidth": 1}
PNG_DPI = 200
Curve = list[dict[int, float]]  # step -> value, for each seed


def draw(comparison: Comparison, stem: Path) -> tuple[list[Path], list[str]]:
    """Writes the figure as `stem`.png and `stem`.pdf.

    Returns:
        the files, and warnings about the curves that are not whole. No file if no run has a curve; an older picture,
        of other runs, is then removed.
    """
    curves, warnings = read_curves(comparison)
    files = [stem.with_name(stem.name + suffix) for suffix in SUFFIXES]
    if not curves:
        for path in files:
            path.unlink(missing_ok=True)
        return [], warnings
    rows = [
        row
        for row in comparison.rows
        if any((row, column) in curves for column in comparison.columns)
    ]
    columns = [
        column for column in comparison.columns if any((row, column) in curves for row in rows)
    ]
    across = 2 if len(columns) == 4 else min(len(columns), PANELS_PER_ROW)
    down = -(-len(columns) // across)
    # Fonts as text and not as outlines: what publishers ask for.
    with matplotlib.rc_context({"pdf.fonttype": 42, "font.family": "DejaVu Sans"}):
        width = PANEL[0] * across
        entries = _legend_entries(comparison, rows, curves)
        per_line = max(
            1,
            min(
                len(entries), int(width / max(0.55 + LETTER * len(e.get_label()) for e in entries))
            ),
        )
        lines = -(-len(entries) // per_line) + 1  # and the title
        figure = Figure(
            figsize=(width, PANEL[1] * down + LEGEND_LINE * lines), layout="constrained"
        )
        FigureCanvasAgg(figure)
        axes = figure.subplots(down, across, squeeze=False).flatten()
        for axis, column in zip(axes, columns, strict=False):
            _panel(axis, comparison, column, rows, curves)
        for axis in axes[len(columns) :]:
            axis.remove()
        figure.legend(
            handles=entries,
            loc="outside lower center",
            ncols=per_line,
            fontsize=FONT["legend"],
            frameon=False,
            title="mean over n seeds, with its 95 % t-interval",
            title_fontsize=FONT["legend"],
        )
        for path in files:
            # Without its date a picture of the same numbers is the same file.
            metadata = {"CreationDate": None} if path.suffix == ".pdf" else None
            with write_atomically(path) as temporary:
                figure.savefig(
                    temporary,
                    format=path.suffix[1:],
                    dpi=PNG_DPI,
                    metadata=metadata,
                    bbox_inches="tight",
                )
    return files, warnings


def read_curves(comparison: Comparison) -> tuple[dict[tuple[Row, Column], Curve], list[str]]:
    """Each cell's curves, and warnings about those that are missing or were recorded at other steps."""
    curves: dict[tuple[Row, Column], Curve] = {}
    warnings = []
    for (row, column), runs in comparison.cells.items():
        histories = []
        for run in runs:
            try:
                histories.append(read_history(run.folder, comparison.metrics[column]))
            except UnusableError as reason:
                warnings.append(f"{run.folder}: in the table, but not in the curves: {reason}")
        if not histories:
            continue
        common = set.intersection(*map(set, histories))
        if not common:
            warnings.append(
                f"{row.label} in {title(column)} has no curve: its runs were never evaluated at one step"
            )
            continue
        if any(set(history) != common for history in histories):
            warnings.append(
                f"the curve of {row.label} in {title(column)} has only the steps that all its runs recorded"
            )
        curves[row, column] = histories
    return curves, warnings


def _panel(
    axis: Axes,
    comparison: Comparison,
    column: Column,
    rows: Sequence[Row],
    curves: dict[tuple[Row, Column], Curve],
) -> None:
    metric = comparison.metrics[column]
    last_step = 0
    seen: list[float] = []  # by single seeds; and the dataset's mean
    alpha = 0.18 if len(rows) <= 4 else 0.1  # many bands on top of each other hide the lines
    for position, row in enumerate(rows):
        if (row, column) not in curves:
            continue
        colour, style = _look(position)
        steps, mean, half_width = curve(curves[row, column])
        seen += [history[step] for history in curves[row, column] for step in steps]
        last_step = max(last_step, int(steps[-1]))
        marker = "o" if len(steps) == 1 else None
        axis.plot(
            steps, mean, color=colour, linestyle=style, marker=marker, linewidth=1.5, zorder=3
        )
        if half_width is not None:
            band = axis.fill_between(
                steps, mean - half_width, mean + half_width, color=colour, alpha=alpha, linewidth=0
            )
            band.set_zorder(2)
    if (of_data := dataset_mean(comparison, column)) is not None:
        axis.axhline(of_data, **DATASET_LINE, zorder=1)
        seen.append(of_data)
    axis.set_ylim((-0.03, 1.03) if metric == WIN_RATE else shown_range(seen))
    axis.set_title(title(column), fontsize=FONT["title"])
    axis.set_ylabel(AXIS_LABELS[metric], fontsize=FONT["label"])
    if last_step >= 10_000:
        axis.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step / 1000:g}"))
    axis.set_xlabel(
        "gradient steps" + (" (thousands)" if last_step >= 10_000 else ""), fontsize=FONT["label"]
    )
    axis.set_xlim(0, last_step or None)
    axis.tick_params(labelsize=FONT["tick"])
    axis.grid(alpha=0.25, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)


def dataset_mean(comparison: Comparison, column: Column) -> float | None:
    """What the column's dataset scores itself, if one of its runs says so: older ones do not know its win rate."""
    name = comparison.metrics[column].removeprefix("test_")
    known = (run.summary.dataset_return or {} for run in comparison.runs(column))
    return next((scores[name] for scores in known if name in scores), None)


def shown_range(values: Sequence[float]) -> tuple[float, float]:
    """The part of the axis that has all `values` in it, with a margin.

    Intervals are cut off there: that of two seeds is nine times as wide as what they reached, and would leave the
    curves a flat line.
    """
    low, high = min(values), max(values)
    margin = MARGIN * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def _legend_entries(
    comparison: Comparison, rows: Sequence[Row], curves: dict[tuple[Row, Column], Curve]
) -> list[Line2D]:
    """One legend serves all panels."""
    entries = []
    for position, row in enumerate(rows):
        colour, style = _look(position)
        counts = sorted({len(some) for (other, _), some in curves.items() if other == row})
        n = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        entries.append(
            Line2D(
                [], [], color=colour, linestyle=style, linewidth=1.5, label=f"{row.label}, n={n}"
            )
        )
    if any(dataset_mean(comparison, column) is not None for _, column in curves):
        entries.append(Line2D([], [], **DATASET_LINE, label="mean of the dataset"))
    return entries


def _look(position: int) -> tuple[str, str]:
    return COLOURS[position % len(COLOURS)], LINE_STYLES[
        position // len(COLOURS) % len(LINE_STYLES)
    ]
