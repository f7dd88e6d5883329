"""Values of command-line options, read and checked. argparse shows what is wrong with one."""

import argparse
import json
import re
from collections.abc import Callable
from typing import Any


def option(what: str) -> Callable[[Callable[[str], Any]], Callable[[str], Any]]:
    """Makes a reader that fails with ValueError tell the user `what` the value must be."""

    def decorate(read: Callable[[str], Any]) -> Callable[[str], Any]:
        def checked(text: str) -> Any:
            try:
                return read(text)
            except ValueError:
                raise argparse.ArgumentTypeError(f"'{text}' must be {what}") from None

        return checked

    return decorate


def _require(condition: bool) -> None:
    if not condition:
        raise ValueError


@option("a whole number, at least 1")
def positive_count(text: str) -> int:
    value = int(text)
    _require(value >= 1)
    return value


@option("a whole number, at least 0")
def count(text: str) -> int:
    value = int(text)
    _require(value >= 0)
    return value


@option("a number from 0 to 1")
def share(text: str) -> float:
    value = float(text)
    _require(0 <= value <= 1)
    return value


@option("a JSON record")
def json_record(text: str) -> dict[str, Any]:
    value = json.loads(text)
    _require(isinstance(value, dict))
    return value


@option("a SHA-256: 64 hexadecimal digits")
def sha256_digits(text: str) -> str:
    _require(re.fullmatch("[0-9a-fA-F]{64}", text) is not None)
    return text


@option("FROM:TO with 0 <= FROM < TO")
def index_range(text: str) -> tuple[int, int | None]:
    low, separator, high = text.partition(":")
    first, last = int(low or 0), int(high) if high else None
    _require(bool(separator) and first >= 0 and (last is None or last > first))
    return first, last


@option("LOW:HIGH with 0 <= LOW < HIGH <= 1")
def quantile_range(text: str) -> tuple[float, float]:
    low, separator, high = text.partition(":")
    first, last = float(low or 0), float(high or 1)
    _require(bool(separator) and 0 <= first < last <= 1)
    return first, last
