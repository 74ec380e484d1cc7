"""`tagger review apply`: a correction made in each format changes the next evaluation by exactly that row, or nothing changes."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import tagger
from tagger.cli.main import cli
from tagger.core.errors import ConfigError, ManifestError, StoppedError, UsageError
from tagger.workflows import apply_corrections
from tests.helpers.results import write_result

LABELS = ["dress", "hat", "shoes"]
SETTINGS = {"attribute": [{"name": "kind", "labels": LABELS, "truth_column": "kind"}]}
TAGS = ["kind_label", "kind_confidence", "kind_top", "kind_source", "tag_status", "tag_reason"]


@pytest.fixture
def result(tmp_path: Path, pictures: Path) -> Path:
    images = [f"{number:04d}.png" for number in range(40)]
    return write_result(tmp_path / "night.parquet", 40, {"kind": LABELS}, images, image_root=pictures)


@pytest.fixture
def manifest(result: Path) -> Path:
    """The manifest of the result."""
    table = pq.read_table(result).drop_columns(TAGS).replace_schema_metadata(None)
    pq.write_table(table, result.with_name("manifest.parquet"))
    return result.with_name("manifest.parquet")


Answers = Mapping[str, Mapping[str, str]]  # id -> what a person fills in


def fill_csv(result: Path, answers: Answers) -> Path:
    [place] = tagger.review(result, format="csv")
    rows = list(csv.DictReader(io.StringIO(Path(place).read_text("utf-8-sig"), newline="")))
    file = result.with_name("corrections.csv")
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.DictWriter(opened, rows[0])
        writer.writeheader()
        writer.writerows({**row, **answers.get(row["id"], {})} for row in rows)
    return file


def fill_parquet(result: Path, answers: Answers) -> Path:
    [place] = tagger.review(result, format="parquet")
    table = pq.read_table(place)
    rows = [{**row, **answers.get(row["id"], {})} for row in table.to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, table.schema), result.with_name("corrections.parquet"))
    return result.with_name("corrections.parquet")


def fill_label_studio(result: Path, answers: Answers) -> Path:
    tasks = json.loads(Path(tagger.review(result, format="label-studio", workers=0)[0]).read_text())
    for task in tasks:
        answer = answers.get(task["data"]["item_id"])
        results = [
            {"from_name": name, "to_name": "image", "type": "choices", "value": {"choices": [answer[name]]}}
            for name in ("correction", "note")
            if answer and name in answer
        ]
        by = {"completed_by": answer["by"], "updated_at": answer["at"]} if answer else {}
        task["annotations"] = [{"result": results, "was_cancelled": False, **by}] if answer else []
    result.with_name("project.json").write_text(json.dumps(tasks))
    return result.with_name("project.json")


def fill_label_studio_min(result: Path, answers: Answers) -> Path:
    tasks = json.loads(Path(tagger.review(result, format="label-studio", workers=0)[0]).read_text())
    rows = []
    for number, task in enumerate(tasks):
        if answer := answers.get(task["data"]["item_id"]):
            said = {name: answer[name] for name in ("correction", "note") if name in answer}
            more = {"annotator": answer["by"], "annotation_id": number, "created_at": "", "updated_at": answer["at"]}
            rows.append({**task["data"], "id": number, **said, **more})
    result.with_name("project-min.json").write_text(json.dumps(rows))
    return result.with_name("project-min.json")


FORMATS = [fill_csv, fill_parquet, fill_label_studio, fill_label_studio_min]
SAID = {"by": "=Ann <b>", "at": "2026-01-31T12:00:00Z"}


@pytest.fixture
def answers(result: Path) -> dict[str, dict[str, str]]:
    """Three answers about rows without truth: the first tag was right, the second was not, the third has no label."""
    rows = {row["id"]: row for row in pq.read_table(result).to_pylist()}
    first, second, third = [row for row in rows.values() if row["kind"] is None and row["kind_label"]][:3]
    wrong = next(label for label in LABELS if label != second["kind_label"])
    return {
        first["id"]: {"correction": first["kind_label"], **SAID},
        second["id"]: {"correction": wrong, **SAID},
        third["id"]: {"note": "not-in-list", **SAID},
    }


@pytest.mark.parametrize("fill", FORMATS)
def test_a_correction_comes_back_and_counts(result: Path, manifest: Path, answers: Answers, fill: Callable[..., Path]):
    rows, before = pq.read_table(result), tagger.evaluate(result).attributes["kind"]
    file = fill(result, answers)
    applied = tagger.apply_corrections(file, manifest, SETTINGS)
    assert (applied.written, applied.confirmed, applied.kept, applied.output) == (3, 0, [], manifest)
    tagger.apply_corrections(file, result)
    for changed in (manifest, result):
        table = pq.read_table(changed)
        for row, old in zip(table.to_pylist(), rows.to_pylist(), strict=True):
            answer = answers.get(row["id"], {})
            assert row["kind"] == answer.get("correction", old["kind"])
            assert (row["kind_by"], row["kind_note"]) == (answer.get("by"), answer.get("note"))
            assert str(row["kind_at"]) == ("2026-01-31 12:00:00+00:00" if answer else "None")
        others = [name for name in rows.column_names if name in table.column_names and name != "kind"]
        assert table.select(others).replace_schema_metadata(None).equals(rows.select(others).replace_schema_metadata(None))
    after = tagger.evaluate(result).attributes["kind"]
    assert after.labelled_rows == before.labelled_rows + 2
    difference = sum(map(sum, after.confusion_matrix)) - sum(map(sum, before.confusion_matrix))
    correct = sum(after.confusion_matrix[n][n] - before.confusion_matrix[n][n] for n in range(3))
    assert (difference, correct, after.unknown_rows) == (2, 1, 0)
    # What was answered is not asked again.
    asked = pq.read_table(tagger.review(result, format="parquet")[0])["id"].to_pylist()
    assert not set(asked) & set(answers)


def test_without_an_id_column_the_images_lead_the_way(result: Path, manifest: Path):
    shutil.rmtree(result.with_name("night.run"))  # the summary, which names the id column
    rows = pq.read_table(tagger.review(result, format="parquet")[0])
    assert rows["id"].null_count == len(rows)
    filled = rows.set_column(8, "correction", rows["label"])
    pq.write_table(filled, result.with_name("filled.parquet"))
    # Rows whose truth looks wrong are asked about, too.
    applied = tagger.apply_corrections(result.with_name("filled.parquet"), manifest, SETTINGS, overwrite_truth=True)
    assert applied.written == len(rows)
    after = {row["image"]: row["kind"] for row in pq.read_table(manifest).to_pylist()}
    assert [after[row["image"]] for row in rows.to_pylist()] == rows["label"].to_pylist()


def test_a_manifest_in_parts_keeps_the_columns_of_all_of_them(result: Path, manifest: Path, tmp_path: Path):
    table = pq.read_table(manifest)
    parts = tmp_path / "parts"
    for season, rows in (("summer", table.slice(0, 25)), ("winter", table.slice(25))):
        (parts / f"season={season}").mkdir(parents=True)
        brands = {} if season == "summer" else {"brand": pa.array(["acme"] * len(rows))}
        whole = pa.table({**{name: rows[name] for name in rows.column_names}, **brands})
        pq.write_table(whole, parts / f"season={season}" / "part.parquet")
    rows = pq.read_table(tagger.review(result, format="parquet")[0])
    file = tmp_path / "filled.parquet"
    pq.write_table(rows.set_column(8, "correction", rows["label"]), file)
    output = tmp_path / "corrected.parquet"
    assert tagger.apply_corrections(file, parts, SETTINGS, output=output, overwrite_truth=True).written == len(rows)
    after = pq.read_table(output)
    assert after["season"].to_pylist() == ["summer"] * 25 + ["winter"] * 15
    assert after["brand"].to_pylist() == [None] * 25 + ["acme"] * 15
    assert after["id"].equals(table["id"])


def unchanged(file: Path, call: Callable[[], Any], error: type[Exception], message: str) -> None:
    content, files = file.read_bytes(), sorted(file.parent.iterdir())
    with pytest.raises(error) as raised:
        call()
    assert message in str(raised.value)
    assert (file.read_bytes(), sorted(file.parent.iterdir())) == (content, files)


def test_a_foreign_or_damaged_file_changes_nothing(result: Path, manifest: Path, answers: Answers, pictures: Path):
    file = fill_csv(result, answers)
    images = [f"{number:04d}.png" for number in range(40)]
    other = write_result(result.with_name("other.parquet"), 40, {"kind": LABELS[::-1]}, images, image_root=pictures)
    unchanged(other, partial(tagger.apply_corrections, file, other), ManifestError, "found those of another one")
    shifted = pq.read_table(manifest).set_column(1, "image", pa.array(images[1:] + images[:1]))
    pq.write_table(shifted, result.with_name("shifted.parquet"))
    attribute = SETTINGS["attribute"][0]
    calls: list[tuple[Path, Any, str]] = [
        (result.with_name("shifted.parquet"), SETTINGS, "expected the images that were reviewed, found others in 3 rows"),
        (manifest, {"attribute": [{**attribute, "name": "sort"}]}, "expected attribute sort, found kind"),
        (manifest, {"attribute": [{**attribute, "labels": ["x", "y"]}]}, "expected labels of the attribute, found 2 others"),
    ]
    for target, settings, message in calls:
        unchanged(target, partial(tagger.apply_corrections, file, target, settings), ManifestError, message)
    whole = fill_parquet(result, answers).read_bytes()
    for name, content in (("cut.parquet", whole[:-9]), ("cut.json", b'[{"data": {'), ("cut.csv", file.read_bytes()[:-40])):
        (result.parent / name).write_bytes(content)
        call = partial(tagger.apply_corrections, result.parent / name, manifest, SETTINGS)
        unchanged(manifest, call, ManifestError, "expected")


def test_corrections_of_another_nights_tags_are_taken_where_that_is_said(result: Path, answers: Answers, pictures: Path):
    file = fill_csv(result, answers)
    images = [f"{number:04d}.png" for number in range(40)]
    later = write_result(
        result.with_name("later.parquet"), 40, {"kind": [*LABELS, "bag"]}, images, truth=True, image_root=pictures
    )
    truth = pq.read_table(later)["kind"]
    assert tagger.apply_corrections(file, later, other_result=True).written == 3
    rows = zip(pq.read_table(later).to_pylist(), truth.to_pylist(), strict=True)
    assert [row["id"] for row, old in rows if row["kind"] != old] == list(answers)[:2]


def test_without_a_truth_column_it_says_how_to_name_one_and_then_makes_it(result: Path, manifest: Path, answers: Answers):
    pq.write_table(pq.read_table(manifest).drop_columns(["kind"]), manifest)
    file = fill_csv(result, answers)
    settings = {"attribute": [{"name": "kind", "labels": LABELS}]}
    message = 'write truth_column = "kind_truth" below name = "kind" in tagger.toml'
    unchanged(manifest, lambda: tagger.apply_corrections(file, manifest, settings), ConfigError, message)
    named = {"attribute": [{"name": "kind", "labels": LABELS, "truth_column": "kind_truth"}]}
    assert tagger.apply_corrections(file, manifest, named).written == 3
    assert pq.read_schema(manifest).names == ["id", "image", "kind_truth", "kind_truth_by", "kind_truth_at", "kind_truth_note"]


def test_the_result_goes_where_it_is_said_and_replaces_nothing(result: Path, manifest: Path, answers: Answers, tmp_path: Path):
    file, content = fill_csv(result, answers), manifest.read_bytes()
    output = tmp_path / "corrected.parquet"
    applied = tagger.apply_corrections(file, manifest, SETTINGS, output=output)
    assert (applied.output, manifest.read_bytes()) == (output, content)
    assert pq.read_table(output)["kind_by"].null_count == 37
    refused = ((output, "expected no file, found one"), (manifest, "expected another file"), (tmp_path, "existing folder"))
    for target, message in refused:
        call = partial(tagger.apply_corrections, file, manifest, SETTINGS, output=target)
        unchanged(manifest, call, UsageError, message)
    folder = tmp_path / "parts"
    folder.mkdir()
    half = pq.read_table(manifest)
    pq.write_table(half.slice(0, 20), folder / "a.parquet")
    pq.write_table(half.slice(20), folder / "b.parquet")
    unchanged(folder / "a.parquet", lambda: tagger.apply_corrections(file, folder, SETTINGS), UsageError, "use --output")
    tagger.apply_corrections(file, folder, SETTINGS, output=tmp_path / "joined.parquet")
    assert pq.read_table(tmp_path / "joined.parquet").equals(pq.read_table(output))


def test_a_manifest_that_changes_meanwhile_is_not_overwritten(
    result: Path, manifest: Path, answers: Answers, monkeypatch: pytest.MonkeyPatch
):
    file = fill_csv(result, answers)
    tomorrow = manifest.read_bytes() + b"later"
    original = apply_corrections.TruthWriter.write

    def write(self: Any, path: Path) -> Any:
        found = original(self, path)
        manifest.write_bytes(tomorrow)
        return found

    monkeypatch.setattr(apply_corrections.TruthWriter, "write", write)
    with pytest.raises(StoppedError, match="expected it unchanged, found that it was written meanwhile; run again"):
        tagger.apply_corrections(file, manifest, SETTINGS)
    assert manifest.read_bytes() == tomorrow
    assert not list(manifest.parent.glob(".*.tmp"))


def test_what_is_applied_twice_leaves_the_file_alone(result: Path, manifest: Path, answers: Answers):
    file = fill_csv(result, answers)
    tagger.apply_corrections(file, manifest, SETTINGS)
    before = manifest.stat()
    again = tagger.apply_corrections(file, manifest, SETTINGS)
    assert (again.written, again.confirmed, again.output) == (0, 3, None)
    after = manifest.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_the_command_says_what_it_did_and_what_stays(result: Path, manifest: Path, answers: Answers):
    table = pq.read_table(manifest)
    given = next(iter(answers))
    old = ["\x1b[31mold" if one == given else None for one in table["id"].to_pylist()]
    pq.write_table(table.set_column(2, "kind", pa.array(old)), manifest)
    manifest.with_name("tagger.toml").write_text(
        '[[attribute]]\nname = "kind"\nlabels = ["dress", "hat", "shoes"]\ntruth_column = "kind"\n'
    )
    done = CliRunner().invoke(cli, ["review", "apply", str(fill_csv(result, answers)), str(manifest)])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == ["2 rows corrected, 0 had that truth already, 1 keep another one", str(manifest)]
    assert "1 rows have other truth, which stays (--overwrite-truth replaces it): " in done.stderr
    assert "\\x1b[31mold" in done.stderr
    assert "\x1b" not in done.stderr
    both = CliRunner().invoke(cli, ["review", "apply", "x.csv", "y.parquet", "--in-place", "--output", "z"])
    assert both.exit_code == 2
