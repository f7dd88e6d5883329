"""`fetch` against a server on this machine: ranges, broken connections, wrong answers."""

import hashlib
import io
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from inspo import dataset
from inspo.data.tools import fetch as fetch_module
from inspo.data.tools.fetch import DownloadOptions, fetch
from inspo.data.tools.known import known_datasets, lookup_known
from inspo.utils.errors import DatasetError

NAME = "cfcql/smac_v1/2s3z"
PATH = "/prior_work/cfcql/smac_v1/2s3z.zip"


def make_archive(members) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return content.getvalue()


NOISE = np.random.default_rng(0).integers(256, size=200_000, dtype=np.uint8).tobytes()
ARCHIVE = make_archive(
    {"2s3z.vlt/Expert/metadata.json": "{}", "2s3z.vlt/Expert/d/1": NOISE, "README.md": "x"}
)
AT = 30 + len(
    "2s3z.vlt/Expert/metadata.json"
)  # where the first member's packed bytes begin: a header lies before
DAMAGED = ARCHIVE[:AT] + b"\xff" + ARCHIVE[AT + 1 :]


class Server(ThreadingHTTPServer):
    """Serves `content` under any path; cuts each of the next `cuts` answers off after so many bytes."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.version, self.cuts, self.status, self.ranges = (
            ARCHIVE,
            '"v1"',
            [],
            200,
            True,
        )
        self.requests: list[tuple[str, str | None]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        server.requests.append((self.path, wanted))
        if server.status != 200:
            self.send_error(server.status)
            return
        start = 0
        if wanted and server.ranges and self.headers.get("If-Range") == server.version:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        body = server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", server.version)
        if start:
            self.send_header(
                "Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}"
            )
        self.end_headers()
        self.wfile.write(body[: server.cuts.pop(0)] if server.cuts else body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    for name in (
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "HF_ENDPOINT",
    ):
        monkeypatch.delenv(name, raising=False)
    running = Server()
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield running
    running.shutdown()
    running.server_close()
    thread.join()


def get(server, root, **options) -> str:
    return fetch(
        lookup_known(NAME),
        root,
        DownloadOptions(**({"mirror": server.address} | options)),
        pause=lambda _: None,
    )


def files_in(root) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


UNPACKED = {
    "vaults/cfcql/smac_v1/2s3z.vlt/Expert/metadata.json",
    "vaults/cfcql/smac_v1/2s3z.vlt/Expert/d/1",
}


def test_an_archive_goes_to_its_place(server, tmp_path):
    told = get(server, tmp_path)
    assert files_in(tmp_path) == UNPACKED
    assert (tmp_path / "vaults/cfcql/smac_v1/2s3z.vlt/Expert/d/1").read_bytes() == NOISE
    assert server.requests == [(PATH, None)]
    assert hashlib.sha256(ARCHIVE).hexdigest() in told
    assert "is here already" in get(server, tmp_path)
    assert len(server.requests) == 1


def test_a_broken_connection_is_gone_on_with(server, tmp_path):
    server.cuts = [50_000, 30_000, 0, 1]
    get(server, tmp_path)
    assert files_in(tmp_path) == UNPACKED
    starts = [wanted and int(wanted[6:-1]) for _, wanted in server.requests]
    assert starts == [None, 50_000, 80_000, 80_000, 80_001]


def test_an_interrupted_download_is_gone_on_with(server, tmp_path, monkeypatch):
    server.cuts = [50_000]

    def interrupted(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(
            lookup_known(NAME), tmp_path, DownloadOptions(mirror=server.address), pause=interrupted
        )
    assert not (tmp_path / "vaults/cfcql/smac_v1/2s3z.vlt").exists()
    get(server, tmp_path)
    assert server.requests[1] == (PATH, "bytes=50000-")
    assert files_in(tmp_path) == UNPACKED


def test_a_new_version_is_fetched_from_its_beginning(server, tmp_path):
    server.cuts = [50_000] * 30
    server.ranges = False
    with pytest.raises(DatasetError, match="the connection broke off"):
        get(server, tmp_path)
    server.cuts, server.ranges, server.version = [], True, '"v2"'
    server.content = make_archive({"2s3z.vlt/Expert/metadata.json": "new"})
    get(server, tmp_path)
    assert (tmp_path / "vaults/cfcql/smac_v1/2s3z.vlt/Expert/metadata.json").read_text() == "new"


def test_a_checksum_is_insisted_on(server, tmp_path):
    with pytest.raises(
        DatasetError, match=r"the SHA-256 of what was fetched is .*, not 00; it was removed"
    ):
        get(server, tmp_path, sha256="00")
    assert not [name for name in files_in(tmp_path) if name.endswith(".download")]
    assert "as it should be" in get(
        server, tmp_path, sha256=hashlib.sha256(ARCHIVE).hexdigest().upper()
    )


@pytest.mark.parametrize("status", [404, 503])
def test_an_answer_that_is_none_is_told_with_what_can_be_done(
    server, tmp_path, status, monkeypatch, capsys
):
    server.status = status
    monkeypatch.setattr(fetch_module, "ATTEMPTS", 1)
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    assert dataset.main(["fetch", NAME, "--root", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert f"the server answers {status}" in said
    assert "--mirror=ADDRESS" in said
    assert len(server.requests) == 1
    assert server.requests[0][0] == f"/datasets/InstaDeepAI/og-marl/resolve/main{PATH}"


def test_nobody_there_is_told(tmp_path):
    with pytest.raises(
        DatasetError, match=r"could not be fetched:\n  http://127.0.0.1:9/.*refused"
    ):
        fetch(
            lookup_known(NAME),
            tmp_path,
            DownloadOptions(mirror="http://127.0.0.1:9"),
            pause=lambda _: None,
        )


def test_only_the_web_is_read(tmp_path):
    with pytest.raises(DatasetError, match="unknown url type: file"):
        fetch(
            lookup_known(NAME),
            tmp_path,
            DownloadOptions(mirror="file:///etc"),
            pause=lambda _: None,
        )


def test_a_proxy_is_gone_through(server, tmp_path):
    get(server, tmp_path, mirror="http://datasets.invalid", proxy=server.address)
    assert server.requests == [(f"http://datasets.invalid{PATH}", None)]


def test_the_environment_s_proxy_is_gone_through(server, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", server.address)
    get(server, tmp_path, mirror="http://datasets.invalid")
    assert server.requests == [(f"http://datasets.invalid{PATH}", None)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>sign in first</html>", "no sound zip archive"),
        (ARCHIVE[:-50], "no sound zip archive"),
        (DAMAGED, "no sound zip archive.*decompressing"),
        (make_archive({"3m.vlt/Good/metadata.json": "{}"}), "holds no folder '2s3z.vlt'"),
        (make_archive({"2s3z.vlt/Good/d/1": bytes(50_000_000)}), "claims to hold 0.05 GiB"),
    ],
)
def test_what_is_no_such_archive_is_refused(server, tmp_path, content, message):
    server.content = content
    with pytest.raises(DatasetError, match=message):
        get(server, tmp_path)
    assert not (tmp_path / "vaults/cfcql/smac_v1/2s3z.vlt").exists()


def test_two_do_not_fetch_into_one_file(server, tmp_path):
    def meanwhile(_):
        with pytest.raises(DatasetError, match="another process is fetching it"):
            get(server, tmp_path)

    server.cuts = [1000]
    assert "SHA-256" in fetch(
        lookup_known(NAME), tmp_path, DownloadOptions(mirror=server.address), pause=meanwhile
    )
    assert len(server.requests) == 2
    assert files_in(tmp_path) == UNPACKED


def test_a_member_cannot_leave_its_folder(server, tmp_path):
    server.content = make_archive(
        {"2s3z.vlt/../../../evil": "x", "/2s3z.vlt/Good/metadata.json": "{}"}
    )
    get(server, tmp_path)
    assert files_in(tmp_path) == {"vaults/cfcql/smac_v1/2s3z.vlt/Good/metadata.json"}


def test_the_registry_is_complete():
    known = known_datasets()
    assert len(known) == 26
    for entry in known.values():
        assert bool(entry.mirrors) != bool(entry.manual)
        assert "{" not in entry.file + str(entry.place)
    assert known["og_marl/smac_v1/3m"].file == "core/smac_v1/3m.zip"
    assert known["og_marl/smac_v1/3m"].size_mb == 1300
