"""A real HTTPS server on loopback that can be told to misbehave, once per request and path."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time
from collections import Counter, defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import trustme

from tagger.core.types import ImagePolicy

HOST = "cdn.example.com"
FAULTS = ("503", "429", "reset", "slow", "truncated", "wrong-length", "stall")


class HttpsServer(ThreadingHTTPServer):
    """Serves `files` (path -> content) after the `faults` of a path (a list, used up from the front) have happened.

    `redirects`: path -> Location. `headers`: path -> extra headers; an ETag among them is compared with what a request says that
    it knows. `requests`: (path, Host) as they came. `names`: of SNI. `happened`: fault -> how often. `answered`: status -> how
    often. `condition_status`: of the answer to a request that says what it knows, instead of 304 or 200.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, authority: trustme.CA, *names: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*names).configure_cert(context)
        self.names: list[str | None] = []
        context.sni_callback = lambda _, name, __: self.names.append(name)
        # The handshake is made in the connection's own thread, with its first read.
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.port: int = self.server_address[1]
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.headers: dict[str, dict[str, str]] = {}
        self.statuses: dict[str, int] = {}
        self.faults: defaultdict[str, list[str]] = defaultdict(list)
        self.happened: Counter[str] = Counter()
        self.answered: Counter[int] = Counter()
        self.condition_status: int | None = None
        self.requests: list[tuple[str, str]] = []
        self.closing = threading.Event()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def url(self, path: str = "/1.jpg", host: str = HOST) -> str:
        return f"https://{host}:{self.port}{path}"

    def policy(self, *hosts: str, networks: tuple[str, ...] = ("127.0.0.0/8",), timeout: float = 8) -> ImagePolicy:
        listed = tuple(f"{host}:{self.port}" for host in hosts or (HOST,))
        return ImagePolicy(roots=(Path("/nowhere"),), hosts=listed, private_networks=networks, timeout=timeout)

    def stop(self) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()

    def shutdown_request(self, request: Any) -> None:
        request.close()  # without the farewell of the base class, which would soften a reset

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the tests."""


class Resolver:
    """Answers instead of the system's resolver: `answers` of a name, one after the other, the last for ever.

    `delays`: name -> an event to wait for first.
    """

    def __init__(self) -> None:
        self.answers: dict[str, list[list[str]]] = {}
        self.asked: list[str] = []
        self.delays: dict[str, threading.Event] = {}
        self._system = socket.getaddrinfo

    def __call__(self, host: str, port: int, *args: Any, **kwargs: Any) -> list[Any]:
        if host[0].isdigit() or ":" in host:  # an address, which connect() passes through the resolver again
            return self._system(host, port, *args, **kwargs)
        self.asked.append(host)
        if host in self.delays:
            self.delays[host].wait(20)
        if host not in self.answers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        answers = self.answers[host]
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [found for address in addresses for found in self._system(address, port, *args, **kwargs)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HttpsServer

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        server, path = self.server, self.path.partition("?")[0]
        server.requests.append((self.path, self.headers["Host"]))
        fault = server.faults[path].pop(0) if server.faults[path] else None
        if fault:
            server.happened[fault] += 1
        body = server.files.get(path, b"")
        if fault in ("503", "429"):
            self._answer(int(fault), b"", server.headers.get(path, {}))
        elif fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
        elif fault == "truncated":
            self._answer(200, body[: len(body) // 2], length=len(body))
            self.close_connection = True
        elif fault == "wrong-length":
            self._answer(200, body, length=f"{len(body)}, {len(body) - 7}")
            self.close_connection = True
        elif fault == "short-length":  # and the rest of the body stays in the connection
            self._answer(200, body, length=len(body) // 2)
        elif fault == "slow":
            self._answer(200, body[: len(body) // 2], length=len(body))
            time.sleep(0.2)
            self.wfile.write(body[len(body) // 2 :])
        elif fault == "stall":
            self._answer(200, body[: len(body) // 2], length=len(body))
            self._wait()
        elif fault == "silent":
            self._wait()
        elif fault == "dripping-headers":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Drip: ")
            self._drip()
        elif fault == "dripping-body":
            self._answer(200, b"", length=1 << 20)
            self._drip()
        elif fault == "endless":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                self.wfile.write(b"10000\r\n" + bytes(1 << 16) + b"\r\n")
        elif path in server.redirects:
            self._answer(302, b"", {"Location": server.redirects[path]})
        elif path in server.statuses:
            self._answer(server.statuses[path], b"")
        elif path in server.files:
            headers = server.headers.get(path, {})
            known = self.headers["If-None-Match"]
            if known and server.condition_status:
                self._answer(server.condition_status, b"", headers)
            elif known and known.removeprefix("W/") == headers.get("ETag", "").removeprefix("W/"):
                self._answer(304, b"", headers)
            else:
                self._answer(200, body, headers)
        else:
            self._answer(404, b"")

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None, length: int | str | None = None) -> None:
        self.server.answered[status] += 1
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _wait(self) -> None:
        self.server.closing.wait(20)
        self.close_connection = True

    def _drip(self) -> None:
        while not self.server.closing.wait(0.1):
            self.wfile.write(b"x")
