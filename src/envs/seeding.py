"""Starts episodes of environments with a seed, whatever way they have of taking one."""

import inspect
import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

log = logging.getLogger(__name__)
LEGACY_SEEDS = 2**32  # of NumPy's global generator


class Seeder:
    """Resets one environment with seeds.

    In this order: `reset(seed=...)`, a method `seed(number)`, or else Python's and NumPy's global
    random generators. In the last case, the environment gets random states of its own, so that its
    episodes depend neither on other games nor on training.

    Args:
        env: has a method `reset`.
    """

    def __init__(self, env: Any):
        self.env = env
        self.takes_seed = accepts(env.reset, "seed")
        seed = getattr(env, "seed", None)
        self.has_seed_method = callable(seed) and _n_positional(seed) > 0
        self.uses_global = not self.takes_seed and not self.has_seed_method
        self._states: tuple[Any, Any] | None = None

    def reset(self, seed: int | None) -> Any:
        """What the environment's `reset` returns."""
        if self.takes_seed:
            return self.env.reset(seed=seed)
        if seed is None:
            return self.call(self.env.reset)
        if self.has_seed_method:
            self.env.seed(seed)
            return self.env.reset()
        with self._own_randomness():
            random.seed(seed)
            np.random.seed(seed % LEGACY_SEEDS)
            return self.env.reset()

    def call(self, method: Callable, *arguments: Any) -> Any:
        """Calls a method that may draw random numbers."""
        if not self.uses_global:
            return method(*arguments)
        with self._own_randomness():
            return method(*arguments)

    @contextmanager
    def _own_randomness(self) -> Iterator[None]:
        """The global generators in this environment's states; afterwards as they were."""
        before = random.getstate(), np.random.get_state(legacy=False)
        if self._states is not None:
            random.setstate(self._states[0])
            np.random.set_state(self._states[1])
        try:
            yield
        finally:
            self._states = random.getstate(), np.random.get_state(legacy=False)
            random.setstate(before[0])
            np.random.set_state(before[1])


def accepts(function: Callable, name: str) -> bool:
    """Whether a function has a parameter of this name, or takes any keyword."""
    try:
        parameters = inspect.signature(function).parameters
    except (ValueError, TypeError):
        return False
    keywords = any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters.values())
    return name in parameters or keywords


def _n_positional(function: Callable) -> int:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):
        return 0
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(1 for parameter in parameters if parameter.kind in kinds)
