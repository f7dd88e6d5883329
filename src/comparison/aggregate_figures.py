"""Draws an aggregate: intervals of the statistics, profiles, and probabilities of improvement."""

from pathlib import Path
from typing import TYPE_CHECKING

from inspo.comparison.aggregate import STATISTICS, Aggregate
from inspo.comparison.canvas import FONT, PANEL_HEIGHT, PANEL_WIDTH, look, plain_axis, write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINE = 0.24  # inches of height for a row of the table
MOST_PAIRS = 12  # drawn; the table has all


def draw(aggregate: Aggregate, stem: Path) -> list[Path]:
    """Writes the figure as `stem`.png and `stem`.pdf. Returns the files."""
    return write_figure(stem, lambda: make_figure(aggregate))


def make_figure(aggregate: Aggregate) -> "Figure":
    """Above: a panel for each statistic. Below: profiles, and probabilities of improvement."""
    from matplotlib.figure import Figure

    n_rows = len(aggregate.scores)
    n_pairs = min(len(aggregate.improvement), MOST_PAIRS)
    heights = [LINE * n_rows + 0.8, max(PANEL_HEIGHT, LINE * n_pairs + 0.8)]
    figure = Figure(figsize=(3 * PANEL_WIDTH, sum(heights)), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=heights)
    axes = upper.subplots(1, len(STATISTICS), sharey=True)
    for axis, name in zip(axes, STATISTICS, strict=True):
        _draw_statistic(axis, aggregate, name)
    profile, pairs = lower.subplots(1, 2)
    _draw_profiles(profile, aggregate)
    if n_pairs:
        _draw_improvement(pairs, aggregate)
    else:
        pairs.remove()
    return figure


def _draw_statistic(axis: "Axes", aggregate: Aggregate, name: str) -> None:
    for position, estimates in enumerate(aggregate.estimates.values()):
        value, low, high = estimates[name]
        colour, _ = look(position)
        axis.barh(position, high - low, 0.6, left=low, color=colour, alpha=0.35)
        axis.plot([value, value], [position - 0.3, position + 0.3], color=colour, linewidth=2)
    axis.use_sticky_edges = False  # a margin beside the bars
    labels = [row.label for row in aggregate.estimates]
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(len(labels) - 0.5, -0.5)  # the first row on top
    axis.set_title(STATISTICS[name], fontsize=FONT["title"])
    axis.set_xlabel("normalised score", fontsize=FONT["label"])
    plain_axis(axis)


def _draw_profiles(axis: "Axes", aggregate: Aggregate) -> None:
    for position, (row, profile) in enumerate(aggregate.profiles.items()):
        colour, style = look(position)
        thresholds = aggregate.thresholds
        axis.plot(thresholds, profile.share, style, color=colour, linewidth=1.5, label=row.label)
        axis.fill_between(
            thresholds, profile.low, profile.high, color=colour, alpha=0.15, linewidth=0
        )
    axis.set_title("performance profile", fontsize=FONT["title"])
    axis.set_xlabel("normalised score", fontsize=FONT["label"])
    axis.set_ylabel("share of runs above it", fontsize=FONT["label"])
    axis.set_ylim(-0.03, 1.03)
    axis.legend(fontsize=FONT["legend"], frameon=False)
    plain_axis(axis)


def _draw_improvement(axis: "Axes", aggregate: Aggregate) -> None:
    pairs = list(aggregate.improvement.items())[:MOST_PAIRS]
    for position, (_, (value, low, high)) in enumerate(pairs):
        axis.plot([low, high], [position, position], color="0.55", linewidth=5, alpha=0.5)
        axis.plot([value], [position], "o", color="#0072b2", markersize=5)
    labels = [f"{x.label} > {y.label}" for (x, y), _ in pairs]
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(len(labels) - 0.5, -0.5)
    axis.set_xlim(-0.03, 1.03)
    axis.axvline(0.5, color="0.3", linewidth=0.8, linestyle=":")
    axis.set_title("probability of improvement", fontsize=FONT["title"])
    plain_axis(axis)
