"""Choose the column of a manifest that holds the images, and count its nulls."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from tagger.catalog.schemas import IMAGE_COLUMNS, is_image, is_list
from tagger.core.errors import ManifestError


def choose_image_column(name: str, schema: pa.Schema, wanted: str | None) -> str:
    """Return the wanted column, or the only usual one that can hold images. Raises ManifestError."""
    remedy = "name it with --image-column or [manifest] image_column"
    if wanted is None:
        candidates = [column for column in IMAGE_COLUMNS if column in schema.names]
        usable = [column for column in candidates if is_image(schema.field(column).type)] or candidates
        if not usable:
            listed = ", ".join(schema.names) or "no columns"
            raise ManifestError(f"{name}: no image column: looked for {', '.join(IMAGE_COLUMNS)}, found {listed}; {remedy}")
        if len(usable) > 1:
            raise ManifestError(f"{name}: expected one image column, found {' and '.join(usable)}; {remedy}")
        wanted = usable[0]
    elif wanted not in schema.names:
        raise ManifestError(f"{name}: expected the image column {wanted}, found {', '.join(schema.names)}; {remedy}")
    kind = schema.field(wanted).type
    if is_list(kind):
        raise ManifestError(
            f"{name}: image column {wanted}: expected one image in each row, found {kind}; write a row for each image, or a "
            "column with the first of each list"
        )
    if not is_image(kind):
        raise ManifestError(
            f"{name}: image column {wanted}: expected strings, binary or struct<bytes, path>, found {kind}; {remedy}"
        )
    return wanted


def count_nulls(groups: Sequence[pq.RowGroupMetaData], column: str) -> int:
    """Return how many nulls a flat column has by the footers, without reading it; 0 where they do not count them."""
    chunks = [group.column(index) for group in groups for index in range(group.num_columns)]
    counts = [chunk.statistics for chunk in chunks if chunk.path_in_schema == column and chunk.statistics is not None]
    return sum(statistics.null_count for statistics in counts if statistics.has_null_count)
