"""What the figures of a comparison share: sizes, colours, and how files are written."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from inspo.comparison.comparison import RETURN, WIN_RATE, Comparison
from inspo.comparison.curves import dataset_score
from inspo.utils.pictures import drawing, save_figure

if TYPE_CHECKING:
    from matplotlib.artist import Artist
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


def write_figure(stem: Path, make: Callable[[], "Figure | None"]) -> list[Path]:
    """Writes a figure as `stem`.png and `stem`.pdf.

    Args:
        make: makes the figure; None if there is nothing to draw.

    Returns:
        the files. If there is nothing to draw, older files of these names are removed. What cannot
        be drawn is missing, with a warning.
    """
    files = [stem.with_name(stem.name + suffix) for suffix in SUFFIXES]
    written: list[Path] = []
    with drawing(stem):
        _write(make, files, written)
    for path in files:
        if path not in written:
            path.unlink(missing_ok=True)
    return written


def look(position: int) -> tuple[str, str]:
    """Colour and line style of a row."""
    cycle, colour = divmod(position, len(COLOURS))
    return COLOURS[colour], LINE_STYLES[cycle % len(LINE_STYLES)]


def panels_across(n_panels: int) -> int:
    """Number of panels in a line."""
    return 2 if n_panels == 4 else min(n_panels, PANELS_PER_LINE)


def figure_with_legend(
    width: float, height: float, entries: Sequence["Artist"], title: str
) -> "Figure":
    """A figure with a legend below its panels, which are not there yet.

    Args:
        width, height: of all panels together, in inches.
    """
    from matplotlib.figure import Figure

    longest = max(len(str(entry.get_label())) for entry in entries)
    fitting = int(width / (LEGEND_HANDLE + LEGEND_LETTER * longest))
    n_across = min(max(fitting, 1), len(entries))
    n_lines = math.ceil(len(entries) / n_across) + 1  # and the title
    figure = Figure(figsize=(width, height + LEGEND_LINE * n_lines), layout="constrained")
    figure.legend(
        handles=entries,
        loc="outside lower center",
        ncols=n_across,
        fontsize=FONT["legend"],
        frameon=False,
        title=title,
        title_fontsize=FONT["legend"],
    )
    return figure


def dataset_entries(comparison: Comparison) -> "list[Line2D]":
    """The legend's entry for the lines of datasets, if any column has one."""
    from matplotlib.lines import Line2D

    if all(dataset_score(comparison, column) is None for column in comparison.columns):
        return []
    return [Line2D([], [], **DATASET_LINE, label="mean of the dataset")]


def plain_axis(axis: "Axes") -> None:
    """A light grid, small numbers, and no frame above and to the right."""
    axis.tick_params(labelsize=FONT["tick"])
    axis.grid(alpha=0.25, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)


def _write(make: Callable[[], "Figure | None"], files: list[Path], written: list[Path]) -> None:
    """Adds each file to `written` as soon as it is there."""
    import matplotlib

    # Type 42 embeds fonts as text, as publishers ask.
    with matplotlib.rc_context({"pdf.fonttype": 42, "font.family": "DejaVu Sans"}):
        figure = make()
        if figure is None:
            return
        for path in files:
            kind = path.suffix.removeprefix(".")
            save_figure(figure, path, kind, dpi=PNG_DPI, bbox_inches="tight")
            written.append(path)
