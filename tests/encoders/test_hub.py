"""Copies of a hub's checkpoints, from a real server on loopback, by the command that people type."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save

import tagger
from tagger.core.errors import ModelError
from tagger.encoders.clip import load_clip
from tagger.encoders.hub import verify
from tagger.encoders.known_models import licence_of
from tagger.encoders.pinned import read_pinned
from tests.helpers.checkpoints import make_open_clip
from tests.helpers.hub_server import HubServer

NAME = "acme/clip"
FILES = ["config.json", "model.safetensors", "processor_config.json", "tokenizer.json", "tokenizer_config.json"]


@pytest.fixture
def hub(small_clip: Path) -> Iterator[HubServer]:
    server = HubServer()
    files = files_of(small_clip)
    server.put(NAME, {**files, "pytorch_model.bin": b"a pickle", "handler.py": b"print()", "onnx/config.json": b"{}"})
    yield server
    server.stop()


@pytest.fixture(scope="module")
def copied(small_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy that was pulled."""
    server, folder = HubServer(), tmp_path_factory.mktemp("pulled") / "clip"
    server.put(NAME, files_of(small_clip))
    assert pull(server, folder).returncode == 0
    server.stop()
    return folder


@pytest.fixture
def copy(copied: Path, tmp_path: Path) -> Path:
    return shutil.copytree(copied, tmp_path / "clip")


def files_of(model: Path) -> dict[str, bytes]:
    """A model's files, the largest last."""
    return {path.name: path.read_bytes() for path in sorted(model.iterdir(), key=lambda path: path.stat().st_size)}


def large(small_clip: Path) -> bytes:
    """The sample model's weights in more bytes than are written at once (10 MiB, which huggingface_hub reads before)."""
    return save({name: weight.double() for name, weight in load_file(small_clip / "model.safetensors").items()})


def start(hub: HubServer, folder: Path, *options: str, name: str = NAME, **environment: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "tagger",
        "models",
        "pull",
        name,
        "--to",
        str(folder),
        *options,
    ]
    told = {**os.environ, **hub.environment, "HF_HOME": str(folder.parent / "hf"), **environment}
    return subprocess.Popen(command, env=told, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def pull(hub: HubServer, folder: Path, *options: str, **more: str) -> subprocess.CompletedProcess[str]:
    with start(hub, folder, *options, **more) as process:
        output, errors = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def refusal(done: subprocess.CompletedProcess[str], code: int = 69) -> str:
    assert (done.returncode, done.stdout) == (code, "")
    [line] = done.stderr.splitlines()
    return line.removeprefix("tagger: ")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_copy_holds_what_a_clip_needs_and_says_what_it_is(hub, tmp_path, small_clip):
    done = pull(hub, tmp_path / "clip")
    commit = hub.branches[NAME, "main"]
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'clip'}\n")
    assert done.stderr.splitlines() == ["tagger: 5 of 5 files fetched", f"{NAME} at {commit}: whole, 4.9 MB"]
    assert names(tmp_path / "clip") == sorted([*FILES, "tagger-model.json"])
    assert sorted(hub.fetched()) == FILES
    for name in FILES:
        assert (tmp_path / "clip" / name).read_bytes() == (small_clip / name).read_bytes()
        assert not (tmp_path / "clip" / name).is_symlink()
    described = json.loads((tmp_path / "clip" / "tagger-model.json").read_text())
    assert (described["repository"], described["commit"], sorted(described["files"])) == (NAME, commit, FILES)
    assert described["files"]["model.safetensors"]["size"] == 4877378


def test_pulling_again_fetches_nothing(hub, copy):
    hub.put(NAME, {name: (copy / name).read_bytes() for name in FILES})
    commit = json.loads((copy / "tagger-model.json").read_text())["commit"]
    hub.commits[NAME, commit] = hub.commits.pop((NAME, hub.branches[NAME, "main"]))
    hub.branches[NAME, "main"] = commit
    before = (copy / "tagger-model.json").stat()
    done = pull(hub, copy)
    assert (done.returncode, hub.bodies) == (0, [])
    assert (copy / "tagger-model.json").stat() == before
    hub.stop()
    assert pull(hub, copy, "--revision", commit).returncode == 0  # a commit that is there, whole, needs no hub


def test_a_branch_is_pinned_to_the_commit_that_it_is_now(hub, tmp_path, small_clip):
    files = files_of(small_clip)
    old = hub.put(NAME, {**files, "vocab.json": b"{}"}, "old")
    new = hub.put(NAME, files, "main")
    assert pull(hub, tmp_path / "clip", "--revision", "old").returncode == 0
    assert verify(tmp_path / "clip").commit == old
    hub.bodies.clear()
    assert pull(hub, tmp_path / "clip").returncode == 0
    assert verify(tmp_path / "clip").commit == new
    assert hub.bodies == []  # the rest is the same
    assert not (tmp_path / "clip" / "vocab.json").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_damaged_file_alone_is_fetched_again(hub, copy, small_clip, name):
    whole = (copy / name).read_bytes()
    (copy / name).write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    with pytest.raises(ModelError, match=f"{name}: expected SHA-256 .*, found .*; pull it again"):
        verify(copy)
    assert pull(hub, copy).returncode == 0
    assert hub.fetched() == [name]
    assert (copy / name).read_bytes() == whole
    verify(copy)


def test_a_transfer_that_is_cut_off_goes_on_where_it_ended(hub, tmp_path, small_clip):
    hub.put(NAME, files_of(small_clip) | {"model.safetensors": large(small_clip)})
    hub.faults["model.safetensors"] = ["cut"]
    assert pull(hub, tmp_path / "clip").returncode == 0
    assert [asked for name, asked in hub.bodies if name == "model.safetensors"] == [None, f"bytes={10 << 20}-"]
    verify(tmp_path / "clip")


def test_a_pull_that_was_killed_goes_on_where_it_ended(hub, tmp_path, small_clip):
    hub.put(NAME, files_of(small_clip) | {"model.safetensors": large(small_clip)})
    hub.faults["model.safetensors"] = ["stall"]
    folder = tmp_path / "clip"
    process = start(hub, folder)
    assert hub.stalled.wait(60)
    deadline = time.monotonic() + 30
    while _unfinished(folder) < 10 << 20 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.communicate()
    assert not (folder / "tagger-model.json").exists()
    with pytest.raises(ModelError, match="found no tagger-model.json in it; pull it"):
        verify(folder)
    hub.bodies.clear()
    assert pull(hub, folder).returncode == 0
    assert hub.bodies[0] == ("model.safetensors", f"bytes={10 << 20}-")
    assert hub.fetched() == ["model.safetensors"]
    assert names(folder) == sorted([*FILES, "tagger-model.json"])
    verify(folder)


def _unfinished(folder: Path) -> int:
    """Bytes that there are of the file that is being fetched."""
    return max((path.stat().st_size for path in (folder / ".unfinished").glob("*") if len(path.name) == 64), default=0)


def test_a_stopped_pull_exits_with_75_and_leaves_nothing_complete(hub, tmp_path):
    hub.faults["model.safetensors"] = ["stall"]
    process = start(hub, tmp_path / "clip")
    assert hub.stalled.wait(60)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75
    assert errors.strip() == "tagger: stopped; nothing was published; run the same command again to continue"
    assert not (tmp_path / "clip" / "tagger-model.json").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_other_content_than_the_hub_names_is_refused(hub, tmp_path, name):
    hub.faults[name] = ["wrong"]
    line = refusal(pull(hub, tmp_path / "clip"))
    assert line.startswith(f"model {NAME}: expected {name} with the hash ")
    assert not (tmp_path / "clip" / name).exists()
    assert not (tmp_path / "clip" / "tagger-model.json").exists()
    assert pull(hub, tmp_path / "clip").returncode == 0


def test_a_repository_of_pickles_is_refused_and_a_conversion_named(hub, tmp_path, small_clip):
    files = {"config.json": (small_clip / "config.json").read_bytes(), "pytorch_model.bin": b"a pickle"}
    hub.put(NAME, files)
    expected = (
        f"model {NAME}: expected safetensors weights, found only pytorch_model.bin, a pickle, which can run any code when it is "
        "loaded; "
    )
    assert refusal(pull(hub, tmp_path / "clip")) == expected + "name another, or convert it where you trust it"
    offer = {"title": "Adding `safetensors` variant of this model", "num": 7, "status": "open", "isPullRequest": True}
    offer |= {"createdAt": "2026-01-01T00:00:00.000Z", "repo": {"name": NAME, "type": "model"}}
    hub.offers = [{**offer, "num": 9, "author": {"name": "mallory"}}, {**offer, "author": {"name": "SFconvertbot"}}]
    assert refusal(pull(hub, tmp_path / "clip")) == expected + "the hub's own conversion is --revision refs/pr/7"
    assert hub.bodies == []
    hub.put(NAME, files_of(small_clip), "refs/pr/7")
    assert pull(hub, tmp_path / "clip", "--revision", "refs/pr/7").returncode == 0


def test_a_checkpoint_that_cannot_be_loaded_is_not_marked_complete(hub, tmp_path, small_clip):
    files = files_of(small_clip)
    hub.put(NAME, {**files, "model.safetensors": files["model.safetensors"][:-1000]})
    assert "expected a CLIP checkpoint in transformers' format with safetensors weights" in refusal(pull(hub, tmp_path / "clip"))
    assert not (tmp_path / "clip" / "tagger-model.json").exists()


def test_what_the_hub_does_not_have_is_one_line(hub, tmp_path):
    endpoint = hub.environment["HF_ENDPOINT"]
    line = refusal(pull(hub, tmp_path / "clip", name="acme/none"))
    assert (
        line
        == f"model acme/none: expected a model on {endpoint}, found none; correct the name, or set HF_TOKEN for a private one"
    )
    line = refusal(pull(hub, tmp_path / "clip", "--revision", "v9"))
    assert line == f"model {NAME}: expected a revision v9, found no such branch, tag or commit; correct --revision"
    assert "expected the name of a model on the hub" in refusal(pull(hub, tmp_path / "clip", name="./clip"))


def test_no_hub_is_one_line(hub, tmp_path):
    line = refusal(pull(hub, tmp_path / "clip", HF_HUB_OFFLINE="1"))
    assert line.startswith(f"model {NAME}: expected it from {hub.environment['HF_ENDPOINT']}, found: ")
    hub.stop()
    assert "Connection refused" in refusal(pull(hub, tmp_path / "clip"))


def test_a_folder_of_something_else_is_left_alone(hub, tmp_path, copy):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.jpg").touch()
    line = refusal(pull(hub, tmp_path / "photos"), code=2)
    assert line == f"--to {tmp_path / 'photos'}: expected a folder with nothing else in it, found 1.jpg; choose another"
    hub.put("acme/other", hub.commits[NAME, hub.branches[NAME, "main"]])
    line = refusal(pull(hub, copy, name="acme/other"), code=2)
    assert line == f"--to {copy}: expected a copy of acme/other, or nothing, found one of {NAME}; choose another"
    assert hub.bodies == []


def test_verify_names_every_file_that_is_not_as_it_was(copy):
    commit = verify(copy).commit
    assert len(commit) == 40
    (copy / "config.json").unlink()
    (copy / "tokenizer.json").write_text("{}")
    (copy / "vocab.json").write_text("{}")
    (copy / "additional_chat_templates").mkdir()
    (copy / "additional_chat_templates" / "tools.jinja").touch()
    with pytest.raises(ModelError) as caught:
        verify(copy)
    assert str(caught.value).split("\n") == [
        f"{copy}/config.json: expected a readable file, found: No such file or directory; pull it again",
        f"{copy}/tokenizer.json: expected 23,874 bytes, found 2; pull it again",
        f"{copy}/additional_chat_templates/tools.jinja: expected no such file, which a run might read, found one; remove it",
        f"{copy}/vocab.json: expected no such file, which a run might read, found one; remove it",
    ]
    (copy / "tagger-model.json").write_text('{"files": {"../config.json": {}}}')
    with pytest.raises(ModelError, match="expected what `tagger models pull` writes, found repository: Field required"):
        verify(copy)


def test_a_run_with_a_copy_says_its_commit(copy, pictures, write_manifest):
    summary = tagger.run(write_manifest(["0000.png"]), model=copy, image_root=pictures, labels=["shirt", "dress"])
    assert summary.model["revision"] == verify(copy).commit


def in_parts(model: Path) -> dict[str, bytes]:
    """A model's files, its weights in two parts."""
    tensors = load_file(model / "model.safetensors")
    names = {key: f"model-0000{1 + number % 2}-of-00002.safetensors" for number, key in enumerate(sorted(tensors))}
    parts = {part: save({key: tensors[key] for key in names if names[key] == part}) for part in set(names.values())}
    index = {"model.safetensors.index.json": json.dumps({"weight_map": names}).encode()}
    return {**files_of(model), **parts, **index}


def with_others(model: Path, legacy: dict[str, bytes]) -> dict[str, bytes]:
    """A repository of all files that a CLIP may consist of (legacy: of an older tokenizer), and of others like them."""
    processor = json.loads((model / "processor_config.json").read_text())["image_processor"]
    content = in_parts(model) | {"preprocessor_config.json": json.dumps(processor).encode()} | legacy
    config = json.loads(content["tokenizer_config.json"])
    content["tokenizer_config.json"] = json.dumps({**config, "fast_tokenizer_files": ["tokenizer.4.0.0.json"]}).encode()
    others = ("generation_config.json", "adapter_config.json", "onnx/config.json", "tokenizer.4.0.0.json", "notes.txt")
    templates = ("chat_template.jinja", "additional_chat_templates/tools.jinja", "chat_template.json")
    return {**content, **dict.fromkeys((*others, *templates, "special_tokens_map.json", "added_tokens.json"), b"{}")}


def record_opened(folder: Path, names: set[str]) -> None:
    """Add the names of the files that are opened in a folder from now on; there is no way to remove an audit hook."""

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and isinstance(arguments[0], (str, bytes)):
            path = Path(os.fsdecode(arguments[0]))
            if path.is_relative_to(folder):
                names.add(path.relative_to(folder).as_posix())

    sys.addaudithook(note)


@pytest.mark.parametrize("weights", ["whole", "in parts"])
@pytest.mark.parametrize("tokenizer", ["tokenizer.json", "vocab.json"])
def test_what_a_run_reads_is_pulled_and_pinned_and_nothing_else(hub, tmp_path, small_clip, weights, tokenizer, encoder):
    model = json.loads((small_clip / "tokenizer.json").read_text())["model"]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    legacy = {"vocab.json": json.dumps(model["vocab"]).encode(), "merges.txt": "\n".join(["#version: 0.2", *merges]).encode()}
    files = with_others(small_clip, legacy)
    if weights == "in parts":
        del files["model.safetensors"]
    if tokenizer != "tokenizer.json":
        del files["tokenizer.json"]
    hub.put(NAME, files)
    folder = tmp_path / "clip"
    assert pull(hub, folder).returncode == 0
    pulled = set(hub.fetched())
    pinned = read_pinned(folder)
    assert pinned is not None
    assert pulled == set(pinned.files) == {path.name for path in folder.iterdir()} - {"tagger-model.json"}
    opened: set[str] = set()
    record_opened(folder, opened)
    loaded = load_clip(str(folder), None, torch.device(encoder.device))
    assert loaded.fingerprint == encoder.fingerprint
    assert torch.equal(loaded.encode_prompts(["a dress"]), encoder.encode_prompts(["a dress"]))
    assert opened <= pulled
    never_needed = {"preprocessor_config.json", "processor_config.json", "vocab.json", "merges.txt", "tokenizer.json"}
    assert pulled - opened <= never_needed


@pytest.mark.parametrize("details", [{}, {"config": {"model_type": "siglip", "auto_map": {"AutoModel": "marqo.Model"}}}])
def test_a_checkpoint_of_open_clip_is_pulled_with_its_licence(tmp_path: Path, details: dict[str, object]):
    """With a configuration of transformers whose code would come with it, or without any."""
    hub, model = HubServer(), make_open_clip(tmp_path / "model")
    extra = {"config.json": json.dumps(details["config"]).encode(), "model.safetensors": b"of its own code"} if details else {}
    hub.put(NAME, {**files_of(model), **extra, "open_clip_pytorch_model.bin": b"a pickle", "code.py": b"print()"})
    hub.details = {"cardData": {"license": "apache-2.0"}, **details}
    done = pull(hub, tmp_path / "copy")
    hub.stop()
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'copy'}\n"), done.stderr
    files = ["open_clip_config.json", "open_clip_model.safetensors"]
    assert names(tmp_path / "copy") == sorted([*files, *(["config.json"] if details else []), "tagger-model.json"])
    assert licence_of(str(tmp_path / "copy")) == "apache-2.0"
    here = load_clip(str(model), None, torch.device("cpu")).fingerprint
    assert load_clip(str(tmp_path / "copy"), None, torch.device("cpu")).fingerprint == here
