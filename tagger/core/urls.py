"""The object stores and other remote places that a manifest, an image or a result may lie on."""

from __future__ import annotations

from pathlib import Path

# scheme -> the package that speaks to it, the extra of tagger that brings it
STORES = {"s3": ("s3fs", "s3"), "gs": ("gcsfs", "gcs"), "az": ("adlfs", "azure")}


def scheme_of(name: str | Path) -> str:
    """The lower-case scheme of a URL, "" for a path."""
    scheme, separator, _ = str(name).partition("://")
    return scheme.lower() if separator else ""


def is_object_url(name: str | Path) -> bool:
    """Tell whether this names an object, or several, on an object store."""
    return scheme_of(name) in STORES


def is_remote_image(reference: str) -> bool:
    """Tell whether this image has to be fetched, by https or from an object store."""
    return scheme_of(reference) in ("https", *STORES)
