"""The setting `precision`: the numbers that networks multiply matrices in.

With `bf16`, layers take and give 16-bit numbers inside of networks (`torch.autocast`). Parameters,
optimisers, outputs, softmaxes and losses stay in float32, and so do recurrences and mixers, whose
products are small.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import Any

import torch as th
from torch import Tensor

from inspo.utils.errors import ConfigError

# Features of processors with bfloat16 arithmetic, as torch.cpu.get_capabilities names them.
CPU_FEATURES = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
FIRST_GPU = (8, 0)  # compute capability


def check_precision(precision: str, device: th.device) -> None:
    """Raises ConfigError if the device would be slower in this precision."""
    if precision == "float32":
        return
    if device.type == "cuda":
        fast = th.cuda.get_device_capability(device) >= FIRST_GPU
        needed = "a GPU of compute capability 8.0"
    else:
        features = getattr(th.cpu, "get_capabilities", dict)()
        fast = device.type == "cpu" and any(features.get(name) for name in CPU_FEATURES)
        needed = "a CPU with AVX512-BF16 or AMX"
    if not fast:
        raise ConfigError(
            f"precision={precision}: this {device.type.upper()} has no fast 16-bit arithmetic, and "
            f"training would be slower than in float32. It needs {needed}; leave precision=float32"
        )


def autocast(precision: str, device: th.device) -> AbstractContextManager[Any]:
    """The context in which a learner trains."""
    if precision == "float32":
        return nullcontext()
    # Without a cache: weights change between passes.
    return th.autocast(device.type, dtype=th.bfloat16, cache_enabled=False)


def product_type(inputs: Tensor) -> th.dtype:
    """The type that matrices are multiplied in at the moment."""
    kind = inputs.device.type
    if inputs.dtype == th.float32 and th.is_autocast_enabled(kind):
        return th.get_autocast_dtype(kind)
    return inputs.dtype


def in_float32(function: Callable) -> Callable:
    """The function with its matrix products in float32, whatever the precision."""

    @wraps(function)
    def wrapped(*args: Any, **settings: Any) -> Any:
        given = (*args, *settings.values())
        kind = next(value for value in given if isinstance(value, Tensor)).device.type
        if not th.is_autocast_enabled(kind):
            return function(*args, **settings)
        with th.autocast(kind, enabled=False):
            return function(*args, **settings)

    return wrapped
