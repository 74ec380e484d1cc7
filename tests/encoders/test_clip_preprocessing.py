"""A checkpoint's JSON says the same to us and to transformers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import CLIPImageProcessor

from tagger.core.errors import ModelError
from tagger.core.types import Preprocessing
from tagger.encoders.clip_preprocessing import read_preprocessing

GREY = [0.5, 0.5, 0.5]


def theirs(folder: Path) -> Preprocessing:
    processor = CLIPImageProcessor.from_pretrained(folder, local_files_only=True)
    size = processor.size
    return Preprocessing(
        resize=size["shortest_edge"] if size.get("shortest_edge") else (size["height"], size["width"]),
        crop=(processor.crop_size["height"], processor.crop_size["width"]) if processor.do_center_crop else None,
        resample=int(processor.resample),
        rescale=processor.rescale_factor,
        mean=tuple(processor.image_mean),
        std=tuple(processor.image_std),
    )


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"size": 64, "crop_size": 64},
        {"size": {"shortest_edge": 64}, "crop_size": {"height": 60, "width": 50}},
        {"size": {"height": 64, "width": 48}, "do_center_crop": False},
        {"size": {"height": 64, "width": 48}, "crop_size": 40},
        {"resample": 2, "image_mean": GREY, "image_std": GREY, "rescale_factor": 1},
        {"feature_extractor_type": "CLIPFeatureExtractor", "do_convert_rgb": True, "size": 224, "crop_size": 224},
    ],
    ids=str,
)
@pytest.mark.parametrize("file", ["preprocessor_config.json", "processor_config.json"])
def test_both_read_the_same(tmp_path: Path, file: str, values: dict[str, object]):
    content = values if file.startswith("pre") else {"image_processor": values, "processor_class": "CLIPProcessor"}
    (tmp_path / file).write_text(json.dumps(content))
    assert read_preprocessing(tmp_path, "clip") == theirs(tmp_path)


def test_the_newer_file_decides_where_it_has_an_image_processor(tmp_path: Path):
    (tmp_path / "preprocessor_config.json").write_text('{"crop_size": 100}')
    (tmp_path / "processor_config.json").write_text('{"processor_class": "CLIPProcessor"}')
    assert read_preprocessing(tmp_path, "clip").crop == theirs(tmp_path).crop == (100, 100)
    (tmp_path / "processor_config.json").write_text('{"image_processor": {"crop_size": 120}}')
    assert read_preprocessing(tmp_path, "clip").crop == theirs(tmp_path).crop == (120, 120)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"do_rescale": False}, "found do_rescale = False (Input should be True)"),
        ({"size": 64, "do_center_crop": False}, "found do_center_crop = False, size = 64, crop_size = None"),
        (
            {"size": {"height": 64, "width": 64}, "crop_size": None},
            "found do_center_crop = True, size = (64, 64), crop_size = None",
        ),
        ({"size": {"shortest_edge": 64, "longest_edge": 80}}, "found size = {'shortest_edge': 64, 'longest_edge': 80} ("),
        ({"image_std": [1, 1, 0]}, "found image_std = [1, 1, 0] (Input should be greater than 0)"),
        ({"image_mean": None}, "found image_mean = None ("),
    ],
    ids=str,
)
def test_what_gives_no_batches_is_one_line(tmp_path: Path, values: dict[str, object], found: str):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(values))
    with pytest.raises(ModelError) as caught:
        read_preprocessing(tmp_path, "shop/clip")
    assert str(caught.value).startswith("model shop/clip: expected an image processor that resizes, ")
    assert found in str(caught.value)
    assert str(caught.value).endswith("; correct its preprocessor_config.json")


def test_no_image_processor_at_all_is_said(tmp_path: Path):
    with pytest.raises(ValueError, match=r"no image_processor in processor_config.json, and no preprocessor_config.json"):
        read_preprocessing(tmp_path, "clip")
