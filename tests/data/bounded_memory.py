"""A limit to the memory that reading may take."""

import tracemalloc
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")
LIMIT = 50 << 20


def bounded(call: Callable[[], Result]) -> Result:
    """The result of `call`, which must not allocate much."""
    result, peak = measured(call)
    assert peak < LIMIT
    return result


def measured(call: Callable[[], Result]) -> tuple[Result, int]:
    """The result of `call`, and the most memory that it allocated at once."""
    tracemalloc.start()
    try:
        result = call()
        return result, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
