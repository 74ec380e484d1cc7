"""`tagger train clip`: from the labelled rows of a manifest to a checkpoint of CLIP; the API that the command line calls."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Unpack, cast

from tqdm import tqdm

from tagger.catalog.object_storage import Workspace
from tagger.catalog.product_column import find_product_column, read_products
from tagger.core import published
from tagger.core.errors import ConfigError, GateError, StoppedError, UsageError
from tagger.core.files import reason
from tagger.core.write_check import require_writable
from tagger.images.workers import choose_workers, start_early
from tagger.inference.job import Job, model_alone, open_job, with_one_attribute
from tagger.settings.load import load_settings
from tagger.settings.options import ClipRecipe, Machine, Overrides
from tagger.workflows.clip_folder import require_clip_folder, write_clip
from tagger.workflows.progress import advance

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

    from tagger.encoders.clip import Parts
    from tagger.training.clip import Task
    from tagger.training.dataset import Examples

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TunedClip:
    """What came of a training. before, after: accuracies on the held-out rows; share: of what was learned, in the blend."""

    method: str
    epoch: int
    rows: int
    held_out: int
    before: float
    after: float
    share: float

    def to_text(self) -> str:
        """Return the same in a line."""
        return (
            f"{self.method}, epoch {self.epoch}, {self.share:.0%} of it blended with what was there: accuracy {self.after:.1%} "
            f"on {self.held_out} held-out rows, which chose epoch and blend; before {self.before:.1%}"
        )


def train_clip(
    manifest: str | Path,
    output: str | Path,
    config: str | Path | Mapping[str, Any] | None = None,
    *,
    recipe: ClipRecipe = ClipRecipe(),  # noqa: B008  # frozen
    attribute: str | None = None,
    overwrite: bool = False,
    machine: Machine = Machine(),  # noqa: B008  # frozen
    **overrides: Unpack[Overrides],
) -> TunedClip:
    """Fine-tune a CLIP on the labelled rows of `manifest` and write it to the folder `output`, in transformers' format.

    attribute: which one of the settings', where there are several. An interrupted training is continued when it is asked for
    again. Raises the errors of core/errors.py; GateError, and writes nothing, where held-out rows find it no better than what
    was there and `recipe.force` is not given.
    """
    name, folder = str(manifest), Path(output)
    require_writable(state := folder.with_name(f"{folder.name}.partial"), f"--output {folder}.partial", overwrite=True)
    settings = model_alone(load_settings(name, config, **overrides))
    if settings.model.is_resnet18:
        raise UsageError(f"--model: expected a CLIP, found {settings.model.name}; name one, or use `tagger train resnet18`")
    require_clip_folder(folder, Path(recipe.init).parent if recipe.init else Path(settings.model.name), overwrite=overwrite)
    with Workspace() as space, TemporaryDirectory(prefix="tagger-") as scratch:
        job = with_one_attribute(open_job(name, settings, space), attribute)
        product_column = find_product_column(job.manifest, recipe.product_column)
        if machine.workers != 0:
            start_early()
        # torch takes seconds to import: only now that everything else is known to be right.
        from tagger.encoders.backends import choose_device
        from tagger.encoders.clip import load_parts, load_untrained
        from tagger.encoders.clip_model import Clip
        from tagger.training.clip import accuracy_of, tune
        from tagger.training.weight_averaging import blend, choose_share

        device, quiet = choose_device(machine.device), not (machine.progress and sys.stderr.isatty())
        model = settings.model
        parts = load_untrained(Path(recipe.init), recipe.seed) if recipe.init else load_parts(model.name, model.revision)
        if not isinstance(parts.model, Clip):
            raise ConfigError(
                f"model {model.name}: expected a CLIP or MetaCLIP 2, which can be tuned, found another kind; name one"
            )
        # On the CPU, before the model goes to the device.
        original, parent = {key: weight.clone() for key, weight in parts.model.state_dict().items()}, parts.fingerprint
        try:
            with tqdm(unit="image", desc="reading", disable=quiet) as bar:
                examples = _read_examples(job, parts, machine, device, Path(scratch), partial(advance, bar))
            products = read_products(job.manifest, product_column, examples.rows)
            task = _make_task(job, parts, examples, products, recipe, device)
            judge = partial(accuracy_of, task=task, device=device)
            before = judge(original)
            with tqdm(total=recipe.epochs * len(task.rows), unit="image", desc="training", disable=quiet) as bar:
                learned = tune(parts.model, task, recipe, device, state=state, parent=parent, advance=partial(advance, bar))
            share, judged = (1.0, {}) if recipe.init else choose_share(original, learned.weights, judge)
            best = max(learned.epochs, key=lambda one: one["accuracy"])
            tuned = TunedClip(
                method=learned.method,
                epoch=int(best["epoch"]),
                rows=len(task.rows),
                held_out=len(task.held_out),
                before=before,
                after=judged.get(share, best["accuracy"]),
                share=share,
            )
            if tuned.after <= before and not recipe.force:
                raise GateError(
                    tuned.to_text(),
                    f"--output {folder}: expected a model that is better on held-out rows, found none; nothing was written; "
                    "label more, or write it all the same with --force",
                    summary=tuned,
                )
            described = {
                "attribute": job.attributes[0].name,
                "labels": job.attributes[0].label_names,
                "parent": {"name": recipe.init or model.name, "revision": model.revision, "fingerprint": parent},
                "recipe": asdict(recipe),
                **asdict(tuned),
                "epochs": learned.epochs,
                "shares": {f"{one:g}": accuracy for one, accuracy in judged.items()},
                "manifest": job.manifest.content_hash(),
            }
            write_clip(folder, parts, blend(original, learned.weights, share), described)
            published.note(f"the model is complete at {folder}")
            state.unlink(missing_ok=True)
        except OSError as error:
            raise StoppedError(
                f"{folder}: expected to write the model, found: {reason(error)}; free the disk, or correct the permissions, and "
                "run again to continue"
            ) from error
    return tuned


def _read_examples(
    job: Job, parts: Parts, machine: Machine, device: torch.device, scratch: Path, advance: Callable[[int], object]
) -> Examples:
    """Read the labelled rows, decoded larger than the model wants them and as it does."""
    from tagger.images.reading import Reading
    from tagger.training.clip import larger
    from tagger.training.dataset import TUNED, WHOLE, decode, read_labelled, require_all_labels

    [chosen] = job.attributes
    labelled = read_labelled(job.manifest, [chosen])
    require_all_labels(job.manifest.name, chosen, labelled.truths[chosen.name])
    pixels = {TUNED: larger(parts.preprocessing), WHOLE: parts.preprocessing}
    workers = choose_workers(device.type) if machine.workers is None else machine.workers
    examples = decode(labelled, Reading(policy=job.policy, preprocessings=pixels, workers=workers), advance, scratch)
    require_all_labels(job.manifest.name, chosen, examples.truth)
    return examples


def _make_task(
    job: Job, parts: Parts, examples: Examples, products: pa.Array | None, recipe: ClipRecipe, device: torch.device
) -> Task:
    """Split the rows into those to learn from and those to judge with, none of a product or of nearly one picture in both."""
    from tagger.encoders.clip_model import Clip
    from tagger.training.clip import Task, tokenise
    from tagger.training.clip_embeddings import embed_pixels
    from tagger.training.dataset import TUNED, WHOLE
    from tagger.training.hold_out import hold_out
    from tagger.training.row_groups import groups_of

    [chosen] = job.attributes
    embeddings = embed_pixels(cast(Clip, parts.model), examples.pixels[WHOLE], parts.preprocessing, device)
    groups = groups_of(embeddings.numpy(), products)
    rows, held_out = hold_out(job.manifest.name, chosen, groups, examples.truth, recipe.validation, recipe.seed)
    tokens, prompts = tokenise(parts, [chosen.prompts(label) for label in chosen.labels])
    return Task(
        pixels=examples.pixels[TUNED],
        whole=examples.pixels[WHOLE],
        truth=examples.truth,
        tokens=tokens,
        prompts=prompts,
        rows=rows,
        held_out=held_out,
        preprocessing=parts.preprocessing,
        shell=cast(Callable[[], Clip], parts.checkpoint.shell),
    )
