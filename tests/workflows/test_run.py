"""A whole run through the Python API, on real images with a real model."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tagger
from tagger.core.errors import ConfigError, ManifestError, StoppedError, UsageError
from tagger.core.lock import hold
from tests.helpers.keywords import keywords

TAGS = ["kind_label", "kind_confidence", "kind_top", "kind_source", "tag_status", "tag_reason"]
KIND = {"attribute": [{"name": "kind", "labels": ["shirt", "dress", "shoes"]}]}


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> tagger.RunSummary:
    sample = Path(__file__).parents[2] / "sample_catalog"
    output = tmp_path_factory.mktemp("sample") / "tagged.parquet"
    return tagger.run(sample / "manifest.parquet", output=tagger.Output(report=False, path=output), cache=False)


def test_the_sample_catalogue_is_tagged_row_by_row(catalogue: tagger.RunSummary):
    manifest = pq.read_table(Path(__file__).parents[2] / "sample_catalog" / "manifest.parquet")
    results = catalogue.read()
    assert results.num_rows == 600
    assert results.select(manifest.schema.names).equals(manifest)
    bad = results.filter(pa.compute.equal(results["tag_status"], "error"))
    assert sorted(reason.split(":")[0] for reason in bad["tag_reason"].to_pylist()) == ["missing", "not-an-image", "truncated"]
    assert (catalogue.rows, catalogue.errors.total(), catalogue.encoded_images) == (600, 3, 597)
    assert catalogue.tagged + catalogue.review == 597
    assert results["category_label"].null_count == results["department_label"].null_count == 3


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_the_precision_may_be_chosen_for_a_run(precision, small_clip, pictures, write_manifest):
    """The same labels on 99.9 % of the rows (issue 4); of these, on all."""
    names = [f"{number:04d}.png" for number in range(100)]
    manifest = write_manifest(names)
    options = {"labels": ["shirt", "dress", "shoes"], "model": small_clip, "image_root": pictures, "workers": 0}
    chosen = tagger.run(manifest, **keywords(path="chosen.parquet", precision=precision, **options))
    assert chosen.settings["model"]["precision"] == precision
    assert chosen.read()["category_label"].equals(
        tagger.run(manifest, **keywords(path="auto.parquet", **options)).read()["category_label"]
    )


def test_an_unknown_precision_is_refused(write_manifest):
    with pytest.raises(ConfigError, match="--precision: input should be 'auto', .*, found 'fp8'"):
        tagger.run(write_manifest(["a.png"]), precision="fp8")


def test_the_sample_catalogue_is_tagged_well(catalogue: tagger.RunSummary):
    category = catalogue.evaluation.attributes["category"]
    assert category.accuracy >= 0.85
    assert category.labelled_rows + category.error_rows == pq.read_table(catalogue.output)["category"].drop_null().length()
    assert catalogue.evaluation.attributes["department"].accuracy >= 0.85


def test_the_summary_file_holds_the_documented_keys(catalogue: tagger.RunSummary):
    summary = json.loads((catalogue.output.parent / "tagged.run" / "summary.json").read_text())
    documented = "schema_version run_id started settings model rows tagged review errors encoded_images images_per_second "
    documented += "stage_seconds busy peak_memory_bytes evaluation output confidence fallback_images "
    documented += "ended exit_code published previous changed_labels drift gates guarantees"
    assert set(summary) == set(documented.split())
    assert summary["evaluation"] == json.loads(json.dumps(tagger.evaluate(catalogue.output).to_dict()))
    assert summary["model"].keys() == {"name", "revision", "fingerprint", "backend", "precision", "device"}
    assert summary["images_per_second"] > 0


def test_the_same_run_writes_the_same_bytes(catalogue: tagger.RunSummary, tmp_path: Path):
    sample = Path(__file__).parents[2] / "sample_catalog"
    for workers in (0, 1):
        tagger.run(
            sample / "manifest.parquet",
            output=tagger.Output(report=False, path=tmp_path / "again.parquet", overwrite=True),
            machine=tagger.Machine(workers=workers),
        )
        assert (tmp_path / "again.parquet").read_bytes() == catalogue.output.read_bytes()


def test_photos_are_tagged_and_evaluated(shared_data: Path, small_clip: Path, tmp_path: Path):
    """The study's three classes on real photos, with the sample model."""
    photos = shared_data / "clothing" / "validation"
    paths = [str(path.relative_to(photos)) for path in sorted(photos.glob("*/*.jpg"))]
    pq.write_table(pa.table({"image": paths, "category": [path.split("/")[0] for path in paths]}), tmp_path / "photos.parquet")
    summary = tagger.run(tmp_path / "photos.parquet", labels=["shirt", "dress", "shoes"], model=small_clip, image_root=photos)
    study = summary.evaluation.attributes["category"]
    assert (summary.rows, study.labelled_rows, study.unknown_rows) == (341, 87, 254)
    assert study.accuracy >= 0.8
    assert "category: accuracy" in summary.to_text()


def test_embedded_images_and_paths_give_the_same_tags(small_clip, pictures, write_manifest):
    names = [f"{number:04d}.png" for number in range(8)]
    contents = [(pictures / name).read_bytes() for name in names]
    struct = pa.array(
        [{"bytes": data, "path": None} for data in contents], pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    )
    tables = [
        tagger.run(write_manifest(column, name=f"{kind}.parquet"), KIND, model=small_clip, image_root=pictures)
        .read()
        .select(TAGS)
        for kind, column in (("path", names), ("bytes", contents), ("struct", struct))
    ]
    assert tables[0]["tag_status"].to_pylist() == ["tagged"] * 8
    assert tables[1].equals(tables[0])
    assert tables[2].equals(tables[0])


def test_in_place_replaces_the_tags_and_nothing_else(small_clip, pictures, write_manifest):
    manifest = write_manifest(["0000.png", "none.png"], note=["a", "b"])
    tagger.run(manifest, KIND, output=tagger.Output(report=False, in_place=True), model=small_clip, image_root=pictures)
    once = manifest.read_bytes()
    assert pq.read_schema(manifest).names == ["image_path", "note", *TAGS]
    tagger.run(manifest, KIND, output=tagger.Output(report=False, in_place=True), model=small_clip, image_root=pictures)
    assert manifest.read_bytes() == once
    other = {"attribute": [{"name": "sort", "labels": ["hat", "bag"]}]}
    tagger.run(manifest, other, output=tagger.Output(report=False, in_place=True), model=small_clip, image_root=pictures)
    assert [name for name in pq.read_schema(manifest).names if "kind" in name] == []
    assert pq.read_table(manifest)["note"].to_pylist() == ["a", "b"]


def test_an_existing_result_is_kept_unless_it_may_be_overwritten(small_clip, pictures, write_manifest):
    manifest = write_manifest(["0000.png"])
    summary = tagger.run(manifest, KIND, model=small_clip, image_root=pictures)
    before = summary.output.read_bytes()
    with pytest.raises(UsageError, match="use --overwrite"):
        tagger.run(manifest, model=small_clip, image_root=pictures)
    assert summary.output.read_bytes() == before
    tagger.run(manifest, KIND, output=tagger.Output(report=False, overwrite=True), model=small_clip, image_root=pictures)
    assert summary.output.read_bytes() == before


def test_limit_tags_the_first_rows(small_clip, pictures, write_manifest):
    summary = tagger.run(
        write_manifest([f"000{n}.png" for n in range(9)]),
        KIND,
        output=tagger.Output(report=False, limit=4),
        model=small_clip,
        image_root=pictures,
    )
    assert summary.read()["image_path"].to_pylist() == ["0000.png", "0001.png", "0002.png", "0003.png"]


def test_an_empty_manifest_gives_an_empty_result_without_a_model(write_manifest):
    summary = tagger.run(write_manifest(pa.array([], pa.string())), KIND, model="./no-model-is-loaded")
    assert (summary.rows, summary.read().schema.names) == (0, ["image_path", *TAGS])
    assert summary.read().schema.field("kind_top").type == pa.list_(
        pa.struct([("label", pa.string()), ("confidence", pa.float32())])
    )


def test_a_folder_of_files_becomes_one_result(small_clip, pictures, tmp_path):
    (tmp_path / "parts").mkdir()
    for number in range(3):
        pq.write_table(pa.table({"image": [f"000{number}.png"]}), tmp_path / "parts" / f"{number}.parquet")
    summary = tagger.run(tmp_path / "parts", KIND, model=small_clip, image_root=pictures)
    assert summary.output == tmp_path / "parts.tagged.parquet"
    assert summary.read()["image"].to_pylist() == ["0000.png", "0001.png", "0002.png"]


def test_labels_beat_those_of_the_file_and_keep_its_prompts(small_clip, pictures, write_manifest):
    settings = {"attribute": [{**KIND["attribute"][0], "templates": ["{label}"], "truth_column": "truth"}]}
    manifest = write_manifest(["0000.png"], truth=["hat"])
    summary = tagger.run(manifest, settings, labels=["hat", "bag"], model=small_clip, image_root=pictures)
    (attribute,) = summary.settings["attribute"]
    assert [label["name"] for label in attribute["labels"]] == ["hat", "bag"]
    assert (attribute["name"], attribute["templates"], attribute["truth_column"]) == ("kind", ("{label}",), "truth")


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        (["hat", "bag", None, "hat"], ["bag", "hat"]),
        ([None, None, None, None], ["shirt", "dress", "shoes"]),
        (["hat"] * 4, ["shirt", "dress", "shoes"]),
        ([1, 2, 3, 4], ["shirt", "dress", "shoes"]),
    ],
)
def test_labels_come_from_the_truth_column(small_clip, pictures, write_manifest, values, labels):
    kind = pa.int64() if values[0] == 1 else pa.string()
    manifest = write_manifest(["0000.png"] * 4, label=pa.array(values, kind))
    summary = tagger.run(manifest, model=small_clip, image_root=pictures)
    assert [label["name"] for label in summary.settings["attribute"][0]["labels"]] == labels


def test_more_than_a_hundred_values_are_no_labels(small_clip, pictures, write_manifest):
    manifest = write_manifest(["0000.png"] * 101, category=[f"value {number}" for number in range(101)])
    summary = tagger.run(manifest, output=tagger.Output(report=False, limit=1), model=small_clip, image_root=pictures)
    assert [label["name"] for label in summary.settings["attribute"][0]["labels"]] == ["shirt", "dress", "shoes"]


@pytest.mark.parametrize(
    ("attributes", "error", "words"),
    [
        ([{"name": "kind", "labels": ["a", "b"], "truth_column": "none"}], ConfigError, "found no none among image_path, number"),
        ([{"name": "kind", "labels": ["a", "b"], "truth_column": "number"}], ConfigError, "found int64"),
        ([{"name": "Kind", "labels": ["a", "b"]}], ManifestError, "found Kind_label"),
    ],
)
def test_columns_are_checked_before_the_model_is_loaded(write_manifest, attributes, error, words):
    manifest = write_manifest(["a.png"], number=[1], Kind_label=["x"])
    with pytest.raises(error, match=words):
        tagger.run(manifest, {"attribute": attributes}, model="./none")


def test_labels_for_several_attributes_are_ambiguous(write_manifest):
    settings = {"attribute": [{"name": name, "labels": ["a", "b"]} for name in ("one", "two")]}
    with pytest.raises(UsageError, match="expected one attribute to give labels to, found one, two"):
        tagger.run(write_manifest(["a.png"]), settings, labels=["c", "d"])


def test_evaluate_wants_results_and_their_attributes(catalogue: tagger.RunSummary, small_clip, pictures, write_manifest):
    assert list(tagger.evaluate(catalogue.output, ["department"]).attributes) == ["department"]
    with pytest.raises(UsageError, match="expected attribute colour, found category, department"):
        tagger.evaluate(catalogue.output, ["colour"])
    with pytest.raises(ManifestError, match="expected results of tagger"):
        tagger.evaluate(write_manifest(["a.png"]))
    untold = tagger.run(write_manifest(["0000.png"]), KIND, model=small_clip, image_root=pictures)
    with pytest.raises(UsageError, match="expected an attribute with a truth column, found none"):
        tagger.evaluate(untold.output)


def test_a_second_run_on_the_same_output_ends_at_once_and_says_who_is_there(write_manifest, small_clip, pictures, tmp_path):
    manifest = write_manifest(["0000.png"])
    (tmp_path / "manifest.tagged.run").mkdir()
    with hold(tmp_path / "manifest.tagged.run"), pytest.raises(StoppedError, match=f"found process {os.getpid()} on "):
        tagger.run(manifest, KIND, model=small_clip, image_root=pictures)
    assert tagger.run(manifest, KIND, model=small_clip, image_root=pictures).rows == 1


def test_a_summary_that_cannot_be_written_does_not_deny_the_results(write_manifest, small_clip, pictures, tmp_path):
    manifest = write_manifest(["0000.png"])
    (tmp_path / "manifest.tagged.run" / "summary.json").mkdir(parents=True)
    with pytest.raises(StoppedError, match="expected to write summary.json, found: .*; the results are complete at"):
        tagger.run(manifest, KIND, model=small_clip, image_root=pictures)
    assert pq.read_table(tmp_path / "manifest.tagged.parquet").num_rows == 1


def test_a_folder_that_cannot_be_written_is_one_line(write_manifest, small_clip, pictures, tmp_path):
    manifest = write_manifest(["0000.png"])
    (tmp_path / "manifest.tagged.run").write_text("in the way")
    with pytest.raises(StoppedError, match="expected to write results, found: File exists: .*; nothing was published"):
        tagger.run(manifest, KIND, model=small_clip, image_root=pictures)
