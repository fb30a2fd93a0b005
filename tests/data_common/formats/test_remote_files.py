"""Files in stores: by a server on the loopback address, and by a store in memory."""

import functools
import json
import re
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import utils
from data_common.formats import remote_files, stores
from data_common.formats.remote_files import is_remote


class Ranges(SimpleHTTPRequestHandler):
    """Serves parts of files, as stores do."""

    def do_GET(self):
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        try:
            with open(self.translate_path(self.path), "rb") as file:
                content = file.read()
        except OSError:
            self.send_error(404)
            return
        begin, end = (int(wanted[1]), int(wanted[2])) if wanted else (0, len(content) - 1)
        part = content[begin : end + 1]
        self.send_response(206 if wanted else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(part)))
        if wanted:
            self.send_header("Content-Range", f"bytes {begin}-{begin + len(part) - 1}/{len(content)}")
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "served").mkdir()
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    handler = functools.partial(Ranges, directory=str(tmp_path / "served"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def convert(source, *words):
    return utils.main(["--content", "dataset", "--id", source, "--save-dir", "out.jsonl", *words])


def test_files_of_a_server(server, tmp_path, capsys):
    rows = [{"id": number, "zip": f"0{number}"} for number in range(3)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "served/in.parquet")
    (tmp_path / "served/in.csv").write_text("id,zip\n" + "".join(f"{row['id']},{row['zip']}\n" for row in rows))
    for name in ("in.parquet", "in.csv"):
        assert convert(f"{server}/{name}") == 0
        assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().split("\n")[:-1]] == rows
        (tmp_path / "out.jsonl").unlink()
    assert convert(f"{server}/none.csv") == 2
    assert f"{server}/none.csv" in capsys.readouterr().err
    assert convert(f"{server}/in.csv", "--split-name", "train") == 2
    assert "is a file: leave out --split-name" in capsys.readouterr().err


def test_folders_and_globs_of_a_store(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(stores.PACKAGES, "memory", "fsspec")
    store = fsspec.filesystem("memory")
    for number in (2, 1):
        store.pipe(f"/rows/{number}.jsonl", b'{"id": %d}\n' % number)
    store.pipe("/rows/readme.md", b"#")
    for place in ("memory://rows", "memory://rows/*.jsonl"):
        assert convert(place) == 0
        assert (tmp_path / "out.jsonl").read_text() == '{"id": 1}\n{"id": 2}\n'
        (tmp_path / "out.jsonl").unlink()
    names, stamps = remote_files.remote_files("memory://rows/1.jsonl")
    assert names == ["memory://rows/1.jsonl"] and stamps == [{"size": "10"}]
    store.pipe("/rows/x.csv", b"a\n1\n")
    assert convert("memory://rows") == 2
    assert "memory://rows holds files of several kinds: .csv, .jsonl" in capsys.readouterr().err
    store.rm("/rows", recursive=True)


@pytest.mark.parametrize(("scheme", "package"), [("s3", "s3fs"), ("gs", "gcsfs")])
def test_a_package_that_is_missing_is_named(tmp_path, monkeypatch, capsys, scheme, package):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    assert convert(f"{scheme}://bucket/in.jsonl") == 2
    message = f"error: {scheme}://bucket/in.jsonl: {scheme}:// needs the package {package} (pip install {package})"
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "remote"),
    [
        ("s3://bucket/folder", True),
        ("hf://datasets/owner/name/a.parquet", True),
        ("https://example.org/a.jsonl.zst", True),
        ("https://example.org/a.xlsx", True),
        ("https://huggingface.co/datasets/owner/name", False),
        ("owner/name", False),
        ("file:///a.jsonl", False),
        ("s3:/a.jsonl", False),
    ],
)
def test_what_lies_in_a_store(path, remote):
    assert is_remote(path) is remote
