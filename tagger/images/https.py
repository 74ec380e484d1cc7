"""https:// references: from hosts that are listed, at addresses that were checked, in bounded time and memory.

A manifest's author must not be able to make this machine talk to whom it alone can reach (server-side request forgery). So a
host is resolved here, all its addresses are checked, and the connection goes to a checked address, while certificate, SNI
and Host keep the name: a second answer of the resolver is never asked for. Redirects pass the same checks. No proxy and no
password is taken from the environment. Certificates are judged by the system's authorities, or SSL_CERT_FILE's.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from functools import cache, lru_cache
from typing import Any
from urllib.parse import urljoin

import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, InvalidHeader, NewConnectionError, SSLError

from tagger.core.errors import ImageError
from tagger.core.types import ImagePolicy
from tagger.images.transport import TransientError, shown, strong

CONNECT_SECONDS = 5.0
SILENCE_SECONDS = 10.0  # a connection that says nothing for so long is given up; a quarter of the image's time, if less
DNS_SECONDS = 30.0  # how long an answer of the resolver is used
MAX_REDIRECTS = 5
CHUNK = 1 << 20
CONNECTIONS = 16  # kept open to one address

# Stricter than the standard: no user, no IPv6 literal, no escapes in the host, no backslash, so no two ways to read it.
_PLAIN_URL = re.compile(r"https://([a-z0-9.-]+)(?::([0-9]{1,5}))?([/?][^\\\x00-\x1f\x7f]*)?(?:#.*)?", re.IGNORECASE)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# Of IANA's registries of special addresses, what ipaddress does not know in every version, and what only tunnels use.
_SPECIAL = tuple(
    ipaddress.ip_network(network)
    for network in (
        "192.0.0.0/24",
        "192.88.99.0/24",
        "64:ff9b:1::/48",
        "2001::/23",
        "2002::/16",
        "3fff::/20",
        "fec0::/10",
    )
)

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_this_thread = threading.local()  # `deadline` and `silence` of the fetch that it is at


class _Socket(ssl.SSLSocket):
    """Ends every wait at the fetch's deadline: a timeout of the socket alone begins anew with every byte that drips in."""

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self.settimeout(_patience(_this_thread.silence))
        return super().recv_into(*args, **kwargs)


def _patience(seconds: float) -> float:
    """Return how long to wait, at most so many seconds. Raises TimeoutError after the deadline."""
    left = _this_thread.deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the image's time is over")
    return float(min(seconds, left))


@cache
def _connections(process: int) -> urllib3.PoolManager:
    """Return this process's open connections; after a fork the numbers differ, and no connection has two owners."""
    # It warns with the whole URL when a server sends odd headers.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    logging.getLogger("urllib3.connection").setLevel(logging.ERROR)
    context = ssl.create_default_context()
    context.sslsocket_class = _Socket
    return urllib3.PoolManager(num_pools=64, maxsize=CONNECTIONS, ssl_context=context)


def read(reference: str, policy: ImagePolicy, limit: int, deadline: float, version: str) -> tuple[bytes | None, str]:
    """Try once to read at most `limit` bytes until `deadline` (time.monotonic); return them and their strong ETag, like fetch().

    A tag tells versions of one URL apart. So only the reference's own is asked for and returned, not that of a redirect's target.
    Raises ImageError, TransientError.
    """
    url = reference
    _this_thread.deadline, _this_thread.silence = deadline, min(SILENCE_SECONDS, policy.timeout / 4)
    try:
        for _ in range(MAX_REDIRECTS + 1):
            known = version if url == reference else ""
            with closing(_get(url, policy, known)) as response:
                location = response.get_redirect_location()
                if not location:
                    # The server compares weakly: its tag may have become a weak one.
                    if known and response.status == 304 and response.headers.get("ETag", known) == known:
                        response.drain_conn()  # of nothing, so that the connection is used again
                        return None, known
                    _check_status(response, url)
                    return _body(response, url, limit), strong(response.headers.get("ETag")) if url == reference else ""
                url = urljoin(url, location)
    except SSLError as error:
        if isinstance(error.args[0], ssl.SSLCertVerificationError):
            reason = f"its certificate is not trusted: {error.args[0].verify_message}"
            raise ImageError("unreachable", f"{shown(url)}: {reason}; see SSL_CERT_FILE") from error
        raise TransientError("TLS failed") from error
    except (HTTPError, OSError) as error:
        raise TransientError(_reason(error)) from error
    raise ImageError("unreadable", f"{shown(url)}: more than {MAX_REDIRECTS} redirects")


def _get(url: str, policy: ImagePolicy, known: str) -> urllib3.BaseHTTPResponse:
    """Return the answer, its headers read, from the first address that connects; it is a 304 if the version is `known`."""
    host, port, target = _plain(url, policy.hosts)
    failure: Exception = TransientError(f"{host} has no address")
    for address in _addresses(host, port, policy.private_networks, int(time.monotonic() // DNS_SECONDS)):
        pool = _connections(os.getpid()).connection_from_host(address, port, "https", {"server_hostname": host})
        try:
            return pool.urlopen(
                "GET",
                target,
                headers={
                    "Host": host if port == 443 else f"{host}:{port}",
                    "User-Agent": "tagger",
                    "Accept": "image/*",
                    "Accept-Encoding": "identity",
                    **({"If-None-Match": known} if known else {}),
                },
                timeout=urllib3.Timeout(
                    connect=_patience(min(CONNECT_SECONDS, _this_thread.silence)), read=_patience(_this_thread.silence)
                ),
                retries=False,
                redirect=False,
                assert_same_host=False,  # it would take the address for another host than the path "//name"
                preload_content=False,
                decode_content=False,  # nothing was to be compressed: a few bytes must not become gigabytes
            )
        except (NewConnectionError, ConnectTimeoutError) as error:
            failure = error
    raise failure


def _plain(url: str, hosts: Sequence[str]) -> tuple[str, int, str]:
    """Return host, port and request target of a URL that may be read. Raises ImageError."""
    found = _PLAIN_URL.fullmatch(url)
    if found is None:
        raise ImageError("forbidden-path", "expected https://host/path, without a user name, backslash or control character")
    host, port, target = found[1].lower(), int(found[2] or 443), (found[3] or "/").partition("#")[0]
    name = host if port == 443 else f"{host}:{port}"
    if name not in hosts:
        raise ImageError("forbidden-path", f"the host {name} is not listed in [images] allow_hosts")
    return host, port, target if target.startswith("/") else f"/{target}"


@lru_cache(maxsize=256)
def _addresses(host: str, port: int, private_networks: tuple[str, ...], period: int) -> tuple[str, ...]:
    """Return all addresses of a host, checked; the resolver is asked anew in every `period`."""
    try:
        answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise TransientError(f"{host} has no address: {error.strerror}") from error
    addresses = tuple(dict.fromkeys(str(answer[4][0]) for answer in answers))
    networks = [ipaddress.ip_network(network) for network in private_networks]
    for address in addresses:
        found = _embedded(ipaddress.ip_address(address))
        if not is_public(found) and not any(found in network for network in networks):
            raise ImageError(
                "forbidden-path", f"{host} has the address {address}, which is not public; see [images] allow_private_networks"
            )
    return addresses


def _embedded(address: _Address) -> _Address:
    """Return the IPv4 address that a mapped or translated (RFC 6052) IPv6 address leads to, else the address itself."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def is_public(address: _Address) -> bool:
    """Return whether an address is public: not loopback, link-local, private, shared (RFC 6598), multicast or reserved."""
    special = address.is_multicast or address.is_reserved or any(address in network for network in _SPECIAL)
    return address.is_global and not special


def _check_status(response: urllib3.BaseHTTPResponse, url: str) -> None:
    status = response.status
    if status in (408, 429) or status >= 500:
        try:
            wait = urllib3.Retry().get_retry_after(response) or 0.0
        except (InvalidHeader, OverflowError, ValueError):
            wait = 0.0
        raise TransientError(f"the server answered {status}", wait)
    if status in (404, 410):
        raise ImageError("missing", f"{shown(url)}: the server answered {status}")
    if status != 200:
        raise ImageError("unreadable", f"{shown(url)}: the server answered {status}")


def _body(response: urllib3.BaseHTTPResponse, url: str, limit: int) -> bytes:
    """Return the whole body; urllib3 raises where it ends before the announced length."""
    announced = response.headers.get("Content-Length", "0")
    parts: list[bytes] = []
    size = int(announced) if announced.isdecimal() else 0
    if size <= limit:
        size = 0
        while part := response.read(CHUNK):
            parts.append(part)
            size += len(part)
            if size > limit:
                break
    if size > limit:
        raise ImageError("too-large", f"{shown(url)}: {size:,} bytes or more; at most {limit:,} are read")
    return b"".join(parts)


def _reason(error: Exception) -> str:
    """Return what failed, in our own words: the libraries' texts may hold the URL."""
    if isinstance(error, (urllib3.exceptions.TimeoutError, TimeoutError)):
        return "the server is silent"
    if isinstance(error, NewConnectionError):
        return "no connection"
    return f"the answer is broken ({type(error).__name__})"
