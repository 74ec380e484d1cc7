"""Hostile Parquet files cost one line and a limited process, never this one; the short form of fuzz_parquet.py."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import parquet_mutations as mutations
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tagger
from tagger.catalog.sandbox import read_elsewhere, start_reading
from tagger.cli.main import main
from tagger.core.errors import ManifestError

FUZZER = Path(__file__).with_name("fuzz_parquet.py")


def test_hundreds_of_broken_files_are_refused_or_read(tmp_path: Path):
    command = [sys.executable, str(FUZZER), "--count", "200", "--seed", "20", "--keep", str(tmp_path / "failures")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    *_, last = done.stdout.splitlines()
    assert last.startswith("210 files: {'refused': ")
    assert int(re.search(r"peak memory (\d+) MB", last)[1]) < 1000


@pytest.fixture(scope="module")
def aborting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a file whose footer gives a column chunk another type than its column: pyarrow ends the process."""
    path = tmp_path_factory.mktemp("aborting") / "manifest.parquet"
    pq.write_table(pa.table({"image": ["a.jpg"] * 10}), path, compression="none")
    start, footer = mutations.footer_of(data := path.read_bytes())
    kind = next(number for number in mutations.Thrift(footer, 0).numbers if number.path == (4, 0, 1, 0, 3, 1))
    path.write_bytes(mutations.with_footer(data[:start], mutations.replace(footer, {kind: 5})))
    return path


def test_a_file_that_ends_its_reader_does_not_end_a_run(aborting: Path, monkeypatch, capsys):
    reading = "import sys, pyarrow.parquet as pq; pq.ParquetFile(sys.argv[1]).metadata.row_group(0).column(0).statistics"
    assert subprocess.run([sys.executable, "-c", reading, str(aborting)], capture_output=True, check=False).returncode == -6
    for arguments in (["run", str(aborting), "--quiet"], ["evaluate", str(aborting)]):
        monkeypatch.setattr(sys, "argv", ["tagger", *arguments])
        with pytest.raises(SystemExit, match="65"):
            main()
        assert capsys.readouterr().err.startswith(
            f"tagger: {aborting}: expected a readable Parquet file, found one that crashes its reader (SIGABRT: "
        )
    with pytest.raises(ManifestError, match="crashes its reader"):
        tagger.evaluate(aborting)


def test_a_few_kilobytes_do_not_unpack_to_gigabytes(tmp_path: Path):
    path = tmp_path / "manifest.parquet"
    images = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), pa.array(["x" * (1 << 20)]))
    pq.write_table(pa.table({"image": images}), path, store_schema=False)  # 100 GB, as strings
    assert path.stat().st_size < 100_000
    with pytest.raises(ManifestError, match="expected a Parquet file whose shards fit in 512 MB") as caught:
        tagger.run(path)
    assert "\n" not in str(caught.value)


def test_more_rows_than_a_file_can_honestly_have_are_refused(tmp_path: Path):
    path = tmp_path / "manifest.parquet"
    pq.write_table(pa.table({"image": pa.nulls(20_000_000, pa.string())}), path)
    with pytest.raises(ManifestError, match="expected at most 100 rows a byte, found 20,000,000 rows in"):
        read_elsewhere(str(path))


def test_honest_files_that_pack_well_are_read(tmp_path: Path):
    rows = 300_000
    columns = {"image": pa.array([f"{number % 3}.jpg" for number in range(rows)]), "shop": pa.array(["a shop"] * rows)}
    path = tmp_path / "manifest.parquet"
    pq.write_table(pa.table(columns | {"nothing": pa.nulls(rows)}), path, compression="zstd")
    assert path.stat().st_size < rows
    read_elsewhere(str(path))
    pictures = pa.table({"image": [bytes(10_000_000)] * 12})  # embedded, 10 MB each: what fits in no small limit
    pq.write_table(pictures, path, compression="none", use_dictionary=False)
    read_elsewhere(str(path))


def test_values_that_are_no_text_are_found_before_the_run(tmp_path: Path):
    path = tmp_path / "manifest.parquet"
    pq.write_table(pa.table({"image": ["a.jpg", "wrong.jpg"]}), path, compression="none", write_statistics=False)
    path.write_bytes(path.read_bytes().replace(b"wrong", b"\xff\xfe\xfd\xfc\xfb"))
    with pytest.raises(ManifestError, match="found: .*UTF8"):
        tagger.run(path)


def test_a_check_that_nobody_waits_for_ends_with_the_process(tmp_path: Path):
    path = tmp_path / "manifest.parquet"
    pq.write_table(pa.table({"image": ["a.jpg"]}), path)
    start_reading(str(path))
    read_elsewhere(str(path))
    script = (
        "import sys, time\nfrom tagger.catalog import sandbox\nsandbox.start_reading(sys.argv[1])\n"
        "print(next(iter(sandbox._started.values())).pid)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert not Path(f"/proc/{done.stdout.strip()}/exe").exists()
