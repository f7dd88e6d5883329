"""Downloads public datasets from the Hugging Face Hub, and unpacks them.

`huggingface_hub` does the downloading. It retries broken connections. The environment variables
HF_ENDPOINT and HTTPS_PROXY set a mirror and a proxy. An interrupted download starts again.
"""

import errno
import logging
import lzma
import os
import shutil
import zipfile
import zlib
from pathlib import Path, PurePosixPath

import numpy as np

from inspo.data.formats import open_dataset
from inspo.data.formats.schema import ReadOptions
from inspo.data.formats.staging import locked_folder
from inspo.data.tools.hashing import sha256
from inspo.data.tools.known import KnownDataset
from inspo.data.tools.published import of_scenario
from inspo.utils.errors import DatasetError
from inspo.utils.progress import Progress

HUB = "https://huggingface.co"
UNPACKED_LIMIT = 200  # times the archive's size; real archives reach a few dozen
# What zipfile raises for a damaged archive.
DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    NotImplementedError,
    RuntimeError,
    EOFError,
    ValueError,
)


def fetch(known: KnownDataset, root: Path, checksum: str | None = None) -> str:
    """Downloads a known dataset and unpacks it to its place below `root`.

    Args:
        checksum: SHA-256 that the archive must have; None: that of the registry, if any.

    Returns:
        what was done, for the user.

    Raises:
        DatasetError: the dataset could not be downloaded, the checksum differs, the archive is
            damaged, the disk is too small, or another process is fetching it.
    """
    place = root / known.place
    if place.exists():
        return f"{known.name} is here already: {place}"
    if known.manual:
        raise DatasetError(f"{known.name} cannot be fetched by a program. {known.manual}")
    expected = checksum or known.sha256
    with locked_folder(place) as folder:
        archive = _download(known, folder)
        digest = sha256(archive)
        if expected and digest != expected.lower():
            archive.unlink()
            raise DatasetError(
                f"{known.name}: the SHA-256 of the archive is {digest}, not {expected}; "
                "it was removed"
            )
        _unpack(archive, folder / "unpacked", place)
        shutil.rmtree(folder)
    checked = "as expected" if expected else "no published checksum to compare it with"
    lines = [f"{known.name}: {place}", f"SHA-256 of the archive: {digest} ({checked})"]
    return "\n".join([*lines, *_compare(known, place)])


def _compare(known: KnownDataset, place: Path) -> list[str]:
    """How the datasets that were unpacked differ from what is published of them."""
    lines = []
    for published in of_scenario(known.name):
        name = published.name.rpartition("/")[2]
        if not (place / name).is_dir():
            lines.append(f"WARNING: {name} is missing; published: {published.summary()}")
            continue
        try:
            with open_dataset(place / name, options=ReadOptions("mean")) as reader:
                blocks = reader.shown_blocks(f"Comparing {name}")
                returns = np.concatenate([block.returns for block in blocks])
                differing = list(published.differences(reader.lengths, returns))
        except DatasetError as error:
            lines.append(f"WARNING: {name} cannot be compared with what is published: {error}")
            continue
        verdict = f"WARNING: {'; '.join(differing)}" if differing else "as published"
        lines.append(f"{name}: {verdict}")
    return lines


def _download(known: KnownDataset, folder: Path) -> Path:
    """Downloads the archive into `folder`, unless it is there and still up to date."""
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise DatasetError(
            "fetch needs huggingface_hub: pip install huggingface_hub (the extra 'fetch')"
        ) from None
    _quieten_client()
    archive = folder / known.file
    if not archive.exists():
        shutil.rmtree(folder, ignore_errors=True)  # from a killed download
    hub = os.environ.get("HF_ENDPOINT", HUB).rstrip("/")
    request = {
        "repo_id": known.repository,
        "repo_type": "dataset",
        "filename": known.file,
        "local_dir": folder,
        "endpoint": hub,
    }
    try:
        info = hf_hub_download(**request, dry_run=True)
        missing = (info.file_size or 0) if info.will_download else 0
        free = shutil.disk_usage(folder.parent).free
        if missing > free:
            raise OSError(f"{_gib(missing)} are missing, {_gib(free)} are free on the disk")
        hf_hub_download(**request)
        return archive
    except Exception as error:  # noqa: BLE001 - HTTP, network and file errors have no common class
        # The client's FileNotFoundError does not tell why the Hub was not reached. Its cause does.
        unreachable = isinstance(error, FileNotFoundError)
        reason = error.__cause__ if unreachable and error.__cause__ else error
        raise DatasetError(
            f"{known.name} could not be fetched from {hub}: {reason}\n"
            "The same command tries again. Set HF_ENDPOINT to use a mirror of the Hub, and "
            "HTTPS_PROXY to use a proxy."
        ) from None
    finally:
        if not archive.exists():
            shutil.rmtree(folder, ignore_errors=True)


def _quieten_client() -> None:
    """Shows the client's warnings once, and no line per request."""
    logging.getLogger("huggingface_hub").propagate = False  # it has a handler of its own
    for name in ("httpx", "httpx2"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _unpack(archive: Path, unpacked: Path, place: Path) -> None:
    """Unpacks the folder `place.name`, wherever it is in the archive, to `place`.

    Args:
        unpacked: where the files are written first, on the same disk.
    """
    shutil.rmtree(unpacked, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as content:
            members = [member for member in content.infolist() if not member.is_dir()]
            _check_size(archive, members)
            shown = Progress(len(members), "Unpacking (files)")
            for member in members:
                parts = PurePosixPath(member.filename).parts
                if place.name in parts and ".." not in parts:
                    inside = parts[parts.index(place.name) + 1 :]
                    _extract(content, member, unpacked.joinpath(*inside))
                shown.advance()
            shown.close()
    except (*DAMAGED, OSError) as error:
        # zipfile also seeks to impossible places (EINVAL). Other OSErrors are those of the disk.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        archive.unlink()
        raise DatasetError(
            f"{archive}: not a sound zip archive ({error}); it was removed"
        ) from None
    if not unpacked.exists():
        raise DatasetError(f"{archive}: holds no folder '{place.name}'")
    unpacked.rename(place)


def _extract(content: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with content.open(member) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file)


def _check_size(archive: Path, members: list[zipfile.ZipInfo]) -> None:
    """Raises DatasetError if the files are implausibly large, or larger than the free disk."""
    packed = archive.stat().st_size
    unpacked = sum(member.file_size for member in members)
    free = shutil.disk_usage(archive.parent).free
    if unpacked > min(UNPACKED_LIMIT * packed, free):
        raise DatasetError(
            f"{archive}: claims to hold {_gib(unpacked)}, packed into {_gib(packed)}; "
            f"{_gib(free)} are free on the disk"
        )


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.2f} GiB"
