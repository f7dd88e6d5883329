"""Public datasets downloaded: mirrors in order, broken downloads gone on with, nothing half-done under a final name."""

import errno
import json
import logging
import lzma
import os
import shutil
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from inspo.data.tools.hashing import sha256
from inspo.data.tools.known import KnownDataset
from inspo.utils.errors import DatasetError
from inspo.utils.files import write_atomically
from inspo.utils.progress import Progress

READ_BYTES = 1 << 18
ATTEMPTS = (
    5  # in a row at one mirror that brought nothing; each goes on where the last one broke off
)
TIMEOUT = 30.0  # seconds without a byte
UNPACKED_LIMIT = 200  # times the archive's size; real ones reach a few dozen
UNSOUND = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    NotImplementedError,
    RuntimeError,
    EOFError,
    ValueError,
)
HUB = "https://huggingface.co/"
log = logging.getLogger(__name__)


class DownloadOptions(NamedTuple):
    """How to get there: the user's own mirror and proxy, and a checksum to insist on."""

    mirror: str | None = None  # instead of the registered ones
    proxy: str | None = (
        None  # None: what the environment variables http_proxy, https_proxy and no_proxy say
    )
    sha256: str | None = None


def fetch(
    known: KnownDataset,
    root: Path,
    options: DownloadOptions,
    pause: Callable[[float], None] = time.sleep,
) -> str:
    """Downloads and unpacks a known dataset below `root`; returns what was done, for the user.

    Run again after an interruption it goes on where it stopped.

    Raises:
        DatasetError: no mirror could deliver it, the checksum is another one, or the archive is not what it should be.
    """
    place = root / known.place
    if place.exists():
        return f"{known.name} is here already: {place}"
    if known.manual:
        raise DatasetError(f"{known.name} cannot be fetched by a program. {known.manual}")
    place.parent.mkdir(parents=True, exist_ok=True)
    archive = place.parent / f".{PurePosixPath(known.file).name}.download"
    lock = FileLock(f"{archive}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise DatasetError(f"{place}: another process is fetching it") from None
    try:
        return _fetch(known, place, archive, options, pause)
    finally:
        lock.release()
        if not archive.exists():
            Path(lock.lock_file).unlink(missing_ok=True)


def _fetch(
    known: KnownDataset,
    place: Path,
    archive: Path,
    options: DownloadOptions,
    pause: Callable[[float], None],
) -> str:
    opener = _opener(options.proxy)
    failures = []
    for address in _addresses(known, options.mirror):
        log.info("Fetching %s", address)
        try:
            _download(opener, address, archive, pause)
            break
        except DatasetError as error:
            failures.append(str(error))
    else:
        raise DatasetError(
            f"{known.name} could not be fetched:"
            + "".join(f"\n  {failure}" for failure in failures)
            + "\n"
            "Another mirror: --mirror=ADDRESS (or HF_ENDPOINT); a proxy: --proxy=ADDRESS (or https_proxy). "
            "The same command goes on where this one stopped."
        )
    digest = sha256(archive)
    wanted = options.sha256 or known.sha256
    if wanted and digest != wanted.lower():
        archive.unlink()
        raise DatasetError(
            f"{known.name}: the SHA-256 of what was fetched is {digest}, not {wanted}; it was removed"
        )
    _unpack(archive, place)
    _forget(archive)
    checked = "as it should be" if wanted else "no checksum is published to compare it with"
    return f"{known.name}: {place}\nSHA-256 of the archive: {digest} ({checked})"


def _addresses(known: KnownDataset, mirror: str | None) -> list[str]:
    if mirror:
        return [mirror.rstrip("/") + "/" + known.file]
    hub = os.environ.get("HF_ENDPOINT", HUB).rstrip("/") + "/"
    return [base.replace(HUB, hub, 1) + known.file for base in known.mirrors]


def _opener(proxy: str | None) -> urllib.request.OpenerDirector:
    proxies = None if proxy is None else {"http": proxy, "https": proxy}
    # Only the web: an address in a registry or on the command line must not read local files.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(proxies),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _download(
    opener: urllib.request.OpenerDirector,
    address: str,
    archive: Path,
    pause: Callable[[float], None],
) -> None:
    """Gets `address` whole as `archive`; what an earlier attempt left is gone on with."""
    problem, fruitless = "", 0
    while fruitless < ATTEMPTS:
        if problem:
            pause(min(2.0**fruitless, 30.0))
        before = archive.stat().st_size if archive.exists() else 0
        try:
            if _download_once(opener, address, archive):
                return
            problem = "the connection broke off"
        except urllib.error.HTTPError as error:
            problem = f"the server answers {error.code} {error.reason}"
            if error.code == 416:  # what is here is longer than what is there
                archive.unlink(missing_ok=True)
            if error.code in (400, 401, 403, 404, 405, 410):
                break
        except urllib.error.URLError as error:
            problem = str(error.reason)
        except (OSError, HTTPException, ValueError) as error:
            problem = str(error) or type(error).__name__
        log.warning("%s: %s", address, problem)
        grown = archive.exists() and archive.stat().st_size > before
        fruitless = 0 if grown else fruitless + 1
    raise DatasetError(f"{address}: {problem}")


def _download_once(opener: urllib.request.OpenerDirector, address: str, archive: Path) -> bool:
    """One request for what is missing. Returns whether the archive is complete now."""
    note = archive.with_name(f"{archive.name}.json")
    begun = _read_note(note)
    have = archive.stat().st_size if archive.exists() and begun.get("address") == address else 0
    if have and have == begun.get("size"):
        return True
    request = urllib.request.Request(
        address, headers={"User-Agent": "inspo-dataset-fetch", "Accept-Encoding": "identity"}
    )
    if have and begun.get("version"):
        request.add_header("Range", f"bytes={have}-")
        request.add_header(
            "If-Range", begun["version"]
        )  # otherwise the server sends the new version whole
    with opener.open(request, timeout=TIMEOUT) as response:
        resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(
            f"bytes {have}-"
        )
        if response.status == 206 and not resumed:
            archive.unlink(missing_ok=True)
            raise ValueError("the server answers with another part than the one asked for")
        have = have if resumed else 0
        length = response.headers.get("Content-Length")
        size = have + int(length) if length is not None else None
        version = response.headers.get("ETag", "")
        version = (
            response.headers.get("Last-Modified", "")
            if version.startswith("W/") or not version
            else version
        )
        if not resumed:  # before the note says of which version the archive is a part
            archive.unlink(missing_ok=True)
        with write_atomically(note) as temporary:
            temporary.write_text(json.dumps({"address": address, "size": size, "version": version}))
        missing, free = (size or 0) - have, shutil.disk_usage(archive.parent).free
        if missing > free:
            raise DatasetError(
                f"{address}: {_gib(missing)} are missing, {_gib(free)} are free on the disk"
            )
        shown = Progress(max((size or 0) >> 20, 1), "Fetching (MiB)", done=have >> 20)
        with archive.open("ab" if resumed else "wb") as file:
            while part := response.read(READ_BYTES):
                file.write(part)
                shown.advance((file.tell() >> 20) - shown.done)
        shown.close()
    return size is None or archive.stat().st_size == size


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.2f} GiB"


def _read_note(note: Path) -> dict[str, Any]:
    try:
        content = json.loads(note.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _forget(archive: Path) -> None:
    archive.unlink(missing_ok=True)
    archive.with_name(f"{archive.name}.json").unlink(missing_ok=True)


def _unpack(archive: Path, place: Path) -> None:
    """Unpacks the folder `place.name` of the archive, wherever in it that lies, to `place`; whole or not at all."""
    folder = place.parent / f".{place.name}.unpacking"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as content:
            members = [member for member in content.infolist() if not member.is_dir()]
            unpacked = sum(member.file_size for member in members)
            free = shutil.disk_usage(place.parent).free
            if unpacked > UNPACKED_LIMIT * archive.stat().st_size or unpacked > free:
                sizes = f"it takes {_gib(archive.stat().st_size)} itself, and {_gib(free)} are free on the disk"
                raise DatasetError(f"{archive}: claims to hold {_gib(unpacked)}; {sizes}")
            shown = Progress(len(members), "Unpacking (files)")
            for member in members:
                parts = PurePosixPath(member.filename).parts
                if place.name not in parts or ".." in parts:
                    continue
                target = folder.joinpath(*parts[parts.index(place.name) + 1 :])
                target.parent.mkdir(parents=True, exist_ok=True)
                with content.open(member) as source, target.open("wb") as file:
                    shutil.copyfileobj(source, file)
                shown.advance()
            shown.close()
        if not folder.exists():
            raise DatasetError(
                f"{archive}: holds no folder '{place.name}'; it stays there to be looked at"
            )
        folder.rename(place)
    except (*UNSOUND, OSError) as error:
        if (
            isinstance(error, OSError) and error.errno != errno.EINVAL
        ):  # that one is an impossible place in the archive
            raise
        _forget(archive)
        raise DatasetError(
            f"{archive}: what was fetched is no sound zip archive ({error}); it was removed"
        ) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
