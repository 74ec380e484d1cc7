"""The S3 server on loopback, told to misbehave once per request and object."""

from __future__ import annotations

import socket
import struct
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tests.helpers.object_store import ObjectStore

FAULTS = ("503", "500", "429", "403", "reset", "truncated", "stall")


class S3Server(ObjectStore):
    """`faults`: "/bucket/key" -> what happens to the next requests for it. `happened`: fault -> how often. `requests`: paths.

    `answered`: status -> how often, of what no fault has spoilt.
    """

    def __init__(self) -> None:
        self.faults: defaultdict[str, list[str]] = defaultdict(list)
        self.happened: Counter[str] = Counter()
        self.requests: list[str] = []
        self.answered: Counter[int] = Counter()
        self.closing = threading.Event()
        super().__init__()
        self.environment = {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def put(self, bucket: str, objects: dict[str, bytes]) -> None:
        self.client.create_bucket(Bucket=bucket)
        for key, content in objects.items():
            self.write(bucket, key, content)
        self.requests.clear()

    def close(self) -> None:
        self.closing.set()
        super().close()

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        self.requests.append(path)
        if not self.faults[path]:

            def counted(status: str, *more: Any) -> Any:
                self.answered[int(status.split()[0])] += 1
                return start_response(status, *more)

            return self._moto(environ, counted)
        fault = self.faults[path].pop(0)
        self.happened[fault] += 1
        if fault.isdecimal():
            return self._refuse(int(fault), environ, start_response)
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
