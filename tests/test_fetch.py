"""Downloading, against a stand-in of the store on 127.0.0.1: the client's real downloader, real files, no network."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, unquote, urlparse
from xml.sax.saxutils import escape

import pytest

from tests.conftest import run

idc_index = pytest.importorskip("idc_index")
BUCKET = "idc-open-data"
LISTED = (
    "<Contents><Key>{0}</Key><Size>{1}</Size><LastModified>2020-01-01T00:00:00.000Z</LastModified>"
    "<ETag>&quot;{2:x}&quot;</ETag></Contents>"
)


class Store(BaseHTTPRequestHandler):
    """As much of S3 as listing and reading need."""

    objects: ClassVar[dict[str, bytes]] = {}
    served: ClassVar[list[str]] = []
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        url = urlparse(self.path)
        key = unquote(url.path).removeprefix(f"/{BUCKET}").lstrip("/")
        status, headers = 200, {"Content-Type": "application/xml"}
        if not key:
            prefix = parse_qs(url.query).get("prefix", [""])[0]
            listed = "".join(
                LISTED.format(escape(k), len(v), abs(hash(v))) for k, v in self.objects.items() if k.startswith(prefix)
            )
            data = (
                f"<ListBucketResult><Name>{BUCKET}</Name><IsTruncated>false</IsTruncated>{listed}</ListBucketResult>".encode()
            )
        elif key in self.objects:
            data = self.objects[key]
            headers |= {"ETag": f'"{abs(hash(data)):x}"', "Last-Modified": "Wed, 01 Jan 2020 00:00:00 GMT"}
            if self.headers.get("Range") and body:
                first, last = self.headers["Range"].removeprefix("bytes=").split("-")
                end = min(int(last or len(data) - 1), len(data) - 1)
                headers["Content-Range"] = f"bytes {first}-{end}/{len(data)}"
                data, status = data[int(first) : end + 1], 206
            if body:
                self.served.append(key)
        else:
            data, status = b"<Error><Code>NoSuchKey</Code></Error>", 404
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(data))}).items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Store]]:
    """Three series of CMMD in a store on this machine, and a client whose index lists them."""
    import idc_index.index as client_module

    Store.objects, Store.served = {}, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Store)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    client = idc_index.IDCClient()
    rows = client.index[client.index["collection_id"] == "cmmd"].head(3).copy()
    for number, (_, row) in enumerate(rows.iterrows()):
        folder = row["series_aws_url"].removeprefix(f"s3://{BUCKET}/").removesuffix("/*")
        for i in range(int(row["instanceCount"])):
            Store.objects[f"{folder}/{i}.dcm"] = bytes([number, i]) * (500 + i)
    sizes = [sum(len(v) for k, v in Store.objects.items() if url.split("/")[3] in k) / 1e6 for url in rows["series_aws_url"]]
    client.index = rows.assign(series_size_MB=sizes)
    monkeypatch.setattr(client_module, "aws_endpoint_url", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(idc_index, "IDCClient", lambda: client)
    yield Store
    server.shutdown()
    server.server_close()
    thread.join(10)


def files(folder: Path) -> dict[str, bytes]:
    return {file.name + file.parent.name: file.read_bytes() for file in folder.rglob("*.dcm")}


def test_what_cannot_be_fetched_says_so_and_costs_are_said_first(
    store: type[Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, said in (
        ("rsna", "this data set comes from: Kaggle, competition rsna-breast-cancer-detection"),
        ("cmm", "has no collection 'cmm' (did you mean 'cmmd'?); of mammograms it has cmmd"),
    ):
        assert said in run("fetch", name, "--out", tmp_path / "x", code=1).output
    with socket.socket() as taken:  # bound, and nobody listens: as without a network
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setattr("idc_index.index.aws_endpoint_url", url)
        said = run("fetch", "cmmd", "--out", tmp_path / "cmmd", "--yes", code=1).output
    assert f"{url}/{BUCKET}: cannot be reached (" in said and "nothing was fetched: check the network" in said
    said = run("fetch", "cmmd", "--out", tmp_path / "cmmd", code=1).output
    assert "3 series" in said
    assert "add --yes" in said
    assert not store.served


def test_download_resume_and_check(store: type[Store], tmp_path: Path) -> None:
    out = tmp_path / "cmmd"
    done = run("fetch", "cmmd", "--out", out, "--yes").output
    assert f"{len(store.objects)} DICOM files, all as large as listed" in done
    assert sorted(map(len, files(out).values())) == sorted(map(len, store.objects.values()))
    whole = files(out)
    store.served.clear()
    assert "3 series are there already, 0.0 GB" in run("fetch", "cmmd", "--out", out, "--yes").output
    assert not store.served
    min(out.rglob("*.dcm")).unlink()
    second = max(out.rglob("*.dcm"))
    second.write_bytes(second.read_bytes()[:10])
    run("fetch", "cmmd", "--out", out, "--yes")
    assert files(out) == whole
    assert 0 < len(set(store.served)) < len(store.objects)


def test_a_store_that_lost_a_file_is_named(store: type[Store], tmp_path: Path) -> None:
    del store.objects[min(store.objects)]
    said = run("fetch", "cmmd", "--out", tmp_path / "cmmd", "--yes", code=1).output
    assert "1 of 3 series are incomplete" in said


def test_the_real_index_knows_what_cmmd_costs(tmp_path: Path) -> None:
    said = run("fetch", "cmmd", "--out", tmp_path / "cmmd", code=1).output
    assert "1775 series, 5202 files, 22.9 GB; 0 series are there already" in said
