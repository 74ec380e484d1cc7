"""Labelled rows -> groups that no split may tear apart: rows of one product, and rows with nearly the same picture."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tagger.core.errors import ManifestError
from tagger.encoders.sketch import sketch
from tagger.evaluation.duplicates import near_duplicates
from tagger.tagging.head_file import HeadFile
from tagger.training.dataset import Examples

log = logging.getLogger(__name__)


def groups_of(embeddings: NDArray[Any], products: pa.Array | None = None) -> NDArray[np.int64]:
    """Return int64 (N,), the number of each row's group. embeddings: (N, D). products: (N,), null where a row is of none."""
    near = near_duplicates(sketch(embeddings))
    if products is None:
        return near
    codes = products.dictionary_encode().indices
    rows, codes = np.flatnonzero(codes.is_valid().to_numpy(zero_copy_only=False)), codes.drop_null().to_numpy().astype(np.int64)
    nodes = len(near) + len(products)  # a node for each group of pictures, and behind them one for each product
    links = coo_array((np.ones(len(rows), np.bool_), (near[rows], len(near) + codes)), shape=(nodes, nodes))
    found: NDArray[np.int64] = connected_components(links, directed=False)[1][near].astype(np.int64)
    return found


def touched(groups: NDArray[np.int64], rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return bool (N,): the rows whose group has one of these, bool (N,)."""
    return np.isin(groups, groups[rows])


def set_aside(groups: NDArray[np.int64], digests: NDArray[np.uint8], share: float) -> NDArray[np.bool_]:
    """Return bool (N,): about this share of the rows, whole groups, the same ones on every night.

    digests: uint8 (N, 32), the SHA-256 of the images. A group's smallest digest decides about it, whatever other rows there are.
    """
    leading = np.ascontiguousarray(digests[:, :8]).view(">u8").ravel()
    _, group = np.unique(groups, return_inverse=True)
    smallest = np.full(group.max(initial=-1) + 1, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(smallest, group, leading.astype(np.uint64))
    chosen: NDArray[np.bool_] = smallest[group] / 2.0**64 < share
    return chosen


def unseen_by(manifest: str, head: HeadFile, examples: Examples, labelled: int) -> NDArray[np.bool_]:
    """Return bool (N,): the rows whose image, or nearly the same picture, did not fit the head. ManifestError where none is left.

    The others would make the head look better than it is.
    """
    assert examples.embeddings is not None
    fitted = head.has_seen(examples.digests)
    unseen = ~touched(groups_of(examples.embeddings), fitted)
    name = head.description.attribute
    truth = examples.truths[name] >= 0
    left = int((unseen & truth).sum())
    if not left:
        raise ManifestError(
            f'{manifest}: attribute "{name}": expected labelled rows that did not fit head {head.path}, found none among '
            f"{labelled}; label more, or leave some out of the next `tagger train head` with --hold-out"
        )
    if left < labelled:
        log.info(
            "%s: %d of %d labelled rows fitted the head, or are nearly the same picture, and do not calibrate it",
            name,
            labelled - left,
            labelled,
        )
    return unseen
