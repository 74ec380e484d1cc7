"""A head's file: written and read the same, and refused in one line where it is damaged, foreign or another's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save, save_file

from tagger.core.errors import ConfigError, ModelError
from tagger.tagging.head_file import HeadDescription, HeldOut, read_head, to_bytes
from tagger.tagging.heads import KernelHead, LinearHead

DIGESTS = np.arange(64, dtype=np.uint8).reshape(2, 32)
LINEAR = LinearHead(torch.tensor([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]]), torch.tensor([0.25, -0.25]))
KERNEL = KernelHead(LINEAR.weight, LINEAR.bias, torch.eye(3), torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]]), 5.5)
EMBEDDINGS = torch.tensor([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0]])


def description(beta: float | None) -> HeadDescription:
    return HeadDescription(
        attribute="kind",
        labels=("hat", "bag"),
        encoder="weights",
        prompts="prompts",
        method="gda",
        blend=0.5,
        beta=beta,
        held_out=HeldOut(accuracy=0.9, zero_shot_accuracy=0.8, interval=(0.05, 0.15), probability=0.99, folds=5),
        rows=2,
        manifest="manifest",
        seed=0,
        versions={},
    )


def write(path: Path, head: LinearHead | KernelHead) -> Path:
    path.write_bytes(to_bytes(head, description, DIGESTS))
    return path


@pytest.mark.parametrize("head", [LINEAR, KERNEL], ids=["linear", "kernel"])
def test_a_head_is_read_as_it_was_written(head: LinearHead | KernelHead, tmp_path: Path):
    found = read_head(str(write(tmp_path / "head.safetensors", head)))
    assert found.description == description(getattr(head, "beta", None))
    np.testing.assert_array_equal(found.head()(EMBEDDINGS.numpy()), head(EMBEDDINGS))
    assert found.has_seen(np.stack([DIGESTS[1], DIGESTS[0] + 1, DIGESTS[0]])).tolist() == [True, False, True]


def test_the_fingerprint_is_that_of_the_logits_and_not_of_the_file(tmp_path: Path):
    one = read_head(str(write(tmp_path / "a.safetensors", LINEAR)))
    later = to_bytes(LINEAR, lambda beta: description(beta).model_copy(update={"manifest": "another", "rows": 3}), DIGESTS[:1])
    (tmp_path / "b.safetensors").write_bytes(later)
    assert read_head(str(tmp_path / "b.safetensors")).fingerprint == one.fingerprint
    other = write(tmp_path / "c.safetensors", LinearHead(LINEAR.weight, LINEAR.bias + 1e-6))
    assert read_head(str(other)).fingerprint != one.fingerprint


def test_a_head_of_other_labels_attribute_prompts_or_weights_is_refused(tmp_path: Path):
    found = read_head(str(write(tmp_path / "head.safetensors", LINEAR)))
    found.check("kind", ("hat", "bag"), "prompts")
    found.check_encoder("weights")
    with pytest.raises(ConfigError, match='attribute "sort": head .*: expected a head of this attribute, found one of kind'):
        found.check("sort", ("hat", "bag"), "prompts")
    with pytest.raises(ConfigError, match="expected one fitted for the labels bag, hat, found one for hat, bag; run"):
        found.check("kind", ("bag", "hat"), "prompts")
    with pytest.raises(ConfigError, match="expected one fitted beside these prompts, found other prompts"):
        found.check("kind", ("hat", "bag"), "others")
    with pytest.raises(ConfigError, match="expected one fitted on embeddings of this model, found one of other weights"):
        found.check_encoder("others")


def test_a_file_that_is_no_head_is_refused_in_one_line(tmp_path: Path):
    path = tmp_path / "head.safetensors"
    with pytest.raises(ModelError, match="expected a readable file, found: No such file or directory"):
        read_head(str(path))
    data = to_bytes(KERNEL, description, DIGESTS)
    for torn in (b"", b"no safetensors", data[:-1], data[:100], b"\xff" * 8 + data):
        path.write_bytes(torn)
        with pytest.raises(ModelError, match="expected a whole safetensors file, found: ") as caught:
            read_head(str(path))
        assert "\n" not in str(caught.value)
    save_file({"weight": np.zeros((2, 3), np.float32)}, path)
    with pytest.raises(ModelError, match="expected a file of `tagger train head`, found other weights"):
        read_head(str(path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"bias": np.zeros(3, np.float32)},
            r"expected the tensors weight, bias and fitted of a head for 2 labels, found bias \(3,\)",
        ),
        ({"weight": np.zeros((2, 3), np.float16)}, "expected the tensors weight, bias and fitted"),
        ({"keys": np.zeros((2, 3), np.float32)}, "expected the tensors weight, bias and fitted"),
        ({"fitted": np.zeros((2, 31), np.uint8)}, "expected the tensors weight, bias and fitted"),
        ({"weight": np.full((2, 3), np.nan, np.float32)}, "expected finite weights, found NaN or infinity"),
    ],
)
def test_other_tensors_are_refused(changes: dict[str, np.ndarray], message: str, tmp_path: Path):
    tensors = load(to_bytes(LINEAR, description, DIGESTS))
    path = tmp_path / "head.safetensors"
    path.write_bytes(save({**tensors, **changes}, {"tagger": description(None).model_dump_json()}))
    with pytest.raises(ModelError, match=message):
        read_head(str(path))


def test_another_description_is_refused(tmp_path: Path):
    path = tmp_path / "head.safetensors"
    content = {**json.loads(description(None).model_dump_json()), "labels": ["hat"]}
    path.write_bytes(save({"weight": np.zeros((2, 3), np.float32)}, {"tagger": json.dumps(content)}))
    with pytest.raises(ModelError, match="expected what `tagger train head` writes, found labels: Tuple should have at least 2"):
        read_head(str(path))


def test_a_head_that_is_not_finite_is_not_written():
    with pytest.raises(ModelError, match="expected weights that are finite, found NaN or infinity; try another --method"):
        to_bytes(LinearHead(LINEAR.weight * torch.nan, LINEAR.bias), description, DIGESTS)
