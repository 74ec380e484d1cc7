"""A real S3 server on loopback, which can be told to fail, for the tests."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

# Called with the method, the path and the query of a request, before it is served; the status to answer instead, or None.
Fault = Callable[[str, str, str], int | None]
CODES = {403: "AccessDenied", 429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable"}


class ObjectStore:
    """moto's server behind a hook that may answer in its place."""

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=MotoRequestHandler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.fault: Fault = lambda *_: None
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.client = boto3.client(
            "s3", endpoint_url=self.url, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
        )

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        status = self.fault(environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["QUERY_STRING"])
        if status is None:
            return self._moto(environ, start_response)
        return self._refuse(status, environ, start_response)

    @staticmethod
    def _refuse(status: int, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response(f"{status} Fault", [("Content-Type", "application/xml")])
        body = [f"<Error><Code>{CODES[status]}</Code><Message>injected</Message></Error>".encode()]
        return body if environ["REQUEST_METHOD"] != "HEAD" else []  # an answer to HEAD has none; clients trip over it

    @contextmanager
    def failing(self, fault: Fault) -> Iterator[None]:
        self.fault = fault
        try:
            yield
        finally:
            self.fault = lambda *_: None

    def names(self, bucket: str) -> list[str]:
        return [item["Key"] for item in self.client.list_objects_v2(Bucket=bucket).get("Contents", [])]

    def read(self, bucket: str, name: str) -> bytes:
        return self.client.get_object(Bucket=bucket, Key=name)["Body"].read()

    def write(self, bucket: str, name: str, data: bytes) -> None:
        self.client.put_object(Bucket=bucket, Key=name, Body=data)

    def close(self) -> None:
        self.client.close()
        self._server.shutdown()
        self._server.server_close()
