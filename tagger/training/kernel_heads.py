"""Labelled rows -> heads that keep the rows: what is near one of them gets its label."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from tagger.core.errors import ManifestError
from tagger.tagging.heads import KernelHead
from tagger.training.cross_validation import best_setting
from tagger.training.labelled_embeddings import LabelledEmbeddings

BETAS = (1.0, 3.0, 5.5, 10.0, 20.0)
# Of Tip-Adapter: the residual ratio alpha. Zhang et al. 2022 begin with beta 5.5 and alpha 1, the default here.
TIP_SETTINGS = tuple(product(BETAS, (0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)))
TIP_DEFAULT = TIP_SETTINGS.index((5.5, 1.0))
TUNING_EPOCHS, TUNING_BATCH, TUNING_RATE = 20, 256, 1e-3  # Zhang et al. 2022, section 4.1
# Of ProKeR: the ridge lambda. The largest stands where nothing can be chosen: nearly zero-shot.
RIDGE_BETAS = (1.0, 5.5)
RIDGE_SETTINGS = tuple(product(RIDGE_BETAS, (1.0, 3.0, 10.0, 30.0)))
RIDGE_DEFAULT = RIDGE_SETTINGS.index((5.5, 30.0))


def fit_tip_adapter(rows: LabelledEmbeddings, seed: int) -> KernelHead:
    """Add alpha exp(-beta (1 - f F^T)) L to zero-shot: keys F the rows, L their one-hot labels (Zhang et al. 2022, equation 6).

    "Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification", ECCV 2022. Held-out folds choose alpha and beta.
    """

    def score(fitted: LabelledEmbeddings, embeddings: Tensor) -> Iterator[Tensor]:
        zero_shot, similarities = fitted.zero_shot(embeddings), embeddings @ fitted.embeddings.T
        for beta in BETAS:
            near = torch.exp(beta * (similarities - 1))
            added = torch.zeros_like(zero_shot).index_add_(1, fitted.truth, near)
            yield from (zero_shot + alpha * added for kernel, alpha in TIP_SETTINGS if kernel == beta)

    beta, alpha = TIP_SETTINGS[best_setting(rows, seed, TIP_DEFAULT, score)]
    values = alpha * F.one_hot(rows.truth, rows.classes).float()
    return KernelHead(rows.zero_shot.weight, rows.zero_shot.bias, rows.embeddings, values, beta)


def fit_tip_adapter_f(rows: LabelledEmbeddings, seed: int) -> KernelHead:
    """Learn the keys of Tip-Adapter, from where they are (Tip-Adapter-F, Zhang et al. 2022, section 3.2), by AdamW in batches.

    alpha and beta are those of Tip-Adapter itself.
    """
    head = fit_tip_adapter(rows, seed)
    keys = head.keys.clone().requires_grad_()
    optimizer = torch.optim.AdamW([keys], lr=TUNING_RATE, eps=1e-4)
    batches = -(-len(rows) // TUNING_BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, TUNING_EPOCHS * batches)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(TUNING_EPOCHS):
        for batch in torch.split(torch.randperm(len(rows), generator=generator), TUNING_BATCH):
            logits = KernelHead(head.weight, head.bias, keys, head.values, head.beta)(rows.embeddings[batch])
            loss = F.cross_entropy(logits, rows.truth[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    if not torch.isfinite(keys).all():
        raise ManifestError(
            "labelled rows: expected tip-adapter-f to end at a finite loss, found NaN; choose another method with --method"
        )
    return KernelHead(head.weight, head.bias, keys.detach(), head.values, head.beta)


def fit_proker(rows: LabelledEmbeddings, seed: int) -> KernelHead:
    """Fit the one-hot labels by kernel ridge regression that departs from zero-shot (ProKeR, Bendou et al. 2025, section 4).

    "ProKeR: A Kernel Perspective on Few-Shot Adaptation of Large Vision-Language Models", CVPR 2025. It minimises the squared
    error plus lambda times the squared distance to zero-shot in the space of the kernel exp(-beta (1 - f F^T)), in closed form.
    Zero-shot is the cosine similarity, of the size of a one-hot label; logit_scale multiplies both. Held-out folds choose lambda
    and beta.
    """

    def score(fitted: LabelledEmbeddings, embeddings: Tensor) -> Iterator[Tensor]:
        zero_shot, similarities = fitted.zero_shot(embeddings), embeddings @ fitted.embeddings.T
        for beta in RIDGE_BETAS:
            near = torch.exp(beta * (similarities - 1))
            ridges = [ridge for kernel, ridge in RIDGE_SETTINGS if kernel == beta]
            yield from (zero_shot + near @ values for values in ridge_values(fitted, beta, ridges))

    beta, ridge = RIDGE_SETTINGS[best_setting(rows, seed, RIDGE_DEFAULT, score)]
    (values,) = ridge_values(rows, beta, [ridge])
    return KernelHead(rows.zero_shot.weight, rows.zero_shot.bias, rows.embeddings, values, beta)


def ridge_values(rows: LabelledEmbeddings, beta: float, ridges: list[float]) -> Iterator[Tensor]:
    """Yield logit_scale (G + lambda I)^-1 (L - F T^T), float32 (N, K), for each lambda; G is the rows' own kernel."""
    gram = torch.exp(beta * (rows.embeddings @ rows.embeddings.T - 1))
    residuals = F.one_hot(rows.truth, rows.classes) - rows.embeddings @ rows.label_embeddings.T
    for ridge in ridges:
        yield rows.logit_scale * torch.cholesky_solve(residuals, torch.linalg.cholesky(gram + ridge * torch.eye(len(rows))))
