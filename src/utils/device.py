"""On which device a run trains: the settings `device` and `use_cuda`."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch as th

from inspo.utils.errors import ConfigError

NAMES = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
log = logging.getLogger(__name__)


def choose_device(name: str, use_cuda: bool) -> th.device:
    """The device that the settings ask for. The log says which one it is.

    Args:
        name: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`. `auto` is the first CUDA GPU if PyTorch
            finds one and `use_cuda` is set, else the CPU.

    Raises:
        ConfigError: there is no such device here, or `use_cuda` forbids it.
    """
    n_gpus = th.cuda.device_count() if th.cuda.is_available() else 0
    if name == "auto":
        if use_cuda and not n_gpus:
            log.info("No CUDA device: training on the CPU")
        name = "cuda" if use_cuda and n_gpus else "cpu"
    device = th.device(name)
    if device.type == "mps" and not th.backends.mps.is_available():
        raise ConfigError("device=mps: PyTorch finds no Apple GPU here; use device=cpu")
    if device.type == "cuda":
        _check_cuda(device, n_gpus, use_cuda)
        log.info("Training on %s, %s", device, th.cuda.get_device_name(device))
    return device


def _check_cuda(device: th.device, n_gpus: int, use_cuda: bool) -> None:
    """Raises ConfigError if this GPU cannot be used."""
    if not use_cuda:
        raise ConfigError(f"device={device} needs a GPU, and use_cuda=False forbids it")
    if not n_gpus:
        raise ConfigError(
            f"device={device}: PyTorch finds no CUDA device here; device=auto uses one if there is"
        )
    if (device.index or 0) >= n_gpus:
        there = ", ".join(f"cuda:{number}" for number in range(n_gpus))
        raise ConfigError(f"device={device}: there is no such GPU here, only {there}")


def compute_in_float32() -> None:
    """cuDNN's GRUs would round their inputs to TF32's 10 bits. They get float32, as on a CPU."""
    owner, name, float32 = _precision_of_grus()
    setattr(owner, name, float32)


@contextmanager
def precision_kept() -> Iterator[None]:
    """Restores afterwards what `compute_in_float32` changes."""
    owner, name, _ = _precision_of_grus()
    before = getattr(owner, name)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _precision_of_grus() -> tuple[Any, str, Any]:
    """Owner and name of PyTorch's setting, and its value for float32.

    Versions before 2.9 have one for all of cuDNN. Newer ones refuse to read it where anything was
    set in the new way.
    """
    grus = th.backends.cudnn.rnn
    if hasattr(grus, "fp32_precision"):
        return grus, "fp32_precision", "ieee"
    return th.backends.cudnn, "allow_tf32", False
