"""A CLIP fine-tuned on labelled rows: images against the prompts of their labels."""

from __future__ import annotations

import hashlib
import io
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.transforms import v2

from tagger.core.errors import ConfigError
from tagger.core.files import write_bytes
from tagger.core.types import Preprocessing
from tagger.encoders.clip import Parts, clip_text
from tagger.encoders.clip_model import Clip
from tagger.encoders.clip_text import filled_up
from tagger.encoders.normalise import Normalise
from tagger.settings.options import ClipRecipe
from tagger.training.clip_embeddings import embed_images, embed_labels, embed_pixels, embed_prompts
from tagger.training.lora import add_low_rank, merged_state
from tagger.training.weight_averaging import MovingAverage, Weights

log = logging.getLogger(__name__)

FEW_ROWS = 2000  # labelled rows up to which only low-rank changes are learned
LEARNING_RATES = {"lora": 3e-3, "full": 1e-4}
DECAY = 0.99  # of the average over steps
LAYER_DECAY = 0.8  # of the learning rate, from each layer to the one below it
LARGER = 1.25  # than the model's pixels are those that are cut at random


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is learned from and judged with.

    pixels: uint8 (N, 3, H, W), larger than the model's, to be cut; whole: the same rows as the model wants them. truth: int64
    (N,). prompts: of each of K labels the rows of `tokens`, int64 (P, T), that are its prompts. rows, held_out: int64 indices.
    shell: returns the model without weights.
    """

    pixels: Tensor
    whole: Tensor
    truth: NDArray[np.int64]
    tokens: Tensor
    prompts: Sequence[Sequence[int]]
    rows: NDArray[np.int64]
    held_out: NDArray[np.int64]
    preprocessing: Preprocessing
    shell: Callable[[], Clip]


@dataclass(frozen=True, kw_only=True)
class Learned:
    """The weights of the best epoch, and what each epoch reached."""

    weights: Weights
    method: str
    epochs: list[dict[str, float]]


def tune(
    model: Clip,
    task: Task,
    recipe: ClipRecipe,
    device: torch.device,
    *,
    state: Path,
    parent: str,
    advance: Callable[[int, str], object],
) -> Learned:
    """Fine-tune the model in place; return the averaged weights of the epoch that names most held-out rows rightly, of the last
    one where none are held out.

    The loss is contrastive, as CLIP's own (Goyal et al. 2023, "Finetune like you pretrain"), with all rows of a label as
    positives of its prompt (UniCL: Yang et al. 2022, equations 2 and 3). state: a file that an interrupted training continues
    from, to the same weights on a CPU. parent: the fingerprint of what is tuned. Raises ConfigError where the loss is no number.
    """
    method = recipe.method if recipe.method != "auto" else "lora" if len(task.rows) <= FEW_ROWS and not recipe.init else "full"
    rate = recipe.learning_rate or LEARNING_RATES[method]
    model.to(device).train()
    if method == "lora":
        learning = add_low_rank(model, recipe.seed)
        groups: list[dict[str, Any]] = [{"params": learning, "lr": rate}]
    else:
        learning, groups = list(model.requires_grad_().parameters()), _layer_groups(model, rate)
    optimiser = torch.optim.AdamW(groups, weight_decay=0.01)
    steps = -(-len(task.rows) // recipe.batch_size) * recipe.epochs
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, partial(_warm_cosine, steps=steps))
    average = MovingAverage(learning, DECAY)
    if recipe.less_memory:
        _checkpoint_layers(model)
    identity = _identity(recipe, task, parent)
    history: list[dict[str, float]] = []
    best: Weights = {}
    if saved := _read_state(state, identity):
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        schedule.load_state_dict(saved["schedule"])
        average.values, average.steps = [one.to(device) for one in saved["average"]], saved["steps"]
        history, best = saved["history"], saved["best"]
        log.info("continuing after epoch %d of %d", len(history), recipe.epochs)
    step = _Step(model, task, device)
    for epoch in range(len(history), recipe.epochs):
        rng = torch.Generator().manual_seed(recipe.seed * 1_000_003 + epoch)  # one of its own, for one that is continued
        total = 0.0
        shuffled = torch.from_numpy(task.rows)[torch.randperm(len(task.rows), generator=rng)]
        for part in torch.split(shuffled, recipe.batch_size):
            loss = step(part, rng)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch gives it no types
            optimiser.step()
            schedule.step()
            average.update(learning)
            total += float(loss.detach()) * len(part)
            advance(len(part), f"loss {float(loss.detach()):.3f}")
        mean = total / len(task.rows)
        weights = _averaged(model, learning, average)
        if not math.isfinite(mean) or not all(bool(one.isfinite().all()) for one in weights.values()):
            raise ConfigError(
                f"--learning-rate {rate:g}: expected a loss and weights that are numbers, found others in epoch {epoch + 1} "
                f"(loss {mean:g}); lower it"
            )
        accuracy = accuracy_of(weights, task, device)
        history.append({"epoch": epoch + 1, "training_loss": mean, "accuracy": accuracy})
        if not len(task.held_out) or accuracy > max((one["accuracy"] for one in history[:-1]), default=-1.0):
            best = weights
        kept: dict[str, Any] = {
            "identity": identity,
            "model": model.state_dict(),
            "optimiser": optimiser.state_dict(),
            "best": best,
        }
        kept |= {"schedule": schedule.state_dict(), "average": average.values, "steps": average.steps, "history": history}
        buffer = io.BytesIO()
        torch.save(kept, buffer)
        write_bytes(state, buffer.getvalue())
    return Learned(weights=best, method=method, epochs=history)


def larger(preprocessing: Preprocessing) -> Preprocessing:
    """Return what pixels are to be of which some, of the model's size, are cut at random: the same, larger in all its sizes."""
    resize, crop = preprocessing.resize, preprocessing.crop
    return replace(
        preprocessing,
        resize=round(LARGER * resize) if isinstance(resize, int) else _enlarged(resize),
        crop=_enlarged(crop) if crop else None,
    )


def _enlarged(size: tuple[int, int]) -> tuple[int, int]:
    return round(LARGER * size[0]), round(LARGER * size[1])


def tokenise(parts: Parts, prompts: Sequence[Sequence[str]]) -> tuple[Tensor, list[range]]:
    """Return the tokens, int64 (P, T), of K labels' prompts, and the rows that are each label's. ConfigError for a long one."""
    tokens = clip_text(parts).tokenize([text for own in prompts for text in own])
    longest, ends = max(map(len, tokens)), [0, *accumulate(map(len, prompts))]
    filled = torch.tensor([filled_up(ids, longest) for ids in tokens])
    return filled, [range(start, stop) for start, stop in pairwise(ends)]


class _Step:
    """The loss of a batch of rows."""

    def __init__(self, model: Clip, task: Task, device: torch.device) -> None:
        self._model, self._task, self._device = model, task, device
        self._normalise = Normalise(task.preprocessing).to(device)
        self._tokens, self._truth = task.tokens.to(device), torch.from_numpy(task.truth)
        self._augment = v2.Compose(
            [v2.RandomResizedCrop(task.preprocessing.size, scale=(0.6, 1.0), antialias=True), v2.RandomHorizontalFlip()]
        )
        self._narrow = device.type == "cuda" or (device.type == "cpu" and torch.cpu._is_avx512_bf16_supported())

    def __call__(self, rows: Tensor, rng: torch.Generator) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**31, (1,), generator=rng)))
            images = torch.stack([self._augment(self._task.pixels[row]) for row in rows.tolist()]).to(self._device)
        chosen = [own[int(torch.randint(len(own), (1,), generator=rng))] for own in self._task.prompts]
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._narrow):
            image = embed_images(self._model, self._normalise(images))
            text = embed_prompts(self._model, self._tokens[chosen])
        logits = self._model.logit_scale.exp() * image.float() @ text.float().T
        return contrastive_loss(logits, self._truth[rows].to(self._device))


def contrastive_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Return the mean of both directions of UniCL's loss (Yang et al. 2022, equations 2 and 3).

    logits: float32 (B, K), of B images and the prompts of K labels. truth: int64 (B,). Of an image, its label's prompt is to win
    over the others; of a label that the batch has, each of its images is to win over those of others.
    """
    positives = F.one_hot(truth, logits.shape[1]).T.to(logits.dtype)
    there = positives.sum(1) > 0
    of_label = (positives * logits.T.log_softmax(1)).sum(1)[there] / positives.sum(1)[there]
    return (F.cross_entropy(logits, truth) - of_label.mean()) / 2


@torch.no_grad()
def accuracy_of(weights: Weights, task: Task, device: torch.device) -> float:
    """Return the share of the held-out rows whose label is nearest; 0 where none are held out."""
    if not len(task.held_out):
        return 0.0
    model = task.shell()
    model.load_state_dict(weights, assign=True)
    held_out = torch.from_numpy(task.held_out)
    images = embed_pixels(model, task.whole[held_out], task.preprocessing, device)
    found = images @ embed_labels(model, task.tokens, task.prompts, device).T
    return float((found.argmax(1) == torch.from_numpy(task.truth)[held_out]).float().mean())


@torch.no_grad()
def _averaged(model: Clip, learning: Sequence[nn.Parameter], average: MovingAverage) -> Weights:
    """Return all weights with the averages in the place of what learns."""
    now = [one.detach().clone() for one in learning]
    for parameter, mean in zip(learning, average.values, strict=True):
        parameter.copy_(mean)
    weights = merged_state(model)
    for parameter, one in zip(learning, now, strict=True):
        parameter.copy_(one)
    return weights


def _layer_groups(model: Clip, rate: float) -> list[dict[str, Any]]:
    """Return the parameters with learning rates that fall from each tower's last layer to its embeddings (Clark et al. 2020)."""
    depth = {tower: len(getattr(model, tower).encoder.layers) for tower in ("text_model", "vision_model")}
    groups: dict[int, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        tower, _, rest = name.partition(".")
        if tower not in depth or rest.startswith(("final_layer_norm", "post_layernorm")):
            below = 0
        elif rest.startswith("encoder.layers."):
            below = depth[tower] - int(rest.split(".")[2])
        else:
            below = depth[tower] + 1
        groups.setdefault(below, []).append(parameter)
    return [{"params": own, "lr": rate * LAYER_DECAY**below} for below, own in sorted(groups.items())]


def _checkpoint_layers(model: Clip) -> None:
    """Let each layer compute its activations again when gradients need them, instead of keeping them (Chen et al. 2016)."""
    for tower in (model.text_model, model.vision_model):
        for layer in tower.encoder.layers:
            layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)


def _warm_cosine(step: int, steps: int) -> float:
    """Return the share of the learning rate at a step: up over a twentieth of the steps, then down like a cosine."""
    warm = max(steps // 20, 1)
    return (step + 1) / warm if step < warm else (1 + math.cos(math.pi * (step - warm) / max(steps - warm, 1))) / 2


def _identity(recipe: ClipRecipe, task: Task, parent: str) -> str:
    known = [sorted(asdict(recipe).items()), parent, [list(own) for own in task.prompts], task.tokens.tolist()]
    digest = hashlib.sha256(str(known).encode() + task.truth.tobytes() + task.rows.tobytes())
    digest.update(task.pixels.numpy().data)
    return digest.hexdigest()


def _read_state(path: Path, identity: str) -> dict[str, Any] | None:
    """Return what a training was when it was interrupted; None for another training's file, or a damaged one."""
    try:
        saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # noqa: BLE001  # no file, or whatever a damaged one raises: it is trained from its first epoch
        return None
    if saved.get("identity") != identity:
        log.info("%s: of another training; starting from the first epoch", path)
        return None
    return saved
