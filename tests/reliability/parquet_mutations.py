"""Seeds and mutations for fuzz_parquet.py: real small Parquet files, broken at random, byte by byte and field by field.

Random bytes rarely survive the parse of a Parquet footer, so half of the mutations know its encoding (Thrift's compact
protocol): they replace one number, length or size of the footer or of a page header with a hostile one and put the file
together again around it.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

HOSTILE = (0, 1, 2, 7, 127, 128, 255, 4096, 65_535, 1 << 20, 1 << 27, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, (1 << 63) - 1)
INTEGERS = {4, 5, 6}  # compact types of i16, i32, i64
BINARY, LISTS, STRUCT = 8, {9, 10}, 12
OFFSETS = {9, 10, 11}  # of ColumnMetaData: data page, index page, dictionary page
CHUNK_SIZE, CHUNK_META = 7, 3


@dataclass(frozen=True)
class Number:
    """A varint of a Thrift structure: a value, or the length of a string or list. `path` holds field ids and indexes."""

    path: tuple[int, ...]
    start: int
    end: int
    value: int
    zigzag: bool


def varint(value: int) -> bytes:
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def zigzag(value: int) -> int:
    return value * 2 if value >= 0 else -value * 2 - 1


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 128:
            return value, at


class Thrift:
    """Walks one structure in the compact protocol; `numbers` are its varints, `end` is where it ends."""

    def __init__(self, data: bytes, start: int) -> None:
        self.data, self.numbers = data, []
        self.end = self._struct(start, ())

    numbers: list[Number]

    def _struct(self, at: int, path: tuple[int, ...]) -> int:
        field = 0
        while head := self.data[at]:
            at += 1
            if head >> 4:
                field += head >> 4
            else:
                raw, at = read_varint(self.data, at)
                field = (raw >> 1) ^ -(raw & 1)
            at = self._value(head & 15, at, (*path, field))
        return at + 1

    def _number(self, at: int, path: tuple[int, ...], signed: bool) -> tuple[int, int]:
        raw, end = read_varint(self.data, at)
        value = (raw >> 1) ^ -(raw & 1) if signed else raw
        self.numbers.append(Number(path, at, end, value, signed))
        return value, end

    def _value(self, kind: int, at: int, path: tuple[int, ...]) -> int:
        if kind in INTEGERS:
            return self._number(at, path, signed=True)[1]
        if kind == BINARY:
            length, at = self._number(at, path, signed=False)
            return at + length
        if kind in LISTS:
            head = self.data[at]
            count, inner, at = head >> 4, head & 15, at + 1
            if count == 15:
                count, at = self._number(at, path, signed=False)
            for index in range(count):
                at = at + 1 if inner in (1, 2) else self._value(inner, at, (*path, index))
            return at
        return self._struct(at, path) if kind == STRUCT else at + {3: 1, 7: 8}.get(kind, 0)


def footer_of(data: bytes) -> tuple[int, bytes]:
    """Where the footer starts, and its bytes."""
    start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    return start, data[start:-8]


def with_footer(body: bytes, footer: bytes) -> bytes:
    return body + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def replace(data: bytes, edits: dict[Number, int]) -> bytes:
    parts, at = [], 0
    for number in sorted(edits, key=lambda number: number.start):
        value = edits[number]
        coded = varint((zigzag(value) if number.zigzag else value) & ((1 << 64) - 1))
        parts += [data[at : number.start], coded]
        at = number.end
    return b"".join([*parts, data[at:]])


def hostile(rng: random.Random, value: int) -> int:
    near = value + rng.choice([-1, 1, -8, 8])
    return rng.choice([rng.choice(HOSTILE), -rng.choice(HOSTILE) - 1, near, value * rng.choice([2, 100, 10_000])])


def edit_footer(rng: random.Random, data: bytes) -> bytes:
    start, footer = footer_of(data)
    numbers = Thrift(footer, 0).numbers
    chosen = rng.sample(numbers, min(rng.choice([1, 1, 2, 4]), len(numbers)))
    return with_footer(data[:start], replace(footer, {number: hostile(rng, number.value) for number in chosen}))


def page_headers(data: bytes) -> Iterator[Thrift]:
    """The headers of all pages, as the footer's column chunks lead to them."""
    start, footer = footer_of(data)
    chunks: dict[tuple[int, ...], dict[int, int]] = {}
    for number in Thrift(footer, 0).numbers:
        if len(number.path) == 6 and number.path[0] == 4 and number.path[2] == 1 and number.path[4] == CHUNK_META:
            chunks.setdefault(number.path[:4], {})[number.path[5]] = number.value
    for chunk in chunks.values():
        at = min(chunk[field] for field in OFFSETS if field in chunk)
        end = at + chunk[CHUNK_SIZE]
        while at < min(end, start):
            header = Thrift(data, at)
            yield header
            compressed = next((number.value for number in header.numbers if number.path == (3,)), -1)
            if compressed < 0:
                break
            at = header.end + compressed


def edit_page(rng: random.Random, data: bytes) -> bytes:
    """Change numbers of one page header, and the footer's offsets and sizes so that everything is found again."""
    headers = list(page_headers(data))
    if not headers:
        return edit_footer(rng, data)
    header = rng.choice(headers)
    chosen = rng.sample(header.numbers, min(rng.choice([1, 1, 2, 3]), len(header.numbers)))
    start, footer = footer_of(data)
    changed = replace(data[:start], {number: hostile(rng, number.value) for number in chosen})
    grown = len(changed) - start
    place = header.numbers[0].start
    numbers = Thrift(footer, 0).numbers
    metas = [number for number in numbers if len(number.path) == 6 and number.path[4] == CHUNK_META]
    firsts: dict[tuple[int, ...], int] = {}
    for number in metas:
        if number.path[5] in OFFSETS:
            firsts[number.path[:4]] = min(number.value, firsts.get(number.path[:4], number.value))
    edits = {number: number.value + grown for number in metas if number.path[5] in OFFSETS and number.value > place}
    hit = max((first for first in firsts.values() if first <= place), default=None)
    edits |= {n: n.value + grown for n in metas if n.path[5] == CHUNK_SIZE and firsts.get(n.path[:4]) == hit}
    return with_footer(changed, replace(footer, edits))


def flip_bits(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice([1, 2, 8, 64])):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def flip_body_bits(rng: random.Random, data: bytes) -> bytes:
    """Leave the footer alone: damage that only reading finds."""
    start = footer_of(data)[0]
    return flip_bits(rng, data[:start]) + data[start:]


def overwrite(rng: random.Random, data: bytes) -> bytes:
    at, count = rng.randrange(len(data)), rng.choice([1, 4, 16, 256])
    return data[:at] + rng.choice([b"\0", b"\xff", b"\x80", b"\x7f"]) * count + data[at + count :]


def cut(rng: random.Random, data: bytes) -> bytes:
    """Take a piece out, at the end or in the middle (the footer stays)."""
    first, second = sorted(rng.randrange(len(data)) for _ in range(2))
    return data[:first] if rng.random() < 0.3 else data[:first] + data[second:]


def repeat(rng: random.Random, data: bytes) -> bytes:
    first, second = sorted(rng.randrange(len(data)) for _ in range(2))
    return data[:second] + data[first:second] * rng.choice([1, 2, 50]) + data[second:]


def splice(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """The pages of one file under the footer of another, or two halves."""
    if rng.random() < 0.5:
        return data[: footer_of(data)[0]] + other[footer_of(other)[0] :]
    return data[: rng.randrange(len(data))] + other[rng.randrange(len(other)) :]


MUTATIONS: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    edit_footer,
    edit_footer,
    edit_footer,
    edit_page,
    edit_page,
    edit_page,
    flip_bits,
    flip_body_bits,
    flip_body_bits,
    overwrite,
    cut,
    repeat,
)


def mutate(rng: random.Random, seeds: list[bytes]) -> tuple[str, bytes]:
    """One broken file, and how it was broken."""
    data, names = rng.choice(seeds), []
    for _ in range(rng.choice([1, 1, 1, 2])):
        mutation = rng.choice((*MUTATIONS, splice))
        try:
            data = splice(rng, data, rng.choice(seeds)) if mutation is splice else mutation(rng, data)
        except (IndexError, ValueError, KeyError, RecursionError):  # broken so well already that it has no fields
            continue
        names.append(mutation.__name__)
        if not data:
            return "+".join(names), b"PAR1"
    return "+".join(names), data


def make_seeds() -> list[bytes]:
    """Small files of every kind that the readers meet: codecs, encodings, page versions, nested and embedded images, results."""
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
    described = {"tag_columns": ["kind_label"], "attributes": [{"name": "kind", "labels": ["p", "q"], "truth_column": "kind"}]}
    results = pa.table({"image": ["a.jpg"] * 40, "kind": ["p", "q"] * 20, "kind_label": ["p", None] * 20})
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


def make_bombs() -> list[tuple[str, bytes]]:
    """Valid files, or nearly, that are small and unpack to much; with a name each."""
    big = "x" * (600 << 20)
    bombs = [
        ("a string of 600 MB", dump(pa.table({"image": [big]}), compression="zstd", use_dictionary=False, write_statistics=False))
    ]
    del big
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), pa.array(["x" * (1 << 20)]))
    bombs.append(("a string of 1 MB, 100,000 times", dump(pa.table({"image": text}), store_schema=False)))
    bombs.append(
        ("30 million nulls", dump(pa.table({"image": pa.nulls(30_000_000, pa.string()), "id": pa.nulls(30_000_000, pa.int8())})))
    )
    zeros = pa.ListArray.from_arrays([0, 50_000_000], pa.repeat(pa.scalar(0, pa.int8()), 50_000_000))
    sink = io.BytesIO()
    table = pa.table({"image": ["a.jpg"], "zeros": zeros})
    with pq.ParquetWriter(sink, table.schema) as writer:
        for _ in range(20):
            writer.write_table(table)
    bombs.append(("lists of 50 million zeros", sink.getvalue()))
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
