"""A night whose labels and pictures shift: a warning, a gate, and what is kept for the night after."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from jsonschema import Draft202012Validator

import tagger
from tagger.catalog import results
from tagger.catalog.schemas import EMBEDDINGS_KEY
from tagger.core.errors import GateError
from tests.helpers.keywords import keywords

SCHEMA = json.loads((Path(tagger.__file__).parent / "reports" / "summary.schema.json").read_text())
LABELS = ["t-shirt", "trousers", "sneakers"]
ALL = [f"{number:04d}.png" for number in range(150)]


@pytest.fixture
def tag(small_clip: Path, pictures: Path, tmp_path: Path, write_manifest):
    def run(images: list[str], psi: float | None = None, **options: Any) -> dict[str, Any]:
        manifest = write_manifest(images)
        config = {"attribute": [{"name": "kind", "labels": LABELS}], "gates": {} if psi is None else {"max_psi": psi}}
        options = {"image_root": pictures, "workers": 0, "overwrite": True, "cache": tmp_path / "cache", **options}
        with suppress(GateError):  # the summary says the same
            tagger.run(manifest, config, **keywords(model=small_clip, **options))
        summary = json.loads((tmp_path / "manifest.tagged.run" / "summary.json").read_text())
        Draft202012Validator(SCHEMA).validate(summary)
        return summary

    return run


def alarms(summary: dict[str, Any]) -> list[tuple[str, str | None]]:
    return [(one["figure"], one["attribute"]) for one in summary["drift"]["shifts"] if one["alarm"]]


def test_a_night_of_other_pictures_is_told_and_rejected_and_what_is_kept_is_the_published_ones(
    tag, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    kept, output = tmp_path / "manifest.tagged.run" / "embeddings.json", tmp_path / "manifest.tagged.parquet"
    first = tag(ALL, psi=0.1)
    assert first["published"]
    assert [gate["note"] for gate in first["gates"]] == ["there is no earlier result to compare with"]
    before = kept.read_bytes()
    assert EMBEDDINGS_KEY not in pq.read_schema(output).metadata
    labels = pq.read_table(output)["kind_label"].to_pylist()
    one_kind = [name for name, label in zip(ALL, labels, strict=True) if label == "sneakers"]

    with caplog.at_level(logging.WARNING, "tagger"):
        second = tag(one_kind * 3, psi=0.1)
    assert not second["published"]
    assert {("labels", "kind"), ("embeddings", None)} <= set(alarms(second))
    assert [gate["passed"] for gate in second["gates"]] == [False]
    assert f"drift since {output}: kind: the shares of labels have shifted (population stability index " in caplog.text
    assert kept.read_bytes() == before

    # Without the gate it is published, and the night after is compared with it.
    assert tag(one_kind * 3)["published"]
    assert alarms(tag(one_kind * 3)) == []


def test_what_is_compared_and_what_is_not(tag, tmp_path: Path):
    images = [*ALL[:80], "none.png"]
    tag(images)
    limited = tag(images, limit=30, output=tmp_path / "part.parquet", previous=tmp_path / "manifest.tagged.parquet")
    # summary.json is the one of the first run: this one went elsewhere.
    assert limited["drift"]["missing"] == "there is no earlier result to compare with"
    part = json.loads((tmp_path / "part.run" / "summary.json").read_text())
    assert part["drift"]["missing"] == "only the first 30 of 81 rows were tagged"

    again = tag(images, retry_errors=tmp_path / "manifest.tagged.parquet")
    assert again["drift"]["shifts"][-1]["note"] == "the embeddings of all rows of this result are not known"
    assert again["drift"]["labels"]["kind"].keys() == set(LABELS)
    after = tag(images)
    assert after["drift"]["shifts"][-1]["note"] == "the embeddings of all rows of the earlier result are not known"


def test_a_continued_run_knows_the_embeddings_of_all_rows(tag, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tagger.catalog.manifest.SHARD_BYTES", 1)
    tag(ALL[:140])
    whole = (tmp_path / "manifest.tagged.run" / "embeddings.json").read_text()
    bytes_of_result = (tmp_path / "manifest.tagged.parquet").read_bytes()
    (tmp_path / "manifest.tagged.parquet").unlink()
    written = results.Results.write

    def stops(self: results.Results, shard: Any, table: Any, sketches: Any) -> None:
        if shard.number == 1:
            raise KeyboardInterrupt
        written(self, shard, table, sketches)

    monkeypatch.setattr(results.Results, "write", stops)
    with pytest.raises(KeyboardInterrupt):
        tag(ALL[:140])
    monkeypatch.setattr(results.Results, "write", written)
    tag(ALL[:140])
    assert (tmp_path / "manifest.tagged.parquet").read_bytes() == bytes_of_result
    assert (tmp_path / "manifest.tagged.run" / "embeddings.json").read_text() == whole
