"""Checksums: of a dataset's content, the same in every layout, and of its files."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from inspo.data.formats import open_dataset
from inspo.data.formats.inspo_h5 import InspoH5Reader, fingerprint_of


def hashes(path: Path) -> Iterator[tuple[str, str]]:
    """Names and digests: first the content's fingerprint, then the SHA-256 of every file."""
    with open_dataset(path) as reader:
        if isinstance(
            reader, InspoH5Reader
        ):  # laid out as the fingerprint reads it: no need to hold it in memory
            for block in reader.blocks():
                block.check()
            reader.verify()
            yield "content", fingerprint_of(reader.file)
        else:
            yield "content", reader.load().fingerprint
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    for file in files:
        yield str(file), sha256(file)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()
