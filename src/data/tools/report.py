"""The statistics of a dataset as text and as a picture."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inspo.data.formats import Reader
from inspo.data.tools.published import published_for
from inspo.data.tools.statistics import Results
from inspo.utils.pictures import drawing, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINS, PLOT_BINS = 12, 40
BAR = 40  # characters of the longest bar
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
AGENTS_NAMED = 30  # beside the picture of the actions
MANY_ACTIONS = 24  # the text shows only so many, the most frequent ones


def as_text(reader: Reader, found: Results) -> str:
    """The report of `inspect`."""
    return "\n".join(
        [
            f"{reader.path}: {reader.layout}",
            *_overview(reader, found),
            *_behaviour(found),
            *_published(reader.path, found),
            "",
            "  returns",
            *_histogram(found.returns),
            "",
            "  lengths",
            *_histogram(found.lengths),
            "",
            "  actions, % of each agent's steps (in brackets: % of the steps when available)",
            *_action_table(found),
            "",
            "  metadata",
            *(f"    {key}: {value}" for key, value in reader.metadata.items()),
        ]
    )


def _overview(reader: Reader, found: Results) -> list[str]:
    sizes, lengths, returns = found.sizes, found.lengths, found.returns
    mib = sizes.bytes_per_row() * (found.n_steps + len(lengths)) / 2**20
    quantiles = ", ".join(f"{value:.3f}" for value in np.quantile(returns, QUANTILES))
    return [
        f"  sizes             {sizes.n_agents} agents, {sizes.n_actions} actions, "
        f"obs of {sizes.obs}, state of {sizes.state}",
        f"  counts            {len(lengths)} episodes, {found.n_steps} steps, "
        f"{mib:.1f} MiB in memory",
        f"  length            mean {lengths.mean():.2f}, from {lengths.min()} to {lengths.max()}",
        f"  return            mean {returns.mean():.4f}, std {returns.std():.4f}, "
        f"from {returns.min():.4f} to {returns.max():.4f}",
        f"                    quantiles 5, 25, 50, 75, 95 %: {quantiles}",
        f"  truncated         {100 * found.truncated:.1f} % of the episodes",
        f"  won               {_wins(reader.metadata, found)}",
    ]


def _behaviour(found: Results) -> list[str]:
    sizes = found.sizes
    possible = sizes.n_actions**sizes.n_agents
    power = f"{possible}" if possible < 1e15 else f"{sizes.n_actions}^{sizes.n_agents}"
    seen = 100 * found.joint_actions / possible
    distinct = 100 * found.distinct_pairs / found.n_steps
    of_agents = ", ".join(f"{value:.3f}" for value in found.agent_entropy)
    # abs() prints no -0.000.
    given_state = abs(found.joint_entropy_given_state)
    coordination = abs(found.coordination)
    repeated = len(found.lengths) - found.distinct_episodes
    return [
        f"  episodes          {found.distinct_episodes} distinct, {repeated} repeat another one",
        f"  joint actions     {found.joint_actions} of {power} seen ({seen:.3g} %)",
        f"  distinct          {found.distinct_states} states, {found.distinct_pairs} pairs of "
        f"state and joint action ({distinct:.1f} % of the steps)",
        f"  entropy (nats)    of each agent's actions {of_agents}; "
        f"joint {found.joint_entropy:.3f}, given the state {given_state:.3f}",
        f"                    the agents' sum minus the joint: {coordination:.3f} "
        "(0: they act independently)",
    ]


def _published(path: Path, found: Results) -> list[str]:
    """What is published of the dataset, and how it differs; empty if nothing is published."""
    published = published_for(path)
    if published is None:
        return []
    share = found.distinct_pairs / found.n_steps
    differing = list(published.differences(found.lengths, found.returns, share))
    verdict = "; ".join(differing) or "agrees"
    return [
        f"  published         {published.summary()}",
        f"                    this dataset: {verdict}",
    ]


def _wins(metadata: dict[str, Any], found: Results) -> str:
    stated = metadata.get("battle_won_mean")
    if isinstance(stated, int | float) and 0 <= stated <= 1:
        return f"{100 * stated:.1f} % of the episodes, according to the metadata"
    if found.win_rate is not None:
        share = f"{100 * found.win_rate:.1f} % of the episodes"
        return f"{share}: their last reward holds the bonus for winning {found.map_name}"
    reason = "no 'battle_won_mean' in the metadata, nor the sizes of a known StarCraft II map"
    return f"unknown: {reason}"


def _histogram(values: np.ndarray) -> list[str]:
    counts, edges = np.histogram(values, bins=_edges(values, BINS))
    if len(counts) == 1:
        edges = np.array([values.min(), values.max()])
    lines = []
    for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True):
        bar = "#" * round(BAR * count / counts.max())
        lines.append(f"    {low:>10.3f} to {high:>10.3f}  {count:>7}  {bar}".rstrip())
    return lines


def _edges(values: np.ndarray, bins: int) -> np.ndarray:
    """Edges of so many bins, or of one where the values differ only by rounding."""
    low, high = float(values.min()), float(values.max())
    size = max(abs(low), abs(high))
    if high - low > 1e-9 * size:
        return np.linspace(low, high, bins + 1)
    margin = max(0.5, 1e-6 * size)
    return np.array([low - margin, high + margin])


def _action_table(found: Results) -> list[str]:
    lines = []
    for agent, shares in enumerate(found.frequencies):
        taken = 100 * shares
        available = 100 * found.availability[agent]
        shown = np.sort(np.argsort(-shares)[:MANY_ACTIONS])
        cells = [f"{a}: {taken[a]:.1f} ({available[a]:.0f})" for a in shown]
        lines.append(f"    agent {agent}   " + "  ".join(cells))
    return lines


def draw(reader: Reader, found: Results, path: Path) -> bool:
    """Draws the picture of `inspect`. If it cannot, there is a warning, and False is returned."""
    with drawing(path):
        save_figure(_make_figure(reader, found), path, dpi=120)
        return True
    return False


def _make_figure(reader: Reader, found: Results) -> "Figure":
    """Histograms, returns over the file, and each agent's actions."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6.4), layout="constrained")
    axes = figure.subplots(2, 2)
    _draw_histogram(axes[0, 0], found.returns, "return")
    _draw_histogram(axes[0, 1], found.lengths, "length in steps")
    order, actions = axes[1]
    order.plot(found.returns, ".", markersize=2, color="tab:blue", rasterized=True)
    order.set(xlabel="episode, in the order of the file", ylabel="return")
    shares = 100 * found.frequencies
    image = actions.imshow(shares, aspect="auto", cmap="viridis", vmin=0)
    n_agents = found.sizes.n_agents
    ticks = range(0, n_agents, -(-n_agents // AGENTS_NAMED))
    actions.set(xlabel="action", ylabel="agent", yticks=ticks)
    figure.colorbar(image, ax=actions, label="% of the agent's steps")
    name = os.fsencode(reader.path.absolute().name).decode(errors="replace")
    title = f"{name}: {len(found.lengths)} episodes, {reader.layout}"
    figure.suptitle(title, fontsize=10)
    return figure


def _draw_histogram(axis: "Axes", values: np.ndarray, name: str) -> None:
    mean = values.mean()
    axis.hist(values, bins=_edges(values, PLOT_BINS), color="tab:blue")
    label = f"mean {mean:.2f}"
    axis.axvline(mean, color="black", linestyle="--", linewidth=1, label=label)
    axis.set(xlabel=name, ylabel="episodes")
    axis.legend(fontsize=8)
