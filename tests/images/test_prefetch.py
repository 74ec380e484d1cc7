"""References -> references with their bytes, in order, a bounded number on the way."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from tagger.core.errors import ImageError
from tagger.core.types import ImagePolicy, ImageRef
from tagger.images.prefetch import AT_ONCE, fetch_ahead
from tests.helpers.https_server import HttpsServer, Resolver


def fetches() -> int:
    return sum(thread.name == "fetch" for thread in threading.enumerate())


def test_every_reference_keeps_its_place(server: HttpsServer):
    refs = []
    for number in range(60):
        server.files[f"/{number}.jpg"] = b"image %d" % number
        server.faults[f"/{number}.jpg"] = ["slow"] * (number % 7 == 0) + ["503"] * (number % 5 == 0)
        refs.append(ImageRef(number, server.url(f"/{number}.jpg")))
    refs[10], refs[20] = ImageRef(10, "local.jpg"), ImageRef(20, data=b"embedded")
    refs[30], refs[40] = ImageRef(30), ImageRef(40, server.url("/no-such.jpg"))
    found = list(fetch_ahead(refs, server.policy()))
    error = found[40]
    assert isinstance(error, ImageError)
    assert error.code == "missing"
    assert [found[row] for row in (10, 20, 30)] == [refs[row] for row in (10, 20, 30)]
    others = [row for row in range(60) if row not in (10, 20, 30, 40)]
    assert [found[row] for row in others] == [ImageRef(row, data=b"image %d" % row) for row in others]


def test_local_references_start_no_thread():
    refs = [ImageRef(0, "1.jpg"), ImageRef(1), ImageRef(2, data=b"x"), ImageRef(3, "https://cdn.example.com/1.jpg", b"x")]
    threads = threading.enumerate()
    for ref, same in zip(refs, fetch_ahead(refs, ImagePolicy(roots=(Path("/"),))), strict=True):
        assert same is ref
        assert threading.enumerate() == threads


def test_images_come_at_once_and_no_more_of_them_than_allowed(server: HttpsServer):
    refs = []
    for number in range(3 * AT_ONCE):
        server.files[f"/{number}.jpg"] = b"image"
        server.faults[f"/{number}.jpg"] = ["slow"]  # takes 0.2 s
        refs.append(ImageRef(number, server.url(f"/{number}.jpg")))
    began, most = time.monotonic(), 0
    for _ in fetch_ahead(refs, server.policy()):
        most = max(most, fetches())
    assert time.monotonic() - began < len(refs) * 0.2
    assert 1 < most <= AT_ONCE
    assert len(server.names) < len(refs)  # connections


def test_fetching_stops_when_nobody_takes_the_images(server: HttpsServer):
    refs = [ImageRef(number, server.url(f"/{number}.jpg")) for number in range(100)]
    images = fetch_ahead(refs, server.policy())
    next(images)
    time.sleep(0.5)
    assert len(server.requests) == AT_ONCE
    images.close()
    assert fetches() == 0


def test_a_resolver_that_hangs_costs_its_image_only(server: HttpsServer, resolver: Resolver):
    answered = threading.Event()
    resolver.answers["slow.example.com"] = [["127.0.0.1"]]
    resolver.delays["slow.example.com"] = answered
    refs = [ImageRef(0, server.url(host="slow.example.com")), ImageRef(1, server.url())]
    began = time.monotonic()
    slow, fast = fetch_ahead(refs, server.policy("cdn.example.com", "slow.example.com", timeout=1))
    answered.set()
    assert isinstance(slow, ImageError)
    assert slow.code == "timeout"
    assert fast == ImageRef(1, data=server.files["/1.jpg"])
    assert time.monotonic() - began < 4


def test_a_fault_of_ours_in_a_thread_is_no_slow_server(monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise TypeError("not a URL")

    monkeypatch.setattr("tagger.images.prefetch.fetch", fail)
    refs = [ImageRef(0, "https://cdn.example.com/1.jpg")]
    with pytest.raises(TypeError, match="not a URL"):
        list(fetch_ahead(refs, ImagePolicy(roots=(Path("/"),))))
