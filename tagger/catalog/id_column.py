"""Check that the values of a manifest's id column differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tagger.core.errors import ManifestError


def require_distinct_ids(name: str, schema: pa.Schema, column: str, read: Callable[[], Iterator[pa.Array]]) -> None:
    """Require the manifest `name` to have this column, and its values to differ, at 8 bytes of memory a row.

    read: starts a stream of the column's values. Raises ManifestError.
    """
    if column not in schema.names:
        raise ManifestError(
            f"{name}: expected the id column {column}, found {', '.join(schema.names)}; correct [manifest] id_column"
        )
    import pandas as pd  # half a second to import, for those who name an id column

    try:
        texts = (pc.cast(part, pa.string()) for part in read())
        hashes = [pd.util.hash_array(part.to_numpy(zero_copy_only=False)) for part in texts]
    except pa.ArrowNotImplementedError as error:
        kind = schema.field(column).type
        raise ManifestError(f"{name}: id column {column}: expected strings or numbers, found {kind}; name another") from error
    values, counts = np.unique(np.concatenate([np.empty(0, np.uint64), *hashes]), return_counts=True)
    if not (suspects := set(values[counts > 1].tolist())):
        return
    seen: dict[str | None, int] = {}
    row = 0
    for part, digests in zip(read(), hashes, strict=True):
        for index in np.flatnonzero(np.isin(digests, list(suspects))).tolist():
            value = str(part[index].as_py())
            if value in seen:
                raise ManifestError(
                    f"{name}: id column {column}: expected every value once, found {value!r} in rows "
                    f"{seen[value]} and {row + index} (counted from 0); remove one, or do not set id_column"
                )
            seen[value] = row + index
        row += len(part)
