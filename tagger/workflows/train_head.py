"""`tagger train head`: from the labelled rows of a manifest to a head; the public Python API that the command line calls."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

import numpy as np
from numpy.typing import NDArray

from tagger.catalog.object_storage import Workspace
from tagger.catalog.product_column import find_product_column, read_products
from tagger.core import published, shutdown
from tagger.core.errors import ConfigError, GateError, ModelError, UsageError
from tagger.core.files import write_bytes
from tagger.core.write_check import require_writable, write_error
from tagger.images.workers import start_early
from tagger.inference.job import Job, model_alone, open_job, with_one_attribute
from tagger.settings.attributes import Attribute, prompts_hash
from tagger.settings.load import load_settings
from tagger.settings.options import ZERO_SHOT, HeadRecipe, Machine, Overrides
from tagger.settings.paths import RESNET18_SUFFIX
from tagger.settings.schema import ModelSettings
from tagger.tagging.head_file import HeadDescription, HeldOut, read_head, to_bytes

if TYPE_CHECKING:
    from tagger.training.choose_head import HeadChoice
    from tagger.training.earlier_head import Duel
    from tagger.training.head_methods import Fit, Head
    from tagger.training.labelled_embeddings import LabelledEmbeddings

log = logging.getLogger(__name__)

PROMPTS = "prompts"  # the one method that takes CLIP itself, not embeddings alone
VERSIONS = ("tagger", "torch")
SURE, EVEN = 0.95, 0.5  # probabilities from which zero-shot, or a new head, replaces an earlier one


@dataclass(frozen=True, kw_only=True)
class TrainedHead:
    """Hold what came of it. set_aside: rows that did not fit. duel: with the head that was there. written: or it stays."""

    choice: HeadChoice
    set_aside: int
    duel: Duel | None
    written: bool

    def to_text(self) -> str:
        """Return what a person should know, line by line."""
        lines = [describe(self.choice)]
        if self.set_aside:
            lines.append(f"{self.set_aside} labelled rows were set aside, for example for `tagger calibrate`")
        if self.duel is not None:
            new = "the prompts alone are written" if self.choice.method == ZERO_SHOT else "tonight's is written"
            chosen = new if self.written else "the earlier one stays"
            lines.append(
                f"on {self.duel.rows} rows that neither was fitted on: {self.duel.new} right, the earlier head "
                f"{self.duel.earlier}; {chosen}"
            )
        return "\n".join(lines)


class _Rows(NamedTuple):
    """The rows that fit, the SHA-256 of their images, uint8 (N, 32), and their groups; the weights that embedded them."""

    labelled: LabelledEmbeddings
    digests: NDArray[np.uint8]
    groups: NDArray[np.int64]
    set_aside: int
    encoder: str


def train_head(
    manifest: str | Path,
    output: str | Path,
    config: str | Path | Mapping[str, Any] | None = None,
    *,
    recipe: HeadRecipe = HeadRecipe(),  # noqa: B008  # frozen
    attribute: str | None = None,
    overwrite: bool = False,
    machine: Machine = Machine(),  # noqa: B008  # frozen
    **overrides: Unpack[Overrides],
) -> TrainedHead:
    """Fit a head on the labelled rows of `manifest`, judge it on rows that it was not fitted on, and write it to `output`.

    attribute: which one of the settings', where there are several. Where there is a head already and `overwrite` is given, it is
    replaced unless it is the better one on rows that neither was fitted on; where it is surely worse there than zero-shot, and
    nothing else beats that, by zero-shot. Raises the errors of core/errors.py; GateError, and writes nothing, where zero-shot is
    not beaten and `recipe.force` is not given.
    """
    name, file = str(manifest), Path(output)
    if file.suffix != RESNET18_SUFFIX:
        raise UsageError(f"--output {file}: expected a name that ends with {RESNET18_SUFFIX}, found another; correct it")
    require_writable(file, f"--output {file}", overwrite=overwrite)
    settings = model_alone(load_settings(name, config, **overrides))
    if settings.model.is_resnet18:
        raise UsageError(f"--model: expected a CLIP, whose embeddings a head is for, found {settings.model.name}; name one")
    with Workspace() as space:
        job = with_one_attribute(open_job(name, settings, space), attribute)
        [chosen] = job.attributes
        column = find_product_column(job.manifest, recipe.product_column)
        if machine.workers != 0:
            start_early()
        rows = _read(job, column, recipe.hold_out, machine)
        # torch takes seconds to import: only now that everything else is known to be right.
        from tagger.training.choose_head import choose_head

        fits = _fits(recipe.method, settings.model, machine.device, chosen)
        choice = choose_head(rows.labelled, recipe.method, recipe.seed, fits)
        shutdown.check()
        fit = choice.fit if choice.beats_zero_shot or recipe.force else None
        duel = _compare(file, chosen, rows, fit or _fit_nothing, recipe.seed)
        if fit is None and duel is not None and duel.better >= SURE:
            choice = _prompts_alone(choice, rows.labelled)
        elif fit is None:
            raise GateError(
                describe(choice),
                f"--output {file}: expected a head that beats zero-shot on held-out rows, found none; "
                + ("the one that is there stays; " if file.exists() else "nothing was written; ")
                + ("label more" if recipe.force else "label more, or write one all the same with --method and --force"),
                summary=TrainedHead(choice=choice, set_aside=rows.set_aside, duel=None, written=False),
            )
        trained = TrainedHead(
            choice=choice,
            set_aside=rows.set_aside,
            duel=duel,
            written=fit is None or recipe.force or duel is None or duel.better >= EVEN,
        )
        if trained.written:
            _write(file, job, rows, choice, recipe.seed)
    return trained


def describe(choice: HeadChoice) -> str:
    """Return how good the head is on held-out rows, beside zero-shot, and how sure that is."""
    if choice.accuracy is None or choice.zero_shot_accuracy is None:
        return f"{choice.method}: fitted on {choice.rows} rows, too few to hold some out: how good it is cannot be said"
    if choice.head is not None and choice.method == ZERO_SHOT:
        return f"zero-shot: accuracy {choice.accuracy:.1%} on {choice.rows} rows; nothing is surely better"
    name = "the best method" if choice.head is None else choice.method
    line = f"{name}: accuracy {choice.accuracy:.1%} on {choice.rows} rows, each held out once; zero-shot "
    line += f"{choice.zero_shot_accuracy:.1%}"
    if choice.gain is None or choice.interval is None or choice.probability is None:
        return line
    low, high = (100 * bound for bound in choice.interval)
    line += f"; mean recall {100 * choice.gain:+.1f} points ({low:+.1f} to {high:+.1f})"
    return f"{line}, above 0 with probability {choice.probability:.3f}"


def _fit_nothing(rows: LabelledEmbeddings, _: int) -> Head:
    return rows.zero_shot


def _prompts_alone(refused: HeadChoice, rows: LabelledEmbeddings) -> HeadChoice:
    """Return zero-shot as the head, in the place of one that is not surely better."""
    return replace(
        refused,
        head=rows.zero_shot,
        method=ZERO_SHOT,
        blend=0.0,
        accuracy=refused.zero_shot_accuracy,
        gain=None,
        interval=None,
        probability=None,
    )


def _fits(method: str, model: ModelSettings, device: str | None, attribute: Attribute) -> Mapping[str, Fit]:
    """Return the methods among which to choose, by name."""
    from tagger.training.head_methods import METHODS

    if method != PROMPTS:
        return METHODS
    from tagger.encoders.backends import choose_device
    from tagger.encoders.clip import load_clip
    from tagger.training.prompt_learning import fit_prompts

    encoder = load_clip(model.name, model.revision, choose_device(device))
    return {PROMPTS: partial(fit_prompts, encoder=encoder, labels=attribute.label_names)}


def _read(job: Job, column: str | None, hold_out: float, machine: Machine) -> _Rows:
    """Embed the labelled rows, leaving out those whose image cannot be read; no image is decoded whose embedding is known."""
    from tagger.inference.load import open_engine
    from tagger.tagging.heads import ZeroShotHead
    from tagger.training.dataset import embed, read_labelled
    from tagger.training.labelled_embeddings import LabelledEmbeddings
    from tagger.training.row_groups import groups_of, set_aside

    [chosen] = job.attributes
    labelled = read_labelled(job.manifest, [chosen])
    with open_engine(job, machine) as engine:
        examples = embed(labelled, engine, lambda _: shutdown.check())
        [zero_shot], encoder = engine.predictor.heads, engine.predictor.encoder
    assert isinstance(zero_shot, ZeroShotHead)
    assert examples.embeddings is not None
    assert examples.digests is not None
    groups = groups_of(examples.embeddings, read_products(job.manifest, column, examples.rows))
    aside = set_aside(groups, examples.digests, hold_out)
    kept = ~aside
    _warn_of_lacking(chosen, examples.truth[kept])
    return _Rows(
        LabelledEmbeddings.from_engine(examples.embeddings[kept], examples.truth[kept], zero_shot, groups[kept]),
        examples.digests[kept],
        groups[kept],
        int(aside.sum()),
        encoder.weights,
    )


def _warn_of_lacking(attribute: Attribute, truth: NDArray[np.int64]) -> None:
    counts = np.bincount(truth, minlength=len(attribute.labels))
    if lacking := [label for label, count in zip(attribute.label_names, counts, strict=True) if not count]:
        log.warning("labels without a labelled row, which only their prompts speak for: %s", ", ".join(lacking))


def _compare(file: Path, attribute: Attribute, rows: _Rows, fit: Fit, seed: int) -> Duel | None:
    """Compare what `fit` makes with the head that is there; None, and a line that says why, where that cannot be done."""
    import torch

    from tagger.training.earlier_head import compare_with_earlier
    from tagger.training.row_groups import touched

    if not file.exists():
        return None
    try:
        earlier = read_head(str(file))
        earlier.check(attribute.name, attribute.label_names, prompts_hash(attribute))
        earlier.check_encoder(rows.encoder)
    except (ConfigError, ModelError) as error:
        log.warning("the head that is there cannot be compared: %s", error)
        return None
    unseen = torch.from_numpy(~touched(rows.groups, earlier.has_seen(rows.digests)))
    head = earlier.head()
    duel = compare_with_earlier(rows.labelled, unseen, head, fit, seed)
    if duel is None:
        log.info(
            "the head that is there is not compared: it was fitted on %d rows, and none of the %d rows of tonight, or of their "
            "products, is new to it",
            len(earlier.fitted),
            len(rows.digests),
        )
    return duel


def _write(file: Path, job: Job, rows: _Rows, choice: HeadChoice, seed: int) -> None:
    [chosen] = job.attributes
    assert choice.head is not None

    def described(beta: float | None) -> HeadDescription:
        return HeadDescription(
            attribute=chosen.name,
            labels=chosen.label_names,
            encoder=rows.encoder,
            prompts=prompts_hash(chosen),
            method=choice.method,
            blend=choice.blend,
            beta=beta,
            held_out=HeldOut(
                accuracy=choice.accuracy,
                zero_shot_accuracy=choice.zero_shot_accuracy,
                interval=choice.interval,
                probability=choice.probability,
                folds=choice.folds,
            ),
            rows=choice.rows,
            manifest=job.manifest.content_hash(),
            seed=seed,
            versions={library: version(library) for library in VERSIONS},
        )

    content = to_bytes(choice.head, described, rows.digests)
    try:
        write_bytes(file, content)
    except OSError as error:
        raise write_error(f"--output {file}", error) from error
    published.note(f"the head is complete at {file}")
