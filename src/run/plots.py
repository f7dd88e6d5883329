"""The picture at the end of a run."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from inspo.utils.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from inspo.run.run_folder import Metrics

PANELS = {  # title: metrics with that prefix, one line for each agent
    "value loss": "value_loss",
    "policy loss": "policy_loss",
    "KL to behaviour (nats)": "kl_to_behaviour",
    "policy entropy (nats)": "policy_entropy",
    "effective sample size of the resampling": "resampling_ess",
    "loss of Q_tot": "td_loss",
    "value of the actions taken": "q_taken",
    "return while training": "return_mean",
}
DATASET_LINES = {  # of the dataset's statistics: panel, style, name
    "return_mean": ("test return", "--", "dataset mean"),
    "return_max": ("test return", ":", "dataset best"),
    "battle_won_mean": ("test win rate", "--", "dataset"),
}
MOST_NAMED = 8  # lines of a panel: with more, the legend would be larger than the panel


def draw_curves(metrics: "Metrics", summary: dict[str, Any], path: Path) -> None:
    """Scores over the run's steps, with the dataset's own return, and what the learner logged."""
    columns = list(dict.fromkeys(name for row in metrics.rows for name in row))
    panels: dict[str, list[str]] = {}
    if "test_return_mean" in columns:
        panels["test return"] = ["test_return_mean"]
    if "test_battle_won_mean" in columns:
        panels["test win rate"] = ["test_battle_won_mean"]
    for title, prefix in PANELS.items():
        if lines := [name for name in columns if name.split("/")[0] == prefix]:
            panels[title] = lines
    if not panels:
        return
    n_columns = min(len(panels), 3)
    n_rows = -(-len(panels) // n_columns)
    figure = Figure(figsize=(4.2 * n_columns, 3.1 * n_rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(n_rows, n_columns, squeeze=False).flatten()
    for axis, (title, lines) in zip(axes, panels.items(), strict=False):
        _draw_panel(axis, title, lines, metrics, summary["step_unit"])
        for key, (where, style, label) in DATASET_LINES.items():
            if title == where and key in (summary["dataset_return"] or {}):
                axis.axhline(
                    summary["dataset_return"][key],
                    color="0.5",
                    linestyle=style,
                    linewidth=1,
                    label=label,
                )
                axis.legend(fontsize=8, loc="best")
    for axis in axes[len(panels) :]:
        axis.remove()
    played = [
        str(summary["env_args"][key])
        for key in ("simulator", "map_name")
        if key in summary["env_args"]
    ]
    dataset = [f"dataset {Path(summary['dataset']).name}"] if summary["dataset"] else []
    where = ", ".join([" ".join([summary["environment"], *played]), *dataset])
    figure.suptitle(f"{summary['algorithm']} on {where}, seed {summary['seed']}", fontsize=11)
    with write_atomically(path) as temporary:
        figure.savefig(temporary, dpi=130, format="png")


def _draw_panel(
    axis: "Axes", title: str, lines: list[str], metrics: "Metrics", step_unit: str
) -> None:
    many = len(lines) > MOST_NAMED
    for name in lines:
        steps, values = zip(*metrics.history(name), strict=True)
        alone = "o" if len(steps) == 1 else None  # a line of one point shows nothing
        label = name.partition("/")[2].replace("_", " ") or None
        axis.plot(steps, values, linewidth=0.7 if many else 1.5, marker=alone, label=label)
    axis.set_title(f"{title}, {len(lines)} agents" if many else title, fontsize=10)
    axis.set_xlabel(step_unit, fontsize=9)
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.3)
    if len(lines) > 1 and not many:
        axis.legend(fontsize=8)
