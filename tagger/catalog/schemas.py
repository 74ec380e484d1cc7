"""Define Arrow schemas: which columns of a manifest hold images, and which ones tagging adds."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

import pyarrow as pa

from tagger.core.errors import ManifestError

IMAGE_COLUMNS = ("image_path", "image", "path", "file_name")
TRUTH_COLUMNS = ("category", "label")
METADATA_KEY = b"tagger"
EMBEDDINGS_KEY = b"tagger_embeddings"  # of a part, not of a result: the moments of its rows' embeddings (core/moments.py)

TOP_TYPE = pa.list_(pa.struct([pa.field("label", pa.string()), pa.field("confidence", pa.float32())]))
SET_TYPE = pa.list_(pa.string())


def tag_fields(attributes: Sequence[str], with_sets: Collection[str] = (), with_unknown: Collection[str] = ()) -> list[pa.Field]:
    """Return the columns that a run adds for these attribute names, in order.

    with_sets: those that have prediction sets. with_unknown: those whose images may be none of the labels.
    """
    fields = []
    for name in attributes:
        fields += [
            pa.field(f"{name}_label", pa.string()),
            pa.field(f"{name}_confidence", pa.float32()),
            pa.field(f"{name}_top", TOP_TYPE),
            *([pa.field(f"{name}_set", SET_TYPE)] if name in with_sets else []),
            *([pa.field(f"{name}_known", pa.float32())] if name in with_unknown else []),
            pa.field(f"{name}_source", pa.string()),
        ]
    return [*fields, pa.field("tag_status", pa.string()), pa.field("tag_reason", pa.string())]


def result_schema(
    manifest: pa.Schema,
    attributes: Sequence[str],
    metadata: dict[str, Any],
    with_sets: Collection[str] = (),
    with_unknown: Collection[str] = (),
) -> pa.Schema:
    """Return the manifest's schema, untouched, then the tag columns; `metadata` is kept as JSON under the key "tagger"."""
    fields = tag_fields(attributes, with_sets, with_unknown)
    described = {**metadata, "tag_columns": [field.name for field in fields]}
    kept = {**(manifest.metadata or {}), METADATA_KEY: json.dumps(described, ensure_ascii=False).encode()}
    return pa.schema([*manifest, *fields], metadata=kept)


def require_no_tags(
    name: str,
    manifest: pa.Schema,
    attributes: Sequence[str],
    with_sets: Collection[str] = (),
    with_unknown: Collection[str] = (),
) -> None:
    """Require a manifest without columns named like those that a run adds; ManifestError."""
    added = [field.name for field in tag_fields(attributes, with_sets, with_unknown)]
    if clash := [column for column in added if column in manifest.names]:
        raise ManifestError(
            f"{name}: expected no columns named like the tags, found {', '.join(clash)}; rename them in the manifest, or rename "
            "the attribute in tagger.toml"
        )


def tagger_metadata(schema: pa.Schema) -> dict[str, Any]:
    """Return what a run of tagger wrote into the metadata of this schema; empty if none did, or not in this form."""
    try:
        described = json.loads((schema.metadata or {}).get(METADATA_KEY, b"{}"))
        attributes, columns = described.get("attributes", []), described.get("tag_columns", [])
        texts = [*columns, *(text for item in attributes for text in (item["name"], item["truth_column"] or "", *item["labels"]))]
        numbers = [item.get("prediction_sets", 0.0) for item in attributes]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}
    understood = all(isinstance(text, str) for text in texts) and all(isinstance(number, float) for number in numbers)
    return described if understood else {}


def is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def is_list(kind: pa.DataType) -> bool:
    return isinstance(kind, (pa.ListType, pa.LargeListType, pa.FixedSizeListType, pa.ListViewType, pa.LargeListViewType))


def is_image(kind: pa.DataType) -> bool:
    """Tell whether a column holds images: paths, embedded bytes, or the struct<bytes, path> of Hugging Face datasets."""
    if pa.types.is_struct(kind):
        names = {kind.field(index).name: kind.field(index).type for index in range(kind.num_fields)}
        return names.keys() >= {"bytes", "path"} and is_bytes(names["bytes"]) and is_text(names["path"])
    return is_text(kind) or is_bytes(kind)
