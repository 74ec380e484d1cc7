"""Same device, same job: the same bytes, however many processes decode and however many images travel together."""

from __future__ import annotations

from pathlib import Path

import pytest

import tagger

SAMPLE = Path(__file__).parents[2] / "sample_catalog"
ROWS = 96  # three times what the encoder takes at once; among them are batches of every size that does not divide it


def tag(output: Path, workers: int, batch_size: int) -> bytes:
    manifest = SAMPLE / "manifest.parquet"
    return tagger.run(
        manifest,
        output=tagger.Output(report=False, path=output, limit=ROWS),
        machine=tagger.Machine(workers=workers, batch_size=batch_size),
        cache=False,
    ).output.read_bytes()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return tag(tmp_path_factory.mktemp("alone") / "out.parquet", workers=0, batch_size=1)


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("batch_size", [1, 7, 32, 50])
def test_workers_and_batches_do_not_show_in_the_bytes(workers: int, batch_size: int, alone: bytes, tmp_path: Path):
    assert tag(tmp_path / "out.parquet", workers, batch_size) == alone
