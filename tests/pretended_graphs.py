"""CUDA graphs of the pretended device in pretended_gpu.py.

A graph records operations with their arguments, and repeats them in place. Waiting while one is
recorded raises, and spoils the recording if PyTorch did not refuse to: its stream stays selected,
and its generators draw no more. The memory of graphs ends with the last one.
"""

import weakref
from contextlib import contextmanager
from itertools import count

import torch
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves

recorded: list | None = None  # by the graph that is being recorded: how to repeat, and the results
spoilt = False  # the graph that is being recorded
streams: list = []  # that were selected, the current one last
sync_debug_mode = 0
registered: list[list[int]] = []  # positions of the generators of the graph that is being recorded
stuck: list[list[int]] = []  # positions of generators after a recording that failed
handles = count()  # of pools
pools: set[int] = set()  # in which graphs have been recorded
users = weakref.WeakKeyDictionary()  # the pool of each graph


def wait(kind):
    """What is to happen if the host waits for the device."""
    if recorded is not None:
        if sync_debug_mode == "error":
            raise RuntimeError(f"called a synchronizing CUDA operation ({kind})")
        synchronize()


def repeatable(compute):
    """Computes, and lets the graph that is being recorded do it again."""
    results = compute()
    if recorded is not None:
        recorded.append((compute, results))
    return results


class Graph:
    """`torch.cuda.CUDAGraph`. What it computes while it is recorded is its first replay."""

    def register_generator_state(self, generator):
        assert generator.device.type == "cuda"
        registered.append(generator.position)

    def replay(self):
        if not self.played:
            self.played = True
            return
        for repeat, results in self.steps:
            for old, new in zip(tree_leaves(results), tree_leaves(repeat()), strict=True):
                if hasattr(old, "elem") and old.elem.data_ptr() != new.elem.data_ptr():
                    with _disable_current_modes(), torch.no_grad():
                        old.elem.copy_(new.elem)


@contextmanager
def recording(graph, pool, stream):
    """`torch.cuda.graph`."""
    global recorded, spoilt
    assert stream.device.type == "cuda"
    if pool in pools and pool not in users.values():
        raise RuntimeError("it->second->use_count > 0 INTERNAL ASSERT FAILED")
    pools.add(pool)
    users[graph] = pool
    recorded, graph.played, spoilt = [], False, False
    streams.append(stream)
    try:
        yield
        graph.steps = recorded
    finally:
        recorded = None
        if spoilt:
            stuck.extend(registered)
        registered.clear()
        if spoilt:
            raise RuntimeError("operation failed due to a previous error during capture")
        streams.pop()


def synchronize(*_):
    """`torch.cuda.synchronize`, which the debug mode does not watch. It is not counted."""
    global spoilt
    if recorded is not None:
        spoilt = True
        raise RuntimeError("operation not permitted when stream is capturing")


class Stream:
    def __init__(self, device):
        self.device = device


@contextmanager
def selected(stream):
    """`torch.cuda.stream`."""
    before = [*streams]
    streams.append(stream)
    try:
        yield
    finally:
        streams[:] = before


def set_sync_debug_mode(mode):
    global sync_debug_mode
    sync_debug_mode = mode


def reset(device):
    """Forgets all graphs."""
    for left in (stuck, registered, pools, users):
        left.clear()
    streams[:] = [Stream(device)]


PATCHES = {  # of torch.cuda
    "CUDAGraph": Graph,
    "graph": recording,
    "graph_pool_handle": lambda: next(handles),
    "Stream": Stream,
    "current_stream": lambda *_: streams[-1],
    "stream": selected,
    "get_sync_debug_mode": lambda: sync_debug_mode,
    "set_sync_debug_mode": set_sync_debug_mode,
    "synchronize": synchronize,
}
