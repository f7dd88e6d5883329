"""What a user may state about padded arrays that lack something: `convert --assume KEY=VALUE`.

Nothing is assumed unless it is asked for. A refusal names the options that would help.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from inspo.data.arrays import in_parts
from inspo.data.episode_data import Finding
from inspo.utils.errors import ConfigError, DatasetError

# Each option, and what is assumed.
ASSUMPTIONS = {
    "axes=squeezed": "axes of size 1 were left out",
    "state=obs": "the state is all observations, side by side",
    "state=flat": "a state's axes are joined",
    "obs=state": "every agent observes the state",
    "obs=flat": "an observation's axes are joined, as of an image",
    "nonfinite=zero": "NaN and infinity in observations and states become 0",
    "actions=onehot": "actions are one-hot",
    "actions=from1": "actions are counted from 1",
    "avail=all": "every action is always available; masks are ignored",
    "avail=noop": "an agent without an available action can only take action 0",
    "avail=final": "every action is available in final rows",
    "filled=all": "every row is filled",
    "filled=terminated": "an episode fills one row more than up to its first terminated step",
    "terminated=any": "the game ends when one agent is terminated",
    "terminated=all": "the game ends when all agents are terminated",
    "terminated=first": "an episode ends with its first terminated step",
    "terminated=last": "every episode terminates with its last step",
    "terminated=none": "every episode was cut",
    "final=stored": "the last filled row is the final observation, in every episode",
    "reward=late": "a reward is stored one row after its action",
    "reward=drop_final": "the reward in the last row means nothing",
}
# Field, part of the problem, and the options that help.
WAYS_OUT = (
    ("state", "missing", ("state=obs",)),
    ("state", "there is nothing in it", ("state=obs",)),
    ("state", "expected 3 axes", ("state=flat",)),
    ("state", "NaN or infinity", ("nonfinite=zero",)),
    ("obs", "missing", ("obs=state",)),
    ("obs", "expected 4 axes", ("obs=flat",)),
    ("obs", "NaN or infinity", ("nonfinite=zero",)),
    ("actions", "missing", ("actions=onehot",)),
    ("actions", "its last axis must be 1", ("actions=onehot",)),
    ("actions", "an action outside", ("actions=from1",)),
    ("actions", "was not available", ("avail=all", "avail=noop")),
    ("avail_actions", "missing", ("avail=all",)),
    ("avail_actions", "must hold 0 and 1", ("avail=all",)),
    ("avail_actions", "no available action", ("avail=noop", "avail=final")),
    ("filled", "missing", ("filled=terminated", "filled=all")),
    ("terminated", "missing", ("terminated=last", "terminated=none")),
    ("terminated", "its last axis must be 1", ("terminated=any", "terminated=all")),
    ("terminated", "set before the last step", ("terminated=first", "terminated=last")),
    ("terminated", "set after the last step", ("terminated=first",)),
    ("terminated", "it is unclear whether", ("final=stored",)),
    ("reward", "a reward after the last step", ("reward=late", "reward=drop_final")),
)
SQUEEZABLE = {"actions": 4, "reward": 3, "terminated": 3, "filled": 3}
# Arrays that an option replaces, so that they need not be stored.
REPLACES = {
    "state=obs": "state",
    "obs=state": "obs",
    "avail=all": "avail_actions",
    "terminated=last": "terminated",
    "terminated=none": "terminated",
    "filled=all": "filled",
    "filled=terminated": "filled",
}
DISCRETE = "This project learns discrete ones; discretise them and use inspo.from_episodes"
BY_HAND = "mend it in Python, and use inspo.from_episodes (docs/datasets.md)"
PART_BYTES = 1 << 23
Arrays = dict[str, Any]  # by name: anything with shape and dtype that can be sliced by episode


class Derived:
    """An array [E, T, ...] that is computed from stored ones when episodes are read.

    Args:
        compute: from a slice of episodes to their values.
    """

    def __init__(self, shape: tuple[int, ...], dtype: Any, compute: Callable[[slice], np.ndarray]):
        self.shape = tuple(shape)
        self.dtype = np.dtype(dtype)
        self.ndim = len(shape)
        self.size = math.prod(shape)
        self.compute = compute

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, episodes: slice) -> np.ndarray:
        return self.compute(episodes)


def parse_assumptions(texts: Iterable[str]) -> frozenset[str]:
    """Checked options.

    Raises:
        ConfigError: one is unknown; the message lists all.
    """
    texts = list(texts)
    if unknown := [text for text in texts if text not in ASSUMPTIONS]:
        lines = [f"{option:<20}{meaning}" for option, meaning in ASSUMPTIONS.items()]
        listed = "\n  ".join(lines)
        raise ConfigError(f"unknown: --assume {', '.join(unknown)}. Possible are:\n  {listed}")
    return frozenset(texts)


def way_out(field: str, problem: str) -> str:
    """The options of `convert` that help, or what else does; empty if nothing is known."""
    if "has shape (0," in problem:
        return "no episode was recorded"
    if field == "actions" and "must hold integers" in problem:
        return f"continuous actions? {DISCRETE}"
    if field == "filled" and "missing" not in problem and "axes" not in problem:
        return BY_HAND
    options = []
    if field in SQUEEZABLE and f"expected {SQUEEZABLE[field]} axes" in problem:
        options.append("axes=squeezed")
    for name, part, helping in WAYS_OUT:
        if name == field and part in problem:
            options += helping
    described = [f"--assume {option} ({ASSUMPTIONS[option]})" for option in options]
    return f"dataset.py convert {', or '.join(described)}" if described else ""


def with_way_out(finding: Finding) -> Finding:
    """The finding, with a hint of what helps."""
    return finding._replace(hint=way_out(finding.field, finding.problem))


def needed(names: Iterable[str], assume: frozenset[str]) -> list[str]:
    """The names of arrays that must be stored."""
    replaced = {name for option, name in REPLACES.items() if option in assume}
    return [name for name in names if name not in replaced]


def complete(stored: Arrays, assume: frozenset[str]) -> Arrays:
    """The padded arrays of PyMARL's layout, with what is assumed in place of what is stored.

    Args:
        stored: arrays with any number of axes. `actions_onehot` is used if there is one.

    Raises:
        DatasetError: an assumption does not hold. The message lacks the path.
    """
    arrays = dict(stored)
    onehot = arrays.pop("actions_onehot", None)
    if "axes=squeezed" in assume:
        _unsqueeze(arrays)
    for name in ("obs", "state"):
        if f"{name}=flat" in assume:
            arrays[name] = _flattened(arrays[name], 3 if name == "obs" else 2)
        if "nonfinite=zero" in assume and name in arrays:
            arrays[name] = _mapped(
                arrays[name], lambda values: np.where(np.isfinite(values), values, 0)
            )
    if "actions=onehot" in assume:
        arrays["actions"] = _indices(arrays.get("actions", onehot), onehot)
    if "actions=from1" in assume:
        arrays["actions"] = _mapped(arrays["actions"], lambda actions: actions - 1)
    if "state=obs" in assume:
        arrays["state"] = _flattened(arrays["obs"], 2)
    if "obs=state" in assume:
        arrays["obs"] = _of_every_agent(arrays["state"], arrays["actions"].shape[2])
    _assume_ends(arrays, assume)
    _assume_masks(arrays, onehot, assume)
    _assume_rewards(arrays, assume)
    return arrays


def _mapped(array: Any, change: Callable[[np.ndarray], np.ndarray]) -> Derived:
    """The array with a change that keeps its shape."""
    return Derived(array.shape, array.dtype, lambda part: change(np.asarray(array[part])))


def _unsqueeze(arrays: Arrays) -> None:
    for name, n_axes in SQUEEZABLE.items():
        array = arrays.get(name)
        if array is not None and array.ndim == n_axes - 1:
            arrays[name] = _reshaped(array, (*array.shape, 1))


def _reshaped(array: Any, shape: tuple[int, ...]) -> Derived:
    """The array in another shape; the first axis stays."""

    def compute(part: slice) -> np.ndarray:
        values = np.asarray(array[part])
        return values.reshape(len(values), *shape[1:])

    return Derived(shape, array.dtype, compute)


def _flattened(array: Any, n_kept: int) -> Derived:
    """The array with all axes after the first `n_kept` joined."""
    return _reshaped(array, (*array.shape[:n_kept], math.prod(array.shape[n_kept:])))


def _of_every_agent(state: Any, n_agents: int) -> Derived:
    """The state as the observation of every agent, [E, T, N, S]."""
    shape = (*state.shape[:2], n_agents, state.shape[2])

    def compute(part: slice) -> np.ndarray:
        values = np.asarray(state[part])
        return np.broadcast_to(values[:, :, None], (len(values), *shape[1:]))

    return Derived(shape, state.dtype, compute)


def _indices(actions: Any, onehot: Any) -> Derived:
    """Indices [E, T, N, 1] of one-hot actions; unfilled rows may hold only zeros."""
    if onehot is not None and (actions is None or actions.ndim != 4 or actions.shape[-1] == 1):
        actions = onehot
    if actions is None or actions.ndim != 4 or actions.shape[-1] < 2:
        raise DatasetError("--assume actions=onehot: there are no one-hot actions [E, T, N, A]")
    for part in in_parts(actions, PART_BYTES):
        values = np.asarray(part)
        if ((values != 0) & (values != 1)).any() or (values.sum(-1) > 1).any():
            raise DatasetError(
                f"--assume actions=onehot: they are not one-hot: continuous actions? {DISCRETE}"
            )
    shape = (*actions.shape[:3], 1)
    return Derived(shape, np.int64, lambda part: np.asarray(actions[part]).argmax(-1)[..., None])


def _assume_masks(arrays: Arrays, onehot: Any, assume: frozenset[str]) -> None:
    if "avail=all" in assume:
        shape = (*arrays["actions"].shape[:3], _count_actions(arrays, onehot))
        episodes = len(arrays["actions"])

        def all_available(part: slice) -> np.ndarray:
            return np.ones((len(range(*part.indices(episodes))), *shape[1:]), dtype=bool)

        arrays["avail_actions"] = Derived(shape, bool, all_available)
    masks, filled = arrays.get("avail_actions"), arrays.get("filled")
    if masks is None or filled is None:
        return

    def changed(part: slice) -> np.ndarray:
        values = np.array(masks[part])
        if "avail=final" in assume:
            final = _n_filled(filled[part]) - 1
            values[np.arange(len(values)), final] = 1
        if "avail=noop" in assume:
            values[..., 0] = np.where(values.any(-1), values[..., 0], 1)
        return values

    if {"avail=final", "avail=noop"} & assume:
        arrays["avail_actions"] = Derived(masks.shape, masks.dtype, changed)


def _count_actions(arrays: Arrays, onehot: Any) -> int:
    """The number of actions: of the masks or one-hot actions, or else the largest plus one."""
    for known in (arrays.get("avail_actions"), onehot):
        if known is not None and known.ndim == 4:
            return known.shape[-1]
    largest = [float(np.max(part)) for part in in_parts(arrays["actions"], PART_BYTES)]
    return max(1, int(max(largest)) + 1)


def _assume_ends(arrays: Arrays, assume: frozenset[str]) -> None:
    """Replaces `filled` and `terminated`."""
    terminated = arrays.get("terminated")
    for option, join in (("terminated=any", np.any), ("terminated=all", np.all)):
        if option in assume and terminated is not None:
            arrays["terminated"] = terminated = _joined(terminated, join)
    n_rows = arrays["actions"].shape[1]
    shape = (*arrays["actions"].shape[:2], 1)

    def filled(part: slice) -> np.ndarray:
        n_episodes = len(range(*part.indices(shape[0])))
        rows = np.full(n_episodes, n_rows)
        if "filled=terminated" in assume or "terminated=first" in assume:
            flags = np.asarray(terminated[part])[..., 0] != 0
            rows = np.where(flags.any(1), flags.argmax(1) + 2, n_rows)
        if stored is not None and "filled=all" not in assume:
            rows = np.minimum(rows, _n_filled(stored[part]))
        return (np.arange(n_rows) < rows[:, None])[..., None]

    stored = arrays.get("filled")
    if {"filled=all", "filled=terminated", "terminated=first"} & assume:
        if "filled=terminated" in assume:
            stored = None
        if "filled=all" not in assume and terminated is None:
            raise DatasetError("--assume filled=terminated: there is no field 'terminated'")
        arrays["filled"] = Derived(shape, bool, filled)
    if {"terminated=last", "terminated=none", "terminated=first", "final=stored"} & assume:
        arrays["terminated"] = _last_flags(terminated, arrays["filled"], assume)


def _joined(flags: Any, join: Callable[..., np.ndarray]) -> Derived:
    """Flags of the agents, [E, T, N, ...], as those of the team, [E, T, 1]."""
    shape = (*flags.shape[:2], 1)

    def compute(part: slice) -> np.ndarray:
        values = np.asarray(flags[part])
        return join(values.reshape(*values.shape[:2], -1), axis=-1, keepdims=True)

    return Derived(shape, bool, compute)


def _last_flags(terminated: Any, filled: Any, assume: frozenset[str]) -> Derived:
    """Flags in no row but the last step's: there in every, in no, or in each flagged episode."""
    shape = (*filled.shape[:2], 1)

    def compute(part: slice) -> np.ndarray:
        last = _n_filled(filled[part]) - 2
        set_there = np.arange(shape[1]) == last[:, None]
        if "terminated=last" in assume:
            return set_there[..., None]
        if "terminated=none" in assume:
            return np.zeros((len(last), *shape[1:]), dtype=bool)
        real = np.asarray(filled[part]) != 0
        flagged = (real & (np.asarray(terminated[part]) != 0)).any(axis=(1, 2))
        return (set_there & flagged[:, None])[..., None]

    return Derived(shape, bool, compute)


def _assume_rewards(arrays: Arrays, assume: frozenset[str]) -> None:
    reward, filled = arrays.get("reward"), arrays.get("filled")
    if reward is None or filled is None or not {"reward=late", "reward=drop_final"} & assume:
        return

    def compute(part: slice) -> np.ndarray:
        values = np.array(reward[part])
        if "reward=late" in assume:
            values[:, :-1] = values[:, 1:]
        final = _n_filled(filled[part]) - 1
        values[np.arange(len(values)), final] = 0
        return values

    arrays["reward"] = Derived(reward.shape, reward.dtype, compute)


def _n_filled(filled: np.ndarray) -> np.ndarray:
    """The number of filled rows of each episode, [E]."""
    return (np.asarray(filled)[..., 0] != 0).sum(axis=1)
