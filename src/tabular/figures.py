"""Figures of the exact solver: probabilities of joint actions, and the return by round."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".pdf", ".svg")
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # the colour-blind can tell them apart
LINE_STYLES = ("-", "--", "-.", ":")
MAX_WRITTEN_CELLS = 36  # a larger table is drawn without numbers
MAX_REWARD_CELLS = 9  # a larger table is drawn without rewards
MAX_MARKERS = 25  # a longer curve is drawn without markers
FONT = {"title": 9.5, "label": 9.0, "tick": 8.5, "legend": 7.5, "reward": 6.0}
CELL_FONT, SMALL_CELL_FONT = 9.0, 6.5
DPI = 150


class PolicyTable(NamedTuple):
    """A table of joint action probabilities."""

    title: str
    joint: np.ndarray  # [A_1, ..., A_N]


class Curve(NamedTuple):
    """Returns before the first round and after each round."""

    label: str
    returns: Sequence[float]


def draw(
    panels: Sequence[PolicyTable],
    curves: Sequence[Curve],
    action_names: Sequence[str],
    best: float | None = None,
    rewards: np.ndarray | None = None,
) -> "Figure":
    """Draws the panels, and beside them the curves.

    Args:
        action_names: the same for all agents, at least as many as an agent has actions.
        best: the optimal return, a dotted line.
        rewards: [A_1, ..., A_N], written into the cells of small tables.
    """
    from matplotlib.figure import Figure

    ratios = [1.0] * len(panels) + [1.5]
    figure = Figure(figsize=(2.1 * sum(ratios) + 0.5, 2.75), dpi=DPI, layout="constrained")
    axes = figure.subplots(1, len(ratios), width_ratios=ratios)
    for axis, panel in zip(axes, panels, strict=False):
        _draw_table(axis, panel, action_names, rewards)
    axes[0].set_ylabel("agent 0", fontsize=FONT["label"])
    _draw_curves(axes[-1], curves, best)
    return figure


def _draw_table(
    axis: "Axes", panel: PolicyTable, names: Sequence[str], rewards: np.ndarray | None
) -> None:
    """Rows are agent 0's actions. Columns are those of agent 1, or of all other agents."""
    n_rows, *others = panel.joint.shape
    table = panel.joint.reshape(n_rows, -1)
    aspect = "equal" if len(others) == 1 else "auto"
    axis.imshow(table, cmap="Blues", vmin=0, vmax=1, aspect=aspect)
    columns = [" ".join(names[action] for action in actions) for actions in np.ndindex(*others)]
    rotation = 90 if max(map(len, columns)) > 2 else 0
    axis.set_xticks(range(len(columns)), columns, rotation=rotation)
    axis.set_yticks(range(n_rows), names[:n_rows])
    axis.tick_params(length=0, labelsize=FONT["tick"])
    axis.set_xlabel("agent 1" if len(others) == 1 else "other agents", fontsize=FONT["label"])
    axis.set_title(panel.title, fontsize=FONT["title"])
    # Minor ticks carry the lines between the cells.
    axis.set_xticks(np.arange(1, len(columns)) - 0.5, minor=True)
    axis.set_yticks(np.arange(1, n_rows) - 0.5, minor=True)
    axis.grid(which="minor", color="0.75", linewidth=0.6)
    axis.tick_params(which="minor", length=0)

    if table.size <= MAX_WRITTEN_CELLS:
        _write_cells(axis, table, rewards)


def _write_cells(axis: "Axes", table: np.ndarray, rewards: np.ndarray | None) -> None:
    """The probabilities and, in a small table, the rewards below them."""
    is_small = table.size <= MAX_REWARD_CELLS
    size = CELL_FONT if is_small else SMALL_CELL_FONT
    for (row, column), probability in np.ndenumerate(table):
        style = {"ha": "center", "va": "center", "color": _text_colour(probability)}
        axis.text(column, row, _short(probability), fontsize=size, **style)
        if rewards is not None and is_small:
            reward = f"r = {rewards.reshape(table.shape)[row, column]:g}"
            text = reward.replace("-", "\N{MINUS SIGN}")
            axis.text(column, row + 0.36, text, fontsize=FONT["reward"], alpha=0.8, **style)


def _draw_curves(axis: "Axes", curves: Sequence[Curve], best: float | None) -> None:
    if best is not None:
        axis.axhline(best, color="0.4", linewidth=1, linestyle=(0, (1, 1.5)), label="optimum")
    longest = max(len(curve.returns) for curve in curves)
    marker = "o" if longest <= MAX_MARKERS else None
    for curve, colour, style in zip(curves, COLOURS, LINE_STYLES, strict=False):
        axis.plot(
            curve.returns,
            style,
            color=colour,
            marker=marker,
            markersize=3,
            linewidth=1.4,
            label=curve.label,
            zorder=3,
        )
    axis.set_xlabel("round", fontsize=FONT["label"])
    axis.set_title("Return", fontsize=FONT["title"])
    axis.tick_params(labelsize=FONT["tick"])
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.margins(y=0.08)
    axis.legend(
        fontsize=FONT["legend"],
        frameon=False,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.22),
        ncols=len(curves) + 1,
        columnspacing=1.0,
        handlelength=1.8,
    )


def _text_colour(probability: float) -> str:
    """Readable on the cell's colour."""
    return "white" if probability > 0.55 else "0.15"


def _short(probability: float) -> str:
    if probability < 5e-4:
        return "0"
    return f"{probability:.2f}" if probability < 0.995 else f"{probability:.3g}"
