"""Make one schema of those of a manifest's files, where nothing is lost, and bring rows into it.

Columns are matched by name. pyarrow unifies their types; what it would lose without a word is refused here, and a value that
does not fit in the wider type (an integer beyond 2^53 in a double) is refused where it is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tagger.catalog.schemas import is_bytes, is_text, tagger_metadata
from tagger.core.errors import ManifestError
from tagger.core.text import first_line


def unify_schemas(
    files: Sequence[Path], schemas: Sequence[pa.Schema], partitions: pa.Table, rows: Sequence[int], keep_tags: bool = False
) -> tuple[pa.Schema, list[str]]:
    """Return one schema for these files, and a line for each choice of columns that some lack, which will be null there.

    The order is the first file's, then what only later ones have, then partition columns. The metadata is that of the file that
    has a column first, and the first file's. Tag columns that an earlier run of tagger added to any file are left out, unless
    `keep_tags`. partitions: a row for each file. rows: the files'. Raises ManifestError where types cannot be unified without
    loss.
    """
    tags = set() if keep_tags else {name for schema in schemas for name in tagger_metadata(schema).get("tag_columns", ())}
    fields: dict[str, pa.Field] = {}
    origin: dict[str, Path] = {}  # the file that the field's type is from
    for path, schema in zip(files, schemas, strict=True):
        repeated = sorted({name for name in schema.names if schema.names.count(name) > 1} - tags)
        if repeated:
            raise ManifestError(f"{path}: expected every column once, found {', '.join(repeated)} repeated; rename one")
        for field in schema:
            if field.name in tags:
                continue
            known = fields.setdefault(field.name, field)
            unified = _unify(known, field)
            if unified is None:
                raise ManifestError(
                    f"{path}: column {field.name}: expected {known.type} as in {origin[field.name]}, found {field.type}; write "
                    "both with one type"
                )
            fields[field.name] = unified
            if unified.type != known.type or field.name not in origin:
                origin[field.name] = path
    _require_one_meaning(files, schemas)
    gaps: dict[str, list[tuple[Path, int]]] = {}
    for path, schema, count in zip(files, schemas, rows, strict=True):
        lacking = [name for name in fields if name not in schema.names and name not in partitions.column_names]
        fields |= {name: fields[name].with_nullable(True) for name in lacking}
        if lacking and count:
            gaps.setdefault(", ".join(lacking), []).append((path, count))
    notes = [
        f"{found[0][0]}{f' and {len(found) - 1:,} more files' if len(found) > 1 else ''}: no column {columns}, which other files "
        f"have: null in {sum(count for _, count in found):,} rows"
        for columns, found in gaps.items()
    ]
    fields |= {name: partitions.schema.field(name).with_nullable(True) for name in partitions.column_names if name not in fields}
    return pa.schema(list(fields.values()), metadata=schemas[0].metadata), notes


def conform(batch: pa.RecordBatch, schema: pa.Schema, partition: Mapping[str, Any], path: Path) -> pa.RecordBatch:
    """Return the rows with the columns of `schema`, by name, with null where the file has none.

    partition: values that hold for all rows of the file. Raises ManifestError where a value does not fit, or a partition column
    also stands in the file with another value.
    """
    arrays = []
    for field in schema:
        column = batch.column(field.name) if field.name in batch.schema.names else None
        try:
            if field.name in partition:
                value = pa.scalar(partition[field.name]).cast(field.type)
                constant = pa.repeat(value, batch.num_rows) if value.is_valid else pa.nulls(batch.num_rows, field.type)
                if column is not None and not _same(column.cast(field.type), value):
                    raise ManifestError(
                        f"{path}: column {field.name}: expected {value} in every row, as its folder says, found others; mend it"
                    )
                column = constant
            elif column is None:
                column = pa.nulls(batch.num_rows, field.type)
            elif column.type != field.type:
                column = column.cast(field.type)
        except pa.ArrowException as error:
            found = batch.schema.field(field.name).type if field.name in batch.schema.names else "a value in a folder's name"
            raise ManifestError(
                f"{path}: column {field.name}: expected {found} that is {field.type} in other files without loss, found: "
                f"{first_line(error)}; write all with one type"
            ) from error
        arrays.append(column)
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _same(column: pa.Array, value: pa.Scalar) -> bool:
    if not value.is_valid:
        return bool(column.null_count == len(column))
    return not column.null_count and bool(pc.all(pc.equal(column, value), min_count=0).as_py())


def _unify(first: pa.Field, second: pa.Field) -> pa.Field | None:
    """Return a field that holds the values of both, with the first's metadata; None where that would lose something."""
    if first.type == second.type:
        return first.with_nullable(first.nullable or second.nullable)
    pairs = [(first.type, second.type), (_plain(first.type), _plain(second.type))]
    # pyarrow keeps "not null" on a nested field that one side lacks: nested types are unified as nullable ones.
    for one, other in pairs[1:] if pa.types.is_nested(first.type) and pa.types.is_nested(second.type) else pairs:
        try:
            both = [pa.schema([pa.field("", kind)]) for kind in (one, other)]
            kind = pa.unify_schemas(both, promote_options="permissive").field(0).type
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            continue
        if _keeps(one, kind) and _keeps(other, kind):
            return pa.field(first.name, kind, first.nullable or second.nullable, first.metadata)
    return None


def _plain(kind: pa.DataType) -> pa.DataType:
    """Return the type without dictionaries and views, and nullable throughout."""
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_binary_view(kind):
        return pa.large_binary()
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, _plain(field.type), metadata=field.metadata) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(_plain(kind.key_type), _plain(kind.item_type))
    if pa.types.is_large_list(kind):
        return pa.large_list(_plain(kind.value_type))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_plain(kind.value_type), kind.list_size)
    return pa.list_(_plain(kind.value_type)) if pa.types.is_list(kind) else kind


def _keeps(kind: pa.DataType, unified: pa.DataType) -> bool:
    """Tell whether a cast to the unified type keeps every value, or fails where it does not."""
    wanted = dict(_leaves(unified))
    return all(
        pa.types.is_null(leaf)
        or path not in wanted
        or (_family(leaf) == _family(wanted[path]) and not (pa.types.is_decimal(leaf) and pa.types.is_floating(wanted[path])))
        for path, leaf in _leaves(kind)
    )


def _family(kind: pa.DataType) -> str:
    """Tell text, bytes and numbers apart, which pyarrow would mix."""
    if is_text(kind):
        return "text"
    if is_bytes(kind) or pa.types.is_fixed_size_binary(kind):
        return "bytes"
    return "number"


def _leaves(kind: pa.DataType, path: str = "") -> Iterator[tuple[str, pa.DataType]]:
    if pa.types.is_struct(kind):
        for field in kind:
            yield from _leaves(field.type, f"{path}.{field.name}")
    elif pa.types.is_map(kind):
        yield from _leaves(kind.key_type, f"{path}.key")
        yield from _leaves(kind.item_type, f"{path}.value")
    elif pa.types.is_nested(kind) and kind.num_fields == 1:
        yield from _leaves(kind.value_type, f"{path}[]")
    else:
        yield path, kind


def _require_one_meaning(files: Sequence[Path], schemas: Sequence[pa.Schema]) -> None:
    """Require that numbers which Hugging Face datasets wrote for class names mean the same names in all files. ManifestError."""
    known: dict[str, tuple[Path, Any]] = {}
    for path, schema in zip(files, schemas, strict=True):
        for column, names in _class_names(schema).items():
            first, expected = known.setdefault(column, (path, names))
            if names != expected:
                raise ManifestError(
                    f"{path}: column {column}: expected the class names {expected} of {first}, found {names}; write both with "
                    "the same names in one order"
                )


def _class_names(schema: pa.Schema) -> dict[str, Any]:
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        return {name: feature["names"] for name, feature in features.items() if feature.get("_type") == "ClassLabel"}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}
