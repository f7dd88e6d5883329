"""Copies from main memory to a GPU that the host does not wait for."""

from collections.abc import Mapping
from math import prod

import torch as th
from torch import Tensor

ALIGNMENT = 16  # bytes: every type of number starts at a multiple of its size


def upload(tensors: Mapping[str, Tensor], device: th.device) -> dict[str, Tensor]:
    """The tensors on `device`, copied there as one.

    Each copy from ordinary memory makes the host wait until the GPU has done all it was given. So
    the tensors are packed into pinned memory, from which the GPU fetches them by itself.

    Args:
        tensors: in main memory.
        device: they are returned as they are if it is the CPU.
    """
    if device.type == "cpu":
        return dict(tensors)
    places, size = {}, 0
    for name, tensor in tensors.items():
        places[name] = size
        size += -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT
    packed = _pinned(size, device)
    for name, tensor in tensors.items():
        _part(packed, places[name], tensor).copy_(tensor)
    there = packed.to(device, non_blocking=True)
    return {name: _part(there, places[name], tensor) for name, tensor in tensors.items()}


def _part(packed: Tensor, place: int, like: Tensor) -> Tensor:
    """The part of `packed` from byte `place` on, in the shape and type of `like`."""
    n_bytes = prod(like.shape) * like.element_size()
    return packed[place : place + n_bytes].view(like.dtype).view(like.shape)


def _pinned(size: int, device: th.device) -> Tensor:
    """So many bytes of pinned memory, or of ordinary memory where there is no more of it."""
    if device.type == "cuda":
        try:
            return th.empty(size, dtype=th.uint8, pin_memory=True)
        except RuntimeError:  # the system limits it
            pass
    return th.empty(size, dtype=th.uint8)
