"""Manifest and results on a real S3 server, through the real client: whole or not there, resumed, and the same bytes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from s3fs import S3FileSystem

import tagger
from tagger.catalog import manifest, results
from tagger.catalog import object_storage as storage
from tagger.catalog import remote_results as stored_results
from tagger.cli.main import main
from tagger.core.errors import ConfigError, GateError, ManifestError, StoppedError, UsageError
from tests.helpers.keywords import keywords
from tests.helpers.object_store import ObjectStore

KIND = {"attribute": [{"name": "kind", "labels": ["shirt", "dress", "shoes"], "truth_column": "truth"}]}
KIND_WITHOUT_TRUTH: dict[str, Any] = {"attribute": [{"name": "kind", "labels": ["shirt", "dress", "shoes"]}]}
SECRET = "wJalrXUtnFEMI-secret"
NUMBERS = count()
SAMPLE = Path(__file__).parents[2] / "sample_catalog"
HERE = ("--workers", "0")


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectStore]:
    store = ObjectStore()
    yield store
    store.close()


@pytest.fixture(autouse=True)
def _environment(server: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """What a user sets, and a client that has seen no other test's; every test's scratch folders are gone at its end."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA0TEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    monkeypatch.setattr(manifest, "MAX_SHARD_ROWS", 64)
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    S3FileSystem.clear_instance_cache()
    yield
    assert list((tmp_path / "scratch").glob("tagger-*")) == []


def run(manifest: str | Path, config: dict[str, Any] = KIND, **options: Any) -> tagger.RunSummary:
    return tagger.run(manifest, config, **keywords(model=SAMPLE / "model", workers=0, **options))


@pytest.fixture
def bucket(server: ObjectStore) -> str:
    name = f"bucket-{next(NUMBERS)}"
    server.client.create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="module")
def catalogue(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of three shards (130 rows) with three embedded pictures; the other rows are errors, which takes no time."""
    images = [(pictures / f"{row:04d}.png").read_bytes() if row in (0, 1, 64) else b"no image" for row in range(130)]
    path = tmp_path_factory.mktemp("catalogue") / "manifest.parquet"
    pq.write_table(pa.table({"image": images, "truth": ["shirt", "dress"] * 65}), path)
    return path


@pytest.fixture(scope="module")
def expected(catalogue: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The result of the same run on this machine."""
    output = tmp_path_factory.mktemp("expected") / "tagged.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest, "MAX_SHARD_ROWS", 64)
        return Path(run(catalogue, output=output).output).read_bytes()


@pytest.fixture
def night(server: ObjectStore, bucket: str, catalogue: Path) -> str:
    server.write(bucket, "night/manifest.parquet", catalogue.read_bytes())
    return f"s3://{bucket}/night"


def test_a_run_on_a_store_writes_the_bytes_of_a_run_on_a_disk(server, bucket, night, expected):
    summary = run(f"{night}/manifest.parquet")
    assert summary.output == f"{night}/manifest.tagged.parquet"
    assert server.names(bucket) == [
        "night/manifest.parquet",
        "night/manifest.tagged.parquet",
        "night/manifest.tagged.run/summary.json",
    ]
    assert server.read(bucket, "night/manifest.tagged.parquet") == expected
    stored = json.loads(server.read(bucket, "night/manifest.tagged.run/summary.json"))
    assert stored == json.loads(summary.to_json())
    assert stored["output"] == summary.output
    assert summary.read().num_rows == 130
    assert tagger.evaluate(summary.output).to_dict() == summary.evaluation.to_dict()


def test_a_review_of_a_result_on_a_store_comes_back_to_its_manifest(server, bucket, night, tmp_path):
    output = run(f"{night}/manifest.parquet", KIND_WITHOUT_TRUTH).output
    [place] = tagger.review(output, format="parquet")
    assert place == f"{night}/manifest.tagged.run/review.parquet"
    asked = pq.read_table(io.BytesIO(server.read(bucket, "night/manifest.tagged.run/review.parquet")))
    assert asked.num_rows == 3
    pq.write_table(asked.set_column(8, "correction", asked["second"]), tmp_path / "corrections.parquet")
    seen = {"attribute": [{**KIND_WITHOUT_TRUTH["attribute"][0], "truth_column": "seen"}]}
    applied = tagger.apply_corrections(tmp_path / "corrections.parquet", f"{night}/manifest.parquet", seen)
    assert (applied.written, applied.output) == (3, f"{night}/manifest.parquet")
    after = pq.read_table(io.BytesIO(server.read(bucket, "night/manifest.parquet")))
    assert [row for row, truth in enumerate(after["seen"].to_pylist()) if truth] == [0, 1, 64]
    assert sorted(filter(None, after["seen"].to_pylist())) == sorted(asked["second"].to_pylist())


def test_only_one_of_manifest_and_output_may_be_on_a_store(server, bucket, night, catalogue, expected, write_manifest, tmp_path):
    here = run(f"{night}/manifest.parquet", output=tmp_path / "here.parquet")
    assert here.output == tmp_path / "here.parquet"
    assert here.output.read_bytes() == expected
    there = run(catalogue, output=f"{night}/there.parquet")
    assert server.read(bucket, "night/there.parquet") == expected
    assert there.output == f"{night}/there.parquet"


def test_in_place_replaces_the_manifest_object(server, bucket, night, expected):
    for _ in range(2):
        run(f"{night}/manifest.parquet", in_place=True)
        assert server.read(bucket, "night/manifest.parquet") == expected


def test_a_folder_and_a_glob_of_objects_become_one_result(server, bucket, pictures):
    for number in range(3):
        table = pa.table({"image": [(pictures / f"000{number}.png").read_bytes()], "number": [number]})
        pq.write_table(table, "part.parquet")
        server.write(bucket, f"night/part-{number}.parquet", Path("part.parquet").read_bytes())
    server.write(bucket, "night/_SUCCESS", b"")
    server.write(bucket, "night/.hidden.parquet", b"not Parquet")
    summary = run(f"s3://{bucket}/night/", KIND_WITHOUT_TRUTH)
    assert summary.output == f"s3://{bucket}/night.tagged.parquet"
    assert summary.read()["number"].to_pylist() == [0, 1, 2]
    matched = run(f"s3://{bucket}/night/part-[12].parquet", KIND_WITHOUT_TRUTH, output=f"s3://{bucket}/two.parquet")
    assert matched.read()["number"].to_pylist() == [1, 2]


def test_folders_partitions_and_tables_on_a_store_are_read_by_the_rules_of_a_disk(server, bucket, tmp_path):
    def upload(name: str) -> None:
        for path in sorted((tmp_path / name).rglob("*")):
            if path.is_file():
                server.write(bucket, path.relative_to(tmp_path).as_posix(), path.read_bytes())

    for name in ("b/category=x%20y/1.PARQ", "a/category=z/2.parquet", "a/3.pq", "_c/4.parquet", "a/5.tagged.parquet"):
        path = tmp_path / "night" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"image": [name]}), path)
    (tmp_path / "night" / "more.csv").write_text("x")
    write_deltalake(tmp_path / "lake" / "table", pa.table({"image": ["a", "b"], "k": ["x y", "é"]}), partition_by=["k"])
    DeltaTable(tmp_path / "lake" / "table").delete("k = 'é'")
    (tmp_path / "ice" / "data").mkdir(parents=True)
    (tmp_path / "ice" / "metadata").mkdir()
    pq.write_table(pa.table({"image": ["a"]}), tmp_path / "ice" / "data" / "part.parquet")
    (tmp_path / "ice" / "metadata" / "v1.metadata.json").write_text("{}")
    for name in ("night", "lake", "ice"):
        upload(name)

    def read(name: str) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
        with storage.Workspace() as space:
            files = space.fetch(f"s3://{bucket}/{name}")
            assert [space.urls[file].startswith(f"s3://{bucket}/") for file in files.files] == [True] * len(files.files)
            there = manifest.open_manifest(name, files=files)
            rows = pa.concat_tables([table for _, table in there.read(there.shards())]).to_pylist()
            again = manifest.open_manifest(str(files.folder))  # what the process with limits reads
            assert pa.concat_tables([table for _, table in again.read(again.shards())]).to_pylist() == rows
            return rows, there.notes

    for name in ("night", "night/[ab]", "night/**/[123].*"):
        rows, notes = read(name)
        here = manifest.open_manifest(str(tmp_path / name))
        assert rows == pa.concat_tables([table for _, table in here.read(here.shards())]).to_pylist()
        assert [row["image"][-4:] for row in rows] == ["3.pq", "quet", "PARQ"]
        assert [row["category"] for row in rows] == [None, "z", "x y"]
        assert notes == tuple(note.replace(f"{tmp_path}/", "") for note in here.notes)
    assert read("lake/table") == ([{"image": "a", "k": "x y"}], ())
    for name in ("lake", "lake/table/k=*", "lake/table/*/*.parquet", "ice", "ice/data", "ice/data/part.parquet"):
        with pytest.raises(ManifestError, match="also holds rows that it has deleted"):
            read(name)
    with pytest.raises(UsageError, match="would be read as input next time"):
        run(f"s3://{bucket}/night/a", KIND_WITHOUT_TRUTH, output=f"s3://{bucket}/night/a/deep/o.parquet", image_root=tmp_path)


def test_a_scheme_may_be_written_in_upper_case(server, bucket, night, expected):
    summary = run(f"{night}/manifest.parquet".replace("s3:", "S3:"), output=f"S3://{bucket}/night/out.parquet")
    assert summary.output == f"{night}/out.parquet"
    assert summary.read().num_rows == 130
    assert server.read(bucket, "night/out.parquet") == expected
    assert run(f"{night}/manifest.parquet".replace("s3:", "S3:"), in_place=True).output == f"{night}/manifest.parquet"
    assert run(f"S3://{bucket}/night", output=f"s3://{bucket}/out.parquet", previous=f"S3://{bucket}/night/out.parquet").published


def test_error_rows_of_a_result_on_a_store_are_tried_again_and_the_result_replaced(server, bucket, night, expected):
    earlier = run(f"{night}/manifest.parquet").output
    again = run(f"{night}/manifest.parquet", retry_errors=earlier)
    assert (again.output, again.encoded_images) == (earlier, 0)
    assert server.read(bucket, "night/manifest.tagged.parquet") == expected


def test_rejected_results_are_put_aside_and_what_was_published_stays(server, bucket, night, expected):
    run(f"{night}/manifest.parquet")
    with pytest.raises(GateError, match=f"the results are written to {night}/manifest.tagged.rejected.parquet, not to") as caught:
        run(f"{night}/manifest.parquet", max_errors=1, overwrite=True, labels=["hat", "bag"])
    assert caught.value.summary.read()["kind_label"][0].as_py() in ("hat", "bag")
    assert server.read(bucket, "night/manifest.tagged.parquet") == expected
    assert [name for name in server.names(bucket) if "/parts/" in name] == []
    with pytest.raises(UsageError, match="its results go to the manifest .* if they are rejected"):
        run(f"{night}/manifest.tagged.rejected.parquet", output=f"{night}/manifest.tagged.parquet")
    again = run(f"{night}/manifest.parquet", overwrite=True)
    assert (again.previous, again.changed_labels) == (again.output, {})  # embedded images have no names
    assert "night/manifest.tagged.rejected.parquet" not in server.names(bucket)


def test_an_existing_result_is_kept_unless_it_may_be_overwritten(server, bucket, night, expected):
    server.write(bucket, "night/manifest.tagged.parquet", b"of another night")
    with pytest.raises(UsageError, match="use --overwrite"):
        run(f"{night}/manifest.parquet")
    assert server.read(bucket, "night/manifest.tagged.parquet") == b"of another night"
    run(f"{night}/manifest.parquet", overwrite=True)
    assert server.read(bucket, "night/manifest.tagged.parquet") == expected


# Killed runs: a process that has imported everything, and has no threads, forks one run after the other.
FORKS = """
import json, os, sys
import aiobotocore.session, s3fs, tagger.catalog.manifest as manifest, tagger.inference.local_engine, tagger.workflows.run
from tagger.cli.main import main
from tagger.settings.options import Machine
from tagger.settings.schema import ModelSettings
from tagger.inference.predictors import load_predictor
from tagger.settings.attributes import Attribute
manifest.MAX_SHARD_ROWS = 64
load_predictor(ModelSettings(name=sys.argv[1]), Machine(workers=0), [Attribute(name="kind", labels=("hat", "bag"))])
for line in sys.stdin:
    failpoint, arguments = json.loads(line)
    if not (child := os.fork()):
        os.environ["TAGGER_FAILPOINT"] = failpoint
        sys.argv[1:] = arguments
        sys.stderr = open("stderr", "w", buffering=1)
        sys.stdout = open(os.devnull, "w")
        try:
            main()
        except SystemExit as end:
            os._exit(end.code or 0)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
Tag = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def tag(server: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tag]:
    """Run `tagger run` with these arguments in a process that dies at `failpoint`; its exit code and stderr."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "tagger.toml").write_text(
        f'[model]\nname = "{SAMPLE}/model"\n[[attribute]]\nname = "kind"\nlabels = ["shirt", "dress", "shoes"]\n'
        'truth_column = "truth"\n'
    )
    environment = {**os.environ, "AWS_ENDPOINT_URL": server.url, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": SECRET}
    environment |= {"AWS_DEFAULT_REGION": "us-east-1", "TMPDIR": str(folder), "AWS_MAX_ATTEMPTS": "2", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", FORKS, str(SAMPLE / "model")]
    with subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def run(*arguments: str, failpoint: str = "") -> tuple[int, str]:
            print(json.dumps([failpoint, ["run", *arguments]]), file=process.stdin, flush=True)
            code = int(process.stdout.readline())
            return code, (folder / "stderr").read_text()

        yield run
        process.stdin.close()


ON_A_DISK = {"result-renamed", "parts-removed"}


@pytest.mark.parametrize("failpoint", [*sorted({*results.FAILPOINTS} - ON_A_DISK), *stored_results.FAILPOINTS])
def test_a_run_killed_here_and_run_again_writes_the_same_bytes(failpoint, server, bucket, night, expected, tag):
    server.write(bucket, "night/manifest.tagged.parquet", b"of another night")
    arguments = [f"{night}/manifest.parquet", "--overwrite", *HERE]
    assert tag(*arguments, failpoint=failpoint)[0] == -9
    committed = failpoint in ("stored-result", "stored-parts-removed")
    assert server.read(bucket, "night/manifest.tagged.parquet") == (expected if committed else b"of another night")
    code, said = tag(*arguments)
    assert code == 0, said
    assert server.read(bucket, "night/manifest.tagged.parquet") == expected
    assert [name for name in server.names(bucket) if "/parts/" in name] == []
    shards = {"stored-part": 1, "result-written": 3, "stored-result": 3}
    if failpoint in shards:  # nothing that was put is computed again
        assert f"continuing: {shards[failpoint]} of 3 shards" in said


def test_a_part_that_is_torn_or_of_another_run_is_computed_again(server, bucket, night, expected, tag):
    arguments = [f"{night}/manifest.parquet", *HERE]
    assert tag(*arguments, failpoint="result-written")[0] == -9
    first, second, third = [name for name in server.names(bucket) if "/parts/" in name and name.endswith(".parquet")]
    server.write(bucket, first, server.read(bucket, first)[:-100])
    server.write(bucket, second, server.read(bucket, third))
    server.write(bucket, f"{first[:-8]}/../../../../escaped.parquet", b"a stranger's")
    code, said = tag(*arguments)
    assert code == 0, said
    assert "continuing: 1 of 3 shards" in said
    assert server.read(bucket, "night/manifest.tagged.parquet") == expected


def test_another_job_starts_over_and_says_why(server, bucket, night, tag, caplog):
    assert tag(f"{night}/manifest.parquet", *HERE, failpoint="result-written")[0] == -9
    run(f"{night}/manifest.parquet", KIND, labels=["hat", "bag"])
    assert "manifest.tagged.parquet: starting over, not continuing an interrupted run: attributes" in caplog.text
    assert "/scratch/" not in caplog.text
    summary = json.loads(server.read(bucket, "night/manifest.tagged.run/summary.json"))
    assert summary["encoded_images"] == 3
    assert [name for name in server.names(bucket) if "/parts/" in name] == []


def test_fresh_computes_everything_again(server, bucket, night, tag):
    assert tag(f"{night}/manifest.parquet", *HERE, failpoint="result-written")[0] == -9
    code, said = tag(f"{night}/manifest.parquet", *HERE, "--fresh", "--no-cache")
    assert (code, "continuing" in said) == (0, False)
    assert json.loads(server.read(bucket, "night/manifest.tagged.run/summary.json"))["encoded_images"] == 3


def test_a_store_that_fails_for_a_while_is_asked_again(server, bucket, night, expected):
    seen: dict[tuple[str, str], int] = {}

    def every_second_request(method: str, path: str, query: str) -> int | None:
        seen[method, path] = seen.get((method, path), 0) + 1
        return 503 if method in ("GET", "PUT") and seen[method, path] % 2 else None

    with server.failing(every_second_request):
        run(f"{night}/manifest.parquet")
    assert server.read(bucket, "night/manifest.tagged.parquet") == expected


# What cannot be put -> what is on the store afterwards, beside the manifest.
PUTS = {
    "parts/job.json": [],
    "-000001.parquet": ["000000.parquet", "job.json"],
    "manifest.tagged.parquet": ["000000.parquet", "000001.parquet", "000002.parquet", "job.json"],
}


@pytest.mark.parametrize(("name", "status"), [*((name, 500) for name in PUTS), ("-000001.parquet", 403)])
def test_a_put_that_fails_is_one_line_and_the_next_run_continues(name, status, server, bucket, night, expected, tag):
    with server.failing(lambda method, path, query: status if method == "PUT" and path.endswith(name) else None):
        code, said = tag(f"{night}/manifest.parquet", *HERE, "--quiet")
    assert code == 75
    assert said.startswith(f"tagger: {night}/manifest.tagged.parquet: expected to write results, found: ")
    assert said.endswith("run again to continue\n")
    assert said.count("\n") == 1
    assert SECRET not in said
    left = [item.rpartition("-" if "-0" in item else "/")[2] for item in server.names(bucket)]
    assert left == ["manifest.parquet", *PUTS[name]]
    assert tag(f"{night}/manifest.parquet", *HERE)[0] == 0
    assert server.read(bucket, "night/manifest.tagged.parquet") == expected


def test_parts_that_cannot_be_removed_do_not_deny_the_results(server, bucket, night, expected, caplog):
    with server.failing(lambda method, path, query: 403 if method in ("POST", "DELETE") else None):
        run(f"{night}/manifest.parquet")
    assert "expected to remove the parts of a run, found: access denied" in caplog.text
    assert server.read(bucket, "night/manifest.tagged.parquet") == expected


def test_a_summary_that_cannot_be_put_does_not_deny_the_results(server, bucket, night, expected):
    with (
        server.failing(lambda method, path, query: 403 if method == "PUT" and path.endswith("summary.json") else None),
        pytest.raises(StoppedError, match=f"manifest.tagged.run: expected to write summary.json, .* are complete at {night}/m"),
    ):
        run(f"{night}/manifest.parquet")
    assert server.read(bucket, "night/manifest.tagged.parquet") == expected


def test_a_large_object_appears_whole_or_not_at_all(server, bucket, tmp_path):
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(101 << 20)
    last_part = "partNumber=3"
    with (
        server.failing(lambda method, path, query: 500 if last_part in query else None),
        pytest.raises(OSError, match="injected"),
    ):
        storage.put(large, f"s3://{bucket}/large")
    assert server.names(bucket) == []
    assert server.client.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []
    storage.put(large, f"s3://{bucket}/large")
    assert server.client.head_object(Bucket=bucket, Key="large")["ContentLength"] == 101 << 20


def test_a_manifest_that_changes_while_it_is_copied_is_refused(server, bucket, night, catalogue):
    other = catalogue.read_bytes()

    def change_after_the_first_look(method: str, path: str, query: str) -> None:
        if method == "GET" and path.endswith("manifest.parquet"):
            server.fault = lambda *_: None
            server.write(bucket, "night/manifest.parquet", other[:-1] + b"?")

    with (
        server.failing(change_after_the_first_look),
        pytest.raises(ManifestError, match="found: objects that changed while they were copied"),
    ):
        run(f"{night}/manifest.parquet")


def test_messages_name_the_object_and_not_its_copy(server, bucket):
    server.write(bucket, "torn.parquet", b"not Parquet")
    with pytest.raises(ManifestError, match=rf"^s3://{bucket}/torn.parquet: expected a readable Parquet file"):
        run(f"s3://{bucket}/torn.parquet")
    with pytest.raises(ManifestError, match=rf"^s3://{bucket}/torn.parquet: expected a readable Parquet file"):
        tagger.evaluate(f"s3://{bucket}/torn.parquet")


def test_paths_in_a_manifest_on_a_store_want_an_image_root(server, bucket, pictures, write_manifest):
    server.write(bucket, "paths.parquet", write_manifest(["0000.png", "none.png"]).read_bytes())
    kind = KIND_WITHOUT_TRUTH
    with pytest.raises(ConfigError, match="expected an image root for the paths in image_path, found none"):
        run(f"s3://{bucket}/paths.parquet", kind)
    tagged = run(f"s3://{bucket}/paths.parquet", kind, image_root=pictures).read()
    assert tagged["tag_status"].to_pylist() == ["tagged", "error"]
    urls = {**kind, "images": {"allow_buckets": ["s3://other"]}}
    tagged = run(f"s3://{bucket}/paths.parquet", urls, overwrite=True).read()
    assert [reason[:15] for reason in tagged["tag_reason"].to_pylist()] == ["forbidden-path:"] * 2


# Arguments after `run`, exit code, words of the one line.
MISTAKES = {
    "no such object": (["{night}/none.parquet"], 65, "found: no such bucket or object"),
    "no such bucket": (["s3://no-such-bucket/m.parquet"], 65, "found: no such bucket or object"),
    "no such folder": (["{night}/none/"], 65, "found: no such bucket or object"),
    "glob without a match": (["{night}/*.csv"], 65, "found: no such bucket or object"),
    "password in the URL": (["s3://me:hunter2@bucket/m.parquet"], 2, "expected s3://BUCKET/PATH without user, password or query"),
    "signed URL": (["s3://bucket/m.parquet?sig=hunter2"], 2, "expected s3://BUCKET/PATH without user, password or query"),
    "signed output": (["{local}", "--output", "s3://b/m?sig=hunter2"], 2, "expected s3://BUCKET/PATH without user, password or"),
    "output is a bucket": (["{local}", "--output", "s3://bucket"], 2, "expected one object in a bucket"),
    "output is a folder": (["{local}", "--output", "{night}/"], 2, "expected one object in a bucket"),
    "output is a folder of objects": (["{local}", "--output", "{night}"], 2, "expected a file, found a folder"),
    "output is a pattern": (["{local}", "--output", "{night}/*.parquet"], 2, "expected one object in a bucket"),
    "output is the manifest": (["{night}/manifest.parquet", "--output", "{night}/manifest.parquet"], 2, "use --in-place"),
    "output is the manifest, in capitals": (["{night}/manifest.parquet", "--output", "{NIGHT}/manifest.parquet"], 2, "in-place"),
    "output among the inputs, in capitals": (["{NIGHT}", "--output", "{night}/out.parquet"], 2, "would be read as input"),
    "output among the inputs": (["{night}", "--output", "{night}/out.parquet"], 2, "would be read as input next time"),
    "output in the glob": (["{night}/*.parquet", "--output", "{night}/o.parquet"], 2, "would be read as input next time"),
    "glob without output": (["{night}/*.parquet"], 2, "name a file"),
    "folder in place": (["{night}", "--in-place"], 2, "expected a manifest of one file"),
    "part in place": (["{night}/manifest.parquet", "--in-place", "--limit", "1"], 2, "leave one out"),
}


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """The exit code and the one line of a command that fails."""

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["tagger", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        output, errors = capsys.readouterr()
        assert output == ""
        assert errors.count("\n") == 1
        return ended.value.code, errors

    return run


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_an_exit_code(mistake, server, bucket, night, catalogue, said):
    arguments, code, words = MISTAKES[mistake]
    before = server.names(bucket)
    names = {"night": night, "NIGHT": night.replace("s3:", "S3:"), "local": catalogue}
    ended, line = said("run", "--quiet", *(argument.format(**names) for argument in arguments))
    assert (ended, words in line) == (code, True), line
    assert "hunter2" not in line
    assert server.names(bucket) == before


def test_access_that_is_denied_is_said(server, night, catalogue, said):
    with server.failing(lambda *_: 403):
        assert said("run", f"{night}/manifest.parquet")[0] == 65
        code, line = said("run", "--quiet", str(catalogue), "--output", f"{night}/out.parquet")
    assert (code, "found: access denied" in line) == (75, True), line


def test_wrong_or_absent_credentials_and_endpoints_are_said_without_repeating_any(night, said, monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    code, line = said("run", f"{night}/manifest.parquet")
    assert (code, "Could not connect to the endpoint" in line) == (65, True), line
    assert "?" not in line
    S3FileSystem.clear_instance_cache()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    code, line = said("run", f"{night}/manifest.parquet")
    assert (code, "found: Unable to locate credentials" in line) == (65, True), line


@pytest.mark.parametrize(("scheme", "library", "extra"), [("s3", "s3fs", "s3"), ("gs", "gcsfs", "gcs"), ("az", "adlfs", "azure")])
def test_an_absent_library_is_an_extra_to_install(scheme, library, extra, monkeypatch):
    monkeypatch.delitem(import_module("fsspec.registry")._registry, scheme, raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UsageError, match=rf"^{scheme}://: expected the library .* pip install 'tagger\[{extra}\]'$"):
        run(f"{scheme}://bucket/m.parquet")


@pytest.mark.parametrize(("scheme", "library"), [("gs", "gcsfs"), ("az", "adlfs")])
def test_the_other_stores_are_opened_with_timeouts(scheme, library, monkeypatch):
    from fsspec.config import conf

    monkeypatch.setitem(conf, scheme, {"gs": {"token": "anon"}, "az": {"account_name": "me", "anon": True}}[scheme])
    store, path = storage._connect(f"{scheme}://bucket/folder/m.parquet")
    assert path == "bucket/folder/m.parquet"
    timeouts = store.requests_timeout.sock_read if scheme == "gs" else store._timeout_kwargs["read_timeout"]
    assert timeouts == storage.READ_SECONDS


def test_a_run_on_this_machine_imports_no_library_for_stores():
    script = (
        "import sys, tagger.workflows.run, tagger.workflows.plan\n"
        "from tagger.catalog.object_storage import Workspace\n"
        "with Workspace() as space: space.local('here.parquet')\n"
        "assert not {'fsspec', 's3fs', 'aiohttp'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
