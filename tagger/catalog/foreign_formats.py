"""Say what a file is that is no Parquet, and the one line that makes Parquet of it."""

from __future__ import annotations

import shlex
import zipfile
from pathlib import Path

HEAD_BYTES = 1 << 16

# What a file begins with -> what it is, and the body of `python -c "import sys; …"` that converts argv[1] to argv[2].
_TABLES = {
    b"ARROW1": (
        "Arrow IPC (Feather)",
        "import pyarrow.feather as f, pyarrow.parquet as p; p.write_table(f.read_table({0}), {1})",
    ),
    b"FEA1": ("Feather", "import pyarrow.feather as f, pyarrow.parquet as p; p.write_table(f.read_table({0}), {1})"),
    b"\xff\xff\xff\xff": (
        "an Arrow IPC stream",
        "import pyarrow as a, pyarrow.parquet as p; p.write_table(a.ipc.open_stream(open({0}, 'rb')).read_all(), {1})",
    ),
    b"ORC": ("ORC", "import pyarrow.orc as o, pyarrow.parquet as p; p.write_table(o.read_table({0}), {1})"),
    b"Obj\x01": (
        "Avro",
        "import pandas, fastavro; pandas.DataFrame(fastavro.reader(open({0}, 'rb'))).to_parquet({1})",
    ),
    b"SQLite format 3\0": (
        "an SQLite database",
        "import sqlite3, pandas; pandas.read_sql('SELECT * FROM products', sqlite3.connect({0})).to_parquet({1})",
    ),
    b"\x89HDF\r\n\x1a\n": ("HDF5", "import pandas; pandas.read_hdf({0}).to_parquet({1})"),
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": (
        "an old Excel file",
        "import pandas; pandas.read_excel({0}, dtype=str).to_parquet({1})",
    ),
}
_PACKED = {
    b"\x1f\x8b": ("gzip", "gzip -dc"),
    b"BZh": ("bzip2", "bzip2 -dc"),
    b"\xfd7zXZ\0": ("xz", "xz -dc"),
    b"\x28\xb5\x2f\xfd": ("Zstandard", "zstd -dc"),
    b"\x04\x22\x4d\x18": ("LZ4", "lz4 -dc"),
}
_OTHERS = {
    b"\xff\xd8\xff": "a JPEG image",
    b"\x89PNG\r\n\x1a\n": "a PNG image",
    b"GIF8": "a GIF image",
    b"RIFF": "a WebP image",
    b"%PDF-": "PDF",
    b"\x93NUMPY": "a NumPy array",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a RAR archive",
}
_PACK_ENDINGS = (".gz", ".bz2", ".xz", ".zst", ".lz4")
_SEPARATORS = {",": "CSV", ";": "CSV with semicolons", "\t": "TSV", "|": "CSV with bars"}


def describe_format(path: Path) -> tuple[str, str] | None:
    """Return what a file is and what to do with it, if it is no whole, plain Parquet; None where it looks like it, or is gone."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
            size = file.seek(0, 2)
            file.seek(max(size - 4, 0))
            tail = file.read()
    except OSError:
        return None
    if head.startswith(b"PARE") or tail == b"PARE":
        return "encrypted Parquet", "write it without encryption"
    if head.startswith(b"PAR1"):
        whole = tail == b"PAR1" and size >= 12
        return None if whole else ("Parquet without its end", "copy it again, or wait until its writer has finished")
    if not head.strip(b"\0"):
        return "an empty file" if not size else "a file of zeros", "write the file again"
    return _describe_binary(path, head) or _describe_text(path, head)


def _describe_binary(path: Path, head: bytes) -> tuple[str, str] | None:
    for start, (found, code) in _TABLES.items():
        if head.startswith(start):
            return found, _convert(path, code)
    for start, (found, command) in _PACKED.items():
        if head.startswith(start):
            unpacked = path.with_suffix("") if path.suffix.lower() in _PACK_ENDINGS else path.with_suffix(".unpacked")
            return f"a file packed with {found}", f"unpack it: {command} < {_quoted(path)} > {_quoted(unpacked)}"
    if head.startswith(b"PK\x03\x04"):
        return _describe_zip(path)
    for start, found in _OTHERS.items():
        if head.startswith(start):
            return found, "name a Parquet file with a row for each image"
    return None


def _describe_zip(path: Path) -> tuple[str, str]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):  # a zip archive all the same, damaged or odd
        names = []
    if any(name.startswith("xl/") for name in names):
        return "an Excel file", _convert(path, "import pandas; pandas.read_excel({0}, dtype=str).to_parquet({1})")
    return "a zip archive", f"unpack it: unzip {_quoted(path)}"


def _describe_text(path: Path, head: bytes) -> tuple[str, str] | None:
    encoding = _encoding(head)
    if encoding is None:
        return None
    text = head.decode(encoding, errors="ignore").lstrip("\ufeff \r\n")
    first, _, rest = text.partition("\n")
    if text.startswith("version https://git-lfs"):
        return "a pointer of Git LFS", "fetch the file itself: git lfs pull"
    if text[:20].lower().startswith(("<!doctype html", "<html")):
        return "an HTML page, perhaps of a login or an error", "download the file again, signed in"
    if text.startswith("<"):
        return "XML", _convert(path, "import pandas; pandas.read_xml({0}, dtype=str).to_parquet({1})")
    options = "" if encoding == "utf-8" else f", encoding='{encoding}'"
    if text.startswith(("{", "[")):
        lines = text.startswith("{") and rest.lstrip().startswith("{")
        options = f"lines={lines}, dtype=False, convert_dates=False{options}"
        found = "JSON lines" if lines else "JSON"
        return found, _convert(path, f"import pandas; pandas.read_json({{0}}, {options}).to_parquet({{1}})")
    counts = {separator: first.count(separator) for separator in _SEPARATORS}
    separator = max(counts, key=counts.__getitem__)
    if counts[separator] or path.suffix.lower() in (".csv", ".tsv"):
        options += "" if separator == "," else f", sep={separator!r}"
        found = _SEPARATORS[separator]
        return found, _convert(path, f"import pandas; pandas.read_csv({{0}}, dtype=str{options}).to_parquet({{1}})")
    return "plain text", "write its rows as Parquet, or as CSV with a first line that names the columns"


def _encoding(head: bytes) -> str | None:
    """Return the encoding of what can only be text, else None."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if any(byte < 32 and byte not in b"\t\n\v\f\r\x1b" for byte in head[:4096]):
        return None
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # not a character that the end of the head cuts
            return "cp1252"
    return "utf-8"


def _convert(path: Path, code: str) -> str:
    """Return what to do: one command, whatever is in the file's name."""
    target = path.with_suffix(".parquet") if path.suffix != ".parquet" else path.with_name(f"{path.stem}.converted.parquet")
    body = code.format("sys.argv[1]", "sys.argv[2]")
    return f'convert it: python -c "import sys; {body}" {_quoted(path)} {_quoted(target)}'


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
