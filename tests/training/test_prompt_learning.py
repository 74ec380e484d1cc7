"""Learned prompts: the dispersion loss by hand, what learns and what does not, and a head that fits the rows."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from tagger.core import shutdown
from tagger.core.errors import ConfigError, ModelError
from tagger.encoders.clip import ClipEncoder
from tagger.tagging.heads import LinearHead
from tagger.training import prompt_learning
from tagger.training.labelled_embeddings import LabelledEmbeddings
from tagger.training.prompt_learning import CONTEXT, dispersion, fit_prompts

LABELS = ("dress", "bag", "shirt")


def labelled_rows(encoder: ClipEncoder, logit_scale: float | None = None) -> LabelledEmbeddings:
    """Thirty rows around directions that the prompts do not name."""
    rng = torch.Generator().manual_seed(5)
    centres = F.normalize(torch.randn(3, encoder.dimension, generator=rng), dim=1)
    truth = torch.arange(3).repeat(10)
    noise = 0.02 * torch.randn(30, encoder.dimension, generator=rng)
    label_embeddings = encoder.encode_prompts([f"A photo of a {label}." for label in LABELS]).clone()
    return LabelledEmbeddings(
        embeddings=F.normalize(centres[truth] + 0.5 * label_embeddings.mean(0) + noise, dim=1),
        truth=truth,
        label_embeddings=label_embeddings,
        logit_scale=encoder.logit_scale if logit_scale is None else logit_scale,
    )


def test_the_dispersion_is_the_formula():
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    # Squared distances: 2 between neighbours, twice; 4 between the opposites.
    expected = (2 * math.exp(-2 * 2) + math.exp(-2 * 4)) / 3
    assert float(dispersion(features, 2.0)) == pytest.approx(expected, rel=1e-5)
    assert float(dispersion(features, 0.5)) == pytest.approx((2 * math.exp(-1) + math.exp(-2)) / 3)
    same = torch.tensor([[0.6, 0.8], [0.6, 0.8]])
    assert float(dispersion(same, 2.0)) == pytest.approx(1)


@pytest.mark.parametrize("words", [CONTEXT, "a", "A product photo of the very small, blue"])
def test_words_in_the_place_of_vectors_are_the_prompt(encoder: ClipEncoder, words: str):
    # Names of one token and of many, encoded together: each prompt ends elsewhere, and the shorter ones are padded.
    names = ["bag", "ankle boot", "long sleeved knitted pullover"]
    found = encoder.encode_with_context(encoder.embed_words(words), [f"{name}." for name in names])
    assert torch.allclose(found, encoder.encode_prompts([f"{words} {name}." for name in names]), atol=1e-6)


def test_the_tower_reads_start_context_name_and_end(encoder: ClipEncoder):
    read: list[torch.Tensor] = []
    embeddings = encoder.text._model.embeddings
    handle = embeddings.register_forward_hook(lambda _module, _arguments, embedded: read.append(embedded.clone()))
    context = torch.full((2, embeddings.token_embedding.embedding_dim), 0.5)
    encoder.encode_with_context(context, ["bag."])
    handle.remove()
    words = embeddings.token_embedding.weight[encoder.text._tokenizer(["bag."])[0]]  # start, bag, full stop, end
    expected = torch.cat([words[:1], context, words[1:]]) + embeddings.position_embedding.weight[: len(words) + 2]
    assert torch.equal(read[0][0], expected)


def test_a_label_too_long_is_one_line(encoder: ClipEncoder):
    with pytest.raises(
        ConfigError, match=r"expected at most 73 tokens, which the model reads behind 4 learned ones, found 82; sh"
    ):
        encoder.encode_with_context(encoder.embed_words(CONTEXT), ["bag " * 80])


def test_only_the_context_learns(encoder: ClipEncoder, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(prompt_learning, "STEPS", 5)
    tower = encoder.text._model
    before = [weight.clone() for weight in tower.parameters()]
    context = encoder.embed_words(CONTEXT).clone().requires_grad_()
    dispersion(encoder.encode_with_context(context, [f"{label}." for label in LABELS]), 2.0).backward()
    assert context.grad is not None
    assert bool((context.grad.abs().sum(1) > 0).all())
    fit_prompts(labelled_rows(encoder), 0, encoder, LABELS)
    assert all(weight.grad is None for weight in tower.parameters())
    assert all(torch.equal(old, new) for old, new in zip(before, tower.parameters(), strict=True))
    # Nothing of it stays behind in the tower.
    again = encoder.encode_prompts(["A photo of a dress."])
    assert torch.equal(again, encoder.encode_prompts(["A photo of a dress."]))
    assert len(tower.embeddings.token_embedding._forward_hooks) == 0


def test_learning_lowers_the_loss(encoder: ClipEncoder):
    rows = labelled_rows(encoder)
    head = fit_prompts(rows, 0, encoder, LABELS)
    assert torch.allclose(head.weight.norm(dim=1), torch.full((3,), rows.logit_scale), rtol=1e-4)
    assert torch.equal(head.bias, torch.zeros(3))

    def loss(head: LinearHead) -> float:
        return float(F.cross_entropy(head(rows.embeddings), rows.truth))

    assert loss(head) < 0.8 * loss(rows.zero_shot)


def test_a_seed_gives_one_head(encoder: ClipEncoder, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(prompt_learning, "BATCH", 8)
    monkeypatch.setattr(prompt_learning, "STEPS", 5)
    rows = labelled_rows(encoder)
    one, again, other = (fit_prompts(rows, seed, encoder, LABELS).weight for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_many_labels_give_the_same_in_pieces(encoder: ClipEncoder, monkeypatch: pytest.MonkeyPatch):
    rows = labelled_rows(encoder)
    monkeypatch.setattr(prompt_learning, "STEPS", 5)
    whole = fit_prompts(rows, 0, encoder, LABELS).weight
    monkeypatch.setattr(prompt_learning, "PROMPTS_AT_ONCE", 2)
    assert torch.allclose(fit_prompts(rows, 0, encoder, LABELS).weight, whole, atol=1e-3)


def test_a_loss_that_is_no_number_is_one_line(encoder: ClipEncoder):
    with pytest.raises(ModelError) as raised:
        fit_prompts(labelled_rows(encoder, logit_scale=math.inf), 0, encoder, LABELS)
    assert str(raised.value).startswith("method prompts: expected a finite loss, found nan at step 1 of 100; ")


def test_a_stop_is_heard(encoder: ClipEncoder, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutdown, "requested", True)
    with pytest.raises(KeyboardInterrupt):
        fit_prompts(labelled_rows(encoder), 0, encoder, LABELS)
