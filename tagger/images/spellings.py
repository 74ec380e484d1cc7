"""What else a reference may mean that no file has as it is written: paths as other systems, spreadsheets and shops write them."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from itertools import chain, product
from unicodedata import normalize
from urllib.parse import unquote

from tagger.core.text import trim
from tagger.core.urls import scheme_of

NO_SUCH_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
MAX_SPELLINGS = 64
MAX_LENGTH = 3 * 4096  # characters of a path that a system may have, each of them percent-encoded
SHOWN = 100  # characters of a reference in a message

_LIST = re.compile(r"\.(?:jpe?g|png|webp|gif|avif|bmp|tiff?)[\"']?[\s,;|]+\S", re.IGNORECASE)


def spellings(reference: str) -> Iterator[str]:
    """Yield other spellings of a path, those with few changes first, each once, at most MAX_SPELLINGS.

    Percent-encoding is decoded, white space around it cut, backslashes are slashes, a leading slash is left out; each alone and
    together, and then in the Unicode forms NFC and NFD, the last of them also with another form in each part of the path.
    """
    if len(reference) > MAX_LENGTH:
        return
    forms = [reference]
    for change in (_decode, trim, _with_slashes, _without_leading_slash):
        forms = list(dict.fromkeys([*forms, *map(change, forms)]))
    normal = (normalize(form, spelling) for form in ("NFC", "NFD") for spelling in forms)
    parts = ({part: None, normalize("NFC", part): None, normalize("NFD", part): None} for part in forms[-1].split("/"))
    seen = {reference, ""}
    for spelling in chain(forms, normal, map("/".join, product(*parts))):
        if spelling not in seen:
            seen.add(spelling)
            yield spelling
        if len(seen) == MAX_SPELLINGS + 2:
            return


def _decode(path: str) -> str:
    return unquote(path, errors="surrogateescape")  # bytes that are no UTF-8 are those of the file's name


def _with_slashes(path: str) -> str:
    return path.replace("\\", "/")


def _without_leading_slash(path: str) -> str:
    return path.lstrip("/")


def shown(reference: str) -> str:
    """Return a reference as a message has it: not too long, and without a query, which may be a key to the image."""
    path, query, _ = reference[: SHOWN + 1].partition("?")
    return f"{path}?…" if query else path if len(path) <= SHOWN else f"{path[:SHOWN]}…"


def explain(reference: str) -> str:
    """Return what a reference seems to be that is no path of a file here, and what to do about it; "" for a mere path."""
    text = trim(reference[:MAX_LENGTH])
    scheme = scheme_of(text)
    if scheme == "http":
        return "http:// is not encrypted and not read; write https://, and list the host in [images] allow_hosts"
    if scheme == "file":
        return "file:// is not read; write the path alone"
    if scheme:
        return "expected a path, https://, s3://, gs:// or az://, found another scheme"
    if text[:5].lower() == "data:":
        return "a data: URI holds the image itself; decode it into a binary column"
    if text.startswith("[") or _LIST.search(text):
        return "this is a list; write a row for each image, or only the first of each list"
    if "?" in text:
        return 'a file has no query ("?"); write the path without it, or the whole https:// URL'
    if re.match(r"[A-Za-z]:[\\/]|\\\\", text):
        return "this is a path of Windows; copy the folder here, and write paths that start in it"
    if text.startswith("//"):
        return "for an image on the web write https: before it, and list the host in [images] allow_hosts"
    if text.startswith("/"):
        return "nor is there one below the image root"
    return ""
