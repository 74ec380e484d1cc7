"""The systems of a comparison that change CLIP itself: fine-tuned on a few rows, or with prompts of both towers."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from tagger.encoders.clip import Parts
from tagger.encoders.clip_model import Clip
from tagger.settings.options import ClipRecipe
from tagger.training import dapt
from tagger.training.clip import Task, accuracy_of, tokenise, tune
from tagger.training.clip_embeddings import embed_labels, embed_pixels
from tagger.training.dataset import TUNED, WHOLE, Examples
from tagger.training.split import split
from tagger.training.temperature import softmax
from tagger.training.weight_averaging import blend, choose_share

Probabilities = NDArray[np.float32]


@dataclass(frozen=True)
class Tunable:
    """A CLIP that may be changed, K labels' names and their prompts."""

    parts: Parts
    labels: Sequence[str]
    prompts: Sequence[Sequence[str]]


def tuned(
    clip: Tunable,
    learn: tuple[Examples, NDArray[np.int64]],
    test: tuple[Examples, NDArray[np.int64]],
    seed: int,
    device: torch.device,
    advance: Callable[[], object],
) -> Probabilities:
    """Fine-tune on rows as `tagger train clip` does, a part of them choosing epoch and blend; return (M, K) of the test rows."""
    examples, shots = learn
    model, original = cast(Clip, clip.parts.checkpoint.shell()), clip.parts.model.state_dict()
    model.load_state_dict({name: weight.clone() for name, weight in original.items()}, assign=True)
    tokens, prompts = tokenise(clip.parts, clip.prompts)
    truth = examples.truth[shots]
    rows, held_out = split(truth, 0.25, seed)
    task = Task(
        pixels=examples.pixels[TUNED][torch.from_numpy(shots)],
        whole=examples.pixels[WHOLE][torch.from_numpy(shots)],
        truth=truth,
        tokens=tokens,
        prompts=prompts,
        rows=rows,
        held_out=held_out,
        preprocessing=clip.parts.preprocessing,
        shell=cast(Callable[[], Clip], clip.parts.checkpoint.shell),
    )
    with tempfile.TemporaryDirectory(prefix="tagger-") as folder:
        learned = tune(
            model,
            task,
            ClipRecipe(seed=seed),
            device,
            state=Path(folder) / "state",
            parent="",
            advance=lambda *_: advance(),
        )
    share, _ = choose_share(original, learned.weights, partial(accuracy_of, task=task, device=device))
    best = cast(Clip, clip.parts.checkpoint.shell())
    best.load_state_dict(blend(original, learned.weights, share), assign=True)
    pixels = test[0].pixels[WHOLE][torch.from_numpy(test[1])]
    images = embed_pixels(best, pixels, clip.parts.preprocessing, device)
    labels = embed_labels(best, tokens, prompts, device)
    return softmax((float(best.logit_scale.detach().exp()) * images @ labels.T).numpy())


def prompted(
    clip: Tunable,
    learn: tuple[Examples, NDArray[np.int64]],
    test: tuple[Examples, NDArray[np.int64]],
    seed: int,
    advance: Callable[[], object],
) -> Probabilities:
    """Learn prompts of both towers from rows (training/dapt.py); return (M, K) of the test rows."""
    examples, shots = learn
    pixels = examples.pixels[WHOLE][torch.from_numpy(shots)]
    prompts = dapt.fit_dapt(clip.parts, pixels, examples.truth[shots], clip.labels, seed, advance=advance)
    return dapt.predict(clip.parts, prompts, clip.labels, test[0].pixels[WHOLE][torch.from_numpy(test[1])])
