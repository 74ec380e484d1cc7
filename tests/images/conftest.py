"""A web server that references may name."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tagger.images import fetch as remote
from tagger.images import https
from tests.helpers.https_server import HOST, HttpsServer, Resolver


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    resolver = Resolver()
    resolver.answers[HOST] = [["127.0.0.1"]]
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    return resolver


@pytest.fixture
def server(authority: trustme.CA, resolver: Resolver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpsServer]:
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    monkeypatch.setattr(remote, "BACKOFF", 0.01)
    server = HttpsServer(authority, HOST, "other.example.com", "127.0.0.1")
    server.files["/1.jpg"] = bytes(range(256)) * 40
    https._connections.cache_clear()
    https._addresses.cache_clear()
    yield server
    https._connections(os.getpid()).clear()
    server.stop()
