"""Labelled embeddings of a few rows, as the tests of heads want them."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from tagger.training.labelled_embeddings import LabelledEmbeddings


def labelled(embeddings, truth, label_embeddings, logit_scale=10.0, groups=None) -> LabelledEmbeddings:
    return LabelledEmbeddings(
        embeddings=torch.tensor(embeddings, dtype=torch.float32),
        truth=torch.tensor(truth),
        label_embeddings=torch.tensor(label_embeddings, dtype=torch.float32),
        logit_scale=logit_scale,
        groups=None if groups is None else torch.tensor(groups),
    )


def clusters(seed: int, classes: int = 3, shots: int = 8, meaningless: bool = False) -> LabelledEmbeddings:
    """Rows around a centre for each label; label embeddings are the centres, or have nothing to do with them."""
    generator = torch.Generator().manual_seed(seed)
    centres = F.normalize(torch.randn(classes, 16, generator=generator), dim=1)
    truth = torch.arange(classes).repeat_interleave(shots)
    embeddings = F.normalize(centres[truth] + 0.2 * torch.randn(len(truth), 16, generator=generator), dim=1)
    text = F.normalize(torch.randn(classes, 16, generator=generator), dim=1) if meaningless else centres
    return LabelledEmbeddings(embeddings=embeddings, truth=truth, label_embeddings=text, logit_scale=10.0)
