"""s3://, gs:// and az:// references, through the clients that a user has."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import fsspec
import pytest

from tagger.core.errors import ImageError
from tagger.core.types import ImagePolicy, ImageRef
from tagger.images import fetch as remote
from tagger.images import object_stores, sources
from tagger.images.fetch import fetch
from tagger.images.prefetch import fetch_ahead
from tagger.images.sources import read_bytes
from tests.helpers.blob_server import BlobServer
from tests.helpers.s3_server import S3Server

BODY = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    server = S3Server()
    server.put("photos", {"shoes/1.jpg": BODY, "empty.jpg": b"", "h\u00fct #1?.jpg": b"odd"})
    server.put("private", {"1.jpg": b"not for everybody"})
    server.put("many", {f"{number}.jpg": b"image %d" % number for number in range(40)})
    yield server
    server.close()


@pytest.fixture
def store(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, nothing asked of it yet, and configured as the operator does."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(remote, "BACKOFF", 0.01)
    server.faults.clear()
    server.happened.clear()
    server.requests.clear()
    server.answered.clear()
    return server


def policy(*buckets: str, timeout: float = 8) -> ImagePolicy:
    return ImagePolicy(roots=(Path("/nowhere"),), buckets=buckets or ("s3://photos",), timeout=timeout)


def failure(reference: str, allowed: ImagePolicy) -> ImageError:
    with pytest.raises(ImageError) as caught:
        read_bytes(ImageRef(0, reference), allowed)
    return caught.value


@pytest.mark.parametrize(("reference", "content"), [("s3://photos/shoes/1.jpg", BODY), ("s3://photos/h\u00fct #1?.jpg", b"odd")])
def test_an_object_of_a_listed_bucket_is_read_with_one_request(store: S3Server, reference: str, content: bytes):
    assert read_bytes(ImageRef(0, reference), policy()) == content
    assert len(store.requests) == 1


@pytest.mark.parametrize(
    "reference",
    [
        "s3://private/1.jpg",
        "gs://photos/shoes/1.jpg",
        "az://photos/shoes/1.jpg",
        "s3a://photos/shoes/1.jpg",
        "s3://photos",
        "s3://photos/",
        "s3:///photos/1.jpg",
        "s3://photos@private/1.jpg",
        "s3://id:secret@photos/1.jpg",
        "s3://photos:80/1.jpg",
        "s3://photos/../private/1.jpg",
        "s3://photos/shoes/../../private/1.jpg",
        "s3://photos/./../private/1.jpg",
        "s3://photos/..",
        "s3://photos/1.jpg\0",
        "s3://photos/1.jpg\r\nHost: evil.com",
        "s3://arn:aws:s3:us-east-1:1:accesspoint/private/1.jpg",
        "s3://PHOTOS/shoes/1.jpg",
        "simplecache::s3://photos/shoes/1.jpg",
        "s3://../private/1.jpg",
    ],
)
def test_another_bucket_is_forbidden_and_nobody_is_asked(store: S3Server, reference: str):
    error = failure(reference, policy())
    assert (error.code, "secret" in error.message) == ("forbidden-path", False)
    assert store.requests == []


def test_no_bucket_is_allowed_by_default(store: S3Server):
    assert failure("s3://photos/shoes/1.jpg", ImagePolicy(roots=(Path("/nowhere"),))).code == "forbidden-path"
    assert store.requests == []


def test_what_is_not_there_or_not_for_us_is_not_asked_for_again(store: S3Server):
    assert failure("s3://photos/2.jpg?secret", policy()).code == "missing"
    assert failure("s3://nobody/2.jpg", policy("s3://nobody")).code == "missing"
    assert len(store.requests) == 2
    store.faults["/photos/shoes/1.jpg"] = ["403"]
    error = failure("s3://photos/shoes/1.jpg", policy())
    assert (error.code, error.message) == ("unreadable", "s3://photos/shoes/1.jpg: access is denied")
    assert len(store.requests) == 3


def test_an_empty_object_is_no_image(store: S3Server):
    assert str(failure("s3://photos/empty.jpg", policy())) == "not-an-image: s3://photos/empty.jpg is empty"


def test_an_object_that_is_too_large_is_not_read_to_its_end(store: S3Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sources, "MAX_FILE_BYTES", 1000)
    error = failure("s3://photos/shoes/1.jpg", policy())
    assert (error.code, len(store.requests)) == ("too-large", 1)


@pytest.mark.parametrize("fault", ["503", "500", "429", "reset", "truncated", "stall"])
def test_a_passing_fault_costs_nothing(store: S3Server, fault: str):
    store.faults["/photos/shoes/1.jpg"] = [fault, fault]
    assert read_bytes(ImageRef(0, "s3://photos/shoes/1.jpg"), policy(timeout=6)) == BODY
    assert store.happened[fault] == 2


def test_a_store_that_stays_down_is_unreachable(store: S3Server):
    store.faults["/photos/shoes/1.jpg"] = ["503"] * 100
    assert failure("s3://photos/shoes/1.jpg", policy()).code == "unreachable"
    assert len(store.requests) == remote.ATTEMPTS


def test_a_store_that_hangs_takes_no_more_than_the_time_of_one_image(store: S3Server):
    store.faults["/photos/shoes/1.jpg"] = ["stall"] * 100
    began = time.monotonic()
    assert failure("s3://photos/shoes/1.jpg", policy(timeout=1.5)).code == "timeout"
    assert time.monotonic() - began < 3


def test_missing_credentials_are_said_at_once(store: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    object_stores._store.cache_clear()
    monkeypatch.setattr(fsspec.get_filesystem_class("s3"), "cachable", False)  # a client that has seen no credentials
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    error = failure("s3://photos/shoes/1.jpg", policy())
    object_stores._store.cache_clear()
    assert (error.code, "NoCredentialsError" in error.message) == ("unreadable", True)


def test_many_objects_come_at_once_through_one_client(store: S3Server):
    refs = [ImageRef(number, f"s3://many/{number}.jpg") for number in range(40)]
    for number in range(0, 40, 3):
        store.faults[f"/many/{number}.jpg"] = ["503", "truncated"]
    found = [(ref.row, ref.data) for ref in fetch_ahead(refs, policy("s3://many")) if isinstance(ref, ImageRef)]
    assert found == [(number, b"image %d" % number) for number in range(40)]


@pytest.mark.parametrize(("scheme", "package"), [("gs", "gcsfs"), ("az", "adlfs")])
def test_the_clients_of_the_other_stores_are_found_by_their_scheme(scheme: str, package: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ANON", "true")
    monkeypatch.setitem(fsspec.config.conf, "gs", {"token": "anon"})  # what FSSPEC_GS_TOKEN sets when fsspec is imported
    assert type(object_stores._store(scheme, 8, 0)).__module__.split(".")[0] == package


def test_an_object_that_has_not_changed_is_not_sent_again(store: S3Server):
    refs = [ImageRef(number, f"s3://many/{number}.jpg") for number in range(40)]
    first = [ref for ref in fetch_ahead(refs, policy("s3://many")) if isinstance(ref, ImageRef)]
    known = [ImageRef(ref.row, ref.path, version=told.version, digest=b"d") for ref, told in zip(refs, first, strict=True)]
    store.answered.clear()
    assert list(fetch_ahead(known, policy("s3://many"))) == known
    assert store.answered == {304: 40}
    store.write("many", "1.jpg", b"another")
    store.faults["/many/2.jpg"] = ["503", "truncated"]  # who stumbles over the question is asked for the bytes
    found = list(fetch_ahead(known, policy("s3://many")))
    assert [found[0], *found[2:]] == [known[0], first[2], *known[3:]]
    assert isinstance(found[1], ImageRef)
    assert (found[1].data, found[1].version not in ("", first[1].version)) == (b"another", True)
    store.write("many", "1.jpg", b"image 1")


@pytest.mark.parametrize("scheme", ["gs", "az"])
def test_an_object_on_the_other_stores_is_sent_once(scheme: str, monkeypatch: pytest.MonkeyPatch):
    server = BlobServer()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(fsspec.config.conf, "gs", {"token": "anon"})
    monkeypatch.setattr(fsspec.get_filesystem_class(scheme), "cachable", False)  # a client that knows another server
    object_stores._store.cache_clear()
    if scheme == "gs":  # what kind of bucket it is would be asked for by gRPC, which this server does not speak
        layouts = object_stores._store("gs", 8, os.getpid())._storage_layout_cache
        layouts["photos"] = import_module("gcsfs.extended_gcsfs").BucketType.NON_HIERARCHICAL
    reference = f"{scheme}://photos/shoes/h\u00fct 1.jpg"
    allowed = policy(f"{scheme}://photos")
    server.put("photos/shoes/h\u00fct 1.jpg", b"one")
    data, version = fetch(reference, allowed, 1000)
    assert (data, remote.strong(version)) == (b"one", version)
    assert fetch(reference, allowed, 1000, version) == (None, version)
    assert server.answered == {206: 1, 304: 1}
    server.put("photos/shoes/h\u00fct 1.jpg", b"two")
    data, second = fetch(reference, allowed, 1000, version)
    assert (data, second != version) == (b"two", True)
    with pytest.raises(ImageError, match="missing: no object"):
        fetch(f"{scheme}://photos/none.jpg", allowed, 1000, version)
    with pytest.raises(ImageError, match="too-large"):
        fetch(reference, allowed, 2)
    object_stores._store.cache_clear()
    server.stop()
