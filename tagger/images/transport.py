"""What https.py and object_stores.py have in common: failures that may pass, references as messages show them, entity tags."""

from __future__ import annotations

import re

_STRONG = re.compile(r'"[!#-~]{1,200}"')


class TransientError(Exception):
    """An attempt failed in a way that may pass; `wait` is how many seconds the server asks to be left alone."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


def shown(reference: str) -> str:
    """Return a reference as messages may show it: a query string may be a signature, that is, a key to the image."""
    return reference.partition("?")[0].partition("#")[0]


def strong(tag: object) -> str:
    """Return an entity tag (RFC 9110, 8.8.3), or "" for a weak one, W/"…", which may stay the same while the bytes change."""
    return tag if isinstance(tag, str) and _STRONG.fullmatch(tag) else ""
