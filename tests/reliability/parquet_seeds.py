"""Make what fuzz_parquet.py starts from: small Parquet files of every kind that the readers meet, and some bombs."""

from __future__ import annotations

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
from parquet_mutations import footer_of, page_headers, replace, with_footer


def make_seeds() -> list[bytes]:
    """Return small files of every kind that readers meet: codecs, encodings, page versions, nested, embedded images, results."""
    paths = [f"dress/{number:03d}.jpg" if number % 7 else None for number in range(200)]
    texts = pa.table(
        {"image_path": paths, "category": ["dress", "shoes", None, "hat"] * 50, "price": [number / 7 for number in range(200)]}
    )
    one = pa.table({"image_path": paths})
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pictures = pa.table({"image": pa.array([{"bytes": bytes(range(100)), "path": "a.jpg"}, None] * 20, struct)})
    nested = pa.table(
        {
            "image": ["a.jpg", "b.jpg"] * 20,
            "tags": pa.array([[["x"], []], None] * 20, pa.list_(pa.list_(pa.string()))),
            "more": pa.array([[("k", 1)], []] * 20, pa.map_(pa.string(), pa.int8())),
            "sum": pa.array([1, None] * 20, pa.decimal128(30, 2)),
            "fixed": pa.array([b"ab", b"cd"] * 20, pa.binary(2)),
            "when": pa.array([0, 1] * 20, pa.timestamp("ns")),
            "kind": pa.array(["p", "q"] * 20).dictionary_encode(),
            "yes": [True, None] * 20,
        }
    )
    described = {
        "tag_columns": ["kind_label", "kind_source"],
        "attributes": [{"name": "kind", "labels": ["p", "q"], "truth_column": "kind"}],
    }
    results = pa.table(
        {"image": ["a.jpg"] * 40, "kind": ["p", "q"] * 20, "kind_label": ["p", None] * 20, "kind_source": ["clip", None] * 20}
    )
    results = results.replace_schema_metadata({"tagger": json.dumps(described)})
    seeds = [
        dump(texts, compression=codec, data_page_version=version, row_group_size=size)
        for codec, version, size in [("snappy", "1.0", 200), ("zstd", "2.0", 60), ("gzip", "1.0", 200), ("none", "2.0", 200)]
    ]
    seeds += [
        dump(one, compression=codec, use_dictionary=dictionary) for codec in ("none", "zstd") for dictionary in (True, False)
    ]
    seeds += [
        dump(one, use_dictionary=False, column_encoding={"image_path": name})
        for name in ("DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY")
    ]
    prices = {"image_path": "PLAIN", "category": "PLAIN", "price": "BYTE_STREAM_SPLIT"}
    seeds += [dump(texts, use_dictionary=False, column_encoding=prices, write_page_index=True, data_page_size=200)]
    seeds += [dump(pictures, compression=codec) for codec in ("none", "zstd")]
    seeds += [
        dump(nested, compression=codec, data_page_version=version) for codec, version in (("lz4", "1.0"), ("brotli", "2.0"))
    ]
    return [*seeds, dump(results), dump(results, compression="none")]


def dump(table: pa.Table, **options: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def make_large_bombs() -> list[tuple[str, bytes]]:
    """Return the bombs that take half a minute to make."""
    big = pa.table({"image": ["x" * (600 << 20)]})
    bombs = [("a string of 600 MB", dump(big, compression="zstd", use_dictionary=False, write_statistics=False))]
    zeros = pa.ListArray.from_arrays([0, 50_000_000], pa.repeat(pa.scalar(0, pa.int8()), 50_000_000))
    sink = io.BytesIO()
    table = pa.table({"image": ["a.jpg"], "zeros": zeros})
    with pq.ParquetWriter(sink, table.schema) as writer:
        for _ in range(20):
            writer.write_table(table)
    return [*bombs, ("lists of 50 million zeros", sink.getvalue())]


def make_bombs() -> list[tuple[str, bytes]]:
    """Return, with a name each, nearly valid files that are small but unpack to a lot, or describe themselves falsely."""
    bombs: list[tuple[str, bytes]] = []
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), pa.array(["x" * (1 << 20)]))
    bombs.append(("a string of 1 MB, 100,000 times", dump(pa.table({"image": text}), store_schema=False)))
    bombs.append(
        ("30 million nulls", dump(pa.table({"image": pa.nulls(30_000_000, pa.string()), "id": pa.nulls(30_000_000, pa.int8())})))
    )
    deep = pa.array([None], pa.string())
    for _ in range(400):
        deep = pa.StructArray.from_arrays([deep], ["s"])
    bombs.append(("a struct 400 deep", dump(pa.table({"image": ["a.jpg"], "deep": deep}))))
    bombs.append(("5,000 columns", dump(pa.table({"image": ["a.jpg"], **{f"c{number}": [number] for number in range(5000)}}))))
    described = pa.table({"image": ["a.jpg"]})
    for name, value in (("nested brackets", "[" * 100_000), ("a number", '{"tag_columns": 7, "attributes": 7}')):
        bombs.append((f"metadata of {name}", dump(described.replace_schema_metadata({"tagger": value}))))
    plain = dump(pa.table({"image": ["a.jpg"] * 10}), compression="zstd", use_dictionary=False)
    for path in ((2,), (3,), (5, 1), (8, 1)):  # uncompressed size, compressed size, values of a page (versions 1 and 2)
        for header in page_headers(plain):
            for number in header.numbers:
                if number.path == path:
                    start, footer = footer_of(plain)
                    changed = replace(plain[:start], {number: (1 << 31) - 1})
                    bombs.append((f"field {path} of a page header at its largest", with_footer(changed, footer)))
    bombs.append(
        ("a name that is not UTF-8", dump(pa.table({"image": ["a.jpg"]}), store_schema=False).replace(b"image", b"imag\xff"))
    )
    return bombs
