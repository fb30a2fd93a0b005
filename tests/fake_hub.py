"""A Hugging Face hub on the loopback address: data sets, models, gated and broken ones, for the real client."""

import contextlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_a_friend"
ADDRESS = re.compile(r"/(?P<api>api/)?(?:(?P<kind>models|datasets)/)?(?P<id>[\w.-]+/[\w.-]+)(?:/(?P<rest>.*))?")


@dataclass
class Repository:
    """Files by branch; the commit of a branch is 40 times one letter."""

    files: dict[str, bytes]
    gated: bool = False
    branches: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """-> (commit, files) of a branch or commit."""
        branches = {"main": self.files} | self.branches
        commits = {branch: "abcdef"[number] * 40 for number, branch in enumerate(branches)}
        for branch, files in branches.items():
            if revision in (branch, commits[branch]):
                return commits[branch], files
        return None


class FakeHub(ThreadingHTTPServer):
    """Serves `repositories`, keyed by ("datasets" or "models", id)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.breaks: dict[str, list[int]] = {}  # file name -> bytes after which its next answers break off
        self.served: dict[str, int] = {}  # file name -> bytes that were sent
        self.tokens: set[str | None] = set()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: object) -> None:
        """A client that hangs up early is no error."""


class Handler(BaseHTTPRequestHandler):
    """What the client of the hub and `datasets` ask for."""

    protocol_version = "HTTP/1.1"
    server: FakeHub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()

    def do_GET(self) -> None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ") or None
        self.server.tokens.add(token)
        path = unquote(urlsplit(self.path).path)
        match = ADDRESS.fullmatch(path)
        if path == "/" or match is None:
            return self.answer(200 if path == "/" else 404, b"")
        kind = match["kind"] or "models"
        repository = self.server.repositories.get((kind, match["id"]))
        if token not in (None, TOKEN):
            return self.refuse(401, "", "Invalid credentials in Authorization header")
        if repository is None:
            return self.refuse(401, "RepoNotFound", "Repository not found")
        rest = match["rest"] or ""
        if repository.gated and token != TOKEN and (rest.startswith("resolve") or match["api"]):
            return self.refuse(403, "GatedRepo", "Access to this repository is restricted")
        if match["api"]:
            return self.api(kind, match["id"], repository, rest)
        revision, name = re.fullmatch(r"resolve/(refs/convert/parquet|[^/]+)/(.*)", rest).groups()
        found = repository.at(revision)
        if found is None:
            return self.refuse(404, "RevisionNotFound", "Invalid rev id")
        if name not in found[1]:
            return self.refuse(404, "EntryNotFound", "Entry not found")
        return self.file(name, found[1][name], found[0])

    def api(self, kind: str, repository_id: str, repository: Repository, rest: str) -> None:
        what, _, place = rest.partition("/")
        branch = next((b for b in repository.branches if place == b or place.startswith(b + "/")), place.split("/")[0])
        found = repository.at(branch or "main")
        if found is None:
            return self.refuse(404, "RevisionNotFound", "Invalid rev id")
        commit, files = found
        if what in ("", "revision"):
            information = {"id": repository_id, "sha": commit, "private": False, "tags": [], "downloads": 0}
            information |= {"gated": "manual" if repository.gated else False, "cardData": {"license": "odc-by"}}
            information |= {"siblings": [{"rfilename": name} for name in files]}
            return self.json(information)
        entries = {name: {"type": "file", "size": len(content)} for name, content in files.items()}
        for name in files:
            parts = name.split("/")[:-1]
            entries |= {"/".join(parts[: n + 1]): {"type": "directory", "size": 0} for n in range(len(parts))}
        if what == "paths-info":
            wanted = json.loads(self.body)["paths"]
            names = [name for name in entries if name in wanted]
        else:
            folder, deep = place[len(branch) :].strip("/"), "recursive=true" in self.path.lower()
            inside = folder + "/" if folder else ""
            names = [n for n in entries if n.startswith(inside) and (deep or "/" not in n[len(inside) :])]
        return self.json([entries[name] | {"path": name, "oid": commit} for name in names])

    def file(self, name: str, content: bytes, commit: str) -> None:
        headers = {"X-Repo-Commit": commit, "ETag": f'"{hash(content):x}"', "Accept-Ranges": "bytes"}
        status, part = 200, content
        if span := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(span[1]), min(int(span[2] or len(content)), len(content) - 1)
            status, part = 206, content[first : last + 1]
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        self.answer(status, part, headers, name)

    def json(self, content: object) -> None:
        self.answer(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def refuse(self, status: int, code: str, message: str) -> None:
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.answer(status, json.dumps({"error": message}).encode(), headers)

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None, name: str = "") -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        breaks = self.server.breaks.get(name)
        part = body[: breaks.pop(0)] if breaks else body
        self.wfile.write(part)
        self.server.served[name] = self.server.served.get(name, 0) + len(part)
        if len(part) < len(body):
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()


@contextlib.contextmanager
def serving() -> Iterator[FakeHub]:
    """A fake hub that answers until the end of the block."""
    with FakeHub() as hub:
        thread = threading.Thread(target=hub.serve_forever, daemon=True)
        thread.start()
        yield hub
        hub.shutdown()
