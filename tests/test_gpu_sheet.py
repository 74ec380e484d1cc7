"""The sheet of an accelerator (tests/benchmarks/gpu.py), made on a CPU: it has all its parts, and says what it lacks."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

SCRIPT = Path(__file__).parent / "benchmarks" / "gpu.py"

Tables = dict[str, list[dict[str, str]]]


def read_tables(sheet: str) -> Tables:
    """Return the rows of the sheet's tables, by the head of the first column and the last."""
    found: Tables = {}
    for table in re.findall(r"(?:^\|.*\n)+", sheet, re.MULTILINE):
        heads, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines())
        found[f"{heads[0]}, {heads[-1]}"] = [dict(zip(heads, row, strict=True)) for row in rows]
    return found


def number(cell: str) -> float:
    """Return a cell's figure, the median where there is a range."""
    return float(cell.split(" (")[0].replace(",", ""))


@pytest.fixture(scope="module")
def sheet(tmp_path_factory: pytest.TempPathFactory, pictures: Path, small_clip: Path) -> str:
    photos = tmp_path_factory.mktemp("photos")
    for row in range(10, 20):
        with Image.open(pictures / f"{row:04d}.png") as picture:
            picture.convert("RGB").save(photos / f"{row}.jpg")
    small = ["--count", "64", "--size", "40x48", "--rounds", "1", "--seconds", "0.05", "--largest-batch", "32", "--no-peers"]
    where = ["--photos", photos, "--model", small_clip, "--device", "cpu", "--precisions", "bf16"]
    done = subprocess.run([sys.executable, SCRIPT, *where, *small], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_model_is_measured_in_each_variant_or_a_line_says_why_not(sheet: str):
    tables = read_tables(sheet)
    (rates,) = tables["batch, CUDA graph"]
    assert (rates["batch"], rates["CUDA graph"]) == ("32", "")
    assert "CUDA graph: not measured at 32: RuntimeError: expected an NVIDIA GPU, found cpu." in sheet
    assert number(rates["plain"]) > 0
    parity = {row["variant"]: row for row in tables["precision, labels that change"]}
    measured = ["plain"]
    if "torch.compile: not measured at 32" not in sheet:  # where there is a C++ compiler
        assert number(rates["torch.compile"]) > 0
        measured.append("torch.compile")
    assert list(parity) == measured
    for row in parity.values():
        assert number(row["seconds to the first batch"]) > 0
        assert 0 < number(row["largest difference"]) < 0.02  # bf16 beside fp32
        assert int(row["labels that change"]) <= 3  # of 64


def test_what_comes_before_the_model_is_measured(sheet: str):
    tables = read_tables(sheet)
    assert "copy alone, page-locked: not measured: expected an NVIDIA GPU, found cpu\n" in sheet
    assert [row["memory, batches of 256"] for row in tables["memory, batches of 256, GB/s"]] == ["pageable"]
    assert number(tables["memory, batches of 256, GB/s"][0]["images per second"]) > 0
    resizing = tables[", bytes copied of an image"]
    assert len(resizing) == 3
    assert all(number(row["images per second"]) > 0 for row in resizing)
    assert resizing[2]["bytes copied of an image"] == f"{3 * 40 * 48:,}"
    apart = re.search(r"Embeddings of both in fp32: the largest difference is (\S+); (\d+) of 64 labels change\.", sheet)
    assert apart is not None
    assert float(apart[1]) < 0.02
    assert int(apart[2]) <= 1


def test_the_whole_job_is_set_against_the_least_of_its_parts(sheet: str):
    tables = read_tables(sheet)
    (rates,), (ratios,) = tables["precision, GPU busy, %"], tables["precision, job ÷ open_clip"]
    parts = {part: number(rates[part]) for part in ("model alone", "decode alone", "copy alone")}
    assert rates["precision"] == ratios["precision"] == "bf16"
    assert min(parts.values()) > 0
    assert number(ratios["budget"]) == min(parts.values())
    assert parts[ratios["which is"]] == min(parts.values())
    assert number(ratios["job ÷ budget"]) == pytest.approx(number(rates["whole job"]) / min(parts.values()), abs=0.002)
    assert "open_clip: left out, as --no-peers says." in sheet
    assert "GPU busy: not known" in sheet


def test_the_machine_is_described(sheet: str):
    assert sheet.startswith("## Sheet of cpu\n")
    assert re.search(r"\d+ cores \(.*\), Python \S+, torch \S+, transformers \S+, torchvision \S+, tagger \S+\.\n", sheet)
    assert "64 JPEGs of 40x48, 1 KB on average; model; 2 decoding processes; rounds: 1.\n" in sheet
    assert [row["device"] for row in read_tables(sheet)["device, cpu"]] == ["name", "CUDA"]
