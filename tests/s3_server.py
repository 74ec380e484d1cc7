"""moto's S3 server on loopback, which can be told to misbehave, once per request and object."""

from __future__ import annotations

import logging
import socket
import struct
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

FAULTS = ("503", "500", "429", "403", "reset", "truncated", "stall")
CODES = {"503": "SlowDown", "500": "InternalError", "429": "TooManyRequests", "403": "AccessDenied"}


class S3Server:
    """`faults`: "/bucket/key" -> what happens to the next requests for it. `happened`: fault -> how often. `requests`: paths."""

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=MotoRequestHandler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.faults: defaultdict[str, list[str]] = defaultdict(list)
        self.happened: Counter[str] = Counter()
        self.requests: list[str] = []
        self.closing = threading.Event()
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.environment = {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def put(self, bucket: str, objects: dict[str, bytes]) -> None:
        client = boto3.client(
            "s3", endpoint_url=self.url, region_name="us-east-1", aws_access_key_id="id", aws_secret_access_key="secret"
        )
        client.create_bucket(Bucket=bucket)
        for key, content in objects.items():
            client.put_object(Bucket=bucket, Key=key, Body=content)
        client.close()
        self.requests.clear()

    def stop(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        self.requests.append(path)
        if not self.faults[path]:
            return self._moto(environ, start_response)
        fault = self.faults[path].pop(0)
        self.happened[fault] += 1
        if fault in CODES:
            start_response(f"{fault} Fault", [("Content-Type", "application/xml")])
            body = [f"<Error><Code>{CODES[fault]}</Code><Message>injected</Message></Error>".encode()]
            return body if environ["REQUEST_METHOD"] != "HEAD" else []  # an answer to HEAD has none; clients trip over it
        connection: socket.socket = environ["werkzeug.socket"]
        if fault == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.shutdown(socket.SHUT_RDWR)
            start_response("200 OK", [("Content-Length", "0")])
            return []
        return self._half(b"".join(self._moto(environ, start_response)), connection, fault)

    def _half(self, body: bytes, connection: socket.socket, fault: str) -> Iterator[bytes]:
        yield body[: len(body) // 2]
        if fault == "stall":
            self.closing.wait(20)
        connection.shutdown(socket.SHUT_RDWR)
