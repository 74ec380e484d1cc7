"""What a caller says beside tagger.toml: what outranks it, where results go, what the machine does, how a model is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

from tagger.core.errors import UsageError
from tagger.core.types import BATCH_SIZE, Preprocessing

Backend = Literal["torch", "openvino"]
Engine = Literal["local", "ray"]
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]

CLIP_METHODS = ("auto", "lora", "full")
HEAD_METHODS = ("auto", "gda", "linear", "clap", "proker", "tip-adapter", "tip-adapter-f", "prompts")

ZERO_SHOT, RESNET18, HYBRID, HEAD = "zero-shot", "resnet18", "hybrid", "head"
HEAD_SYSTEMS = ("gda", "linear", "clap", "proker", "tip-adapter", "tip-adapter-f", HEAD)  # of HEAD_METHODS; HEAD is its auto
CLIP_SYSTEMS = CLIP_TUNED, DAPT = "clip-tuned", "dapt"  # that change CLIP itself
SYSTEMS = (ZERO_SHOT, RESNET18, HYBRID, *HEAD_SYSTEMS, *CLIP_SYSTEMS)  # that can be compared
COMPARED = (ZERO_SHOT, RESNET18, HYBRID, HEAD)  # unless others are named

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, which torchvision's weights were trained with
BICUBIC = 3  # Pillow's number; CLIP's, so that both share their pixels where their sizes are the same


class Overrides(TypedDict, total=False):
    """Keywords of every function that reads a manifest; each beats its key of tagger.toml (KEYS), and None leaves it as it is.

    labels: of the one attribute. model: a hub id, a folder or a checkpoint of `tagger train`; revision: its commit, tag or
    branch. image_timeout: seconds for one image. allow_formats: beside JPEG, PNG and WebP. cache: the embedding cache's
    folder, False for none. max_errors: rows that may fail, as a number or as a percentage such as "2%".
    """

    labels: Sequence[str] | None
    model: str | Path | None
    revision: str | None
    backend: Backend | None
    precision: Precision | None
    image_column: str | None
    image_root: str | Path | None
    image_timeout: float | None
    allow_formats: Sequence[str] | None
    exact_preprocessing: bool | None
    cache: str | Path | bool | None
    max_errors: int | str | None


# override -> its key of tagger.toml
KEYS = {
    "labels": "labels",
    "model": "model.name",
    "revision": "model.revision",
    "backend": "model.backend",
    "precision": "model.precision",
    "image_column": "manifest.image_column",
    "image_root": "manifest.image_root",
    "image_timeout": "images.timeout",
    "allow_formats": "images.allow_formats",
    "exact_preprocessing": "model.exact_preprocessing",
    "cache": "cache.folder",
    "max_errors": "gates.max_errors",
}


@dataclass(frozen=True, kw_only=True)
class Output:
    """Where results go, and of which rows. Raises UsageError for what excludes each other.

    path: a file or the URL of an object; default: beside the manifest. in_place: into the manifest itself. fresh: throw away
    what an interrupted run left. limit: only the first rows. retry_errors: an earlier result, of which only the error rows
    are tagged; without a `path` it is replaced, or published where it was rejected. previous: the earlier result with which
    labels are compared; default: the one that is there. report: write report.html beside the summary. shard:
    (K, N), the K-th of N parts of the rows is tagged, for a merge.
    """

    path: str | Path | None = None
    overwrite: bool = False
    in_place: bool = False
    fresh: bool = False
    limit: int | None = None
    retry_errors: str | Path | None = None
    previous: str | Path | None = None
    report: bool = True
    shard: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.in_place and self.path is not None:
            raise UsageError("--in-place and --output: expected one of them, found both; leave one out")
        if self.in_place and self.limit is not None:
            raise UsageError("--in-place and --limit: a part of the manifest would replace the whole; leave one out")
        if self.in_place and self.retry_errors is not None:
            raise UsageError("--retry-errors: expected it without --in-place; leave one out")
        if self.shard is not None:
            number, count = self.shard
            if not 1 <= number <= count:
                raise UsageError(f"--shard {number}/{count}: expected K/N with K from 1 to N, such as 3/16; correct it")
            for option, given in (("in-place", self.in_place), ("retry-errors", self.retry_errors), ("fresh", self.fresh)):
                if given:
                    raise UsageError(f"--shard: expected it without --{option}; leave one out")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What the machine does, or the machines: speed, never a tag. Raises UsageError for what excludes each other.

    device: torch's name of it; default: an accelerator if there is one. devices: several, a process for each: numbers of GPUs,
    names, or "all". engine: "ray" has a cluster tag, the one at ray_address, by as many workers as it has GPUs, or nodes, or
    ray_workers. workers: processes that decode images, for each that encodes; with 0 an image that kills its decoder kills the
    run. batch_size: images that a decoding process reads at a time. verify_content: read every image, instead of taking one
    whose size and times, or whose server's version, are as they were for the same. progress: show a bar on a terminal.
    """

    device: str | None = None
    devices: Sequence[str] | None = None
    engine: Engine = "local"
    ray_address: str | None = None
    ray_workers: int | None = None
    workers: int | None = None
    batch_size: int = BATCH_SIZE
    verify_content: bool = False
    progress: bool = False

    def __post_init__(self) -> None:
        if self.devices is not None and (self.device is not None or self.engine != "local"):
            raise UsageError("--devices: expected it without --device and --engine ray; leave one out")
        if self.engine == "local" and (self.ray_address is not None or self.ray_workers is not None):
            raise UsageError("--ray-address and --ray-workers: expected them with --engine ray; add it or leave them out")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a ResNet18 is trained.

    init: "imagenet", "random" or a file. batch_size: images of a step. image_size: pixels of a side. validation: share of
    each label's rows. ensemble: choose, on the validation rows, the weight beside CLIP. The rest of it: Adam, cross-entropy;
    random flip, rotation by up to 15 degrees, brightness, contrast and saturation by up to a fifth.
    """

    init: str = "imagenet"
    epochs: int = 5
    batch_size: int = 32
    learning_rate: float = 1e-3
    image_size: int = 224
    validation: float = 0.2
    ensemble: bool = False
    seed: int = 0

    @property
    def preprocessing(self) -> Preprocessing:
        """The pixels that the network is trained on."""
        side = self.image_size
        return Preprocessing(resize=side, crop=(side, side), resample=BICUBIC, rescale=1 / 255, mean=MEAN, std=STD)


@dataclass(frozen=True, kw_only=True)
class ClipRecipe:
    """How a CLIP is fine-tuned. Raises UsageError for what cannot be meant.

    method: one of CLIP_METHODS; lora learns low-rank changes of the attention, full all weights, auto is lora for few rows.
    init: a config.json whose model is trained from nothing, with the tokenizer and the preprocessing beside it; default: the
    model that the settings name. batch_size: images of a step. learning_rate: default: the method's own. validation: share of
    each label's rows that choose the best epoch and the blend. product_column: as of HeadRecipe. less_memory: compute
    activations twice instead of keeping them. force: write a model that is no better, too.
    """

    method: str = "auto"
    init: str | None = None
    epochs: int = 10
    batch_size: int = 64
    learning_rate: float | None = None
    validation: float = 0.2
    product_column: str | None = None
    less_memory: bool = False
    force: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in CLIP_METHODS:
            raise UsageError(f"--method {self.method}: expected one of {', '.join(CLIP_METHODS)}; correct it")
        if self.init is not None and self.method == "lora":
            raise UsageError("--init: expected --method full with it, as nothing is there to be changed a little, found lora")


@dataclass(frozen=True, kw_only=True)
class DaptRecipe:
    """How prompts of both towers are learned. validation, product_column, force: as of ClipRecipe."""

    validation: float = 0.2
    product_column: str | None = None
    force: bool = False
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class HeadRecipe:
    """How a head is fitted. Raises UsageError for what cannot be meant.

    method: one of HEAD_METHODS; auto tries all but prompts. product_column: whose value rows of one product share, which are
    never on both sides of a split; default: product_id, where there is one. hold_out: share of the labelled rows that are left
    for other uses, the same ones every night. force: write a head that is no better than zero-shot, too, or than the one that is
    there.
    """

    method: str = "auto"
    product_column: str | None = None
    hold_out: float = 0.0
    force: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in HEAD_METHODS:
            raise UsageError(f"--method {self.method}: expected one of {', '.join(HEAD_METHODS)}; correct it")
        if not 0 <= self.hold_out < 1:
            raise UsageError(f"--hold-out: expected a share from 0 on and below 1, found {self.hold_out:g}; correct it")


@dataclass(frozen=True, kw_only=True)
class PromptTrial:
    """How sets of prompts are tried.

    descriptions: a JSON file, {label: [descriptions]}, that are one of the sets. product_column: whose value rows of one product
    share, which choose or judge together, as pictures do that are nearly the same; default: product_id, where there is one.
    write: put the best set into tagger.toml if it is surely better than what is there. seed: of the halves and the random words.
    """

    descriptions: str | Path | None = None
    product_column: str | None = None
    write: bool = False
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is promised of the rows that need no review. Raises UsageError for what cannot be promised.

    precision: the share of them that is right. confidence: the share of calibrations, each on rows of its own, that keep the
    promise. per_label: keep it for the rows of each label.
    """

    precision: float
    confidence: float = 0.9
    per_label: bool = False

    def __post_init__(self) -> None:
        for name, value in (("target-precision", self.precision), ("confidence", self.confidence)):
            if not 0 < value < 1:
                raise UsageError(f"--{name}: expected a share above 0 and below 1, found {value:g}; correct it")


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is compared, and on which rows. Raises UsageError for what cannot be meant.

    systems: some of SYSTEMS, the yardstick first; HEAD is what "auto" makes of the shots. shots: rows of each label to learn
    from; several numbers draw learning curves. test: rows of each label to test with, None for all of `test_manifest`, from
    which they are drawn in place of the manifest. seeds: how often rows are drawn. attribute: which one of the settings', where
    there are several.
    """

    systems: Sequence[str] = COMPARED
    shots: Sequence[int] = (12,)
    test: int | None = 4
    test_manifest: str | Path | None = None
    seeds: int = 20
    attribute: str | None = None

    def __post_init__(self) -> None:
        systems, shots = self.systems, self.shots
        if unknown := [system for system in systems if system not in SYSTEMS]:
            raise UsageError(f"--systems: expected some of {', '.join(SYSTEMS)}, found {', '.join(unknown)}; correct it")
        if not systems or len(set(systems)) < len(systems):
            raise UsageError(
                f"--systems: expected some of {', '.join(SYSTEMS)}, each once, found {', '.join(systems)}; correct it"
            )
        if not shots or min(shots) < 1 or len(set(shots)) < len(shots):
            raise UsageError(f"--shots: expected numbers from 1 on, each once, found {', '.join(map(str, shots))}; correct it")
        if self.test is None and self.test_manifest is None:
            raise UsageError(
                "--test: expected a number of rows, found all, which leaves none to learn from; name a --test-manifest"
            )
