"""The figures of the exact solver: joint action probabilities, and the return round by round."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from inspo.utils.files import write_atomically

SUFFIXES = (".png", ".pdf", ".svg")
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # told apart by the colour-blind too
LINE_STYLES = ("-", "--", "-.", ":")
MAX_WRITTEN_CELLS = 36  # a larger table is drawn without numbers
FONT = {"title": 9.5, "label": 9.0, "tick": 8.5, "cell": 9.0}


class Panel(NamedTuple):
    """One table of joint action probabilities."""

    title: str
    joint: np.ndarray  # [A_1, ..., A_N]


class Curve(NamedTuple):
    """A return for every round, the one before the first round included."""

    label: str
    returns: Sequence[float]


def draw(
    panels: Sequence[Panel],
    curves: Sequence[Curve],
    action_names: Sequence[str],
    path: Path,
    best: float | None = None,
    rewards: np.ndarray | None = None,
) -> None:
    """Writes the figure to `path`, whole or not at all.

    Args:
        action_names: of every agent's actions, at least as many as there are.
        best: the optimal return, a dotted line.
        rewards: [A_1, ..., A_N], written small into the cells of two agents' tables.
    """
    ratios = [1.0] * len(panels) + [1.5] * bool(curves)
    figure = Figure(figsize=(2.1 * sum(ratios) + 0.5, 2.75), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(ratios), width_ratios=ratios, squeeze=False)[0]
    for index, (panel, axis) in enumerate(zip(panels, axes, strict=False)):
        _heat_map(axis, panel, action_names, rewards, first=index == 0)
    if curves:
        _curves(axes[-1], curves, best)
    with write_atomically(path) as temporary:
        figure.savefig(temporary, format=path.suffix.lstrip("."), metadata=_metadata(path.suffix))


def _heat_map(
    axis: Axes, panel: Panel, names: Sequence[str], rewards: np.ndarray | None, first: bool
) -> None:
    """Agent 0's actions are the rows, the columns those of agent 1 (or the joint ones of all others)."""
    others = panel.joint.shape[1:]
    table = panel.joint.reshape(panel.joint.shape[0], -1)
    image = axis.imshow(
        table, cmap="Blues", vmin=0, vmax=1, aspect="auto" if len(others) > 1 else "equal"
    )
    columns = [" ".join(names[action] for action in index) for index in np.ndindex(*others)]
    longest = max(len(column) for column in columns)
    axis.set_xticks(range(len(columns)), columns, rotation=90 if longest > 2 else 0)
    axis.set_yticks(range(len(table)), [names[action] for action in range(len(table))])
    axis.tick_params(length=0, labelsize=FONT["tick"])
    axis.set_xlabel("agent 1" if len(others) == 1 else "other agents", fontsize=FONT["label"])
    if first:
        axis.set_ylabel("agent 0", fontsize=FONT["label"])
    axis.set_title(panel.title, fontsize=FONT["title"])
    axis.set_xticks(np.arange(1, len(columns)) - 0.5, minor=True)
    axis.set_yticks(np.arange(1, len(table)) - 0.5, minor=True)
    axis.grid(which="minor", color="0.75", linewidth=0.6)
    axis.tick_params(which="minor", length=0)
    if table.size > MAX_WRITTEN_CELLS:
        return
    size = FONT["cell"] if table.size <= 9 else FONT["cell"] - 2.5
    for (row, column), probability in np.ndenumerate(table):
        colour = "white" if image.norm(probability) > 0.55 else "0.15"
        axis.text(
            column, row, _short(probability), ha="center", va="center", color=colour, fontsize=size
        )
        if rewards is not None and table.size <= 9:
            note = f"r = {rewards.reshape(table.shape)[row, column]:g}".replace(
                "-", "\N{MINUS SIGN}"
            )
            axis.text(
                column,
                row + 0.36,
                note,
                ha="center",
                va="center",
                color=colour,
                fontsize=size - 3,
                alpha=0.8,
            )


def _curves(axis: Axes, curves: Sequence[Curve], best: float | None) -> None:
    if best is not None:
        axis.axhline(best, color="0.4", linewidth=1, linestyle=(0, (1, 1.5)), label="optimum")
    marker = "o" if max(len(curve.returns) for curve in curves) <= 25 else None
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
        fontsize=7.5,
        frameon=False,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.22),
        ncols=len(curves) + 1,
        columnspacing=1.0,
        handlelength=1.8,
    )


def _short(probability: float) -> str:
    return (
        "0"
        if probability < 5e-4
        else f"{probability:.2f}"
        if probability < 0.995
        else f"{probability:.3g}"
    )


def _metadata(suffix: str) -> dict[str, None]:
    """Leaves the date out: the same numbers give the same file."""
    return {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}.get(suffix, {})
