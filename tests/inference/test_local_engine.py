"""Row order and count, whatever the images, the shards and the workers."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagger.cache.byte_cache import ByteCache
from tagger.cache.embedding_cache import EmbeddingCache
from tagger.catalog.manifest import open_manifest
from tagger.catalog.schemas import EMBEDDINGS_KEY, result_schema
from tagger.core.moments import Moments
from tagger.core.types import ImagePolicy
from tagger.images import file_versions
from tagger.images.reading import Reading
from tagger.images.workers import start_method
from tagger.inference.bad_images import BadImages
from tagger.inference.local_engine import LocalEngine, Stages, preprocessings_of
from tagger.inference.predictor import Predictor

GOOD, MISSING, TRUNCATED, NO_IMAGE, NULL = "0000.png", "none.png", "truncated.png", "page.png", None


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    folder = tmp_path_factory.mktemp("images")
    good = (pictures / GOOD).read_bytes()
    (folder / GOOD).write_bytes(good)
    (folder / TRUNCATED).write_bytes(good[: len(good) // 2])
    (folder / NO_IMAGE).write_text("<html>")
    return folder


def tag(
    images: list[str | None],
    root: Path,
    predictor: Predictor,
    workers: int = 0,
    limit: int | None = None,
    cached: Path | None = None,
    stop_after: int | None = None,
    start_method: str = start_method(),
) -> tuple[pa.Table, Stages]:
    path = root / "manifest.parquet"
    pq.write_table(pa.table({"image": pa.array(images, pa.string()), "row": range(len(images))}), path)
    manifest = dataclasses.replace(open_manifest(str(path)), bytes_per_row=1 << 30)  # shards of 64 rows
    schema = result_schema(manifest.schema, ["category"], {})
    done: list[int] = []

    def advance(rows: int) -> None:
        done.append(rows)
        if stop_after is not None and sum(done) >= stop_after:
            raise KeyboardInterrupt

    shards = list(manifest.shards(limit))
    policy = ImagePolicy(roots=(root.resolve(),))
    with TemporaryDirectory() as folder:
        dimension = predictor.encoder.dimension
        cache = EmbeddingCache(Path(cached or folder), "sample", dimension=dimension, dtype=predictor.dtype, limit=1 << 30)
        preprocessings = preprocessings_of(predictor, None)
        reading = Reading(policy=policy, preprocessings=preprocessings, workers=workers, start_method=start_method)
        errors = ByteCache(Path(cached or folder), "errors", limit=1 << 30)
        engine = LocalEngine(predictor, cache, reading, batch_size=4, bad_images=BadImages(errors))
        tagged = list(engine.tag(manifest, schema, shards, advance))
        cache.close()
        errors.close()
    assert [shard for shard, *_ in tagged] == shards
    table = pa.concat_tables([table for _, table, _ in tagged])
    sketches = np.concatenate([sketches for *_, sketches in tagged])
    assert np.isnan(sketches[:, 0]).tolist() == [status == "error" for status in table["tag_status"].to_pylist()]
    assert sum(done) == len(table)
    return table, engine.stages


@given(
    images=st.lists(st.sampled_from([GOOD, MISSING, TRUNCATED, NO_IMAGE, NULL]), min_size=1, max_size=150).filter(any),
    limit=st.integers(1, 150),
)
@settings(max_examples=30, deadline=None)
def test_one_row_out_for_every_row_in(root: Path, predictor: Predictor, images: list[str | None], limit: int):
    rows = min(limit, len(images))
    table, stages = tag(images, root, predictor, limit=limit)
    assert table["row"].to_pylist() == list(range(rows))
    wanted = {GOOD: None, MISSING: "missing", TRUNCATED: "truncated", NO_IMAGE: "not-an-image", NULL: "missing"}
    codes = [reason and reason.split(":")[0] for reason in table["tag_reason"].to_pylist()]
    assert codes == [wanted[image] for image in images[:rows]]
    labels = table["category_label"].to_pylist()
    assert [label is None for label in labels] == [code is not None for code in codes]
    assert stages.encoded_images == min(codes.count(None), 1)  # it is the same image each time
    for top in table["category_top"].to_pylist():
        if top is not None:
            confidences = [item["confidence"] for item in top]
            assert confidences == sorted(confidences, reverse=True)
            assert abs(sum(confidences) - 1) < 1e-5


def test_what_a_stopped_run_has_encoded_is_not_encoded_again(predictor: Predictor, pictures: Path, tmp_path: Path):
    names = [f"{number:04d}.png" for number in range(70)]
    for name in names:
        (tmp_path / name).write_bytes((pictures / name).read_bytes())
    with pytest.raises(KeyboardInterrupt):
        tag(names, tmp_path, predictor, cached=tmp_path / "cache", stop_after=40)
    for encoded in (70 - 32, 0):
        assert tag(names, tmp_path, predictor, cached=tmp_path / "cache")[1].encoded_images == encoded


def test_where_all_is_known_no_process_is_started_to_decode(
    predictor: Predictor, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(file_versions, "SETTLED_NS", 0)
    names = [f"{number:04d}.png" for number in range(70)]
    for name in names:
        (tmp_path / name).write_bytes((pictures / name).read_bytes())
    first, _ = tag(names, tmp_path, predictor, cached=tmp_path / "cache")
    again, stages = tag(names, tmp_path, predictor, workers=2, cached=tmp_path / "cache", start_method="no such method")
    assert again.equals(first)
    assert again.schema.metadata == first.schema.metadata
    assert stages.encoded_images == 0
    (tmp_path / names[69]).write_bytes((pictures / names[0]).read_bytes())  # in the second of two shards
    changed, stages = tag(names, tmp_path, predictor, workers=1, cached=tmp_path / "cache")
    assert changed.slice(0, 69).equals(first.slice(0, 69))
    assert changed["category_top"][69] == first["category_top"][0]
    assert stages.encoded_images == 0
    (tmp_path / "new.png").write_bytes((pictures / "0100.png").read_bytes())
    with pytest.raises(ValueError, match="no such method"):
        tag([*names, "new.png"], tmp_path, predictor, workers=2, cached=tmp_path / "cache", start_method="no such method")


def test_what_is_known_to_be_no_image_starts_no_process(
    root: Path, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(file_versions, "SETTLED_NS", 0)
    names = [GOOD, TRUNCATED, NO_IMAGE, MISSING, NULL]
    first, stages = tag(names, root, predictor, cached=tmp_path)
    assert stages.errors == 4
    again, stages = tag(names, root, predictor, workers=2, cached=tmp_path, start_method="no such method")
    assert again.equals(first)
    assert stages.errors == 4


def test_a_part_has_the_moments_of_its_embeddings(root: Path, predictor: Predictor, pictures: Path):
    table, _ = tag([GOOD, MISSING, GOOD], root, predictor)
    once, _ = tag([GOOD], root, predictor)
    moments, one = (Moments.from_json(found.schema.metadata[EMBEDDINGS_KEY]) for found in (table, once))
    assert (moments.rows, one.rows) == (2, 1)
    assert moments.sums.tolist() == (2 * one.sums).tolist()
    assert one.sums @ one.sums == pytest.approx(1, abs=1e-3)


def test_a_run_of_nothing_but_bad_images_is_a_normal_run(root: Path, predictor: Predictor):
    table, stages = tag([MISSING, TRUNCATED, NO_IMAGE] * 5, root, predictor)
    assert table["tag_status"].to_pylist() == ["error"] * 15
    assert table["category_top"].null_count == 15
    assert stages.encoded_images == 0


def test_an_images_tags_do_not_depend_on_its_company_or_the_workers(predictor: Predictor, pictures: Path, tmp_path: Path):
    names = [f"{number:04d}.png" for number in range(70)]
    for name in names:
        (tmp_path / name).write_bytes((pictures / name).read_bytes())
    together, _ = tag(names, tmp_path, predictor)
    helped, _ = tag(names, tmp_path, predictor, workers=2)
    assert helped.equals(together)
    mixed = [name for pair in zip(names, [MISSING] * 70, strict=True) for name in pair]
    among_bad, _ = tag(mixed, tmp_path, predictor)
    assert among_bad["category_top"].combine_chunks().drop_null().equals(together["category_top"].combine_chunks())
