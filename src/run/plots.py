"""The picture at the end of a run, curves.png."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inspo.run.run_folder import Metrics, run_title
from inspo.utils.pictures import drawing, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RETURN, WIN_RATE = "test return", "test win rate"
PANELS = {  # title: a metric; with a line for each agent if there is one metric for each
    RETURN: "test_return_mean",
    WIN_RATE: "test_battle_won_mean",
    "value loss": "value_loss",
    "policy loss": "policy_loss",
    "KL to behaviour (nats)": "kl_to_behaviour",
    "policy entropy (nats)": "policy_entropy",
    "effective sample size of the resampling": "resampling_ess",
    "loss of Q_tot": "td_loss",
    "value of the actions taken": "q_taken",
    "return while training": "return_mean",
}
DATASET_LINES = {  # a score of the dataset: panel, line style, label
    "return_mean": (RETURN, "--", "dataset mean"),
    "return_max": (RETURN, ":", "dataset best"),
    "battle_won_mean": (WIN_RATE, "--", "dataset mean"),
}
PANELS_PER_LINE = 3
PANEL_WIDTH, PANEL_HEIGHT, LEGEND_HEIGHT = 4.2, 3.1, 0.3  # inches
MOST_NAMED = 8  # agents; the lines of more have no names
DPI = 130


def draw_curves(metrics: Metrics, summary: dict[str, Any], path: Path) -> None:
    """Draws scores, with those of the dataset, and the learner's metrics over the run's steps.

    Args:
        summary: content of summary.json.
        path: of the PNG file. It is not written if there is nothing to draw. If it cannot be
            drawn, there is a warning.
    """
    with drawing(path):
        figure = make_figure(metrics, summary)
        if figure is not None:
            save_figure(figure, path, dpi=DPI)


def make_figure(metrics: Metrics, summary: dict[str, Any]) -> "Figure | None":
    """A panel for each of `PANELS` that the run recorded; None if there is none."""
    from matplotlib.figure import Figure

    panels = _recorded_panels(metrics)
    if not panels:
        return None
    n_across = min(len(panels), PANELS_PER_LINE)
    n_down = math.ceil(len(panels) / n_across)
    size = (PANEL_WIDTH * n_across, PANEL_HEIGHT * n_down + LEGEND_HEIGHT)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(n_down, n_across, squeeze=False).flatten()
    for axis, (title, names) in zip(axes, panels.items(), strict=False):
        _draw_panel(axis, title, names, metrics)
        _draw_dataset(axis, title, summary["dataset_return"] or {})
        axis.set_xlabel(summary["step_unit"], fontsize=9)
    for axis in axes[len(panels) :]:
        axis.remove()
    figure.suptitle(run_title(summary), fontsize=11)
    _add_legend(figure, max(panels.values(), key=len))
    return figure


def _recorded_panels(metrics: Metrics) -> dict[str, list[str]]:
    """Each panel's title and metrics."""
    recorded = list(dict.fromkeys(name for row in metrics.rows for name in row))
    panels = {}
    for title, metric in PANELS.items():
        names = [name for name in recorded if name.partition("/")[0] == metric]
        if names:
            panels[title] = names
    return panels


def _draw_panel(axis: "Axes", title: str, names: list[str], metrics: Metrics) -> None:
    many = len(names) > MOST_NAMED
    width = 0.7 if many else 1.5
    for position, name in enumerate(names):
        steps, values = zip(*metrics.history(name), strict=True)
        colour = "black" if len(names) == 1 else f"C{position}"
        marker = "o" if len(steps) == 1 else None  # a line of one point is invisible
        axis.plot(steps, values, color=colour, linewidth=width, marker=marker)
    axis.set_title(f"{title}, {len(names)} agents" if many else title, fontsize=10)
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)


def _draw_dataset(axis: "Axes", title: str, scores: dict[str, float]) -> None:
    for key, (panel, style, label) in DATASET_LINES.items():
        if panel == title and key in scores:
            axis.axhline(scores[key], color="0.5", linestyle=style, linewidth=1, label=label)
            axis.legend(fontsize=8, loc="best")


def _add_legend(figure: "Figure", names: list[str]) -> None:
    """One legend for all panels: the agents, unless there are too many or one."""
    from matplotlib.lines import Line2D

    if not 1 < len(names) <= MOST_NAMED:
        return
    agents = [name.partition("/")[2].replace("_", " ") for name in names]
    lines = [Line2D([], [], color=f"C{k}", label=agent) for k, agent in enumerate(agents)]
    figure.legend(
        handles=lines, loc="outside lower center", ncols=len(lines), fontsize=9, frameon=False
    )
