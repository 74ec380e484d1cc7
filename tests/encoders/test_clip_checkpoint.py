"""Checkpoints made to do harm: refused in one line, or loaded without what they ask for; in little memory and time."""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tagger.cli.main import main
from tagger.core.errors import ModelError
from tagger.encoders.clip import load_clip

CPU = torch.device("cpu")
MEMORY = 400 << 20  # more than loading the sample model takes
WEIGHTS = "model.safetensors"


class Bomb:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.mark,)


@pytest.fixture
def model(small_clip: Path, tmp_path: Path) -> Path:
    return shutil.copytree(small_clip, tmp_path / "models" / "clip")


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """The file that code of a checkpoint would leave."""
    return tmp_path / "executed"


@pytest.fixture(autouse=True)
def _little_memory_and_time(mark: Path) -> Iterator[None]:
    peak, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    signal.signal(signal.SIGALRM, lambda *_: os._exit(99))  # what hangs in a library hears nothing else
    signal.alarm(120)
    yield
    signal.alarm(0)
    assert time.monotonic() - began < 60
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) * 1024 < MEMORY
    assert not mark.exists()
    assert not [module for module in sys.modules if "evil" in module]


def refusal(model: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_clip(str(model), None, CPU).encode_prompts(["a dress"])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit(path: Path, *keys: str, **values: object) -> None:
    """Set values in a JSON file, inside the object that `keys` lead to."""
    content = json.loads(path.read_text())
    place = content
    for key in keys:
        place = place[key]
    place |= values
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "clip.pth", "weights.pkl", "last.ckpt", "__0_0.distcp"])
def test_a_pickle_is_refused_by_name_and_never_opened(model: Path, mark: Path, name: str):
    (model / WEIGHTS).unlink()
    (model / name).write_bytes(pickle.dumps(Bomb(mark)))
    assert f"found {name}, a pickle, which can run any code" in refusal(model)


def test_a_refused_pickle_ends_the_run_with_69(model: Path, mark: Path, write_manifest, monkeypatch, capsys):
    (model / WEIGHTS).unlink()
    (model / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(mark)))
    monkeypatch.setattr(sys, "argv", ["tagger", "run", str(write_manifest(["a.png"])), "--quiet", "--model", str(model)])
    with pytest.raises(SystemExit, match="69"):
        main()
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_pickle_under_the_name_of_safetensors_is_not_unpickled(model: Path, mark: Path):
    for bomb in (pickle.dumps(Bomb(mark)), pickle.dumps(Bomb(mark), 0)):
        (model / WEIGHTS).write_bytes(bomb)
        assert f"found: {WEIGHTS}" in refusal(model)


def test_a_pickle_beside_safetensors_is_not_looked_at(model: Path, mark: Path, encoder):
    (model / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(mark)))
    (model / "training_args.bin").write_bytes(pickle.dumps(Bomb(mark)))
    assert load_clip(str(model), None, CPU).fingerprint == encoder.fingerprint


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "processor_config.json"])
def test_code_that_comes_with_a_checkpoint_is_not_imported(model: Path, mark: Path, encoder, file: str):
    (model / "evil.py").write_text(f"from pathlib import Path\nPath({str(mark)!r}).touch()\nclass Evil: pass\n")
    classes = ("AutoConfig", "AutoModel", "AutoTokenizer", "AutoProcessor", "AutoImageProcessor")
    edit(model / file, auto_map=dict.fromkeys(classes, "evil.Evil"), trust_remote_code=True)
    assert load_clip(str(model), None, CPU).fingerprint == encoder.fingerprint


def test_what_a_config_asks_for_beside_sizes_is_not_done(model: Path, encoder, tmp_path: Path):
    os.mkfifo(tmp_path / "fifo.safetensors")
    wishes = {
        "quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True},
        "attn_implementation": "evil/kernel",
        "_attn_implementation": "evil/kernel",
        "transformers_weights": "../../fifo.safetensors",
        "return_dict": False,
        "torch_dtype": "float64",
        "_name_or_path": "evil/model",
    }
    edit(model / "config.json", **wishes)
    edit(model / "config.json", "text_config", **wishes)
    (model / "adapter_config.json").write_text('{"base_model_name_or_path": "evil/model", "peft_type": "LORA"}')
    (model / "adapter_model.bin").write_bytes(b"evil")
    assert load_clip(str(model), None, CPU).fingerprint == encoder.fingerprint


def test_files_that_a_tokenizer_names_elsewhere_are_not_opened(model: Path, encoder, tmp_path: Path):
    os.mkfifo(tmp_path / "fifo")
    names = ("vocab_file", "merges_file", "tokenizer_file", "special_tokens_map_file", "added_tokens_file", "chat_template_file")
    edit(model / "tokenizer_config.json", **{name: str(tmp_path / "fifo") for name in names})
    assert torch.equal(load_clip(str(model), None, CPU).encode_prompts(["a dress"]), encoder.encode_prompts(["a dress"]))


def index_of(model: Path, file: str) -> None:
    """Weights in parts, one of which is said to be `file`."""
    tensors = load_file(model / WEIGHTS)
    (model / WEIGHTS).unlink()
    save_file(tensors, model / "model-00001-of-00002.safetensors", metadata={"format": "pt"})
    names = dict.fromkeys(tensors, "model-00001-of-00002.safetensors") | {"logit_scale": file}
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("../../outside.safetensors", "found ../../outside.safetensors"),
        ("/etc/passwd", "found /etc/passwd"),
        ("pytorch_model-00001-of-00002.bin", "found pytorch_model-00001-of-00002.bin, a pickle"),
        ("../../outside.bin", "found ../../outside.bin, a pickle"),
        ("model-00002-of-00002.safetensors", "found model-00002-of-00002.safetensors"),
        ("config.json", "found config.json"),
    ],
)
def test_an_index_names_safetensors_beside_it_or_is_refused(model: Path, tmp_path: Path, small_clip: Path, file: str, words: str):
    for name in ("outside.safetensors", "outside.bin"):
        shutil.copy(small_clip / WEIGHTS, tmp_path / name)
    index_of(model, file)
    assert words in refusal(model)


def test_weights_in_parts_are_loaded(model: Path, encoder):
    index_of(model, "model-00001-of-00002.safetensors")
    assert load_clip(str(model), None, CPU).fingerprint == encoder.fingerprint


@pytest.mark.parametrize("file", [WEIGHTS, "config.json", "tokenizer.json", "tokenizer_config.json", "processor_config.json"])
def test_a_file_that_is_a_link_out_of_the_folder_is_refused(model: Path, tmp_path: Path, file: str):
    (model / file).rename(tmp_path / file)
    (model / file).symlink_to(tmp_path / file)
    assert f"found {file}, which leads to {(tmp_path / file).resolve()}" in refusal(model)


def in_hub_cache(model: Path) -> Path:
    """The same checkpoint as the hub's cache keeps it."""
    repository = model.parent / "models--someone--clip"
    (repository / "blobs").mkdir(parents=True)
    snapshot = repository / "snapshots" / "0123abc"
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted(model.iterdir())):
        file.rename(repository / "blobs" / f"{number}")
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    return snapshot


def test_the_links_of_the_hubs_own_cache_are_followed(model: Path, encoder):
    assert load_clip(str(in_hub_cache(model)), None, CPU).fingerprint == encoder.fingerprint


def test_a_link_out_of_the_hubs_cache_is_refused(model: Path, tmp_path: Path):
    snapshot = in_hub_cache(model)
    blob = (snapshot / WEIGHTS).resolve()
    blob.rename(tmp_path / "outside")
    blob.symlink_to(tmp_path / "outside")
    assert f"found {WEIGHTS}, which leads to" in refusal(snapshot)


@pytest.mark.parametrize(
    "file", ["config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json", "chat_template.jinja", WEIGHTS]
)
def test_a_fifo_is_not_waited_for(model: Path, file: str):
    (model / file).unlink(missing_ok=True)
    os.mkfifo(model / file)
    assert f"expected {file} to be a file" in refusal(model)


@pytest.mark.parametrize(
    "file", ["config.json", "tokenizer.json", "tokenizer_config.json", "merges.txt", "generation_config.json"]
)
def test_a_text_of_terabytes_is_not_read(model: Path, file: str):
    (model / file).touch()
    os.truncate(model / file, 1 << 40)
    assert f"expected {file} to have at most 134,217,728 bytes, found 1,099,511,627,776" in refusal(model)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json", "processor_config.json"])
@pytest.mark.parametrize("content", ["[" * 1_000_000, '{"a":' * 200_000, "[]", "null", "\0", '{"a": NaN', "{}"], ids=range(7))
def test_json_of_another_kind_is_one_line(model: Path, file: str, content: str):
    (model / file).write_text(content)
    if (file, content) in {("processor_config.json", "{}"), ("tokenizer_config.json", "{}")}:
        return  # all defaults; judged elsewhere
    assert refusal(model).startswith(f"model {model}: expected ")


def tensors_at(*offsets: tuple[int, int], size: int = 16) -> bytes:
    entries = {f"t{number}": {"dtype": "F32", "shape": [2], "data_offsets": pair} for number, pair in enumerate(offsets)}
    header = json.dumps(entries).encode()
    return len(header).to_bytes(8, "little") + header + bytes(size)


@pytest.mark.parametrize(
    "content",
    [
        (1 << 40).to_bytes(8, "little") + b"{}",
        ((1 << 64) - 1).to_bytes(8, "little") + b"{}",
        tensors_at((0, 8), (4, 12), size=12),
        tensors_at((0, 8), (0, 8), size=8),
        tensors_at((0, 8), (16, 24), size=24),
        tensors_at((0, 8), (8, 1 << 60)),
        tensors_at((8, 0)),
        tensors_at((0, 8)).replace(b"[2]", b"[1]"),
        tensors_at((0, 8)).replace(b"[2]", b"[9]"),
        tensors_at((0, 8)).replace(b"F32", b"F99"),
        b"",
    ],
    ids=["1 TB header", "16 EB header", "overlap", "twice", "gap", "end at 1 EB", "backwards", "small", "large", "type", "empty"],
)
def test_safetensors_whose_header_lies_are_refused(model: Path, content: bytes):
    (model / WEIGHTS).write_bytes(content)
    assert f"found: {WEIGHTS}" in refusal(model)


def test_a_file_of_a_terabyte_with_a_header_that_fits_it_is_refused_before_it_is_read(model: Path):
    size = 1 << 40
    header = json.dumps({"logit_scale": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}).encode()
    (model / WEIGHTS).write_bytes(len(header).to_bytes(8, "little") + header)
    os.truncate(model / WEIGHTS, 8 + len(header) + size)
    assert refusal(model).startswith(f"model {model}: expected ")


@pytest.mark.parametrize(
    ("tower", "values"),
    [
        ("text_config", {"num_hidden_layers": 10**9}),
        ("vision_config", {"num_hidden_layers": 100}),
        ("text_config", {"hidden_size": 10**6, "num_attention_heads": 1}),
        ("vision_config", {"hidden_size": 10**12, "num_attention_heads": 1}),
        ("vision_config", {"intermediate_size": 10**10}),
        ("text_config", {"vocab_size": 10**11}),
        ("text_config", {"max_position_embeddings": 10**11}),
        ("vision_config", {"image_size": 10**9}),
        ("vision_config", {"patch_size": 0}),
        ("vision_config", {"patch_size": -8}),
        ("vision_config", {"num_attention_heads": 0}),
        ("vision_config", {"num_channels": 10**9}),
        ("vision_config", {"num_hidden_layers": -1}),
        ("vision_config", {"num_hidden_layers": "six"}),
        ("vision_config", {"hidden_act": "evil"}),
        ("text_config", {"hidden_size": 10**30}),
        ("vision_config", {"num_hidden_layers": 0}),
    ],
    ids=str,
)
def test_a_config_that_asks_for_more_than_the_weights_is_refused_before_memory_is_taken(
    model: Path, tower: str, values: dict[str, object]
):
    edit(model / "config.json", tower, **values)
    assert refusal(model).startswith(f"model {model}: expected ")


def test_weights_that_no_clip_has_are_not_loaded(model: Path, encoder):
    save_file(load_file(model / WEIGHTS) | {"evil": torch.ones(3)}, model / WEIGHTS, metadata={"format": "pt"})
    assert load_clip(str(model), None, CPU).fingerprint == encoder.fingerprint


def test_a_scale_that_overflows_is_refused(model: Path):
    save_file(load_file(model / WEIGHTS) | {"logit_scale": torch.tensor(1000.0)}, model / WEIGHTS, metadata={"format": "pt"})
    assert "expected finite weights" in refusal(model)


@pytest.mark.parametrize(
    "values",
    [
        {"crop_size": {"height": 10**6, "width": 10**6}},
        {"size": {"height": 10**6, "width": 10**6}, "do_center_crop": False},
        {"size": {"shortest_edge": "64"}},
        {"image_std": [0, 1, 1]},
        {"image_std": [1, 1]},
        {"image_mean": [float("nan"), 0, 0]},
        {"image_mean": "evil"},
        {"rescale_factor": 0},
        {"rescale_factor": float("inf")},
        {"resample": "evil"},
    ],
    ids=str,
)
def test_an_image_processor_that_gives_no_images_is_refused(model: Path, values: dict[str, object]):
    edit(model / "processor_config.json", "image_processor", **values)
    assert refusal(model).startswith(f"model {model}: expected ")


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(model: Path):
    content = json.loads((model / "tokenizer.json").read_text())
    content["model"]["vocab"] |= {token: number + 5000 for token, number in content["model"]["vocab"].items()}
    (model / "tokenizer.json").write_text(json.dumps(content))
    assert "expected a tokenizer" in refusal(model)
