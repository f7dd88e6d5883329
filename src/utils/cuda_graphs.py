"""Functions replayed on a GPU as CUDA graphs: one launch in place of hundreds.

A learner's step is hundreds of small operations, and a GPU computes them faster than the host can
ask for them. A CUDA graph holds all that a function asked for, and asks for it at once.

A graph repeats the same operations on the same addresses. So everything that differs between calls
must be an argument: tensors and floats are copied to fixed places, and for any other value of an
integer, a bool or a shape there is another graph.
"""

import logging
from collections.abc import Callable, Hashable
from typing import Any

import torch as th
from torch import Tensor

log = logging.getLogger(__name__)


def available(device: th.device) -> bool:
    """Whether graphs can be recorded on this device."""
    return device.type == "cuda" and th.version.cuda is not None


class CUDAGraphs:
    """Calls functions, and replays them from their second call on.

    The first call with arguments of some shapes runs as usual, so that libraries load and
    optimisers make their state. A function that cannot be recorded, since it waits for the GPU,
    turns graphs off, with a warning.

    Args:
        generators: that the functions draw from, on the GPU.
    """

    def __init__(self, generators: list[th.Generator]):
        self.generators = generators
        self.off = False
        self.recording = False
        self.pool: Any = None  # the memory that all graphs share
        self.seen: set[Hashable] = set()
        self.graphs: dict[Hashable, Callable[[], Any]] = {}
        self.places: dict[Hashable, Tensor] = {}
        self.placed: set[int] = set()  # ids of all places

    def forget(self) -> None:
        """Drops all graphs: they hold the addresses of what has been replaced."""
        self.seen.clear()
        self.graphs.clear()

    def place(self, value: Any, name: Hashable) -> Any:
        """Copies tensors and floats in dicts and lists to fixed places.

        Args:
            value: a tensor, a float, a constant, or a dict, list or tuple of these. What has its
                place already stays there.
            name: of the places. Another value of that name and of the same shapes takes them.
        """
        if isinstance(value, dict):
            return {key: self.place(part, (name, key)) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return [self.place(part, (name, number)) for number, part in enumerate(value)]
        if isinstance(value, float):
            return self._place_of(name, (), th.float32).fill_(value)
        if not isinstance(value, Tensor) or id(value) in self.placed:
            return value
        return self._place_of(name, value.shape, value.dtype).copy_(value)

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """`function(*args)`; see `place` for what the arguments may be.

        Returns:
            what the function returned: tensors in dicts and lists, copied from the graph.
        """
        if self.off:
            return function(*args)
        args = self.place(args, "argument")
        key = (function.__name__, *map(_signature, args))
        if key not in self.seen:
            self.seen.add(key)
            return function(*args)
        if key not in self.graphs:
            try:
                self.graphs[key] = self._record(function, args)
            except RuntimeError as error:
                self._give_up(error)
                return function(*args)
        return self.graphs[key]()

    def _place_of(self, name: Hashable, shape: tuple[int, ...], dtype: th.dtype) -> Tensor:
        key = (name, shape, dtype)
        if key not in self.places:
            device = self.generators[0].device
            self.places[key] = th.empty(shape, dtype=dtype, device=device)
            self.placed.add(id(self.places[key]))
        return self.places[key]

    def _record(self, function: Callable[..., Any], args: list[Any]) -> Callable[[], Any]:
        """Records the function, which computes nothing yet. Returns what computes it."""
        graph = th.cuda.CUDAGraph()
        for generator in self.generators:
            graph.register_generator_state(generator)
        self.pool = self.pool or th.cuda.graph_pool_handle()
        self.recording = True
        try:
            with th.cuda.graph(graph, pool=self.pool):
                outputs = function(*args)
        finally:
            self.recording = False

        def replay() -> Any:
            graph.replay()
            return _copied(outputs)  # another graph may use their memory

        return replay

    def _give_up(self, error: RuntimeError) -> None:
        self.off = True
        self.graphs.clear()
        log.warning(
            "Steps are not replayed as CUDA graphs, and take longer: %s",
            str(error).partition("\n")[0],
        )


def _signature(value: Any) -> Hashable:
    """What a graph depends on: places and constants."""
    if isinstance(value, dict):
        return tuple((key, _signature(part)) for key, part in value.items())
    if isinstance(value, list):
        return tuple(map(_signature, value))
    return ("place", id(value)) if isinstance(value, Tensor) else value


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_copied, value))
    return value.clone() if isinstance(value, Tensor) else value
