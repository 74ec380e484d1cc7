"""Tell where a manifest, an image or a result lies by the scheme of its URL; schemes may be written in any case."""

from __future__ import annotations

from pathlib import Path

# scheme -> the package that speaks to the store, and the extra of tagger that brings it
STORES = {"s3": ("s3fs", "s3"), "gs": ("gcsfs", "gcs"), "az": ("adlfs", "azure")}


def scheme_of(name: str | Path) -> str:
    """Return the lower-case scheme of a URL, "" for a path."""
    scheme, separator, _ = str(name).partition("://")
    return scheme.lower() if separator else ""


def with_lower_scheme(url: str) -> str:
    """Return the URL with a lower-case scheme, so that two URLs of one object are equal; a path stays as it is."""
    scheme = scheme_of(url)
    return scheme + url[len(scheme) :]


def is_object_url(name: str | Path) -> bool:
    """Tell whether this names an object, or several, on an object store."""
    return scheme_of(name) in STORES


def is_remote_image(reference: str) -> bool:
    """Tell whether this image has to be fetched, by https or from an object store."""
    return scheme_of(reference) in ("https", *STORES)
