"""The command line as a person meets it: help, one line for every mistake, exit codes."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import click
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tagger.cli.main import cli, main


def _commands(group: click.Group, prefix: str = "") -> dict[str, click.Command]:
    """All commands, those of groups too, by what a person types."""
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        found[prefix + name] = command
        if isinstance(command, click.Group):
            found |= _commands(command, f"{prefix}{name} ")
    return found


COMMANDS = _commands(cli)


def tagger(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error::UserWarning", "-m", "tagger", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", [None, *COMMANDS])
def test_every_command_has_help_with_an_example(name: str | None):
    command = cli if name is None else COMMANDS[name]
    with click.Context(command, info_name=f"tagger {name}") as context:
        text = command.get_help(context)
    assert "Example" in text
    assert f"tagger {name or 'run'}" in text.split("Example")[1]
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, option.name


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([*name.split(), "--help"] for name in COMMANDS)])
def test_help_does_not_wait_for_heavy_imports(arguments: list[str]):
    script = (
        "import sys; sys.argv[1:] = " + repr(arguments) + "\n"
        "from tagger.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'torch', 'transformers', 'pyarrow', 'pandas', 'pydantic', 'sklearn', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_every_command_stands_in_the_readme():
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert [name for name in COMMANDS if f"tagger {name}" not in readme] == []


def test_a_run_prints_the_evaluation_then_the_path(small_clip, pictures, write_manifest):
    manifest = write_manifest(["0000.png", "0001.png"], category=["dress", None])
    done = tagger("run", manifest, "--labels", "shirt,dress", "--model", small_clip, "--image-root", pictures)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("category: accuracy ")
    assert lines[-1] == str(manifest.with_name("manifest.tagged.parquet"))


def test_quiet_prints_only_the_path(small_clip, pictures, write_manifest):
    manifest = write_manifest(["0000.png"])
    done = tagger("run", manifest, "--quiet", "--model", small_clip, "--image-root", pictures)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{manifest.with_name('manifest.tagged.parquet')}\n"


def test_a_terminal_sees_a_bar_with_the_speed_and_the_errors(small_clip, pictures, write_manifest):
    manifest = write_manifest(["0000.png", "none.png", "0001.png"])
    command = [sys.executable, "-m", "tagger", "run", str(manifest)]
    command += ["--model", str(small_clip), "--image-root", str(pictures)]
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs) as process:
        os.close(theirs)
        seen = b""
        while chunk := read_terminal(ours):
            seen += chunk
    os.close(ours)
    assert process.returncode == 0
    assert re.search(rb"100%.* 3/3 .*image/s, errors=1\]", seen)


def read_terminal(handle: int) -> bytes:
    try:
        return os.read(handle, 1 << 16)
    except OSError:  # Linux says so when the other side has closed
        return b""


def test_rows_without_an_image_are_said_at_the_start(small_clip, pictures, write_manifest):
    manifest = write_manifest(["0000.png", None, None])
    done = tagger("run", manifest, "--quiet", "--model", small_clip, "--image-root", pictures)
    assert done.stderr == f"tagger: {manifest}: 2 of 3 rows have no image_path; they will be errors\n"


def test_without_labels_the_first_line_says_which_and_where_from(small_clip, pictures, write_manifest):
    manifest = write_manifest(["0000.png"] * 3, category=["hat", "bag", "hat"])
    done = tagger("run", manifest, "--model", small_clip, "--image-root", pictures)
    assert done.stderr.splitlines()[0] == (
        'tagger: labels: "bag", "hat" (the values of column category); `tagger init` writes a settings file to choose them'
    )


def test_evaluate_prints_what_the_run_printed(small_clip, pictures, write_manifest):
    manifest = write_manifest(["0000.png", "0001.png", "none.png"], category=["dress", "hat", "dress"])
    done = tagger("run", manifest, "--labels", "shirt,dress", "--model", small_clip, "--image-root", pictures)
    again = tagger("evaluate", done.stdout.splitlines()[-1])
    assert again.returncode == 0
    assert done.stdout.startswith(again.stdout)
    as_json = json.loads(tagger("evaluate", done.stdout.splitlines()[-1], "--json").stdout)
    assert as_json["category"]["labelled_rows"] == 1
    assert as_json["category"]["error_rows"] == 1
    assert as_json["category"]["unknown_truth"] == {"hat": 1}


def test_init_writes_settings_that_run_accepts(small_clip, pictures, write_manifest, tmp_path):
    manifest = write_manifest(["0000.png"])
    assert tagger("init", tmp_path).stdout == f"{tmp_path / 'tagger.toml'}\n"
    assert tagger("init", tmp_path).returncode == 2
    assert tagger("init", tmp_path, "--overwrite").returncode == 0
    done = tagger("run", manifest, "--model", small_clip, "--image-root", pictures)
    assert (done.returncode, done.stderr) == (0, f"tagger: settings: {tmp_path / 'tagger.toml'}\n")


# What a person gets wrong -> exit code and the words that must be in the one line.
MISTAKES = {
    "no such manifest": (["nowhere.parquet"], 65, "nowhere.parquet: expected a Parquet file"),
    "empty folder": (["empty"], 65, "empty: expected Parquet files in this folder, found no .parquet, no .parq, no .pq"),
    "not Parquet": (["note.parquet"], 65, "note.parquet: expected a readable Parquet file, found plain text; "),
    "no image column": (["no-images.parquet"], 65, "looked for image_path, image, path, file_name, found product_id, url"),
    "two image columns": (["two.parquet"], 65, "expected one image column, found image_path and image"),
    "image column of numbers": (["numbers.parquet"], 65, "found int64"),
    "named column absent": (["good.parquet", "--image-column", "photo"], 65, "expected the image column photo, found image_path"),
    "all paths null": (["nulls.parquet"], 65, "expected images in column image_path, found only nulls"),
    "repeated column": (["repeated.parquet"], 65, "found title repeated"),
    "files of different columns": (
        ["mixed"],
        65,
        "mixed/b.parquet: column n: expected int64 as in mixed/a.parquet, found string; ",
    ),
    "tag column exists": (["tagged.parquet"], 65, "found tag_status"),
    "no such config": (["good.parquet", "--config", "none.toml"], 78, "none.toml: expected a readable file"),
    "broken config": (["good.parquet", "--config", "broken.toml"], 78, "broken.toml: expected TOML, found"),
    "unknown key": (["good.parquet", "--config", "typo.toml"], 78, 'model.nane: unknown key; did you mean "name"?'),
    "one label": (["good.parquet", "--labels", "dress"], 78, "expected at least 2 labels, found 1"),
    "label twice": (["good.parquet", "--labels", "dress,hat,dress"], 78, "found dress more than once"),
    "duplicate ids": (["ids.parquet", "--config", "ids.toml"], 65, "found 'P1' in rows 0 and 2"),
    "no image root": (["good.parquet", "--image-root", "none"], 78, "image root none: expected a folder"),
    "no such model folder": (["good.parquet", "--model", "./none"], 69, "model ./none: expected a folder"),
    "not a model": (
        ["good.parquet", "--model", "empty"],
        69,
        "model empty: expected a CLIP checkpoint in transformers' format, found no config.json",
    ),
    "bad device": (["good.parquet", "--device", "toaster"], 78, "--device toaster: expected a device of this machine"),
    "output is the manifest": (["good.parquet", "--output", "good.parquet"], 2, "use --in-place"),
    "output exists": (["good.parquet", "--output", "note.parquet"], 2, "use --overwrite"),
    "output in no folder": (["good.parquet", "--output", "none/out.parquet"], 2, "expected a file in an existing folder"),
    "output among the inputs": (["folder", "--output", "folder/b.parquet"], 2, "would be read as input next time"),
    "output in the glob": (["folder/*.parquet", "--output", "folder/b.parquet"], 2, "would be read as input next time"),
    "part in place": (["good.parquet", "--in-place", "--limit", "1"], 2, "leave one out"),
    "folder in place": (["folder", "--in-place"], 2, "expected a manifest of one file"),
    "glob without output": (["folder/*.parquet"], 2, "name a file"),
    "no argument": ([], 2, "Missing argument 'MANIFEST'"),
    "batch of none": (["good.parquet", "--batch-size", "0"], 2, "--batch-size"),
}


@pytest.fixture(scope="module")
def mistakes(tmp_path_factory, small_clip) -> Path:
    folder = tmp_path_factory.mktemp("mistakes")
    good = pa.table({"image_path": ["a.png"]})
    tables = {
        "good": good,
        "folder/a": good,
        "no-images": pa.table({"product_id": ["P1"], "url": ["x"]}),
        "two": pa.table({"image_path": ["a"], "image": [b"b"]}),
        "numbers": pa.table({"image": [1]}),
        "nulls": pa.table({"image_path": pa.array([None, None], pa.string())}),
        "repeated": pa.Table.from_arrays([pa.array(["a"])] * 3, names=["image_path", "title", "title"]),
        "mixed/a": pa.table({"image_path": ["a.png"], "n": [1]}),
        "mixed/b": pa.table({"image_path": ["a.png"], "n": ["1"]}),
        "tagged": pa.table({"image_path": ["a.png"], "tag_status": ["mine"]}),
        "ids": pa.table({"image_path": ["a", "b", "c"], "product_id": ["P1", "P2", "P1"]}),
    }
    for name, table in tables.items():
        (folder / name).parent.mkdir(exist_ok=True)
        pq.write_table(table, folder / f"{name}.parquet")
    (folder / "empty").mkdir()
    (folder / "note.parquet").write_text("not Parquet")
    (folder / "broken.toml").write_text("[model\n")
    (folder / "typo.toml").write_text('[model]\nnane = "x"\n')
    (folder / "ids.toml").write_text('[manifest]\nid_column = "product_id"\n')
    return folder


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_an_exit_code(
    mistake: str, mistakes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    arguments, code, words = MISTAKES[mistake]
    monkeypatch.chdir(mistakes)
    monkeypatch.setattr(sys, "argv", ["tagger", "run", *arguments])
    before = sorted(mistakes.rglob("*.parquet"))
    with pytest.raises(SystemExit) as ended:
        main()
    output, errors = capsys.readouterr()
    assert ended.value.code == code
    assert words in errors
    assert output == ""
    if "Usage" not in errors:
        assert [line.partition(" ")[0] for line in errors.splitlines()] == ["tagger:"] * len(errors.splitlines())
    assert sorted(mistakes.rglob("*.parquet")) == before


def test_sigterm_stops_a_run_and_publishes_nothing(small_clip, pictures, write_manifest, tmp_path):
    manifest = write_manifest(["0000.png"] * 200_000)
    command = [sys.executable, "-m", "tagger", "run", str(manifest)]
    command += ["--model", str(small_clip), "--image-root", str(pictures), "--workers", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    parts = tmp_path / "manifest.tagged.run" / "parts"
    deadline = time.monotonic() + 120
    while not list(parts.glob("*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 75
    assert errors.splitlines()[-1] == "tagger: stopped; nothing was published; run the same command again to continue"
    assert "Traceback" not in errors
    assert output == ""
    assert not manifest.with_name("manifest.tagged.parquet").exists()
    assert list(parts.glob("*.parquet"))


def test_the_console_script_is_installed():
    assert shutil.which("tagger", path=str(Path(sys.executable).parent)) is not None
