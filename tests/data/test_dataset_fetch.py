"""`fetch` against a server on this machine that answers as the Hugging Face Hub does."""

import hashlib
import io
import shutil
import sys
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest

from inspo import dataset
from inspo.data.tools import fetch as fetch_module
from inspo.data.tools.fetch import fetch
from inspo.data.tools.known import known_datasets, lookup_known
from inspo.utils.errors import DatasetError

pytest.importorskip("huggingface_hub")

NAME = "cfcql/smac_v1/2s3z"
FILE = "/datasets/InstaDeepAI/og-marl/resolve/main/prior_work/cfcql/smac_v1/2s3z.zip"
PLACE = "vaults/cfcql/smac_v1/2s3z.vlt"
UNPACKED = {f"{PLACE}/Expert/metadata.json", f"{PLACE}/Expert/d/1"}
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def make_archive(members: dict[str, str | bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return content.getvalue()


NOISE = np.random.default_rng(0).integers(256, size=200_000, dtype=np.uint8).tobytes()
FIRST_MEMBER = "2s3z.vlt/Expert/metadata.json"
ARCHIVE = make_archive({FIRST_MEMBER: "{}", "2s3z.vlt/Expert/d/1": NOISE, "README.md": "x"})
PACKED_AT = 30 + len(FIRST_MEMBER)  # after the header of the first member
DAMAGED = ARCHIVE[:PACKED_AT] + b"\xff" + ARCHIVE[PACKED_AT + 1 :]


class Hub(ThreadingHTTPServer):
    """Serves `content` as FILE. Each of `cuts` breaks one answer off after so many bytes."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = ARCHIVE
        self.cuts: list[int] = []
        self.requests: list[tuple[str, str]] = []  # for FILE: method and path

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def downloads(self) -> int:
        return sum(method == "GET" for method, _ in self.requests)


class Handler(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self._answer("HEAD")

    def do_GET(self):
        self._answer("GET")

    def _answer(self, method):
        hub = self.server
        if not self.path.endswith(FILE):  # a proxy is asked for a whole address
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.end_headers()
            return
        hub.requests.append((method, self.path))
        wanted = self.headers.get("Range", "bytes=0-")
        start = int(wanted.removeprefix("bytes=").rstrip("-"))
        body = hub.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hashlib.sha256(hub.content).hexdigest()}"')
        self.send_header("X-Repo-Commit", 40 * "0")
        if start:
            size = len(hub.content)
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.end_headers()
        if method == "GET":
            self.wfile.write(body[: hub.cuts.pop(0)] if hub.cuts else body)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch):
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(time, "sleep", lambda _: None)  # between attempts
    server = Hub()
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def get(root, checksum=None) -> str:
    return fetch(lookup_known(NAME), root, checksum)


def files_in(root) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_an_archive_is_unpacked_to_its_place(hub, tmp_path):
    told = get(tmp_path)
    assert files_in(tmp_path) == UNPACKED
    assert (tmp_path / PLACE / "Expert/d/1").read_bytes() == NOISE
    assert hashlib.sha256(ARCHIVE).hexdigest() in told
    assert "WARNING: Medium is missing; published: 5000 episodes" in told
    assert "WARNING: Expert cannot be compared with what is published" in told
    assert hub.downloads() == 1
    assert "is here already" in get(tmp_path)
    assert hub.downloads() == 1


def test_a_broken_connection_is_retried(hub, tmp_path):
    hub.cuts = [50_000, 30_000]
    get(tmp_path)
    assert files_in(tmp_path) == UNPACKED
    assert hub.downloads() == 3


@pytest.mark.parametrize("moment", ["download", "unpacking"])
def test_after_an_interruption_the_same_command_works(hub, tmp_path, monkeypatch, moment):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    name = {"download": "huggingface_hub.file_download.http_get", "unpacking": "shutil.copyfileobj"}
    with monkeypatch.context() as patch:
        patch.setattr(name[moment], interrupted)
        with pytest.raises(KeyboardInterrupt):
            get(tmp_path)
    assert not (tmp_path / PLACE).exists()
    get(tmp_path)
    assert files_in(tmp_path) == UNPACKED
    assert hub.downloads() == 1  # a complete archive is not downloaded again


def test_what_a_killed_download_left_is_removed(hub, tmp_path):
    folder = (tmp_path / PLACE).parent / ".2s3z.vlt.partial"
    folder.mkdir(parents=True)
    (folder / "half.incomplete").write_bytes(NOISE)
    get(tmp_path)
    assert files_in(tmp_path) == UNPACKED


def test_the_checksum_must_match(hub, tmp_path):
    with pytest.raises(DatasetError, match=r"SHA-256 of the archive is .*, not 00; it was removed"):
        get(tmp_path, checksum="00")
    assert not [name for name in files_in(tmp_path) if name.endswith(".zip")]
    assert "as expected" in get(tmp_path, checksum=hashlib.sha256(ARCHIVE).hexdigest().upper())


def test_a_file_that_is_not_on_the_hub(hub, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "FILE", "another")
    assert dataset.main(["fetch", NAME, "--root", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert f"{NAME} could not be fetched from {hub.address}: 404 Client Error" in error
    assert "HF_ENDPOINT" in error
    assert not files_in(tmp_path)


def test_a_hub_that_cannot_be_reached(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9/")
    with pytest.raises(DatasetError, match=r"fetched from http://127.0.0.1:9: .*refused"):
        get(tmp_path)
    assert not files_in(tmp_path)


def test_the_proxy_of_the_environment_is_used(hub, tmp_path, monkeypatch):
    from huggingface_hub import close_session

    close_session()  # it keeps the proxies that it began with
    monkeypatch.setenv("HF_ENDPOINT", "http://datasets.invalid")
    monkeypatch.setenv("HTTP_PROXY", hub.address)
    get(tmp_path)
    close_session()
    assert hub.requests[-1] == ("GET", f"http://datasets.invalid{FILE}")


def test_without_the_hub_s_client_the_extra_is_named(hub, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DatasetError, match=r"pip install huggingface_hub \(the extra 'fetch'\)"):
        get(tmp_path)


def test_a_disk_that_is_too_small(hub, tmp_path, monkeypatch):
    usage = SimpleNamespace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DatasetError, match=r"0\.00 GiB are missing, 0\.00 GiB are free"):
        get(tmp_path)
    assert hub.downloads() == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>sign in first</html>", "not a sound zip archive"),
        (ARCHIVE[:-50], "not a sound zip archive"),
        (DAMAGED, "not a sound zip archive.*decompressing"),
        (make_archive({"3m.vlt/Good/metadata.json": "{}"}), "holds no folder '2s3z.vlt'"),
        (make_archive({"2s3z.vlt/Good/d/1": bytes(50_000_000)}), "claims to hold 0.05 GiB"),
    ],
)
def test_another_file_than_the_archive_is_refused(hub, tmp_path, content, message):
    hub.content = content
    with pytest.raises(DatasetError, match=message):
        get(tmp_path)
    assert not (tmp_path / PLACE).exists()


def test_two_processes_do_not_fetch_the_same(hub, tmp_path, monkeypatch):
    checksum = fetch_module.sha256

    def meanwhile(archive):
        with pytest.raises(DatasetError, match="another process is writing it"):
            get(tmp_path)
        return checksum(archive)

    monkeypatch.setattr(fetch_module, "sha256", meanwhile)
    get(tmp_path)
    assert files_in(tmp_path) == UNPACKED


def test_a_member_cannot_leave_its_folder(hub, tmp_path):
    members = {"2s3z.vlt/../../../evil": "x", "/2s3z.vlt/Good/metadata.json": "{}"}
    hub.content = make_archive(members)
    get(tmp_path)
    assert files_in(tmp_path) == {f"{PLACE}/Good/metadata.json"}


def test_a_dataset_without_a_repository_tells_what_to_do(tmp_path):
    with pytest.raises(DatasetError, match="cannot be fetched by a program"):
        fetch(lookup_known("alberdice_npy"), tmp_path)


def test_the_registry_is_complete():
    known = known_datasets()
    assert len(known) == 26
    for entry in known.values():
        assert bool(entry.repository) != bool(entry.manual)
        assert "{" not in entry.file + str(entry.place)
    assert known["og_marl/smac_v1/3m"].file == "core/smac_v1/3m.zip"
    assert known["og_marl/smac_v1/3m"].size_mb == 1300
