"""A ResNet18 fine-tuned on labelled pixels: the recipe of the study that this grew out of, with a validation split."""

from __future__ import annotations

import hashlib
import io
import logging
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file
from sklearn.metrics import accuracy_score, f1_score
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from torchvision.models import ResNet18_Weights, resnet18
from torchvision.transforms import v2

from tagger.core.errors import ConfigError, ModelError
from tagger.core.files import write_bytes
from tagger.encoders.normalise import Normalise
from tagger.settings.options import Recipe
from tagger.training.split import split

log = logging.getLogger(__name__)

AUGMENT = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomRotation(15), v2.ColorJitter(0.2, 0.2, 0.2)])
STATISTICS_ROWS = 1024  # enough for means and variances; all of a few shots, a fraction of a catalogue

Weights = dict[str, Tensor]


def initial_network(init: str, labels: int, seed: int) -> nn.Module:
    """Return a ResNet18 with a new last layer. ModelError where its weights cannot be had, or are others."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: nn.Module = resnet18(num_classes=labels)
    if init == "random":
        return network
    remedy = "name a file with --init FILE, or start from nothing with --init random"
    try:
        if init == "imagenet":
            weights = ResNet18_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
        elif init.endswith(".safetensors"):
            weights = load_file(init)
        else:
            weights = torch.load(init, map_location="cpu", weights_only=True)
        kept = {key: weight for key, weight in weights.items() if not key.startswith("fc.")}
        lacking = network.load_state_dict(kept, strict=False)
    except Exception as error:  # the network, the disk, or whatever a damaged file raises
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(f"--init {init}: expected the weights of torchvision's ResNet18, found: {reason}; {remedy}") from error
    if lacking.unexpected_keys or set(lacking.missing_keys) != {"fc.weight", "fc.bias"}:
        raise ModelError(f"--init {init}: expected the weights of torchvision's ResNet18, found others; {remedy}")
    return network


def train(
    pixels: Tensor,
    truth: NDArray[np.int64],
    labels: int,
    recipe: Recipe,
    device: torch.device,
    *,
    state: Path | None = None,
    advance: Callable[[int, str], object] = lambda count, text: None,
) -> tuple[Weights, dict[str, Any]]:
    """Train on uint8 (N, 3, H, W) with truth int64 (N,); return the weights of the best epoch and what they reached.

    The best epoch is that of the highest accuracy on the validation rows, of equals that of the lowest loss; without such
    rows, the last. state: where an interrupted training is continued from, to the same weights on a CPU. advance: called with
    the number of images and a text. Raises ConfigError where the loss or a weight is no number.
    """
    rows, held_out = split(truth, recipe.validation, recipe.seed)
    network = initial_network(recipe.init, labels, recipe.seed).to(device)
    normalise = Normalise(recipe.preprocessing, torch.float32).to(device)
    optimiser = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate)
    target = torch.from_numpy(truth)
    identity = _identity(recipe, pixels, truth) if state else ""
    history: list[dict[str, float]] = []
    best: Weights = {}
    if state is not None and state.exists() and (saved := _read_state(state, identity)):
        network.load_state_dict(saved["network"])
        optimiser.load_state_dict(saved["optimiser"])
        history, best = saved["history"], saved["best"]
        log.info("continuing after epoch %d of %d", len(history), recipe.epochs)
    for epoch in range(len(history), recipe.epochs):
        with torch.random.fork_rng(devices=[]):  # each epoch has a seed of its own: a training that is continued is the same
            torch.manual_seed(recipe.seed * 1_000_003 + epoch)
            shuffled = torch.from_numpy(rows)[torch.randperm(len(rows))]
            loss = _epoch(network, normalise, optimiser, pixels, target, shuffled, recipe.batch_size, advance)
        _settle_statistics(network, normalise, pixels, shuffled[:STATISTICS_ROWS], recipe.batch_size)
        if not math.isfinite(loss) or not all(weight.isfinite().all() for weight in network.state_dict().values()):
            raise ConfigError(
                f"--learning-rate {recipe.learning_rate:g}: expected a loss and weights that are numbers, found others in epoch "
                f"{epoch + 1} (loss {loss:g}); lower it"
            )
        reached = {"epoch": epoch + 1, "training_loss": loss}
        if len(held_out):
            reached |= score_logits(logits_of(network, normalise, pixels, held_out, device), truth[held_out])
        history.append(reached)
        if _best(history) is reached:
            best = {key: weight.detach().cpu().clone() for key, weight in network.state_dict().items()}
        if state is not None:
            kept = {"identity": identity, "network": network.state_dict(), "optimiser": optimiser.state_dict()}
            buffer = io.BytesIO()
            torch.save({**kept, "history": history, "best": best}, buffer)
            write_bytes(state, buffer.getvalue())
    metrics = {"best": _best(history), "epochs": history, "training_rows": len(rows), "validation_rows": len(held_out)}
    return best, metrics


def predict(
    weights: Weights, labels: int, recipe: Recipe, pixels: Tensor, rows: NDArray[np.int64], device: torch.device
) -> NDArray[np.float32]:
    """Return logits, float32 (len(rows), labels), that a ResNet18 with these weights gives to these rows of uint8 pixels."""
    with torch.device("meta"):
        network: nn.Module = resnet18(num_classes=labels)
    network.load_state_dict(weights, assign=True)
    if not len(rows):
        return np.empty((0, labels), np.float32)
    return logits_of(network.to(device), Normalise(recipe.preprocessing, torch.float32).to(device), pixels, rows, device).numpy()


@torch.inference_mode()
def logits_of(network: nn.Module, normalise: nn.Module, pixels: Tensor, rows: NDArray[np.int64], device: torch.device) -> Tensor:
    """Return the network's logits, float32 (len(rows), K), of these rows of uint8 pixels."""
    network.eval()
    parts = torch.split(torch.from_numpy(rows), 64)
    return torch.cat([network(normalise(pixels[part].to(device))).float().cpu() for part in parts])


def score_logits(logits: Tensor, truth: NDArray[np.int64]) -> dict[str, float]:
    """Return accuracy, macro F1 and mean negative log-likelihood of logits (N, K)."""
    found = logits.argmax(1).numpy()
    return {
        "accuracy": float(accuracy_score(truth, found)),
        "macro_f1": float(f1_score(truth, found, average="macro", zero_division=0)),
        "loss": float(F.cross_entropy(logits, torch.from_numpy(truth))),
    }


def _epoch(
    network: nn.Module,
    normalise: nn.Module,
    optimiser: torch.optim.Optimizer,
    pixels: Tensor,
    truth: Tensor,
    rows: Tensor,
    batch_size: int,
    advance: Callable[[int, str], object],
) -> float:
    """Train on these rows once, in this order; return the mean loss."""
    network.train()
    device, total = next(network.parameters()).device, 0.0
    for part in _parts(rows, batch_size):
        images = torch.stack([AUGMENT(pixels[row]) for row in part.tolist()]).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = F.cross_entropy(network(normalise(images)), truth[part].to(device))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch gives it no types
        optimiser.step()
        value = float(loss.detach())
        total += value * len(part)
        advance(len(part), f"loss {value:.3f}")
    return total / len(rows)


def _settle_statistics(network: nn.Module, normalise: nn.Module, pixels: Tensor, rows: Tensor, batch_size: int) -> None:
    """Give batch normalisation the mean and variance that these rows have under the weights of now.

    What it keeps while training trails behind by tens of batches (of ten batches' running mean, a third is still what the
    training began with), and few rows make few batches: Wu and Johnson 2021, "Rethinking Batch in BatchNorm", section 3.
    """
    device = next(network.parameters()).device
    with torch.no_grad():
        update_bn((normalise(pixels[part].to(device)) for part in _parts(rows, batch_size)), network)


def _parts(rows: Tensor, batch_size: int) -> tuple[Tensor, ...]:
    """Return the rows in parts of nearly one size, none of a single row, which batch normalisation cannot work on."""
    return rows.tensor_split(max(min(-(-len(rows) // batch_size), len(rows) // 2), 1))


def _best(history: list[dict[str, float]]) -> dict[str, float]:
    """Return the first of the best epochs on the validation rows; without such rows, the last of all."""
    if "accuracy" not in history[-1]:
        return history[-1]
    return max(history, key=lambda reached: (reached["accuracy"], -reached["loss"]))


def _identity(recipe: Recipe, pixels: Tensor, truth: NDArray[np.int64]) -> str:
    digest = hashlib.sha256(str(sorted(asdict(recipe).items())).encode() + truth.tobytes())
    digest.update(pixels.numpy().data)
    return digest.hexdigest()


def _read_state(path: Path, identity: str) -> dict[str, Any] | None:
    """Return what a training was when it was interrupted; None for another training's file, or a damaged one."""
    try:
        saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # noqa: BLE001  # whatever a damaged file raises: it is trained again
        return None
    return saved if saved.get("identity") == identity else None
