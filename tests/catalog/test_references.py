"""What a value of the image column refers to."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tagger.catalog.manifest import open_manifest
from tagger.catalog.references import as_text
from tagger.core.errors import ManifestError


def refs(folder: Path, column: pa.Array) -> list[tuple[str | None, bytes | None]]:
    path = folder / "manifest.parquet"
    pq.write_table(pa.table({"image": column}), path)
    manifest = open_manifest(str(path))
    read = [ref for shard, table in manifest.read(manifest.shards()) for ref in manifest.image_refs(table, shard.start)]
    assert [ref.row for ref in read] == list(range(len(column)))
    return [(ref.path, ref.data) for ref in read]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()], ids=str)
def test_a_binary_column_of_texts_holds_paths_and_urls(tmp_path: Path, kind: pa.DataType):
    values = [None, b"BMW/1.jpg", "größe 2.jpg\n".encode(), b"https://x/1.jpg ", b"", *[b"a.jpg"] * 97, b"\xff\xd8\xff\xe0"]
    assert refs(tmp_path, pa.array(values, kind)) == [
        (None, None),
        ("BMW/1.jpg", None),
        ("größe 2.jpg\n", None),
        ("https://x/1.jpg", None),
        ("", None),
        *[("a.jpg", None)] * 97,
        (None, b"\xff\xd8\xff\xe0"),  # only the first hundred decide
    ]


def test_a_text_among_embedded_images_is_no_path(tmp_path: Path):
    """Who delivers an image must not be able to deliver the path of another's."""
    values = [b"secret/1.jpg", b"\xff\xd8\xff\xe0", b"secret/2.jpg"]
    assert refs(tmp_path, pa.array(values)) == [(None, value) for value in values]
    assert refs(tmp_path, pa.array([None, b"", b"\x89PNG", b"a.jpg"])) == [
        (None, None),
        (None, b""),
        (None, b"\x89PNG"),
        (None, b"a.jpg"),
    ]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "ICO", "PPM", "TGA", "JPEG2000"])
def test_no_image_is_text(kind: str):
    for mode, size in (("L", (10, 13)), ("RGB", (48, 48))):
        buffer = io.BytesIO()
        Image.new(mode, size, "white").save(buffer, kind)
        assert as_text(buffer.getvalue()) is None


def test_space_around_a_url_is_cut_and_around_a_path_left_for_who_looks_for_the_file(tmp_path: Path):
    values = ["\ufeffhttps://x/1.jpg\r\n", " a.jpg ", "", None]
    assert refs(tmp_path, pa.array(values)) == [("https://x/1.jpg", None), (" a.jpg ", None), ("", None), (None, None)]
    structs = pa.array([{"bytes": None, "path": "s3://b/1.jpg\n"}], pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    assert refs(tmp_path, structs) == [("s3://b/1.jpg", None)]


@pytest.mark.parametrize("kind", [pa.list_(pa.string()), pa.large_list(pa.string()), pa.list_(pa.binary(), 2)], ids=str)
def test_lists_of_images_are_refused_with_what_to_do(tmp_path: Path, kind: pa.DataType):
    with pytest.raises(ManifestError, match=r"image: expected one image in each row, found .*list<.*; write a row for"):
        refs(tmp_path, pa.array([["a.jpg", "b.jpg"]], kind))
