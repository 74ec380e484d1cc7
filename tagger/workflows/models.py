"""`tagger models`: a checkpoint pulled into a folder, and quantised there once for every run and machine that has the folder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack, cast

from tagger.catalog.object_storage import Workspace
from tagger.core.errors import ManifestError, ModelError
from tagger.core.types import Preprocessing
from tagger.core.write_check import require_writable_folder, write_error
from tagger.encoders import hub
from tagger.inference.job import image_policy, image_root_of, open_checked
from tagger.inference.sampling import draw_images
from tagger.settings.load import load_settings
from tagger.settings.options import Overrides

if TYPE_CHECKING:
    from torch import Tensor

    from tagger.encoders.pinned import Pinned

log = logging.getLogger(__name__)


class _Source(NamedTuple):
    """What is quantised with: the images of a manifest, uint8 (B, 3, H, W), and whether its settings want exact preprocessing."""

    draw: Callable[[Preprocessing], Iterator[Tensor]]
    exact_preprocessing: bool


def pull(name: str, folder: Path, revision: str = "main", manifest: str | None = None) -> Pinned:
    """Copy a checkpoint of the hub, as `hub.pull` does, and quantise it with images of `manifest`, if there is one, as below."""
    if manifest is None:
        return hub.pull(name, folder, revision)
    with Workspace() as space:
        source = _open_source(manifest, None, space)  # before gigabytes are fetched
        pinned = hub.pull(name, folder, revision)
        _quantise(folder, source)
    return pinned


def quantise(
    folder: Path, manifest: str, config: str | Path | Mapping[str, Any] | None = None, **overrides: Unpack[Overrides]
) -> Path:
    """Quantise the checkpoint in `folder` to int8 as a run over `manifest` would; return the file, in the folder, that has it.

    A file that is there, whole, is left as it is. Raises the errors of core/errors.py: ModelError where the folder has no CLIP,
    ManifestError where no image can be read, StoppedError where the folder cannot be written.
    """
    with Workspace() as space:
        return _quantise(folder, _open_source(manifest, config, space, **overrides))


def _open_source(
    name: str, config: str | Path | Mapping[str, Any] | None, space: Workspace, **overrides: Unpack[Overrides]
) -> _Source:
    settings = load_settings(name, config, **overrides)
    manifest = open_checked(name, space, settings.manifest.image_column)
    policy = image_policy(settings, image_root_of(manifest, settings))
    import torch

    from tagger.encoders.backends import check_backend

    check_backend("openvino", "int8", torch.device("cpu"))

    def draw(preprocessing: Preprocessing) -> Iterator[Tensor]:
        batches = draw_images(manifest, manifest.rows, policy, preprocessing)
        first = next(batches, None)
        if first is None:
            raise ManifestError(
                f"{name}: expected images that can be read in column {manifest.image_column}, to quantise with, found none; "
                "correct the column, --image-root or [images]"
            )
        yield first
        yield from batches

    return _Source(draw, settings.model.exact_preprocessing)


def _quantise(folder: Path, source: _Source) -> Path:
    import torch

    from tagger.encoders.clip import load_clip
    from tagger.encoders.clip_tower import ImageTower
    from tagger.encoders.int8_file import int8_file, read_int8, write_int8
    from tagger.encoders.openvino import make_int8
    from tagger.inference.predictor import encoded_at_once

    if not folder.is_dir():
        raise ModelError(f"{folder}: expected a folder with a CLIP checkpoint, found none; `tagger models pull` makes one")
    encoder = load_clip(str(folder), None, torch.device("cpu"), source.exact_preprocessing)
    shape = (encoded_at_once("cpu"), 3, *encoder.preprocessing.size)
    file = int8_file(folder, encoder.fingerprint, shape)
    if read_int8(file):
        log.info("%s is there already", file)
        return file
    require_writable_folder(file.parent, str(file.parent), [file.name], overwrite=True)
    model = make_int8(cast(ImageTower, encoder.tower), shape, partial(source.draw, encoder.preprocessing))
    try:
        file.parent.mkdir(exist_ok=True)
        write_int8(file, model)
    except OSError as error:
        raise write_error(str(file), error) from error
    return file
