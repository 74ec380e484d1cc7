"""Files that are no Parquet are called by their names, and the line that converts them does so."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import shlex
import sqlite3
import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.orc as orc
import pyarrow.parquet as pq
import pytest

from tagger.catalog.foreign_formats import describe_format
from tagger.catalog.manifest import open_manifest
from tagger.core.errors import ManifestError

ROWS = {"image": ["größe.jpg", "b,c.jpg"], "sku": ["007", "008"]}
TABLE = pa.table(ROWS)
LINES = 'image,sku\ngröße.jpg,007\n"b,c.jpg",008\n'


def write_stream(path: Path) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, TABLE.schema) as writer:
        writer.write_table(TABLE)


def write_sqlite(path: Path) -> None:
    with sqlite3.connect(path) as database:
        pd.DataFrame(ROWS).to_sql("products", database)
    database.close()


@pytest.mark.parametrize(
    ("name", "write", "found"),
    [
        ("a b.csv", lambda path: path.write_text(LINES), "CSV"),
        ("m.parquet", lambda path: path.write_text(LINES), "CSV"),
        ("m.csv", lambda path: path.write_text("\ufeffimage;sku\r\ngröße.jpg;007\r\nb,c.jpg;008\r\n"), "CSV with semicolons"),
        ("m.txt", lambda path: path.write_text("image\tsku\ngröße.jpg\t007\nb,c.jpg\t008\n", "cp1252"), "TSV"),
        ("m.tsv", lambda path: path.write_text("image\tsku\ngröße.jpg\t007\nb,c.jpg\t008\n", "utf-16"), "TSV"),
        ("$(x)'.json", lambda path: path.write_text(json.dumps(pd.DataFrame(ROWS).to_dict("records"))), "JSON"),
        ("m.ndjson", lambda path: path.write_text(pd.DataFrame(ROWS).to_json(orient="records", lines=True)), "JSON lines"),
        ("m.feather", lambda path: feather.write_feather(TABLE, path), "Arrow IPC (Feather)"),
        ("m.arrows", write_stream, "an Arrow IPC stream"),
        ("m.orc", lambda path: orc.write_table(TABLE, path), "ORC"),
        ("m.db", write_sqlite, "an SQLite database"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_table_in_another_format_is_converted_by_the_line_that_is_given(tmp_path: Path, name: str, write, found: str):
    write(tmp_path / name)
    with pytest.raises(ManifestError) as caught:
        open_manifest(str(tmp_path / name))
    said, _, command = str(caught.value).partition("; convert it: ")
    assert said == f"{tmp_path / name}: expected a readable Parquet file, found {found}"
    program, *arguments = shlex.split(command)
    assert program == "python"
    subprocess.run([sys.executable, *arguments], check=True)
    manifest = open_manifest(arguments[-1])
    assert [value for part in manifest.column("image") for value in part.to_pylist()] == ROWS["image"]
    assert [value for part in manifest.column("sku") for value in part.to_pylist()] == ROWS["sku"]  # and not 7


@pytest.mark.parametrize(
    ("name", "data", "found", "remedy"),
    [
        (
            "m.parquet.gz",
            gzip.compress(b"x"),
            "a file packed with gzip",
            "unpack it: gzip -dc < {0}/m.parquet.gz > {0}/m.parquet",
        ),
        ("m.parquet", bz2.compress(b"x"), "a file packed with bzip2", "unpack it: bzip2 -dc < {0}/m.parquet > {0}/m.unpacked"),
        ("m.xz", lzma.compress(b"x"), "a file packed with xz", "unpack it: xz -dc < {0}/m.xz > {0}/m"),
        ("m.zst", b"\x28\xb5\x2f\xfd\x04", "a file packed with Zstandard", "unpack it: zstd -dc < {0}/m.zst > {0}/m"),
        (
            "m.parquet",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "a pointer of Git LFS",
            "fetch the file itself: git lfs pull",
        ),
        ("m", b"\r\n<!DOCTYPE html><html>", "an HTML page, perhaps of a login or an error", "download the file again, signed in"),
        ("m", b"", "an empty file", "write the file again"),
        ("m", bytes(5000), "a file of zeros", "write the file again"),
        ("m", b"\x89PNG\r\n\x1a\n\0\0", "a PNG image", "name a Parquet file with a row for each image"),
        (
            "m",
            b"image\nshirt.jpg\n",
            "plain text",
            "write its rows as Parquet, or as CSV with a first line that names the columns",
        ),
        ("m.parquet", b"PAR1 PARE", "encrypted Parquet", "write it without encryption"),
        ("m", b"PAR1" + bytes(50), "Parquet without its end", "copy it again, or wait until its writer has finished"),
        ("m.pkl", b"\x80\x04\x95\0\0", "", ""),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_files_are_called_by_their_names(tmp_path: Path, name: str, data: bytes, found: str, remedy: str):
    (tmp_path / name).write_bytes(data)
    assert describe_format(tmp_path / name) == ((found, remedy.format(tmp_path)) if found else None)


@pytest.mark.parametrize(("member", "found"), [("xl/workbook.xml", "an Excel file"), ("m.csv", "a zip archive")])
def test_excel_is_told_from_other_archives(tmp_path: Path, member: str, found: str):
    with zipfile.ZipFile(tmp_path / "m.xlsx", "w") as archive:
        archive.writestr(member, "x")
    assert describe_format(tmp_path / "m.xlsx")[0] == found


def test_whole_parquet_and_no_file_are_nothing_else(tmp_path: Path):
    pq.write_table(TABLE, tmp_path / "m.parquet")
    assert describe_format(tmp_path / "m.parquet") is None
    assert describe_format(tmp_path / "none.parquet") is None
