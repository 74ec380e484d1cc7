"""`tagger train`: from the labelled rows of a manifest to a checkpoint; the public Python API that the command line calls."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from tagger.catalog.object_storage import Workspace
from tagger.core import shutdown
from tagger.core.errors import StoppedError, UsageError
from tagger.core.files import reason, write_bytes
from tagger.encoders.resnet18_checkpoint import METADATA_KEY, SUFFIX, ResNet18Description, is_trained
from tagger.images.workers import choose_workers, start_early
from tagger.inference.job import open_labelled
from tagger.settings.attributes import Attribute
from tagger.settings.load import gather_settings

if TYPE_CHECKING:
    from tagger.training.resnet18 import Recipe

log = logging.getLogger(__name__)

VERSIONS = ("tagger", "torch", "torchvision")


def train_resnet18(
    manifest: str | Path,
    output: str | Path,
    config: str | Path | Mapping[str, Any] | None = None,
    *,
    recipe: Recipe | None = None,
    labels: Sequence[str] | None = None,
    attribute: str | None = None,
    model: str | Path | None = None,
    image_column: str | None = None,
    image_root: str | Path | None = None,
    device: str | None = None,
    workers: int | None = None,
    ensemble: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> ResNet18Description:
    """Fine-tune torchvision's ResNet18 on the labelled rows of `manifest` and write a checkpoint to `output`.

    attribute: which one of the settings', where there are several. ensemble: choose, on the validation rows, the weight beside
    the settings' CLIP. An interrupted training is continued when it is asked for again. Raises the errors of errors.py.
    """
    name, file = str(manifest), Path(output)
    if file.suffix != SUFFIX:
        raise UsageError(f"--output {file}: expected a name that ends with {SUFFIX}, found another; correct it")
    if file.exists() and not overwrite:
        raise UsageError(f"--output {file}: expected no file, found one; remove it, or use --overwrite")
    settings = gather_settings(name, config, model=model, image_column=image_column, image_root=image_root)
    if ensemble and is_trained(settings.model.name):
        raise UsageError(f"--ensemble: expected a CLIP to be averaged with, found {settings.model.name}; name one with --model")
    with Workspace() as space, TemporaryDirectory(prefix="tagger-") as folder:
        opened, chosen, policy = open_labelled(name, settings, space, labels, attribute)
        if workers != 0:
            start_early()
        # torch takes seconds to import: only now that everything else is known to be right.
        from safetensors.torch import save

        from tagger.inference.load import choose_device, load_predictor
        from tagger.training.dataset import load_examples
        from tagger.training.ensemble import fit_ensemble
        from tagger.training.resnet18 import Recipe, train

        recipe = recipe or Recipe()
        where = choose_device(device)
        clip = load_predictor(settings.model, device, [chosen]) if ensemble else None
        wanted = [recipe.preprocessing, *([clip.encoder.preprocessing] if clip else [])]
        workers = choose_workers(where.type) if workers is None else workers
        quiet = not (progress and sys.stderr.isatty())
        try:
            with tqdm(unit="image", desc="reading", disable=quiet) as bar:
                examples = load_examples(
                    opened, chosen, policy, wanted, workers=workers, folder=Path(folder), advance=lambda n: _advance(bar, n)
                )
            _say_lonely(chosen, examples.truth)
            state = file.with_name(file.name + ".partial")
            with tqdm(total=recipe.epochs * len(examples.truth), unit="image", desc="training", disable=quiet) as bar:
                weights, metrics = train(
                    examples.pixels[0],
                    examples.truth,
                    len(chosen.labels),
                    recipe,
                    where,
                    state=state,
                    advance=lambda n, text: _advance(bar, n, text),
                )
            trained = ResNet18Description(
                attribute=chosen.name,
                labels=chosen.label_names,
                preprocessing=recipe.preprocessing,
                recipe=asdict(recipe),
                metrics=metrics,
                manifest=opened.content_hash(),
                versions={library: version(library) for library in VERSIONS},
                ensemble=fit_ensemble(weights, examples, recipe, clip) if clip else None,
            )
            write_bytes(file, save(weights, {METADATA_KEY: trained.model_dump_json()}))
            state.unlink(missing_ok=True)
        except OSError as error:
            raise StoppedError(
                f"{file}: expected to write the checkpoint, found: {reason(error)}; free the disk, or correct the "
                "permissions, and run again to continue"
            ) from error
    return trained


def _say_lonely(attribute: Attribute, truth: NDArray[np.int64]) -> None:
    counts = np.bincount(truth, minlength=len(attribute.labels))
    if lonely := [label for label, count in zip(attribute.label_names, counts, strict=True) if count == 1]:
        log.warning("one labelled row each, which is trained on and not validated: %s", ", ".join(lonely))


def _advance(bar: tqdm[Any], count: int, text: str = "") -> None:
    shutdown.check()
    bar.set_postfix_str(text, refresh=False)
    bar.update(count)
