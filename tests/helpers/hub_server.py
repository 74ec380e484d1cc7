"""As much of the Hugging Face hub, on loopback, as it takes to copy a model; told to misbehave once per request and file."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

LFS = (".safetensors", ".bin")  # files that the hub keeps elsewhere, and tells the SHA-256 of


class HubServer(ThreadingHTTPServer):
    """Serves what was `put`. `requests`: paths. `bodies`: (file, Range or None) of every request for content. `faults`: file ->
    "cut" (ends after three quarters), "stall" (waits there), "wrong" (the last byte is another), used up from the front.
    `offers`: pull requests. `stalled`: set when an answer waits. `environment`: what tells huggingface_hub.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.commits: dict[tuple[str, str], dict[str, bytes]] = {}  # repository and commit -> files
        self.branches: dict[tuple[str, str], str] = {}  # repository and branch -> commit
        self.faults: defaultdict[str, list[str]] = defaultdict(list)
        self.requests: list[str] = []
        self.bodies: list[tuple[str, str | None]] = []
        self.offers: list[dict[str, object]] = []
        self.details: dict[str, object] = {}  # what else is told of a model: its card and configuration
        self.stalled, self.closing = threading.Event(), threading.Event()
        self.environment = {"HF_ENDPOINT": f"http://127.0.0.1:{self.server_address[1]}"}
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def put(self, repository: str, files: dict[str, bytes], branch: str = "main") -> str:
        """Commit these files to a branch; the commit's name."""
        digest = hashlib.sha1(str(sorted((name, hashlib.sha256(data).digest()) for name, data in files.items())).encode())
        self.commits[repository, digest.hexdigest()] = files
        self.branches[repository, branch] = digest.hexdigest()
        return digest.hexdigest()

    def fetched(self) -> list[str]:
        return [name for name, _ in self.bodies]

    def stop(self) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.server.requests.append(path)
        if len(parts := path.removeprefix("/api/models").strip("/").split("/", 3)) < 3:  # something else of the hub's
            return self._answer(404, b"")
        owner, name, what, rest = (*parts, "")[:4]
        repository = f"{owner}/{name}"
        if what == "cdn":
            commit, _, file = rest.partition("/")
            return self._content(file, self.server.commits[repository, commit][file])
        if repository not in {known for known, _ in self.server.commits}:
            return self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})
        if what == "discussions":
            offers = {"count": len(self.server.offers), "start": 0, "discussions": self.server.offers}
            return self._answer(200, json.dumps(offers).encode())
        revision, _, file = (unquote(rest), "", "") if what == "revision" else rest.partition("/")
        commit = self.server.branches.get((repository, revision), revision)
        if (repository, commit) not in self.server.commits:
            return self._answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
        files = self.server.commits[repository, commit]
        if what == "revision":
            listed = {"id": repository, "sha": commit, "siblings": [_describe(name, data) for name, data in files.items()]}
            return self._answer(200, json.dumps({**listed, **self.server.details}).encode())
        if file.endswith(LFS):
            return self._answer(302, b"", {"Location": f"/{repository}/cdn/{commit}/{file}"})
        return self._content(file, files[file])

    def _content(self, name: str, data: bytes) -> None:
        asked = self.headers["Range"]
        self.server.bodies.append((name, asked))
        fault = self.server.faults[name].pop(0) if self.server.faults[name] else None
        first = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
        told = {"Content-Range": f"bytes {first}-{len(data) - 1}/{len(data)}"} if asked else {}
        if fault == "wrong":
            data = data[:-1] + bytes([data[-1] ^ 1])
        part = data[first:]
        sent = part[: len(part) * 3 // 4] if fault in ("cut", "stall") else part
        self._answer(206 if asked else 200, sent, told, len(part))
        if fault == "stall":
            self.wfile.flush()
            self.server.stalled.set()
            self.server.closing.wait(60)
        self.close_connection = fault in ("cut", "stall")

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None, length: int | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body) if length is None else length), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _describe(name: str, data: bytes) -> dict[str, object]:
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    lfs = {"lfs": {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 135}}
    return {"rfilename": name, "size": len(data), "blobId": blob, **(lfs if name.endswith(LFS) else {})}
