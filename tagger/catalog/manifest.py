"""Read a manifest: one or many Parquet files, checked, cut into shards and read as a stream."""

from __future__ import annotations

import hashlib
import logging
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tagger.catalog.held_files import HeldFiles
from tagger.catalog.id_column import require_distinct_ids
from tagger.catalog.image_column import choose_image_column, count_nulls
from tagger.catalog.manifest_files import ManifestFiles, find_files, unreadable
from tagger.catalog.partitions import partition_of
from tagger.catalog.references import ImageRefs, are_texts, image_refs
from tagger.catalog.schemas import is_bytes
from tagger.catalog.unified_schema import conform, unify_schemas
from tagger.core.errors import ManifestError

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
    """An opened manifest; `schema` has its columns without the tag columns that an earlier run of tagger added.

    held: the files, as they were when it was opened. groups: of each file, the rows of each of its row groups. partitions: as
    in ManifestFiles. notes: what was left out or filled with null, a line each.
    """

    name: str
    folder: Path
    files: tuple[Path, ...]
    held: HeldFiles
    groups: tuple[tuple[int, ...], ...]
    partitions: pa.Table
    rows: int
    schema: pa.Schema
    image_column: str
    bytes_per_row: int
    notes: tuple[str, ...] = ()

    def content_hash(self) -> str:
        """Return the SHA-256 of the files' own, in order."""
        return hashlib.sha256(b"".join(self.digests)).hexdigest()

    @cached_property
    def digests(self) -> tuple[bytes, ...]:
        """The SHA-256 of each file's bytes."""
        return tuple(self.held.digests())

    @cached_property
    def shard_rows(self) -> int:
        return rows_per_shard(self.bytes_per_row)

    def image_refs(self, table: pa.Table, first_row: int) -> ImageRefs:
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
        """Read the rows of these ascending shards in one pass; only a few shards are in memory at a time.

        Whole row groups between them are not read.

        Raises ManifestError where a file cannot be read, StoppedError where it was changed since it was opened.
        """
        stream = self.batches(self.schema.names)
        batch: pa.RecordBatch | None = None
        row = 0  # the manifest's row that is the first of `batch`
        ends = list(accumulate(chain.from_iterable(self.groups)))
        for shard in shards:
            parts: list[pa.RecordBatch] = []
            if bisect_right(ends, shard.start) > bisect_right(ends, row):
                stream, batch, row = self.batches(self.schema.names, shard.start), None, shard.start
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
        return (batch.column(0) for batch in self.batches([name]))

    def batches(self, names: Sequence[str], first_row: int = 0) -> Iterator[pa.RecordBatch]:
        """Read these columns from a row on, as a stream of batches. Raises ManifestError, StoppedError."""
        schema = pa.schema([self.schema.field(name) for name in names], metadata=self.schema.metadata)
        skipped = first_row
        for number, path in enumerate(self.files):
            partition = partition_of(self.partitions, number)
            before = [rows for rows in accumulate(self.groups[number]) if rows <= skipped]
            skipped -= before[-1] if before else 0
            if len(before) == len(self.groups[number]):
                continue
            wanted_groups = range(len(before), len(self.groups[number]))
            try:
                # A buffered stream reads a column chunk page by page: one huge row group does not fill the memory.
                with self.held.open(number) as name, pq.ParquetFile(name, buffer_size=READ_BUFFER, pre_buffer=False) as file:
                    wanted = [name for name in file.schema_arrow.names if name in schema.names]
                    stored = None if len(wanted) == len(file.schema_arrow) else _leaves(file, wanted)
                    for batch in file.iter_batches(self.shard_rows, row_groups=wanted_groups, columns=stored):
                        if skipped < len(batch):
                            yield conform(batch.slice(skipped), schema, partition, path)
                        skipped = max(skipped - len(batch), 0)
            except (pa.ArrowException, OSError) as error:
                raise unreadable(path, error) from error


def hold_files(paths: Sequence[Path]) -> HeldFiles:
    """Open the files of a manifest. Raises ManifestError."""
    try:
        return HeldFiles(paths)
    except OSError as error:
        raise unreadable(Path(error.filename or paths[0]), error) from error


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
    files: ManifestFiles | None = None,
    keep_tags: bool = False,
) -> Manifest:
    """Open a Parquet file, a folder of them or a glob, and check all that can be checked without reading the images.

    files: what `name` means, where it is not on this machine and these are copies. keep_tags: whether the tag columns that an
    earlier run of tagger added are columns of the manifest, too.
    Raises ManifestError: no file, not Parquet, files whose columns cannot be unified without loss, no usable image column or
    several, an `id_column` whose values repeat.
    """
    found = files or find_files(name)
    schemas, footers = [], []
    held = hold_files(found.files)
    for number, path in enumerate(found.files):
        try:
            with held.open(number) as stored, pq.ParquetFile(stored) as file:
                schemas.append(file.schema_arrow)
                footers.append(file.metadata)
        except (pa.ArrowException, OSError) as error:
            raise unreadable(path, error) from error
    schema, missing = unify_schemas(found.files, schemas, found.partitions, [footer.num_rows for footer in footers], keep_tags)
    notes = (*found.notes(name), *missing)
    for note in notes:
        log.warning("%s", note)
    image_column = choose_image_column(name, schema, image_column)
    for path, stored in zip(found.files, schemas, strict=True):
        if image_column not in stored.names:
            raise ManifestError(
                f"{path}: expected the image column {image_column} as in other files, found none; correct the file"
            )
    groups = [footer.row_group(index) for footer in footers for index in range(footer.num_row_groups)]
    rows = sum(footer.num_rows for footer in footers)
    nulls = count_nulls(groups, image_column)
    if rows and nulls == rows:
        raise ManifestError(f"{name}: expected images in column {image_column}, found only nulls; fill it or name another")
    if nulls:
        log.warning("%s: %d of %d rows have no %s; they will be errors", name, nulls, rows, image_column)
    manifest = Manifest(
        name=name,
        folder=found.folder,
        files=found.files,
        held=held,
        groups=tuple(tuple(footer.row_group(index).num_rows for index in range(footer.num_row_groups)) for footer in footers),
        partitions=found.partitions,
        rows=rows,
        schema=schema,
        image_column=image_column,
        bytes_per_row=bytes_per_row(footers),
        notes=notes,
    )
    if id_column is not None:
        require_distinct_ids(name, schema, id_column, lambda: manifest.column(id_column))
    return manifest
