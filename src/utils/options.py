"""Readers of command-line values, for argparse's `type=`. A wrong value gets a clear message."""

import argparse
import json
import re
from collections.abc import Callable
from typing import Any


def option(
    description: str, read: Callable[[str], Any], valid: Callable[[Any], Any]
) -> Callable[[str], Any]:
    """Makes a reader.

    Args:
        description: what the value must be, for the error message.
        read: turns the text into a value. May raise ValueError.
        valid: whether the value is allowed.
    """

    def checked(text: str) -> Any:
        try:
            value = read(text)
            if valid(value):
                return value
        except (ValueError, RecursionError):
            pass
        raise argparse.ArgumentTypeError(f"'{text}' must be {description}")

    return checked


def _int_range(text: str) -> tuple[int, int | None]:
    low, high = text.split(":")
    return int(low or 0), int(high) if high else None


def _float_range(text: str) -> tuple[float, float]:
    low, high = text.split(":")
    return float(low or 0), float(high or 1)


positive_count = option("a whole number, at least 1", int, lambda value: value >= 1)
count = option("a whole number, at least 0", int, lambda value: value >= 0)
share = option("a number from 0 to 1", float, lambda value: 0 <= value <= 1)
json_record = option("a JSON record", json.loads, lambda value: isinstance(value, dict))
sha256_digits = option(
    "a SHA-256: 64 hexadecimal digits", str, re.compile("[0-9a-fA-F]{64}").fullmatch
)
index_range = option(
    "FROM:TO with 0 <= FROM < TO",
    _int_range,
    lambda ends: ends[0] >= 0 and (ends[1] is None or ends[1] > ends[0]),
)
quantile_range = option(
    "LOW:HIGH with 0 <= LOW < HIGH <= 1",
    _float_range,
    lambda ends: 0 <= ends[0] < ends[1] <= 1,
)
