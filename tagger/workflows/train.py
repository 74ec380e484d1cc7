"""`tagger train`: from the labelled rows of a manifest to a checkpoint; the public Python API that the command line calls."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from tagger.catalog.object_storage import Workspace
from tagger.core import published
from tagger.core.errors import StoppedError, UsageError
from tagger.core.files import reason, write_bytes
from tagger.core.write_check import require_writable
from tagger.encoders.resnet18_checkpoint import METADATA_KEY, ResNet18Description
from tagger.images.workers import choose_workers, start_early
from tagger.inference.job import Job, model_alone, open_job, with_one_attribute
from tagger.settings.attributes import Attribute
from tagger.settings.load import load_settings
from tagger.settings.options import Machine, Overrides, Recipe
from tagger.settings.paths import RESNET18_SUFFIX
from tagger.workflows.progress import advance

if TYPE_CHECKING:
    from tagger.inference.predictor import Predictor
    from tagger.training.dataset import Examples

log = logging.getLogger(__name__)

VERSIONS = ("tagger", "torch", "torchvision")


def train_resnet18(
    manifest: str | Path,
    output: str | Path,
    config: str | Path | Mapping[str, Any] | None = None,
    *,
    recipe: Recipe = Recipe(),  # noqa: B008  # frozen
    attribute: str | None = None,
    overwrite: bool = False,
    machine: Machine = Machine(),  # noqa: B008  # frozen
    **overrides: Unpack[Overrides],
) -> ResNet18Description:
    """Fine-tune torchvision's ResNet18 on the labelled rows of `manifest` and write a checkpoint to `output`.

    attribute: which one of the settings', where there are several. An interrupted training is continued when it is asked for
    again. Raises the errors of core/errors.py.
    """
    name, file = str(manifest), Path(output)
    if file.suffix != RESNET18_SUFFIX:
        raise UsageError(f"--output {file}: expected a name that ends with {RESNET18_SUFFIX}, found another; correct it")
    require_writable(file, f"--output {file}", overwrite=overwrite)
    require_writable(state := file.with_name(file.name + ".partial"), f"--output {file}.partial", overwrite=True)
    settings = model_alone(load_settings(name, config, **overrides))
    if recipe.ensemble and settings.model.is_resnet18:
        raise UsageError(f"--ensemble: expected a CLIP to be averaged with, found {settings.model.name}; name one with --model")
    with Workspace() as space, TemporaryDirectory(prefix="tagger-") as folder:
        job = with_one_attribute(open_job(name, settings, space), attribute)
        [chosen] = job.attributes
        if machine.workers != 0:
            start_early()
        # torch takes seconds to import: only now that everything else is known to be right.
        from safetensors.torch import save

        from tagger.encoders.backends import choose_device
        from tagger.training.dataset import RESNET18
        from tagger.training.ensemble import fit_ensemble
        from tagger.training.resnet18 import train

        device = choose_device(machine.device)
        quiet = not (machine.progress and sys.stderr.isatty())
        try:
            with tqdm(unit="image", desc="reading", disable=quiet) as bar:
                examples, clip = _read_examples(job, recipe, machine, Path(folder), partial(advance, bar))
            _warn_of_lonely(chosen, examples.truth)
            with tqdm(total=recipe.epochs * len(examples.truth), unit="image", desc="training", disable=quiet) as bar:
                weights, metrics = train(
                    examples.pixels[RESNET18],
                    examples.truth,
                    len(chosen.labels),
                    recipe,
                    device,
                    state=state,
                    advance=partial(advance, bar),
                )
            trained = ResNet18Description(
                attribute=chosen.name,
                labels=chosen.label_names,
                preprocessing=recipe.preprocessing,
                recipe=asdict(recipe),
                metrics=metrics,
                manifest=job.manifest.content_hash(),
                versions={library: version(library) for library in VERSIONS},
                ensemble=fit_ensemble(weights, examples, recipe, clip) if clip else None,
            )
            write_bytes(file, save(weights, {METADATA_KEY: trained.model_dump_json()}))
            published.note(f"the checkpoint is complete at {file}")
            state.unlink(missing_ok=True)
        except OSError as error:
            raise StoppedError(
                f"{file}: expected to write the checkpoint, found: {reason(error)}; free the disk, or correct the "
                "permissions, and run again to continue"
            ) from error
    return trained


def _read_examples(
    job: Job, recipe: Recipe, machine: Machine, folder: Path, advance: Callable[[int], object]
) -> tuple[Examples, Predictor | None]:
    """Read the labelled rows, with CLIP's embeddings and CLIP itself for an ensemble; else no CLIP is loaded."""
    from tagger.encoders.backends import choose_device
    from tagger.images.reading import Reading
    from tagger.inference.load import open_engine
    from tagger.training.dataset import RESNET18, decode, embed, read_labelled, require_all_labels

    [chosen], pixels = job.attributes, {RESNET18: recipe.preprocessing}
    labelled = read_labelled(job.manifest, [chosen])
    require_all_labels(job.manifest.name, chosen, labelled.truths[chosen.name])
    clip = None
    if recipe.ensemble:
        with open_engine(job, machine, pixels=pixels) as engine:
            examples, clip = embed(labelled, engine, advance, pixels, folder), engine.predictor
    else:
        workers = choose_workers(choose_device(machine.device).type) if machine.workers is None else machine.workers
        examples = decode(labelled, Reading(policy=job.policy, preprocessings=pixels, workers=workers), advance, folder)
    require_all_labels(job.manifest.name, chosen, examples.truth)
    return examples, clip


def _warn_of_lonely(attribute: Attribute, truth: NDArray[np.int64]) -> None:
    counts = np.bincount(truth, minlength=len(attribute.labels))
    if lonely := [label for label, count in zip(attribute.label_names, counts, strict=True) if count == 1]:
        log.warning("one labelled row each, which is trained on and not validated: %s", ", ".join(lonely))
