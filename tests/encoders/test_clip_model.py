"""Our CLIP computes what transformers' own model computes with the same weights."""

from __future__ import annotations

import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from tagger.encoders.clip_model import Clip

END, OTHER = 90, 60


def models(**text: object) -> tuple[Clip, CLIPModel]:
    """The same random weights in both."""
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, **text}
    config = CLIPConfig(
        text_config={**sizes, "vocab_size": 100, "max_position_embeddings": 12},
        vision_config={**sizes, "image_size": 32, "patch_size": 8},
        projection_dim=48,
    )
    torch.manual_seed(0)
    theirs = CLIPModel(config).eval()
    ours = Clip(config)
    ours.load_state_dict(theirs.state_dict())
    return ours.requires_grad_(False), theirs.requires_grad_(False)


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_images_are_embedded_as_transformers_does(activation: str):
    ours, theirs = models(hidden_act=activation)
    images = torch.randn(5, 3, 32, 32)
    expected = theirs.get_image_features(images).pooler_output
    assert torch.allclose(ours.visual_projection(ours.vision_model(images)), expected, atol=1e-5)


@pytest.mark.parametrize("end", [END, OTHER, 2])
def test_prompts_are_embedded_as_transformers_does(end: int):
    """At the first end token, or at the highest one, as older checkpoints want it; whatever follows does not matter."""
    ours, theirs = models(eos_token_id=end)
    ids = torch.tensor([[1, 50, 61, OTHER, END, END, END], [1, 7, 8, 9, OTHER, 33, END], [1, OTHER, END, END, 4, 4, 4]])
    expected = theirs.get_text_features(ids, attention_mask=torch.ones_like(ids)).pooler_output
    assert torch.allclose(ours.text_projection(ours.text_model(ids)), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"hidden_act": "gelu_new"}, "hidden_act 'gelu_new' instead of quick_gelu or gelu or gelu_pytorch_tanh"),
        ({"num_attention_heads": -4}, "no multiple"),
        ({"eos_token_id": [2, 3]}, "eos_token_id .* instead of a number"),
    ],
    ids=str,
)
def test_a_configuration_that_is_none_of_a_clip_is_refused(values: dict[str, object], words: str):
    with pytest.raises(ValueError, match=words):
        Clip(CLIPConfig(text_config={"num_hidden_layers": 1, **values}, vision_config={"num_hidden_layers": 1}))
