"""The metadata of a dataset: plain JSON values, some of which only the maker knows."""

import json
from pathlib import Path
from typing import Any

from inspo.utils.errors import DatasetError

# What whoever makes a dataset must state, and of which type.
REQUIRED_METADATA = {
    "environment": str,
    "env_args": dict,
    "behaviour": str,
    "command": str,
}
METADATA_LIMIT = 60_000  # bytes of its JSON: an h5 attribute holds at most 64 KiB
FILE_LIMIT = 1 << 24  # bytes of a JSON file beside the arrays


def check_metadata(path: Path, metadata: dict[str, Any]) -> None:
    """Raises DatasetError if a required key is missing or has the wrong type."""
    if missing := [key for key in REQUIRED_METADATA if key not in metadata]:
        raise DatasetError(f"{path}: the metadata lacks {', '.join(missing)}")
    for key, kind in REQUIRED_METADATA.items():
        value = metadata[key]
        if not isinstance(value, kind):
            wanted = "text" if kind is str else "a record"
            problem = f"must be {wanted}, not {value!r:.80}"
            raise DatasetError(f"{path}: the metadata's '{key}' {problem}")


def metadata_json(path: Path, metadata: dict[str, Any]) -> str:
    """`metadata` as JSON text, checked for required keys, plain values and size.

    Args:
        path: the dataset, for messages.
    """
    check_metadata(path, metadata)
    try:
        text = json.dumps(metadata)
    except (TypeError, ValueError) as error:
        problem = "the metadata must be plain JSON values"
        raise DatasetError(f"{path}: {problem}: {error}") from None
    n_bytes = len(text.encode())
    if n_bytes > METADATA_LIMIT:
        problem = f"takes {n_bytes} bytes; at most {METADATA_LIMIT} fit"
        raise DatasetError(f"{path}: the metadata {problem}")
    return text


def load_json(path: Path) -> Any:
    """The content of a JSON file beside a dataset's arrays.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged or too large. A RecursionError: it is nested too deep.
    """
    if path.stat().st_size > FILE_LIMIT:
        raise ValueError(f"too large: at most {FILE_LIMIT >> 20} MiB are read")
    return json.loads(path.read_text())
