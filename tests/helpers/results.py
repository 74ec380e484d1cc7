"""Results of any size and content, as a run would have written them, without a model: the columns, the metadata, the summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tagger.catalog.outputs import run_folder
from tagger.catalog.schemas import TOP_TYPE, result_schema
from tagger.catalog.tags import status_counts
from tagger.reports.summary import RunSummary
from tagger.settings.schema import Settings
from tagger.workflows.evaluate import evaluate

GROUP = 4096  # rows of a row group, as those of a shard


def write_result(
    path: Path,
    rows: int,
    attributes: Mapping[str, Sequence[str]],
    images: Sequence[Any],
    *,
    truth: bool = True,
    errors: Sequence[str] = ("missing: no file x.jpg",),
    error_share: float = 0.01,
    image_root: Path | None = None,
    ids: Sequence[str] = (),
    columns: Mapping[str, Sequence[Any]] | None = None,
    summary: bool = True,
) -> Path:
    """Write a result of `rows` rows, four of five with the right label, and its summary.

    attributes: name -> labels; with `truth`, column `<name>` has the truth of every second row. images: references, repeated.
    errors: reasons, repeated, of a share of the rows. ids, repeated: in place of numbered ones. columns: more ones, by name,
    repeated.
    """
    described = [{"name": n, "labels": list(labels), "truth_column": n if truth else None} for n, labels in attributes.items()]
    kind = pa.array(images[:1]).type
    columns = {**({"id": ids} if ids else {}), **(columns or {})}
    further = {name: pa.array(values) for name, values in columns.items()}
    fields = [pa.field("id", pa.string()), pa.field("image", kind)]
    fields += [pa.field(n, a.type) for n, a in further.items() if n != "id"]
    manifest = pa.schema([*fields, *(pa.field(name, pa.string()) for name in attributes if truth)])
    model = {"name": "sample", "revision": None}
    schema = result_schema(manifest, list(attributes), {"version": "0", "model": model, "taxonomy": "0", "attributes": described})
    rng = np.random.default_rng(0)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, rows, GROUP):
            numbers = np.arange(start, min(start + GROUP, rows))
            writer.write_table(_table(numbers, schema, attributes, images, further, truth, (errors, error_share), rng))
    if summary:
        _write_summary(path, rows, described, image_root)
    return path


def _table(
    numbers: np.ndarray[Any, Any],
    schema: pa.Schema,
    attributes: Mapping[str, Sequence[str]],
    images: Sequence[Any],
    further: Mapping[str, pa.Array],
    truth: bool,
    errors: tuple[Sequence[str], float],
    rng: np.random.Generator,
) -> pa.Table:
    count = len(numbers)
    failed = rng.random(count) < errors[1]
    columns: dict[str, Any] = {
        "id": pa.array([f"P{number}" for number in numbers]),
        "image": pa.array(images, schema.field("image").type).take(pa.array(numbers % len(images))),
        **{name: values.take(pa.array(numbers % len(values))) for name, values in further.items()},
    }
    for name, labels in attributes.items():
        names, size = pa.array(labels, pa.string()), len(labels)
        target = rng.integers(0, size, count)
        wrong = rng.random(count) < 0.2
        found = np.where(wrong, (target + rng.integers(1, 3, count)) % size, target)
        confidence = np.where(wrong, rng.uniform(0.3, 0.9, count), rng.uniform(0.5, 1, count)).astype(np.float32)
        place = pa.array(np.arange(count), mask=failed)
        best = np.stack([found, (found + 1) % size], 1)
        shares = np.stack([confidence, (1 - confidence) / 2], 1).astype(np.float32)
        flat = pa.StructArray.from_arrays(
            [names.take(pa.array(best.ravel())), pa.array(shares.ravel())], fields=list(TOP_TYPE.value_type)
        )
        top = pa.ListArray.from_arrays(np.arange(count + 1, dtype=np.int32) * 2, flat, type=TOP_TYPE)
        if truth:
            columns[name] = pa.array(target, mask=numbers % 2 == 1)
            columns[name] = names.take(columns[name])
        columns |= {
            f"{name}_label": names.take(pa.array(found)).take(place),
            f"{name}_confidence": pa.array(confidence).take(place),
            f"{name}_top": top.take(place),
            f"{name}_source": pa.array(["clip"] * count).take(place),
        }
    doubtful = rng.random(count) < 0.05
    columns["tag_status"] = pa.array(np.where(failed, "error", np.where(doubtful, "review", "tagged")))
    reasons = np.array(errors[0], object)[numbers % len(errors[0])]
    columns["tag_reason"] = pa.array(
        np.where(failed, reasons, np.where(doubtful, "low-confidence: below 0.4", None)), pa.string()
    )
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _write_summary(path: Path, rows: int, described: Sequence[Mapping[str, Any]], image_root: Path | None) -> None:
    table = pq.read_table(path, columns=["tag_status", "tag_reason"])
    counts = status_counts(table) if rows else Counter()
    tagged, review = counts.pop("tagged", 0), counts.pop("review", 0)
    manifest = {"image_column": "image", "id_column": "id", "image_root": str((image_root or path.parent).absolute())}
    settings = Settings.model_validate({"attribute": list(described), "manifest": manifest})
    summary = RunSummary(
        run_id="0" * 32,
        started="2026-01-01T00:00:00+00:00",
        ended="2026-01-01T00:01:00+00:00",
        exit_code=0,
        published=True,
        output=path,
        settings=settings.model_dump(by_alias=True),
        model={"name": "sample", "revision": None},
        rows=rows,
        tagged=tagged,
        review=review,
        errors=counts,
        confidence={item["name"]: "uncalibrated" for item in described},
        evaluation=evaluate(path) if rows and any(item["truth_column"] for item in described) else None,
    )
    run_folder(path).mkdir(exist_ok=True)
    (run_folder(path) / "summary.json").write_text(summary.to_json())
