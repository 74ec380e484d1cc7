"""Break real small Parquet files at random for fuzz_parquet.py, byte by byte and field by field.

Random bytes rarely survive the parse of a Parquet footer, so half of the mutations know its encoding (Thrift's compact
protocol): they replace one number, length or size of the footer or of a page header with a hostile one and put the file
together again around it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

HOSTILE = (0, 1, 2, 7, 127, 128, 255, 4096, 65_535, 1 << 20, 1 << 27, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, (1 << 63) - 1)
INTEGERS = {4, 5, 6}  # compact types of i16, i32, i64
BINARY, LISTS, STRUCT = 8, {9, 10}, 12
OFFSETS = {9, 10, 11}  # of ColumnMetaData: data page, index page, dictionary page
CHUNK_SIZE, CHUNK_META = 7, 3


@dataclass(frozen=True)
class Number:
    """Hold a varint of a Thrift structure: a value, or the length of a string or list. `path` holds field ids and indexes."""

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
    """Walk one structure in the compact protocol; `numbers` are its varints, `end` is where it ends."""

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
    """Return where the footer starts, and its bytes."""
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
    """Return the headers of all pages, as the footer's column chunks lead to them."""
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
    """Damage bytes outside the footer, so that only reading finds it."""
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
    """Join the pages of one file and the footer of another, or two halves."""
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
    """Return one broken file, and how it was broken."""
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
