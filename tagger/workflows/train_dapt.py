"""`tagger train prompts-dapt`: from labelled rows to a CLIP with prompts in both towers; the API that the command line calls."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Unpack, cast

from tqdm import tqdm

from tagger.catalog.object_storage import Workspace
from tagger.catalog.product_column import find_product_column, read_products
from tagger.core import published
from tagger.core.errors import ConfigError, GateError, StoppedError, UsageError
from tagger.core.files import reason
from tagger.images.workers import start_early
from tagger.inference.job import Job, model_alone, open_job, with_one_attribute
from tagger.settings.attributes import prompts_hash
from tagger.settings.load import load_settings
from tagger.settings.options import DAPT, DaptRecipe, Machine, Overrides
from tagger.tagging.head_file import HeadDescription, HeldOut, to_bytes
from tagger.tagging.heads import LinearHead
from tagger.workflows.clip_folder import HEAD, require_clip_folder, write_clip
from tagger.workflows.progress import advance

if TYPE_CHECKING:
    from tagger.encoders.clip import Parts
    from tagger.inference.predictor import Probabilities
    from tagger.training.dapt import DualPrompts
    from tagger.training.dataset import Examples


@dataclass(frozen=True, kw_only=True)
class TunedPrompts:
    """What came of it. before, after: accuracies on the held-out rows, of the settings' prompts and of the learned ones."""

    rows: int
    held_out: int
    before: float
    after: float

    def to_text(self) -> str:
        """Return the same in a line."""
        return (
            f"prompts of both towers, learned from {self.rows} rows: accuracy {self.after:.1%} on {self.held_out} held-out rows; "
            f"before {self.before:.1%}"
        )


def train_dapt(
    manifest: str | Path,
    output: str | Path,
    config: str | Path | Mapping[str, Any] | None = None,
    *,
    recipe: DaptRecipe = DaptRecipe(),  # noqa: B008  # frozen
    attribute: str | None = None,
    overwrite: bool = False,
    machine: Machine = Machine(),  # noqa: B008  # frozen
    **overrides: Unpack[Overrides],
) -> TunedPrompts:
    """Learn prompts of both towers from the labelled rows of `manifest` (training/dapt.py), and write them to a folder.

    `output` gets the checkpoint with the learned tokens of images, an encoder of its own, and head.safetensors: what the learned
    words say of the attribute's labels. attribute: which one of the settings', where there are several. Raises the errors of
    core/errors.py; GateError, and writes nothing, where held-out rows find them no better than the settings' prompts and
    `recipe.force` is not given.
    """
    name, folder = str(manifest), Path(output)
    settings = model_alone(load_settings(name, config, **overrides))
    model = settings.model
    if model.is_resnet18:
        raise UsageError(f"--model: expected a CLIP, whose prompts are learned, found {model.name}; name one")
    require_clip_folder(folder, Path(model.name), overwrite=overwrite)
    with Workspace() as space, TemporaryDirectory(prefix="tagger-") as scratch:
        job = with_one_attribute(open_job(name, settings, space), attribute)
        [chosen], column = job.attributes, find_product_column(job.manifest, recipe.product_column)
        if machine.workers != 0:
            start_early()
        # torch takes seconds to import: only now that everything else is known to be right.
        from tagger.encoders.backends import choose_device
        from tagger.encoders.clip import load_parts
        from tagger.encoders.clip_model import Clip
        from tagger.training.dapt import STEPS, fit_dapt, predict
        from tagger.training.dataset import WHOLE
        from tagger.training.hold_out import hold_out
        from tagger.training.row_groups import groups_of

        parts = load_parts(model.name, model.revision, model.exact_preprocessing)
        if not isinstance(parts.model, Clip):
            raise ConfigError(
                f"model {model.name}: expected a CLIP or MetaCLIP 2, whose prompts can be learned, found another kind; name one"
            )
        quiet = not (machine.progress and sys.stderr.isatty())
        try:
            with tqdm(unit="image", desc="reading", disable=quiet) as bar:
                examples, zero_shot = _read(job, parts, machine, Path(scratch), partial(advance, bar))
            assert examples.embeddings is not None
            groups = groups_of(examples.embeddings, read_products(job.manifest, column, examples.rows))
            rows, held_out = hold_out(name, chosen, groups, examples.truth, recipe.validation, recipe.seed)
            pixels, truth = examples.pixels[WHOLE], examples.truth
            parts.model.to(choose_device(machine.device))
            with tqdm(total=STEPS, unit="step", desc="training", disable=quiet) as bar:
                moved = partial(advance, bar, 1)
                learned = fit_dapt(parts, pixels[rows], truth[rows], chosen.label_names, recipe.seed, advance=moved)
            found = predict(parts, learned, chosen.label_names, pixels[held_out])
            tuned = TunedPrompts(
                rows=len(rows),
                held_out=len(held_out),
                before=float((zero_shot[held_out].argmax(1) == truth[held_out]).mean()),
                after=float((found.argmax(1) == truth[held_out]).mean()),
            )
            if tuned.after <= tuned.before and not recipe.force:
                raise GateError(
                    tuned.to_text(),
                    f"--output {folder}: expected prompts that are better on held-out rows, found none; nothing was written; "
                    "label more, or write them all the same with --force",
                    summary=tuned,
                )
            assert examples.digests is not None
            _write(folder, job, parts, learned, examples.digests[rows], tuned, recipe)
            published.note(f"the model and its head are complete at {folder}")
        except OSError as error:
            raise StoppedError(
                f"{folder}: expected to write the model, found: {reason(error)}; free the disk, or correct the permissions, and "
                "run again"
            ) from error
    return tuned


def _read(
    job: Job, parts: Parts, machine: Machine, scratch: Path, advance: Callable[[int], object]
) -> tuple[Examples, Probabilities]:
    """Read the labelled rows, with the pixels that the model wants, and what it says of them as it is."""
    from tagger.inference.load import open_engine
    from tagger.training.dataset import WHOLE, embed, read_labelled, require_all_labels

    [chosen], pixels = job.attributes, {WHOLE: parts.preprocessing}
    labelled = read_labelled(job.manifest, [chosen])
    require_all_labels(job.manifest.name, chosen, labelled.truths[chosen.name])
    with open_engine(job, machine, pixels=pixels) as engine:
        examples = embed(labelled, engine, advance, pixels, scratch)
        assert examples.embeddings is not None
        [zero_shot] = engine.predictor.probabilities(examples.embeddings)
    require_all_labels(job.manifest.name, chosen, examples.truth)
    return examples, zero_shot


def _write(
    folder: Path, job: Job, parts: Parts, learned: DualPrompts, digests: Any, tuned: TunedPrompts, recipe: DaptRecipe
) -> None:
    import torch

    from tagger.encoders.clip_model import Clip
    from tagger.training.dapt import embed_labels

    [chosen], settings = job.attributes, job.settings.model
    model = cast(Clip, parts.model)
    with torch.no_grad():
        texts = float(model.logit_scale.exp()) * embed_labels(parts, learned.words, chosen.label_names).cpu()
    parent = {"name": settings.name, "revision": settings.revision}
    model.cpu().vision_model.prompts = torch.nn.Parameter(learned.patches.cpu(), requires_grad=False)

    def described(beta: float | None) -> HeadDescription:
        return HeadDescription(
            attribute=chosen.name,
            labels=chosen.label_names,
            encoder=parts.fingerprint,
            prompts=prompts_hash(chosen),
            method=DAPT,
            blend=1.0,
            beta=beta,
            held_out=HeldOut(accuracy=tuned.after, zero_shot_accuracy=tuned.before, interval=None, probability=None, folds=1),
            rows=tuned.rows,
            manifest=job.manifest.content_hash(),
            seed=recipe.seed,
            versions={library: version(library) for library in ("tagger", "torch")},
        )

    head = to_bytes(LinearHead(texts, torch.zeros(len(texts))), described, digests)
    about = {"attribute": chosen.name, "labels": chosen.label_names, "parent": parent, "recipe": asdict(recipe), **asdict(tuned)}
    write_clip(folder, parts, model.state_dict(), {**about, "head": HEAD, "manifest": job.manifest.content_hash()}, head)
