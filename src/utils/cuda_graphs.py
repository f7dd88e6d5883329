"""Functions replayed on a GPU as CUDA graphs: one launch in place of hundreds.

A learner's step is hundreds of small operations, and a GPU computes them faster than the host can
ask for them. A CUDA graph holds all that a function asked for, and asks for it at once.

A graph repeats the same operations on the same addresses. So everything that differs between calls
must be an argument. Tensors and floats are copied to fixed places. Each shape and each value of an
integer or a bool has a graph of its own.
"""

import gc
import logging
import warnings
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import cache
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
        # If a recording fails, PyTorch's allocator may still ask its graph.
        self.unfinished: th.cuda.CUDAGraph | None = None
        self.seen: set[Hashable] = set()
        self.graphs: dict[Hashable, Callable[[], Any]] = {}
        self.places: dict[Hashable, Tensor] = {}
        self.placed: set[int] = set()  # ids of all places

    def forget(self) -> None:
        """Drops all graphs: they hold the addresses of what has been replaced."""
        self.seen.clear()
        self.graphs.clear()
        self.pool = None  # it has ended with its last graph

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
            what the function returned: tensors in dicts and lists, copied from the graph. They have
            no history, which would tie parameters to the stream of this call in later ones.
        """
        if self.off:
            return function(*args)
        args = self.place(args, "argument")
        # Without the method's object, which would hold itself and its graphs.
        key = (getattr(function, "__func__", function), *map(_signature, args))
        if key not in self.seen:
            self.seen.add(key)
            return _each(Tensor.detach, function(*args))
        if key not in self.graphs:
            try:
                self.graphs[key] = self._record(function, args)
            except RuntimeError as error:
                self._give_up(error)
        return self.graphs[key]() if key in self.graphs else function(*args)

    def _place_of(self, name: Hashable, shape: tuple[int, ...], dtype: th.dtype) -> Tensor:
        key = (name, shape, dtype)
        if key not in self.places:
            device = self.generators[0].device
            self.places[key] = th.empty(shape, dtype=dtype, device=device)
            self.placed.add(id(self.places[key]))
        return self.places[key]

    def _record(self, function: Callable[..., Any], args: list[Any]) -> Callable[[], Any]:
        """Records the function, which computes nothing yet. Returns what computes it."""
        device = self.generators[0].device
        if self.pool is None:
            gc.collect()  # old graphs, whose end would spoil the recording
            self.pool = th.cuda.graph_pool_handle()
        self.recording = True
        try:
            # Also selects the GPU. A recording that fails leaves its own stream selected.
            with th.cuda.stream(th.cuda.current_stream(device)):
                graph = th.cuda.CUDAGraph()
                for generator in self.generators:
                    graph.register_generator_state(generator)
                self.unfinished = graph
                with th.cuda.graph(graph, pool=self.pool, stream=_stream(device)), _no_waits():
                    outputs = _each(Tensor.detach, function(*args))
            self.unfinished = None
        finally:
            self.recording = False

        def replay() -> Any:
            graph.replay()
            return _each(Tensor.clone, outputs)  # another graph may use their memory

        return replay

    def _give_up(self, error: RuntimeError) -> None:
        self.off = True
        self.forget()
        for generator in self.generators:  # it believes that it is still being recorded
            generator.graphsafe_set_state(generator.clone_state())
        log.warning(
            "Steps are not replayed as CUDA graphs, and take longer: %s",
            str(error).partition("\n")[0],
        )


@cache
def _stream(device: th.device) -> th.cuda.Stream:
    """Where graphs are recorded: PyTorch's own is on the GPU that was first used so.

    There is one for all learners, since cuBLAS keeps memory for every stream.
    """
    return th.cuda.Stream(device)


@contextmanager
def _no_waits() -> Iterator[None]:
    """Waiting for the GPU raises an error before CUDA sees it: CUDA's spoils more."""

    def set_mode(mode: int | str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is experimental, and finds most waits only
            th.cuda.set_sync_debug_mode(mode)

    before = th.cuda.get_sync_debug_mode()
    set_mode("error")
    try:
        yield
    finally:
        set_mode(before)


def _signature(value: Any) -> Hashable:
    """What a graph depends on: places and constants."""
    if isinstance(value, dict):
        return tuple((key, _signature(part)) for key, part in value.items())
    if isinstance(value, list):
        return tuple(map(_signature, value))
    return ("place", id(value)) if isinstance(value, Tensor) else value


def _each(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    """The same dicts and lists, with all tensors changed."""
    if isinstance(value, dict):
        return {key: _each(change, part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_each(change, part) for part in value)
    return change(value) if isinstance(value, Tensor) else value
