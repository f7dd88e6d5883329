"""Values of settings: which ones there may be, and how messages show them."""

import math
from collections.abc import Iterator
from typing import Any

MAX_DEPTH = 50  # of nested lists and mappings
MAX_WHOLE_NUMBER = 2**63
SHOWN_LENGTH = 100


def shown(value: Any) -> str:
    """The value for a message: on one line, and not too long."""
    if value is None:
        return "null"
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a whole number of thousands of digits
        text = f"a very large {type(value).__name__}"
    return text if len(text) <= SHOWN_LENGTH else f"{text[:SHOWN_LENGTH]}..."


def shown_name(name: Any) -> str:
    """The same for a key or a name. Text appears without quotes where it can."""
    if isinstance(name, str) and name.isprintable() and len(name) <= SHOWN_LENGTH:
        return name
    return shown(name)


def plain(value: Any) -> Any:
    """The value with lists for tuples and text for the whole numbers among nested keys.

    A YAML and a resumed run have no tuples, so settings must not differ by them.
    """
    if isinstance(value, dict):
        return {str(key) if type(key) is int else key: plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return value


def value_faults(value: Any, place: str, depth: int = 0) -> Iterator[str]:
    """What in a value cannot be stored in a run's files (JSON). One text for each fault.

    Args:
        place: the value's name, for the text.
    """
    if depth > MAX_DEPTH:
        yield f"{place}: nested too deeply"
    elif isinstance(value, dict):
        for key, entry in value.items():
            if not isinstance(key, str):
                yield f"{place}: the key {shown(key)} must be text; put it in quotes"
            yield from value_faults(entry, f"{place}.{shown_name(key)}", depth + 1)
    elif isinstance(value, list):
        for number, entry in enumerate(value):
            yield from value_faults(entry, f"{place}[{number}]", depth + 1)
    elif fault := _fault(value):
        yield f"{place}: {fault}"


def _fault(value: Any) -> str:
    """What is wrong with a single value; empty if nothing is."""
    if value is None or isinstance(value, bool):
        return ""
    if isinstance(value, int):
        return "" if abs(value) < MAX_WHOLE_NUMBER else "a whole number of more than 64 bits"
    if isinstance(value, float):
        return "" if math.isfinite(value) else f"{value} is not a finite number"
    if isinstance(value, str):
        return _text_fault(value)
    if hasattr(value, "isoformat"):
        return f"{value.isoformat()} is read as a date; put text in quotes"
    return f"{shown(value)} is of the type {type(value).__name__}, which no setting has"


def _text_fault(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return f"{shown(text)} is not valid Unicode"
    return ""
