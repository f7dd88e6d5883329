"""Checksums of a dataset: of its content, the same in every layout, and of its files."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from inspo.data.formats import open_dataset
from inspo.data.formats.inspo_h5 import InspoH5Reader

READ_BYTES = 1 << 20


def hashes(path: Path) -> Iterator[tuple[str, str]]:
    """Names and digests: first the content's fingerprint, then the SHA-256 of every file."""
    with open_dataset(path) as reader:
        if isinstance(reader, InspoH5Reader):  # need not be loaded as a whole
            for block in reader.blocks():
                block.check()
            reader.verify()
            yield "content", reader.fingerprint()
        else:
            yield "content", reader.load().fingerprint
    for file in [path, *sorted(path.rglob("*"))]:
        if file.is_file():
            yield str(file), sha256(file)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(READ_BYTES):
            digest.update(part)
    return digest.hexdigest()
