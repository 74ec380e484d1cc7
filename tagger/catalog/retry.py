"""Try the error rows of an earlier result again, while every other row keeps its tags."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tagger.catalog.manifest import Manifest, Shard, open_manifest
from tagger.catalog.results import open_results
from tagger.catalog.schemas import tagger_metadata
from tagger.core.errors import ManifestError


def open_earlier(path: Path, manifest: Manifest) -> Manifest:
    """Open the result at `path` as a manifest with tag columns. Raises ManifestError if it is no result of `manifest`."""
    with open_results(path) as file:
        names = file.schema_arrow.names
    if manifest.image_column not in names:
        raise ManifestError(f"{path}: expected results of {manifest.name}, found no column {manifest.image_column}; tag it anew")
    earlier = open_manifest(str(path), manifest.image_column, keep_tags=True)
    if earlier.rows != manifest.rows:
        raise ManifestError(
            f"{path}: expected results of the {manifest.rows} rows of {manifest.name}, found {earlier.rows}; tag it anew"
        )
    return earlier


def require_same_job(earlier: Manifest, schema: pa.Schema) -> None:
    """Raise ManifestError unless the earlier result was made with the model, labels and prompts of a result with `schema`."""
    found, wanted = tagger_metadata(earlier.schema), tagger_metadata(schema)
    names = ("model", "attributes", "taxonomy")
    if changed := [name for name in names if found.get(name) != wanted[name]]:
        raise ManifestError(
            f"{earlier.name}: expected results of the same model, labels and prompts, found other {' and '.join(changed)}; tag "
            "it anew, without --retry-errors"
        )


def error_rows(shard: Shard, table: pa.Table, earlier: pa.Table, image_column: str) -> NDArray[np.int64]:
    """Return the rows of the shard, from 0, that have an error, int64 (N,).

    Raises ManifestError if the images of the earlier result are not those of `table`.
    """
    if not earlier[image_column].equals(table[image_column]):
        raise ManifestError(
            f"rows {shard.start} to {shard.stop - 1}: expected the images of the earlier result, found others: the manifest has "
            "changed; tag it anew, without --retry-errors"
        )
    failed = pc.equal(earlier["tag_status"], "error").to_numpy()
    return np.flatnonzero(failed)


def merge_tags(earlier: pa.Table, columns: Sequence[pa.Array], names: Sequence[str], rows: NDArray[np.int64]) -> list[pa.Array]:
    """Return the new tag columns in these rows, and the earlier result's in all others."""
    chosen = np.arange(len(earlier))
    chosen[rows] += len(earlier)
    both = (pa.concat_arrays([*earlier[name].chunks, column]) for name, column in zip(names, columns, strict=True))
    return [column.take(pa.array(chosen)) for column in both]
