"""Which files a folder, a glob or a table means: all of a catalogue, or a line that names what is not read."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import given
from hypothesis import strategies as st

from tagger.catalog.manifest import Manifest, open_manifest
from tagger.catalog.manifest_files import choose_names
from tagger.catalog.outputs import choose_output
from tagger.catalog.sandbox import read_elsewhere
from tagger.core.errors import ManifestError, UsageError

INLINE = {
    "storageType": "i",
    "pathOrInlineDv": "^Bg9^0rr910000000000iXQKl0rr91000315c8Xg00031",
    "sizeInBytes": 36,
    "cardinality": 2,
}
ELSEWHERE = {"storageType": "u", "pathOrInlineDv": "ab^-aqEH.-t@S}K{vb[*k^", "offset": 4, "sizeInBytes": 40, "cardinality": 6}


def write(path: Path, **columns: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image": [path.name], **columns}), path)


def read(manifest: Manifest) -> pa.Table:
    return pa.concat_tables([table for _, table in manifest.read(manifest.shards())])


def images(name: str | Path) -> list[str]:
    return read(open_manifest(str(name)))["image"].to_pylist()


def test_a_folder_is_read_with_its_sub_folders_and_what_is_not_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    night = tmp_path / "night"
    for name in ("b.PARQ", "a.parquet", "c.Pq", "a/z.parquet", "products.parquet/part-0.parquet", "deep/er/d.parquet"):
        write(night / name)
    for name in ("_old/e.parquet", "_f.parquet", ".hidden/g.parquet", ".h.parquet"):
        write(night / name)
    for name in ("i.tagged.parquet", "deep/j.rejected.parquet", "i.tagged.run/parts/000000.parquet", "k.run/l.parquet"):
        write(night / name)
    for name in ("m.csv", "deep/n.JSONL", "o.parquet.gz", "p.parquet.tmp", "_SUCCESS", ".a.parquet.crc", "photo.jpg", "read.me"):
        (night / name).write_text("x")
    read_elsewhere(night)
    manifest = open_manifest(str(night))
    expected = ["z.parquet", "a.parquet", "b.PARQ", "c.Pq", "d.parquet", "part-0.parquet"]
    assert read(manifest)["image"].to_pylist() == expected
    assert manifest.folder == night
    line = (
        f"{night}: 6 files are read; not read: _f.parquet (hidden by its _), _old/e.parquet (hidden by its _), "
        "deep/j.rejected.parquet "
        "(a result of tagger), deep/n.JSONL (not Parquet by its name), i.tagged.parquet (a result of tagger) and 4 more"
    )
    assert (manifest.notes, caplog.messages) == ((line,), [line])


def test_links_are_followed_and_a_circle_of_them_ends(tmp_path: Path):
    write(tmp_path / "night" / "a.parquet")
    write(tmp_path / "elsewhere" / "b.parquet")
    (tmp_path / "night" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "again").symlink_to(tmp_path / "night")
    assert images(tmp_path / "night") == ["a.parquet", "b.parquet"]
    (tmp_path / "night" / "gone.parquet").symlink_to(tmp_path / "nothing")
    with pytest.raises(ManifestError, match="gone.parquet: expected a Parquet file, found no such file"):
        images(tmp_path / "night")


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "a.parquet")
    with pytest.raises(ManifestError, match="a.parquet: expected a Parquet file, found a pipe or a device"):
        images(tmp_path)


def test_a_glob_reads_what_it_matches_but_no_results_of_tagger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("a.data", "b.parquet", "b.tagged.parquet", "_c.parquet", "sub/d.parquet", "sub/d.rejected.parquet"):
        write(tmp_path / name)
    (tmp_path / "sub" / "e.csv").write_text("x")
    monkeypatch.chdir(tmp_path)
    assert images("*.parquet") == images("./*.parquet") == images(f"../{tmp_path.name}/*.parquet") == ["b.parquet"]
    assert images("[ab].*") == ["a.data", "b.parquet"]
    assert images("**/*.parquet") == ["b.parquet", "d.parquet"]
    assert images("s*") == ["d.parquet"]
    assert images("*.tagged.parquet") == ["b.tagged.parquet"]
    assert images("b.tagged.parquet") == ["b.tagged.parquet"]


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (["m.csv", "x.tagged.parquet"], "found only m.csv (not Parquet by its name), x.tagged.parquet (a result of tagger)"),
        (["photo.jpg"], "expected Parquet files in this folder, found no .parquet, no .parq, no .pq"),
        ([], "expected Parquet files in this folder, found no .parquet, no .parq, no .pq"),
    ],
    ids=["others", "images", "nothing"],
)
def test_a_folder_without_a_manifest_says_what_there_is(tmp_path: Path, files: list[str], found: str):
    for name in files:
        (tmp_path / name).write_text("x")
    with pytest.raises(ManifestError) as caught:
        open_manifest(str(tmp_path))
    assert found in str(caught.value)


@given(
    names=st.lists(
        st.lists(st.sampled_from(["a", "_b", "k=v", "_k=v", ".c", "d.parquet", "e.run", "parts"]), max_size=3)
        .map("/".join)
        .flatmap(
            lambda folder: st.sampled_from(["x.parquet", "y.PQ", "_z.parquet", "x.tagged.parquet", "m.csv", "m.txt"]).map(
                lambda file: f"{folder}/{file}".lstrip("/")
            )
        ),
        max_size=8,
        unique=True,
    )
)
def test_no_name_is_lost_without_a_word(names: list[str]):
    """But for dot files and the parts of an unfinished run."""
    try:
        chosen, left_out = choose_names("night", names, from_glob=False)
    except ManifestError:
        return
    assert chosen == sorted(chosen, key=lambda name: name.split("/"))
    silent = {name for name in names if ".c" in name.split("/") or ("e.run" in name.split("/"))}
    said = {line.rpartition(" (")[0] for line in left_out}
    assert set(names) - silent <= set(chosen) | said <= set(names)
    assert not set(chosen) & said


def test_folders_named_key_and_value_are_columns(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    hive = tmp_path / "hive"
    for name in (
        "category=a%20b/size=7/_k=x",
        "category=__HIVE_DEFAULT_PARTITION__/size=-12",
        "category=gr%C3%B6%C3%9Fe%2Fx/size=0",
    ):
        write(hive / name / "part.parquet")
    for name in (hive, hive / "*" / "*" / "**" / "*.parquet", hive / "category=*"):
        read_elsewhere(name)
        table = read(open_manifest(str(name)))
        assert table.schema.names == ["image", "category", "size", "_k"]
        assert [table.schema.field(index).type for index in (1, 2, 3)] == [pa.string(), pa.int32(), pa.string()]
        assert table.drop_columns("image").to_pylist() == [
            {"category": None, "size": -12, "_k": None},
            {"category": "a b", "size": 7, "_k": "x"},
            {"category": "größe/x", "size": 0, "_k": None},
        ]
    one = open_manifest(str(hive / "category=a%20b"))
    assert read(one).to_pylist() == [{"image": "part.parquet", "category": "a b", "size": 7, "_k": "x"}]
    assert [part.to_pylist() for part in one.column("category")] == [["a b"]]
    assert open_manifest(str(hive / "category=a%20b/size=7/_k=x/part.parquet")).schema.names == ["image"]  # that very file
    assert caplog.messages == []


@pytest.mark.parametrize(("value", "kind"), [("007", "string"), ("2147483648", "string"), ("1.5", "string"), ("+1", "string")])
def test_a_partition_keeps_its_spelling_where_a_number_would_lose_it(tmp_path: Path, value: str, kind: str):
    for folder in (value, "1"):
        write(tmp_path / f"k={folder}" / "part.parquet")
    table = read(open_manifest(str(tmp_path)))
    assert (str(table.schema.field("k").type), sorted(table["k"].to_pylist())) == (kind, sorted([value, "1"]))


def test_a_partition_column_may_stand_in_the_file_too_with_the_same_value(tmp_path: Path):
    for value in ("1", "2"):
        write(tmp_path / "same" / f"k={value}" / "part.parquet", k=[int(value)])
        write(tmp_path / "text" / f"k={value}" / "part.parquet", k=[value])
        write(tmp_path / "other" / f"k={value}" / "part.parquet", k=["1"])
        write(tmp_path / "word" / f"k=x{value}" / "part.parquet", k=[1])
    assert read(open_manifest(str(tmp_path / "same")))["k"].combine_chunks().equals(pa.array([1, 2]))
    assert read(open_manifest(str(tmp_path / "text")))["k"].to_pylist() == ["1", "2"]
    for folder, found in {
        "other": "k=2/part.parquet: column k: expected 2 in every row, as its folder says",
        "word": "column k: ",
    }.items():
        with pytest.raises(ManifestError, match=found):
            read_elsewhere(tmp_path / folder)


@pytest.fixture
def delta(tmp_path: Path) -> Path:
    """A table of four versions: three files written, one rewritten without a row, one whole partition removed."""
    table = tmp_path / "lake" / "table"
    rows = {"image": ["a", "b", "c", "d"], "category": ["x y", "x y", "ä/z", None], "n": [1, 2, 3, 4]}
    write_deltalake(table, pa.table(rows), partition_by=["category"])
    DeltaTable(table).delete("n = 1")
    DeltaTable(table).delete("category = 'ä/z'")
    write_deltalake(table, pa.table({"image": ["e"], "category": ["new"], "n": [5]}), mode="append")
    assert len(list(table.rglob("*.parquet"))) > len(DeltaTable(table).file_uris())
    return table


def test_a_delta_table_is_read_as_its_current_rows(delta: Path):
    read_elsewhere(delta)
    rows = sorted(read(open_manifest(str(delta))).to_pylist(), key=lambda row: row["n"])
    assert rows == [
        {"image": "b", "n": 2, "category": "x y"},
        {"image": "d", "n": 4, "category": None},
        {"image": "e", "n": 5, "category": "new"},
    ]


def test_rows_that_a_table_has_deleted_are_read_by_no_name(delta: Path, tmp_path: Path):
    file = next(delta.rglob("*.parquet"))
    for name in (file, file.parent, delta / "*" / "*.parquet", delta / "category=*", delta.parent, tmp_path / "**" / "*.parquet"):
        with pytest.raises(
            ManifestError, match=f"found the Delta table {delta}, which also holds rows that it has deleted; name that"
        ):
            open_manifest(str(name))


def test_a_delta_table_without_its_library_names_the_extra(delta: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "deltalake", None)
    with pytest.raises(
        ManifestError, match=r"found a Delta table, and no library that reads its log; pip install 'tagger\[delta\]'"
    ):
        open_manifest(str(delta))


def test_a_delta_table_whose_rows_are_not_those_of_its_files_is_refused(tmp_path: Path):
    mapping, vectors, outside, broken = (tmp_path / name for name in ("mapping", "vectors", "outside", "broken"))
    for table in (mapping, vectors, outside, broken):
        write_deltalake(table, pa.table({"image": ["a"]}))
    log = "_delta_log/00000000000000000000.json"
    text = (mapping / log).read_text()
    (mapping / log).write_text(
        text.replace(
            '"configuration":{}', '"configuration":{"delta.columnMapping.mode":"name","delta.columnMapping.maxColumnId":"1"}'
        )
        .replace('"minReaderVersion":1,"minWriterVersion":2', '"minReaderVersion":2,"minWriterVersion":5')
        .replace(
            '\\"metadata\\":{}',
            '\\"metadata\\":{\\"delta.columnMapping.id\\":1,\\"delta.columnMapping.physicalName\\":\\"col-1\\"}',
        )
    )
    with pytest.raises(ManifestError, match="found column mapping; export its rows to Parquet"):
        open_manifest(str(mapping))
    protocol = (
        '"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["deletionVectors"],"writerFeatures":["deletionVectors"]'
    )
    text = (vectors / log).read_text().replace('"minReaderVersion":1,"minWriterVersion":2', protocol)
    (vectors / log).write_text(text)
    assert images(vectors) == ["a"]  # they may be used, and are not
    for vector in (INLINE, ELSEWHERE):
        (vectors / log).write_text(text.replace('"dataChange":true', f'"dataChange":true,"deletionVector":{json.dumps(vector)}'))
        with pytest.raises(ManifestError, match=r"found rows deleted by deletion vectors \(REORG TABLE"):
            open_manifest(str(vectors))
    (outside / log).write_text((outside / log).read_text().replace('"path":"part-', '"path":"../other/part-'))
    with pytest.raises(ManifestError, match="expected a Delta table's files in its folder, found .*other/part-"):
        open_manifest(str(outside))
    (broken / log).write_text("{nonsense")
    with pytest.raises(ManifestError, match="expected a Delta table, found a log that cannot be read: "):
        open_manifest(str(broken))


@pytest.mark.parametrize(
    ("mark", "kind"), [("metadata/v3.metadata.json", "Iceberg"), (".hoodie/hoodie.properties", "Hudi")], ids=["Iceberg", "Hudi"]
)
def test_other_tables_are_refused_by_their_names(tmp_path: Path, mark: str, kind: str):
    table = tmp_path / "lake" / "table"
    write(table / "data" / "k=1" / "part.parquet")
    (table / mark).parent.mkdir()
    (table / mark).write_text("{}")
    for name in (
        table,
        table.parent,
        table / "data",
        table / "data" / "k=1" / "part.parquet",
        table / "data" / "*" / "*.parquet",
    ):
        with pytest.raises(ManifestError, match=f"found the {kind} table {table}, which also holds .* export its current rows"):
            open_manifest(str(name))
    write(tmp_path / "plain" / "metadata" / "part.parquet")  # a folder that only has that name
    assert images(tmp_path / "plain") == ["part.parquet"]


def test_no_result_is_written_where_the_next_run_would_read(tmp_path: Path):
    write(tmp_path / "night" / "k=1" / "part.parquet")
    (tmp_path / "night" / "out").mkdir()
    for name in ("night", "night/k=*", "night/**/*.parquet", "n*/*/*.parquet"):
        manifest = open_manifest(str(tmp_path / name))
        with pytest.raises(UsageError, match="would be read as input next time"):
            choose_output(manifest, [], tmp_path / "night" / "k=1" / "o.parquet", False, False)
        beside = tmp_path / "o.parquet"
        assert choose_output(manifest, [], beside, False, False) == beside
    with pytest.raises(UsageError, match="would be read as input next time"):
        choose_output(open_manifest(str(tmp_path / "night")), [], tmp_path / "night" / "out" / "o.parquet", False, False)
