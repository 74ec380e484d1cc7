"""As much of Google Cloud Storage and of Azure Blob Storage, on loopback, as it takes to read an object."""

from __future__ import annotations

import threading
from collections import Counter
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

GOOGLE = "/download/storage/v1/b/"
AZURE = "/account/"


class BlobServer(ThreadingHTTPServer):
    """Serves what was `put`. `answered`: status -> how often. `environment`: what tells the clients."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, tuple[int, bytes]] = {}  # "bucket/key" -> generation, content
        self.answered: Counter[int] = Counter()
        url = f"http://127.0.0.1:{self.server_address[1]}"
        self.environment = {
            "STORAGE_EMULATOR_HOST": url,
            "AZURE_STORAGE_CONNECTION_STRING": f"AccountName=account;AccountKey=a2V5;BlobEndpoint={url}{AZURE}",
        }
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def put(self, name: str, content: bytes) -> None:
        self.objects[name] = (self.objects.get(name, (0, b""))[0] + 1, content)

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: BlobServer

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path.startswith(GOOGLE):
            name = unquote(url.path.removeprefix(GOOGLE)).replace("/o/", "/", 1)
            known = parse_qs(url.query).get("ifGenerationNotMatch", [""])[0]
        else:
            name, known = unquote(url.path.removeprefix(AZURE)), self.headers["If-None-Match"]
        if name not in self.server.objects:
            return self._answer(404, b"", {"x-ms-error-code": "BlobNotFound"})
        generation, content = self.server.objects[name]
        told = {"x-goog-generation": str(generation)} if url.path.startswith(GOOGLE) else {"ETag": f'"0x{generation}"'}
        if known in told.values():
            return self._answer(304, b"", told)
        asked = self.headers["x-ms-range"] or self.headers["Range"]
        first, last = (int(number) for number in asked.removeprefix("bytes=").split("-"))
        part = content[first : last + 1]
        told |= {"Content-Range": f"bytes {first}-{first + len(part) - 1}/{len(content)}", "x-ms-blob-type": "BlockBlob"}
        return self._answer(206, part, told)

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.server.answered[status] += 1
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "Last-Modified": formatdate(0, usegmt=True), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
