"""A stranger's CLIP checkpoint, from a hub id or a folder to its configuration and weights, before any library loads it.

Only JSON and safetensors are read, only files that lie in the folder (or are the hub cache's own), none larger than it needs
to be. No pickle, no code that a file names, no file that a file names elsewhere: there is no option to allow them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import CLIPConfig, MetaClip2Config, PreTrainedConfig, SiglipConfig

from tagger.core.errors import ModelError
from tagger.encoders.clip_files import (
    CONFIG,
    INDEX,
    KINDS,
    OPEN_CLIP_PATTERNS,
    PATTERNS,
    PICKLES,
    WEIGHTS,
    is_known,
    is_open_clip,
    read_json,
    readable_files,
)
from tagger.encoders.clip_model import Clip
from tagger.encoders.open_clip import OpenClipCheckpoint, open_open_clip
from tagger.encoders.siglip_model import Siglip

MAX_TEXT_BYTES = 128 << 20  # CLIP's own tokenizer.json has 4 MB, one with the words of many languages has 50
MAX_HEADER_BYTES = 16 << 20

CLASSES: dict[str, tuple[type[PreTrainedConfig], type[Clip] | type[Siglip]]] = dict(
    zip(KINDS, ((CLIPConfig, Clip), (MetaClip2Config, Clip), (SiglipConfig, Siglip)), strict=True)
)

PROMPTS = "vision_model.prompts"  # a weight of a CLIP that `tagger train prompts-dapt` wrote

# The sizes and numbers of a CLIP. What else a config.json may ask for (code, kernels, quantisation, other files) is not read.
CONFIG_KEYS = {
    *("hidden_size", "intermediate_size", "projection_dim", "num_hidden_layers", "num_attention_heads", "hidden_act"),
    *("num_channels", "image_size", "patch_size", "vocab_size", "max_position_embeddings", "layer_norm_eps"),
    *("pad_token_id", "bos_token_id", "eos_token_id", "projection_size", "vision_use_head"),
}
NOT_IN_WEIGHTS = {"hidden_act", "num_attention_heads", "layer_norm_eps", "eos_token_id"}  # and in no shape of theirs


@dataclass(frozen=True)
class Checkpoint:
    """A checked folder, its kind (one of KINDS) and configuration, the files of its weights, and the shapes of those that the
    model has.
    """

    folder: Path
    kind: str
    config: PreTrainedConfig
    files: tuple[Path, ...]
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def architecture(self) -> str:
        """What embeddings depend on beside the weights, as one text."""
        towers = {key: getattr(self.config, key).to_dict() for key in ("text_config", "vision_config")}
        chosen = {tower: {key: one[key] for key in sorted(NOT_IN_WEIGHTS & one.keys())} for tower, one in towers.items()}
        return f"{self.kind} {json.dumps(chosen)}"

    def shell(self) -> Clip | Siglip:
        """Return the model without its weights: shapes that take no memory."""
        return _shell(self.kind, self.config, self.shapes)

    def load(self) -> Clip | Siglip:
        """Return the model, in fp32."""
        model = self.shell()
        # Copies, because what comes from a file would change with the file.
        model.load_state_dict({key: weight.to(torch.float32, copy=True) for key, weight in self._weights()}, assign=True)
        return model

    def random(self, seed: int) -> Clip | Siglip:
        """Return the model with random weights, as transformers begins with them."""
        from transformers import AutoModel  # which imports all that a model could need

        model = self.shell()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            weights = AutoModel.from_config(self.config).state_dict()
        model.load_state_dict({key: weights[key] for key in model.state_dict()}, assign=True)
        return model

    def _weights(self) -> Iterator[tuple[str, Tensor]]:
        for path in self.files:
            with safe_open(path, "pt") as file:
                for key in self.shapes.keys() & set(file.keys()):
                    yield key, file.get_tensor(key)


def open_checkpoint(name: str, revision: str | None) -> Checkpoint | OpenClipCheckpoint:
    """Find and check a checkpoint, a folder or a hub id; ModelError if it is of none of the KINDS, or may not be loaded.

    Other errors are those of the libraries, about a damaged file or a hub out of reach.
    """
    for library in ("transformers", "huggingface_hub"):  # the one line of a ModelError says it better
        logging.getLogger(library).setLevel(logging.CRITICAL)
    folder = Path(name) if Path(name).is_dir() else _download(name, revision)
    if problem := _find_problem(folder):
        raise ModelError(f"model {name}: expected {problem}")
    if is_open_clip(folder):
        return open_open_clip(folder, name)
    if not (folder / CONFIG).exists():
        raise ModelError(f"model {name}: expected a CLIP checkpoint in transformers' format, found no config.json; name another")
    content = read_json(folder / CONFIG)
    if (kind := content.get("model_type")) not in KINDS:
        # Batches have one shape, so that two runs write the same bytes; NaFlex has a shape for each picture.
        hint = " of one resolution, as NaFlex has many" if kind == "siglip2" else ""
        raise ModelError(
            f"model {name}: expected a checkpoint in transformers' format of the kind {', '.join(KINDS)}, found {kind}; "
            f"name another{hint}"
        )
    files = _find_weights(name, folder)
    config = _read_config(kind, content)
    return Checkpoint(folder, kind, config, files, _check_shapes(name, kind, config, _read_shapes(files)))


def open_untrained(config: Path) -> Checkpoint:
    """Return a checkpoint that has a configuration, and no weights; ModelError if it is of none of the KINDS."""
    content = read_json(config)
    if (kind := content.get("model_type")) not in KINDS:
        raise ModelError(f"--init {config}: expected the configuration of a {', '.join(KINDS)}, found of {kind}; name another")
    return Checkpoint(config.parent, kind, _read_config(kind, content), (), {})


def _download(name: str, revision: str | None) -> Path:
    """Fetch those of the hub's files that are new, and return their folder in the local cache."""
    from huggingface_hub import HfApi, snapshot_download

    try:
        # First, because its errors say best what is wrong with a name or a connection.
        config = PreTrainedConfig.get_config_dict(name, revision=revision or "main")[0]
    except OSError as error:
        if "does not appear to have a file" not in str(error):
            raise
        config = {}
    if not is_known(config):
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=OPEN_CLIP_PATTERNS))
        if is_open_clip(folder):
            return folder
    folder = Path(snapshot_download(name, revision=revision, allow_patterns=PATTERNS))
    if revision in (None, "main") and not any((folder / file).exists() for file in (WEIGHTS, INDEX)):
        # The hub's bot has converted the weights of many older models, in a pull request that the owner did not merge.
        from transformers.safetensors_conversion import get_conversion_pr_reference

        folder = Path(snapshot_download(name, revision=get_conversion_pr_reference(HfApi(), name), allow_patterns=PATTERNS))
    return folder


def _find_problem(folder: Path) -> str | None:
    """Describe the first readable file that leads out of the folder, is no file, or is too large; None if all are good."""
    inside = folder.resolve()
    places = [inside]
    if inside.parent.name == "snapshots":  # the hub's cache: snapshots/<commit>/<file> -> ../../blobs/<hash>
        places.append(inside.parent.parent / "blobs")
    for path in readable_files(folder):
        real = path.resolve()
        if not any(real.is_relative_to(place) for place in places):
            return f"all its files in its folder, found {path.name}, which leads to {real}; copy that file into the folder"
        if not real.is_file():
            return f"{path.name} to be a file, found something else; get it again"
        if path.suffix != ".safetensors" and (size := real.stat().st_size) > MAX_TEXT_BYTES:
            return f"{path.name} to have at most {MAX_TEXT_BYTES:,} bytes, found {size:,}; get it again"
    return None


def _find_weights(name: str, folder: Path) -> tuple[Path, ...]:
    if (folder / WEIGHTS).exists():
        files = [WEIGHTS]
    elif (folder / INDEX).exists():
        files = sorted(set(read_json(folder / INDEX)["weight_map"].values()))
    else:
        files = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)[:1]
    for file in files:
        if Path(file).suffix in PICKLES:
            raise ModelError(
                f"model {name}: expected safetensors weights, found {file}, a pickle, which can run any code when it is loaded "
                f"and therefore never is; name a checkpoint with {WEIGHTS}, or convert this one where you trust it"
            )
        if Path(file).name != file or Path(file).suffix != ".safetensors" or not (folder / file).exists():
            raise ModelError(f"model {name}: expected {INDEX} to name safetensors files beside it, found {file}; get it again")
    if not files:
        raise ModelError(f"model {name}: expected safetensors weights, found no {WEIGHTS}; get it again, or name another")
    return tuple(folder / file for file in files)


def _shell(kind: str, config: PreTrainedConfig, shapes: Mapping[str, tuple[int, ...]]) -> Clip | Siglip:
    with torch.device("meta"):
        model = CLASSES[kind][1](config)
        if isinstance(model, Clip) and PROMPTS in shapes:
            width = len(model.vision_model.embeddings.class_embedding)
            model.vision_model.prompts = nn.Parameter(torch.empty(shapes[PROMPTS][0], width))
    return model


def _read_config(kind: str, content: Mapping[str, Any]) -> PreTrainedConfig:
    towers = {}
    for tower in ("text_config", "vision_config", "text_config_dict", "vision_config_dict"):  # the last two: of older versions
        if content.get(tower) is not None:
            towers[tower] = {key: value for key, value in content[tower].items() if key in CONFIG_KEYS}
    return CLASSES[kind][0](**towers, **{key: content[key] for key in CONFIG_KEYS & content.keys()})


def _read_shapes(files: tuple[Path, ...]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for path in files:
        with path.open("rb") as file:
            header, size = int.from_bytes(file.read(8), "little"), path.stat().st_size
        if header > min(MAX_HEADER_BYTES, size):
            raise ValueError(f"{path.name} of {size:,} bytes with a header that claims {header:,}")
        try:
            with safe_open(path, "pt") as weights:  # checks that the tensors fill the file, in order and without gaps
                names = weights.keys()  # it is no mapping: it cannot be iterated itself
                shapes |= {key: tuple(weights.get_slice(key).get_shape()) for key in names}
        except SafetensorError as error:
            raise ValueError(f"{path.name}: {error}") from error
    return shapes


def _check_shapes(
    name: str, kind: str, config: PreTrainedConfig, found: Mapping[str, tuple[int, ...]]
) -> Mapping[str, tuple[int, ...]]:
    """Require the weights of this configuration, before memory is taken for them; return the shape of each."""
    layers = (config.text_config.num_hidden_layers, config.vision_config.num_hidden_layers)
    if min(layers) < 1 or max(layers) > len(found):
        raise ModelError(
            f"model {name}: expected weights of {layers[0]} text and {layers[1]} vision layers, as config.json says, found "
            f"{len(found)} weights in all; get it again"
        )
    expected = {key: tuple(weight.shape) for key, weight in _shell(kind, config, found).state_dict().items()}
    if lacking := sorted(expected.keys() - found.keys()):
        raise ModelError(
            f"model {name}: expected all weights of a {kind}, found {len(lacking)} missing ({lacking[0]} …); get it again"
        )
    for key, shape in expected.items():
        if found[key] != shape:
            raise ModelError(f"model {name}: expected {key} of shape {shape}, found: {found[key]}; get it again")
    return expected
