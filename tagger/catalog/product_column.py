"""Find the column that says which rows of a manifest show one product, and read it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tagger.catalog.manifest import Manifest
from tagger.core.errors import UsageError

PRODUCT_COLUMN = "product_id"  # where there is one, and none is named


def find_product_column(manifest: Manifest, named: str | None) -> str | None:
    """Return the column whose value rows of one product share, None without; UsageError where the named one is not there."""
    column = named or PRODUCT_COLUMN
    if column in manifest.schema.names and not pa.types.is_nested(manifest.schema.field(column).type):
        return column
    if named is not None:
        raise UsageError(
            f"--product-column {named}: expected a column of single values of {manifest.name}, found "
            f"{', '.join(manifest.schema.names)}; correct it or leave it out"
        )
    return None


def read_products(manifest: Manifest, column: str | None, rows: NDArray[np.int64]) -> pa.Array | None:
    """Return the products of these rows of the manifest, int64 (N,), null where a row is of none; None without a column."""
    if column is None:
        return None
    return pa.concat_arrays(list(manifest.column(column))).take(pa.array(rows))
