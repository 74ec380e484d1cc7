"""https:// references: who may be reached, at which address, for how long, and what is said when it fails."""

from __future__ import annotations

import gzip
import time
from pathlib import Path

import pytest
import trustme

from tagger.core.errors import ImageError
from tagger.core.types import ImagePolicy, ImageRef
from tagger.images import fetch as remote
from tagger.images import https, sources
from tagger.images.sources import read_bytes
from tests.helpers.https_server import HOST, HttpsServer, Resolver

BODY = bytes(range(256)) * 40  # what the server has at /1.jpg


def failure(reference: str, allowed: ImagePolicy) -> ImageError:
    with pytest.raises(ImageError) as caught:
        read_bytes(ImageRef(0, reference), allowed)
    assert "secret" not in str(caught.value)
    return caught.value


def test_an_image_of_a_listed_host_is_read_under_its_name(server: HttpsServer):
    assert read_bytes(ImageRef(0, server.url("/1.jpg?width=600&signature=a%2Fb")), server.policy()) == BODY
    assert server.requests == [("/1.jpg?width=600&signature=a%2Fb", f"{HOST}:{server.port}")]
    assert server.names == [HOST]


@pytest.mark.parametrize("path", ["/a photo.jpg", "/h\u00fct/1.jpg", "//elsewhere/1.jpg", "/a/../b.jpg", "?only=query"])
def test_unusual_paths_reach_the_listed_host(server: HttpsServer, path: str):
    assert failure(server.url(path), server.policy()).code == "missing"
    assert [host for _, host in server.requests] == [f"{HOST}:{server.port}"]


def test_one_connection_serves_many_images(server: HttpsServer):
    for _ in range(5):
        assert read_bytes(ImageRef(0, server.url()), server.policy()) == BODY
    assert (len(server.requests), len(server.names)) == (5, 1)


def test_a_proxy_in_the_environment_is_not_used(server: HttpsServer, monkeypatch: pytest.MonkeyPatch):
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert read_bytes(ImageRef(0, server.url()), server.policy()) == BODY


@pytest.mark.parametrize(
    "reference",
    [
        "http://cdn.example.com/1.jpg",
        "ftp://cdn.example.com/1.jpg",
        "file://cdn.example.com/1.jpg",
        "gopher://cdn.example.com/1.jpg",
        "https://evil.example.com/1.jpg",
        "https://cdn.example.com.evil.com/1.jpg",
        "https://evilcdn.example.com/1.jpg",
        "https://cdn.example.com./1.jpg",
        "https://cdn.example.com:8443/1.jpg",
        "https://cdn.example.com:/1.jpg",
        "https://cdn.example.com:99999/1.jpg",
        "https://cdn.example.com:443:443/1.jpg",
        "https://user:secret@cdn.example.com/1.jpg",
        "https://@cdn.example.com/1.jpg",
        "https://cdn.example.com@evil.com/1.jpg",
        "https://cdn.example.com%40evil.com/1.jpg",
        "https://evil.com#@cdn.example.com/1.jpg",
        "https://evil.com?@cdn.example.com/1.jpg",
        "https://evil.com\\@cdn.example.com/1.jpg",
        "https://cdn.example.com\\@evil.com/1.jpg",
        "https://cdn.example.com\\1.jpg",
        "https:///cdn.example.com/1.jpg",
        "https:// cdn.example.com/1.jpg",
        "https://cdn.example.com\t/1.jpg",
        "https://cdn.example.com/1.jpg\r\nHost: evil.com",
        "https://cdn.example.com/1.jpg\0",
        "https://%63dn.example.com/1.jpg",
        "https://cdn\uff0eexample.com/1.jpg",
        "https://cdn.ex\u0430mple.com/1.jpg",
        "https://127.0.0.1/1.jpg",
        "https://127.1/1.jpg",
        "https://2130706433/1.jpg",
        "https://0177.0.0.1/1.jpg",
        "https://0x7f.0.0.1/1.jpg",
        "https://[::1]/1.jpg",
        "https://[::ffff:127.0.0.1]/1.jpg",
        "https://[fe80::1%25eth0]/1.jpg",
        "https://localhost/1.jpg",
        "https://169.254.169.254/latest/meta-data/",
        "https://metadata.google.internal/1.jpg",
        "https://",
        "https://?secret",
    ],
)
def test_a_hostile_url_is_forbidden_and_nobody_is_asked(resolver: Resolver, reference: str):
    allowed = ImagePolicy(roots=(Path("/nowhere"),), hosts=(HOST,), private_networks=("0.0.0.0/0", "::/0"))
    assert failure(reference, allowed).code == "forbidden-path"
    assert resolver.asked == []


def test_no_host_is_allowed_by_default(resolver: Resolver):
    assert failure(f"https://{HOST}/1.jpg", ImagePolicy(roots=(Path("/nowhere"),))).code == "forbidden-path"
    assert resolver.asked == []


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",  # loopback
        "127.8.9.1",
        "0.0.0.0",  # this host
        "10.0.0.1",  # private
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",  # metadata of AWS, Google and Azure
        "100.100.100.200",  # metadata of Alibaba, in the shared range
        "192.0.0.192",  # metadata of Oracle
        "198.18.0.1",  # benchmarks
        "224.0.0.1",  # multicast
        "240.0.0.1",  # reserved
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fec0::1",
        "fd00:ec2::254",  # metadata of AWS
        "ff02::1",
        "2001:db8::1",
        "::ffff:169.254.169.254",  # IPv4 in IPv6: mapped, translated, 6to4, Teredo, compatible
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2002:a9fe:a9fe::1",
        "2001:0:a9fe:a9fe::1",
        "::127.0.0.1",
    ],
)
def test_an_address_that_is_not_public_is_not_contacted(server: HttpsServer, resolver: Resolver, address: str):
    for answer in ([address], ["93.184.216.34", address]):
        resolver.answers[HOST] = [answer]
        https._addresses.cache_clear()
        error = failure(server.url(), server.policy(networks=()))
        assert (error.code, "not public" in error.message) == ("forbidden-path", True)
    assert server.requests == []


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:4700::1111", "::ffff:93.184.216.34", "64:ff9b::5db8:d822"])
def test_a_public_address_passes(resolver: Resolver, address: str):
    resolver.answers["public.example.com"] = [[address]]
    https._addresses.cache_clear()
    assert https._addresses("public.example.com", 443, (), 0) == (address,)


def test_only_the_listed_range_of_private_addresses_may_be_reached(server: HttpsServer):
    assert failure(server.url(), server.policy(networks=("10.0.0.0/8", "::1/128"))).code == "forbidden-path"
    assert read_bytes(ImageRef(0, server.url()), server.policy(networks=("10.0.0.0/8", "127.0.0.1/32"))) == BODY


def test_a_second_answer_of_the_resolver_changes_nothing(server: HttpsServer, resolver: Resolver):
    resolver.answers[HOST] = [["127.0.0.1"], ["169.254.169.254"]]
    assert read_bytes(ImageRef(0, server.url()), server.policy()) == BODY
    assert resolver.asked == [HOST]
    https._addresses.cache_clear()  # as when its time is over
    assert failure(server.url(), server.policy()).code == "forbidden-path"


def test_the_next_address_is_tried_where_nobody_listens(server: HttpsServer, resolver: Resolver):
    resolver.answers[HOST] = [["127.0.0.2", "127.0.0.1"]]
    assert read_bytes(ImageRef(0, server.url()), server.policy()) == BODY


@pytest.mark.parametrize(
    ("location", "code"),
    [
        ("/1.jpg", None),
        ("https://other.example.com:{port}/1.jpg", None),
        ("//other.example.com:{port}/1.jpg", None),
        ("http://cdn.example.com:{port}/1.jpg", "forbidden-path"),
        ("https://unlisted.example.com/1.jpg", "forbidden-path"),
        ("https://127.0.0.1:{port}/1.jpg", "forbidden-path"),
        ("https://169.254.169.254/latest/meta-data/", "forbidden-path"),
        ("https://user:secret@cdn.example.com:{port}/1.jpg", "forbidden-path"),
        ("file:///etc/passwd", "forbidden-path"),
        ("https://metadata.example.com:{port}/1.jpg", "forbidden-path"),
        ("/loop.jpg", "unreadable"),
        ("/no-such.jpg?secret", "missing"),
    ],
)
def test_a_redirect_is_checked_like_the_reference(server: HttpsServer, resolver: Resolver, location: str, code: str | None):
    resolver.answers["other.example.com"] = [["127.0.0.1"]]
    resolver.answers["metadata.example.com"] = [["169.254.169.254"]]
    server.redirects |= {"/moved.jpg": location.format(port=server.port), "/loop.jpg": "/loop.jpg"}
    allowed = server.policy(HOST, "other.example.com", "metadata.example.com")
    if code is None:
        assert read_bytes(ImageRef(0, server.url("/moved.jpg")), allowed) == BODY
    else:
        assert failure(server.url("/moved.jpg"), allowed).code == code
        assert len(server.requests) == {"unreadable": https.MAX_REDIRECTS + 1, "missing": 2}.get(code, 1)


def test_a_certificate_of_another_name_is_refused(server: HttpsServer, resolver: Resolver):
    resolver.answers["wrong.example.com"] = [["127.0.0.1"]]
    error = failure(server.url(host="wrong.example.com"), server.policy("wrong.example.com"))
    assert (error.code, "wrong.example.com" in error.message, "not trusted" in error.message) == ("unreachable", True, True)
    assert server.requests == []


def test_a_certificate_of_an_unknown_authority_is_refused(server: HttpsServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    trustme.CA().cert_pem.write_to_path(tmp_path / "authority.pem")
    assert failure(server.url("/1.jpg?secret"), server.policy()).code == "unreachable"


@pytest.mark.parametrize(
    ("status", "code", "requests"),
    [(403, "unreadable", 1), (401, "unreadable", 1), (410, "missing", 1), (204, "unreadable", 1), (304, "unreadable", 1),
     (500, "unreachable", remote.ATTEMPTS), (429, "unreachable", remote.ATTEMPTS)],
)  # fmt: skip
def test_what_the_server_answers_decides_whether_to_ask_again(server: HttpsServer, status: int, code: str, requests: int):
    server.statuses["/status.jpg"] = status
    assert failure(server.url("/status.jpg?secret"), server.policy()).code == code
    assert len(server.requests) == requests


@pytest.mark.parametrize("fault", ["503", "429", "reset", "slow", "truncated", "wrong-length", "stall"])
def test_a_passing_fault_costs_nothing(server: HttpsServer, fault: str):
    server.faults["/1.jpg"] = [fault, fault]
    assert read_bytes(ImageRef(0, server.url()), server.policy(timeout=4)) == BODY
    assert server.happened[fault] == (1 if fault == "slow" else 2)


def test_a_length_that_is_too_short_shifts_no_other_image(server: HttpsServer):
    server.faults["/1.jpg"] = ["short-length"]
    server.files["/2.jpg"] = b"two"
    assert read_bytes(ImageRef(0, server.url()), server.policy()) == BODY[: len(BODY) // 2]
    assert read_bytes(ImageRef(0, server.url("/2.jpg")), server.policy()) == b"two"


def test_the_server_says_when_to_come_back(server: HttpsServer):
    server.faults["/1.jpg"] = ["429"]
    server.headers["/1.jpg"] = {"Retry-After": "1"}
    began = time.monotonic()
    assert read_bytes(ImageRef(0, server.url()), server.policy()) == BODY
    assert 1 <= time.monotonic() - began < 4


@pytest.mark.parametrize("later", ["3600", "Fri, 31 Dec 2100 23:59:59 GMT", "9" * 400])
def test_who_must_wait_longer_than_an_image_may_take_does_not_wait(server: HttpsServer, later: str):
    server.faults["/1.jpg"] = ["503"]
    server.headers["/1.jpg"] = {"Retry-After": later}
    began = time.monotonic()
    assert failure(server.url(), server.policy()).code == "unreachable"
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("fault", ["silent", "dripping-headers", "dripping-body"])
def test_no_server_takes_more_than_the_time_of_one_image(server: HttpsServer, fault: str):
    server.faults["/1.jpg"] = [fault] * 100
    began = time.monotonic()
    assert failure(server.url("/1.jpg?secret"), server.policy(timeout=1.5)).code == "timeout"
    assert time.monotonic() - began < 3


def test_a_host_without_an_address_or_a_listener_is_unreachable(server: HttpsServer, resolver: Resolver):
    resolver.answers["nobody.example.com"] = [["127.0.0.2"]]
    assert failure(server.url(host="nobody.example.com"), server.policy("nobody.example.com")).code == "unreachable"
    assert failure(server.url(host="unknown.example.com"), server.policy("unknown.example.com")).code == "unreachable"


@pytest.mark.parametrize("fault", [None, "endless"])
def test_a_file_that_is_too_large_is_not_read_to_its_end(server: HttpsServer, fault: str | None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sources, "MAX_FILE_BYTES", 1000)
    server.faults["/1.jpg"] = [fault] if fault else []
    error = failure(server.url(), server.policy())
    assert (error.code, len(server.requests)) == ("too-large", 1)


def test_what_was_compressed_unasked_stays_compressed(server: HttpsServer):
    server.files["/bomb.jpg"] = gzip.compress(bytes(10 << 20))
    server.headers["/bomb.jpg"] = {"Content-Encoding": "gzip"}
    assert read_bytes(ImageRef(0, server.url("/bomb.jpg")), server.policy()) == server.files["/bomb.jpg"]


def test_an_empty_file_is_no_image(server: HttpsServer):
    server.files["/empty.jpg"] = b""
    error = failure(server.url("/empty.jpg?secret"), server.policy())
    assert (error.code, error.message) == ("not-an-image", f"{server.url('/empty.jpg')} is empty")


def test_broken_headers_do_not_bring_the_url_into_a_log(server: HttpsServer, caplog: pytest.LogCaptureFixture):
    server.headers["/1.jpg"] = {"Odd": "1\r\nno colon here"}
    read_bytes(ImageRef(0, server.url("/1.jpg?signature=secret")), server.policy())
    assert "secret" not in caplog.text
