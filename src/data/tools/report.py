"""A dataset's figures as text and as a picture."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from inspo.data.formats import Reader
from inspo.data.tools.statistics import Results
from inspo.utils.files import write_atomically

BINS, BAR = 12, 40
AGENTS_NAMED = 30  # beside the picture of the actions
MANY_ACTIONS = 24  # beyond which the text shows only the most frequent ones


def as_text(reader: Reader, found: Results) -> str:
    """The report of `inspect`."""
    sizes, lengths, returns = found.sizes, found.lengths, found.returns
    possible = sizes.n_actions**sizes.n_agents
    power = f"{possible}" if possible < 1e15 else f"{sizes.n_actions}^{sizes.n_agents}"
    quantiles = ", ".join(
        f"{value:.3f}" for value in np.quantile(returns, (0.05, 0.25, 0.5, 0.75, 0.95))
    )
    lines = [
        f"{reader.path}: {reader.layout}",
        f"  sizes             {sizes.n_agents} agents, {sizes.n_actions} actions, "
        f"obs of {sizes.obs}, state of {sizes.state}",
        f"  counts            {len(lengths)} episodes, {found.n_steps} steps, "
        f"{sizes.bytes_per_row() * (found.n_steps + len(lengths)) / 2**20:.1f} MiB in memory",
        f"  length            mean {lengths.mean():.2f}, from {lengths.min()} to {lengths.max()}",
        f"  return            mean {returns.mean():.4f}, std {returns.std():.4f}, "
        f"from {returns.min():.4f} to {returns.max():.4f}",
        f"                    quantiles 5, 25, 50, 75, 95 %: {quantiles}",
        f"  truncated         {100 * found.truncated:.1f} % of the episodes",
        f"  won               {_wins(reader.metadata, found)}",
        f"  joint actions     {found.joint_actions} of {power} seen ({100 * found.joint_actions / possible:.3g} %)",
        f"  distinct          {found.distinct_states} states, {found.distinct_pairs} pairs of state and joint action "
        f"({100 * found.distinct_pairs / found.n_steps:.1f} % of the steps)",
        f"  entropy (nats)    of each agent's actions {_numbers(found.agent_entropy)}; "
        f"joint {found.joint_entropy:.3f}, given the state {abs(found.joint_entropy_given_state):.3f}",
        f"                    the agents' sum less the joint: {abs(found.coordination):.3f} "
        f"(0: they act independently)",
        "",
        "  returns",
        *_histogram(returns),
        "",
        "  lengths",
        *_histogram(lengths),
        "",
        "  actions, % of each agent's steps (in brackets: % of the steps at which it was available)",
        *_action_table(found),
        "",
        "  metadata",
        *(f"    {key}: {value}" for key, value in reader.metadata.items()),
    ]
    return "\n".join(lines)


def draw(reader: Reader, found: Results, path: Path) -> None:
    """The picture of `inspect`: histograms, returns in the order of the file, and who takes which action."""
    figure = Figure(figsize=(10, 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2)
    for axis, values, name in (
        (axes[0, 0], found.returns, "return"),
        (axes[0, 1], found.lengths, "length in steps"),
    ):
        axis.hist(values, bins=_edges(values, 40), color="tab:blue")
        axis.axvline(
            values.mean(),
            color="black",
            linestyle="--",
            linewidth=1,
            label=f"mean {values.mean():.2f}",
        )
        axis.set(xlabel=name, ylabel="episodes")
        axis.legend(fontsize=8)
    axes[1, 0].plot(found.returns, ".", markersize=2, color="tab:blue", rasterized=True)
    axes[1, 0].set(xlabel="episode, in the order of the file", ylabel="return")
    image = axes[1, 1].imshow(100 * found.frequencies, aspect="auto", cmap="viridis", vmin=0)
    agents = found.sizes.n_agents
    axes[1, 1].set(
        xlabel="action", ylabel="agent", yticks=range(0, agents, -(-agents // AGENTS_NAMED))
    )
    figure.colorbar(image, ax=axes[1, 1], label="% of the agent's steps")
    name = os.fsencode(reader.path.absolute().name).decode(errors="replace")
    title = f"{name}: {len(found.lengths)} episodes, {reader.layout}"
    figure.suptitle(title, fontsize=10, parse_math=False)  # a name may hold a $
    with write_atomically(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def _wins(metadata: dict[str, Any], found: Results) -> str:
    if isinstance(said := metadata.get("battle_won_mean"), int | float) and 0 <= said <= 1:
        return f"{100 * said:.1f} % of the episodes, its maker says"
    if found.win_rate is not None:
        return f"{100 * found.win_rate:.1f} % of the episodes: their last reward holds {found.map_name}'s win bonus"
    return "unknown: neither the metadata ('battle_won_mean') nor the sizes of a known StarCraft II map tell"


def _histogram(values: np.ndarray) -> list[str]:
    counts, edges = np.histogram(values, bins=_edges(values, BINS))
    if len(counts) == 1:
        edges = np.array([values.min(), values.max()])
    return [
        f"    {low:>10.3f} to {high:>10.3f}  {count:>7}  {'#' * round(BAR * count / counts.max())}".rstrip()
        for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True)
    ]


def _edges(values: np.ndarray, bins: int) -> np.ndarray:
    """Of so many bins, or of one where the values differ in nothing but rounding."""
    low, high = float(values.min()), float(values.max())
    size = max(abs(low), abs(high))
    if high - low > 1e-9 * size:
        return np.linspace(low, high, bins + 1)
    return np.array([low - max(0.5, 1e-6 * size), high + max(0.5, 1e-6 * size)])


def _action_table(found: Results) -> list[str]:
    lines = []
    for agent, shares in enumerate(found.frequencies):
        shown = (
            np.arange(len(shares))
            if len(shares) <= MANY_ACTIONS
            else np.sort(np.argsort(-shares)[:MANY_ACTIONS])
        )
        cells = [
            f"{a}: {100 * shares[a]:.1f} ({100 * found.availability[agent, a]:.0f})" for a in shown
        ]
        lines.append(f"    agent {agent}   " + "  ".join(cells))
    return lines


def _numbers(values: np.ndarray) -> str:
    return ", ".join(f"{value:.3f}" for value in values)
