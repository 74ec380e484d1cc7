"""SigLIP, SigLIP 2 and MetaCLIP 2 through tagger equal the same through transformers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

import tagger
from tagger.core.errors import ConfigError, ModelError
from tagger.encoders.backends import in_precision
from tagger.encoders.clip import load_clip
from tests.helpers.checkpoints import MAKERS, OPEN_CLIP
from tests.helpers.keywords import keywords

CPU = torch.device("cpu")
LABELS = ("shirt", "Kleid", "zapatos", "靴")


@pytest.fixture(scope="module", params=MAKERS | OPEN_CLIP)
def any_checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return (MAKERS | OPEN_CLIP)[request.param](tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module", params=MAKERS)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return MAKERS[request.param](tmp_path_factory.mktemp(request.param))


def reference(folder: Path, paths: list[Path]) -> torch.Tensor:
    """The probabilities of LABELS by transformers alone, in fp32."""
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    processor, tokenizer = AutoImageProcessor.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    images = [Image.open(path).convert("RGB") for path in paths]
    siglip = model.config.model_type == "siglip"
    # SigLIP is trained on lower case, all prompts filled up to one length, and without a mask.
    texts = [f"A photo of a {label}." for label in LABELS]
    texts = [text.lower() for text in texts] if siglip else texts
    padding = {"padding": "max_length", "max_length": model.config.text_config.max_position_embeddings}
    tokens = tokenizer(texts, return_tensors="pt", **(padding if siglip else {"padding": True}))
    with torch.inference_mode():
        found = model(input_ids=tokens["input_ids"], **processor(images=images, return_tensors="pt"))
    return found.logits_per_image.softmax(1)


def probabilities(model: Path, paths: list[Path], write_manifest: Callable[..., Path]) -> torch.Tensor:
    """The same through `tagger.run`."""
    settings = {"attribute": [{"name": "kind", "labels": list(LABELS), "templates": ["A photo of a {label}."]}]}
    options = keywords(model=model, image_root="/", precision="fp32", exact_preprocessing=True)
    tops = tagger.run(write_manifest([str(path) for path in paths]), settings, **options).read()["kind_top"].to_pylist()
    return torch.tensor([[next(one["confidence"] for one in top if one["label"] == label) for label in LABELS] for top in tops])


def test_probabilities_equal_transformers(checkpoint: Path, pictures: Path, write_manifest: Callable[..., Path]):
    paths = [pictures / f"{number:04d}.png" for number in range(40)]
    assert torch.allclose(probabilities(checkpoint, paths, write_manifest), reference(checkpoint, paths), atol=1e-4)


@pytest.fixture(scope="module", params=OPEN_CLIP)
def open_checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return OPEN_CLIP[request.param](tmp_path_factory.mktemp("model"))


def test_probabilities_equal_open_clip(open_checkpoint: Path, pictures: Path, write_manifest: Callable[..., Path]):
    import open_clip

    model, _, process = open_clip.create_model_and_transforms(f"local-dir:{open_checkpoint}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{open_checkpoint}")
    paths = [pictures / f"{number:04d}.png" for number in range(40)]
    with torch.inference_mode():
        images = model.eval().encode_image(torch.stack([process(Image.open(path)) for path in paths]), normalize=True)
        texts = model.encode_text(tokenizer([f"A photo of a {label}." for label in LABELS]), normalize=True)
        expected = (model.logit_scale.exp() * images @ texts.T).softmax(1)
    assert torch.allclose(probabilities(open_checkpoint, paths, write_manifest), expected, atol=1e-4)


def test_an_embedding_does_not_depend_on_its_place_in_the_batch(any_checkpoint: Path):
    encoder = load_clip(str(any_checkpoint), None, CPU)
    pixels = torch.randint(0, 256, (8, 3, *encoder.preprocessing.size), dtype=torch.uint8)
    assert torch.equal(encoder.encode(pixels), encoder.encode(pixels.flip(0)).flip(0))


def test_a_prompt_does_not_depend_on_the_others(any_checkpoint: Path):
    encoder = load_clip(str(any_checkpoint), None, CPU)
    together = encoder.encode_prompts(["a shirt", "a photo of a dress", "Kleid"])
    assert torch.equal(together[1:2], encoder.encode_prompts(["a photo of a dress"]))
    assert together.norm(dim=1).tolist() == pytest.approx([1, 1, 1])


@pytest.mark.parametrize(("backend", "precision"), [("torch", "bf16"), ("openvino", "fp32"), ("openvino", "int8")])
def test_towers_of_other_back_ends_compute_the_same(any_checkpoint: Path, backend: str, precision: str):
    encoder = load_clip(str(any_checkpoint), None, CPU)
    pixels = torch.randint(0, 256, (8, 3, *encoder.preprocessing.size), dtype=torch.uint8)
    other = in_precision(encoder, backend, precision, at_once=8, folder=None, images=lambda: iter([pixels]))
    cosines = (encoder.encode(pixels) * other.encode(pixels)).sum(1)
    assert cosines.min() > (0.999999 if precision == "fp32" else 0.99)
    assert other.fingerprint != encoder.fingerprint


def test_a_prompt_that_is_too_long_is_one_line(any_checkpoint: Path):
    with pytest.raises(ConfigError, match=r"prompt 'shirt shirt.*: expected at most \d+ tokens, which the model reads, found"):
        load_clip(str(any_checkpoint), None, CPU).encode_prompts(["shirt " * 40])


def test_no_words_are_learned_before_another_text_tower(tmp_path: Path):
    encoder = load_clip(str(MAKERS["siglip"](tmp_path / "model")), None, CPU)
    with pytest.raises(ConfigError, match="learned prompts: expected CLIP's text tower, found another; choose another --method"):
        encoder.embed_words("a photo of a")


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("text_cfg", "hf_model_name", "roberta-base"),
        ("text_cfg", "tokenizer_mode", "clips"),
        ("text_cfg", "tokenizer_kwargs", {"trust_remote_code": True}),
        ("vision_cfg", "timm_model_name", "hf-hub:someone/model"),
        ("vision_cfg", "timm_model_pretrained", True),
    ],
)
def test_a_configuration_of_open_clip_that_asks_for_more_is_refused(tmp_path: Path, part: str, key: str, value: Any):
    folder = OPEN_CLIP["open_clip"](tmp_path / "model")
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"][part][key] = value
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=rf"expected a configuration that fetches nothing .* found model_cfg\.{part}\.{key}"):
        load_clip(str(folder), None, CPU)


@pytest.mark.parametrize(
    ("kind", "key", "value", "words"),
    [
        (
            "siglip",
            "model_type",
            "siglip2",
            "expected a checkpoint .* of the kind clip, metaclip_2, siglip, found siglip2; name another of one resolution",
        ),
        ("siglip", "model_type", "align", "found align; name another"),
        ("siglip", "model_type", "clip", "expected all weights of a clip, found"),
        ("metaclip_2", "model_type", "siglip", "expected all weights of a siglip, found"),
    ],
)
def test_another_kind_is_refused(tmp_path: Path, kind: str, key: str, value: str, words: str):
    folder = MAKERS[kind](tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, key: value}))
    with pytest.raises(ModelError, match=words):
        load_clip(str(folder), None, CPU)


def test_an_image_processor_of_another_size_is_refused(tmp_path: Path):
    folder = MAKERS["siglip"](tmp_path / "model")
    (folder / "preprocessor_config.json").write_text('{"image_processor_type": "SiglipImageProcessor"}')
    (folder / "processor_config.json").unlink(missing_ok=True)
    with pytest.raises(ModelError, match=r"expected an image processor that gives 64 x 64 pixels, .* found \(224, 224\)"):
        load_clip(str(folder), None, CPU)
