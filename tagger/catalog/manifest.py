"""Read a manifest: one or many Parquet files, checked, cut into shards and read as a stream."""

from __future__ import annotations

import glob
import hashlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tagger.catalog.references import are_texts, image_refs
from tagger.catalog.schemas import IMAGE_COLUMNS, is_bytes, is_image, is_list, tagger_metadata
from tagger.core.errors import ManifestError
from tagger.core.text import first_line
from tagger.core.types import ImageRef

log = logging.getLogger(__name__)

SHARD_BYTES = 32 << 20  # of uncompressed columns; a few shards are in memory at a time
MIN_SHARD_ROWS, MAX_SHARD_ROWS = 64, 4096
READ_BUFFER = 1 << 20


@dataclass(frozen=True, slots=True)
class Shard:
    """The rows start to stop-1 of the manifest: the unit of work."""

    number: int
    start: int
    stop: int


@dataclass(frozen=True)
class Manifest:
    """An opened manifest; `schema` has its columns without the tag columns that an earlier run of tagger added."""

    name: str
    files: tuple[Path, ...]
    rows: int
    schema: pa.Schema
    image_column: str
    bytes_per_row: int

    @property
    def folder(self) -> Path:
        return self.files[0].parent

    def content_hash(self) -> str:
        """Return the SHA-256 of the files' bytes, in order."""
        digest = hashlib.sha256()
        for path in self.files:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    @cached_property
    def shard_rows(self) -> int:
        return rows_per_shard(self.bytes_per_row)

    def image_refs(self, table: pa.Table, first_row: int) -> list[ImageRef]:
        """Return the image references of these rows; first_row: the row that is the table's first. Raises ManifestError."""
        return image_refs(table[self.image_column], first_row, self.has_binary_paths)

    @cached_property
    def has_binary_paths(self) -> bool:
        """Tell whether the image column is binary and yet holds paths (references.are_texts). Raises ManifestError."""
        return is_bytes(self.schema.field(self.image_column).type) and are_texts(self.column(self.image_column))

    def shards(self, limit: int | None = None) -> Iterator[Shard]:
        rows = self.rows if limit is None else min(limit, self.rows)
        for number, start in enumerate(range(0, rows, self.shard_rows)):
            yield Shard(number, start, min(start + self.shard_rows, rows))

    def read(self, shards: Iterable[Shard]) -> Iterator[tuple[Shard, pa.Table]]:
        """Read the rows of these shards, in order, in one pass; only a few shards are in memory at a time.

        Raises ManifestError where a file cannot be read, or has fewer rows than when it was opened.
        """
        stream = self._batches(self.schema.names)
        batch: pa.RecordBatch | None = None
        row = 0  # the manifest's row that is the first of `batch`
        for shard in shards:
            parts: list[pa.RecordBatch] = []
            while row < shard.stop:
                if batch is None:
                    batch = next(stream, None)
                if batch is None:
                    raise ManifestError(
                        f"{self.name}: expected {self.rows} rows, found only {row}; was it changed while it was read? run again"
                    )
                # Rows before the shard are dropped, those in it are kept.
                count = min(len(batch), (shard.start if row < shard.start else shard.stop) - row)
                if row >= shard.start:
                    parts.append(batch.slice(0, count))
                batch = batch.slice(count) if count < len(batch) else None
                row += count
            yield shard, pa.Table.from_batches(parts, self.schema)

    def column(self, name: str) -> Iterator[pa.Array]:
        """Read one column as a stream of arrays. Raises ManifestError."""
        return (batch.column(0) for batch in self._batches([name]))

    def _batches(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        schema = pa.schema([self.schema.field(name) for name in names], metadata=self.schema.metadata)
        for path in self.files:
            try:
                # A buffered stream reads a column chunk page by page: one huge row group does not fill the memory.
                with pq.ParquetFile(path, buffer_size=READ_BUFFER, pre_buffer=False) as file:
                    stored = None if len(names) == len(file.schema_arrow) else _leaves(file, names)
                    for batch in file.iter_batches(self.shard_rows, columns=stored):
                        yield pa.RecordBatch.from_arrays([batch.column(name) for name in names], schema=schema)
            except (pa.ArrowException, OSError) as error:
                raise unreadable(path, error) from error


def _leaves(file: pq.ParquetFile, names: Sequence[str]) -> list[str]:
    """Return the Parquet paths under these top-level columns (a name with a dot in it would be taken for a path)."""
    wanted = set(names)
    paths = [file.schema.column(index).path for index in range(len(file.schema))]
    return [path for path in paths if path in wanted or path.split(".", 1)[0] in wanted]


def bytes_per_row(footers: Sequence[pq.FileMetaData]) -> int:
    """Return the mean size of a row in bytes, encoded but not compressed."""
    groups = [footer.row_group(index) for footer in footers for index in range(footer.num_row_groups)]
    total, rows = sum(group.total_byte_size for group in groups), sum(footer.num_rows for footer in footers)
    return int(total // max(rows, 1))


def rows_per_shard(row_bytes: int) -> int:
    """Return the rows of a shard: about SHARD_BYTES of them, a multiple of MIN_SHARD_ROWS."""
    rows = SHARD_BYTES // max(row_bytes, 1) // MIN_SHARD_ROWS * MIN_SHARD_ROWS
    return min(max(rows, MIN_SHARD_ROWS), MAX_SHARD_ROWS)


def open_manifest(
    name: str,
    image_column: str | None = None,
    id_column: str | None = None,
    files: tuple[Path, ...] | None = None,
) -> Manifest:
    """Open a Parquet file, a folder of them or a glob, and check all that can be checked without reading the images.

    files: what `name` means, where it is not on this machine and these are copies.
    Raises ManifestError: no file, not Parquet, files whose columns differ, no usable image column or several, an
    `id_column` whose values repeat.
    """
    files = files or find_files(name)
    schemas, footers = [], []
    for path in files:
        try:
            with pq.ParquetFile(path) as file:
                schemas.append(file.schema_arrow)
                footers.append(file.metadata)
        except (pa.ArrowException, OSError) as error:
            raise unreadable(path, error) from error
    earlier = set(tagger_metadata(schemas[0]).get("tag_columns", ()))
    schema = pa.schema([field for field in schemas[0] if field.name not in earlier], metadata=schemas[0].metadata)
    for path, other in zip(files, schemas, strict=True):
        _same_columns(files[0], schemas[0], path, other)
    repeated = sorted({column for column in schema.names if len(schema.get_all_field_indices(column)) > 1})
    if repeated:
        raise ManifestError(f"{name}: expected every column once, found {', '.join(repeated)} repeated; rename one")
    image_column = _choose_image_column(name, schema, image_column)
    groups = [footer.row_group(index) for footer in footers for index in range(footer.num_row_groups)]
    rows = sum(footer.num_rows for footer in footers)
    nulls = _nulls(groups, image_column)
    if rows and nulls == rows:
        raise ManifestError(f"{name}: expected images in column {image_column}, found only nulls; fill it or name another")
    if nulls:
        log.warning("%s: %d of %d rows have no %s; they will be errors", name, nulls, rows, image_column)
    manifest = Manifest(
        name=name,
        files=files,
        rows=rows,
        schema=schema,
        image_column=image_column,
        bytes_per_row=bytes_per_row(footers),
    )
    if id_column is not None:
        _check_ids(manifest, id_column)
    return manifest


def unreadable(path: Path, error: Exception) -> ManifestError:
    """Return the error for a file that pyarrow could not open or read."""
    if isinstance(error, FileNotFoundError):
        return ManifestError(f"{path}: expected a Parquet file, found no such file; check the path")
    return ManifestError(f"{path}: expected a readable Parquet file, found: {first_line(error)}; write the file again")


def find_files(name: str) -> tuple[Path, ...]:
    """Return the files that `name` means, in order: one, those of a folder, or those that match a glob. Raises ManifestError."""
    path = Path(name)
    if path.is_file():
        return (path,)
    if path.is_dir():
        found = sorted(file for file in path.glob("*.parquet") if not file.name.startswith((".", "_")))
    else:
        found = sorted(Path(match) for match in glob.glob(name) if Path(match).is_file())  # noqa: PTH207  # a Path has no absolute glob
    if found:
        return tuple(found)
    if path.is_dir():
        raise ManifestError(f"{name}: expected Parquet files in this folder, found no *.parquet; name the manifest file")
    raise ManifestError(f"{name}: expected a Parquet file, a folder of them or a glob, found none; check the path")


def _same_columns(first_path: Path, first: pa.Schema, path: Path, other: pa.Schema) -> None:
    if other.equals(first):
        return
    for mine, theirs in zip(first, other, strict=False):
        if not theirs.equals(mine):
            found = f"{theirs.name} {theirs.type} instead of {mine.name} {mine.type}"
            break
    else:
        found = f"{len(other)} columns instead of {len(first)}"
    raise ManifestError(f"{path}: expected the columns of {first_path}, found {found}; write both with one schema")


def _choose_image_column(name: str, schema: pa.Schema, wanted: str | None) -> str:
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


def _nulls(groups: Sequence[pq.RowGroupMetaData], column: str) -> int:
    """Return how many nulls a flat column has by the footers, without reading it; 0 where they do not count them."""
    chunks = [group.column(index) for group in groups for index in range(group.num_columns)]
    counts = [chunk.statistics for chunk in chunks if chunk.path_in_schema == column and chunk.statistics is not None]
    return sum(statistics.null_count for statistics in counts if statistics.has_null_count)


def _check_ids(manifest: Manifest, column: str) -> None:
    """Require `column` to exist and its values to differ, at 8 bytes of memory a row."""
    if column not in manifest.schema.names:
        raise ManifestError(
            f"{manifest.name}: expected the id column {column}, found {', '.join(manifest.schema.names)}; correct "
            "[manifest] id_column"
        )
    import pandas as pd  # half a second to import, for those who name an id column

    try:
        texts = (pc.cast(part, pa.string()) for part in manifest.column(column))
        hashes = [pd.util.hash_array(part.to_numpy(zero_copy_only=False)) for part in texts]
    except pa.ArrowNotImplementedError as error:
        kind = manifest.schema.field(column).type
        raise ManifestError(
            f"{manifest.name}: id column {column}: expected strings or numbers, found {kind}; name another"
        ) from error
    values, counts = np.unique(np.concatenate([np.empty(0, np.uint64), *hashes]), return_counts=True)
    if not (suspects := set(values[counts > 1].tolist())):
        return
    seen: dict[str | None, int] = {}
    row = 0
    for part, digests in zip(manifest.column(column), hashes, strict=True):
        for index in np.flatnonzero(np.isin(digests, list(suspects))).tolist():
            value = str(part[index].as_py())
            if value in seen:
                raise ManifestError(
                    f"{manifest.name}: id column {column}: expected every value once, found {value!r} in rows "
                    f"{seen[value]} and {row + index} (counted from 0); remove one, or do not set id_column"
                )
            seen[value] = row + index
        row += len(part)
