"""From a remote reference to encoded bytes: tried again while that may help, never for longer than one image may take.

https:// is read by https.py, s3://, gs:// and az:// by object_stores.py, which are imported when they are first needed.

Codes: forbidden-path (a host, bucket or address that is not allowed, and was not contacted; a URL that is not plain), missing
(404, 410, no such object), unreadable (any other refusal, such as 403), not-an-image (empty), too-large, unreachable (still
failing after ATTEMPTS, or a certificate that is not trusted), timeout (the policy's time is over). Messages hold no query
string and no user name.

What an earlier run has read is asked for on a condition (If-None-Match): the server sends the bytes only if they are others by
now. So the question costs no request of its own, and the version that is told is that of the very bytes.
"""

from __future__ import annotations

import re

_STRONG = re.compile(r'"[!#-~]{1,200}"')


class TransientError(Exception):
    """An attempt failed in a way that may pass; `wait` is how many seconds the server asks to be left alone."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


def shown(reference: str) -> str:
    """A reference as messages may show it: a query string may be a signature, that is, a key to the image."""
    return reference.partition("?")[0].partition("#")[0]


def strong(tag: object) -> str:
    """An entity tag (RFC 9110, 8.8.3), or "": a weak one, W/"…", may stay the same while the bytes change."""
    return tag if isinstance(tag, str) and _STRONG.fullmatch(tag) else ""
