"""Options that several commands take, by the names of settings/options.py, and the values that they make."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

import click

from tagger.settings.options import KEYS, Backend, Engine, Machine, Overrides, Precision, Recipe

OTHER_SEPARATORS = ";|\uff0c\u3001"  # that people type where a comma is meant; the last two are Chinese and Japanese ones

_Command = TypeVar("_Command", bound=Callable[..., Any])


def split_list(context: click.Context, option: click.Parameter, value: str | None) -> list[str] | None:
    """Return the items of an option that is a list with commas, read as a line of CSV is; click's callback."""
    if value is None:
        return None
    items = [item.strip() for item in next(csv.reader([value], skipinitialspace=True), [])]
    if not items or "" in items:
        raise click.BadParameter(f"expected items separated by commas, found an empty one in {value!r}; remove the comma")
    other = next((mark for mark in OTHER_SEPARATORS if mark in value), None)
    if len(items) == 1 and other is not None:
        raise click.BadParameter(f"expected items separated by commas, found {other!r} in {value!r}; write commas")
    return items


def _decorator(*options: Callable[..., Any]) -> Callable[[_Command], _Command]:
    """Add these options to a command, in this order."""

    def add(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


config = click.option("--config", type=click.Path(path_type=Path), help="Settings; default: tagger.toml beside MANIFEST or here.")

# Where images are, and how they are read.
image_options = _decorator(
    click.option("--image-column", help="Column with paths or embedded images; found by itself if named as usual."),
    click.option("--image-root", type=click.Path(), help="Where image paths start; default: MANIFEST's folder."),
    click.option("--image-timeout", type=click.FloatRange(0, min_open=True), help="Seconds for one image; default: 60."),
    click.option("--allow-formats", callback=split_list, help="Image formats beside JPEG, PNG and WebP, for example GIF,TIFF."),
    click.option(
        "--exact-preprocessing",
        is_flag=True,
        default=None,
        help="Pixels as the model's own image processor makes them; slower.",
    ),
)

# What every command that reads a manifest takes: its settings, and what the machine does.
manifest_options = _decorator(
    config,
    click.option("--labels", callback=split_list, help="Labels to choose between, separated by commas."),
    click.option("--model", help="CLIP, a hub id or a local folder, or a checkpoint of `tagger train resnet18`."),
    click.option("--revision", help="Hub commit, tag or branch of --model."),
    click.option("--backend", type=click.Choice(get_args(Backend)), help="What computes embeddings; default: torch."),
    click.option("--precision", type=click.Choice(get_args(Precision)), help="Of the image encoder; default: auto."),
    image_options,
    click.option("--cache", type=click.Path(), help="Folder of the embedding cache; default: the user's cache."),
    click.option("--no-cache", is_flag=True, help="Encode every image, and keep nothing for the next run."),
    click.option("--verify-content", is_flag=True, help="Read every image, even if it seems unchanged."),
    click.option("--device", help="cpu, cuda, cuda:1, mps …; default: an accelerator if there is one."),
    click.option("--workers", type=click.IntRange(0), help="Processes that decode images; default: by the machine."),
    click.option(
        "--batch-size",
        type=click.IntRange(1),
        default=Machine().batch_size,
        show_default=True,
        help="Images that a decoding process reads at a time.",
    ),
)

# What tags, of those commands that can have several processes do it.
engine_options = _decorator(
    click.option("--devices", callback=split_list, help="Several, a process each: 0,1 for GPUs, all, or cpu,cpu."),
    click.option("--engine", type=click.Choice(get_args(Engine)), default="local", show_default=True, help="What tags."),
    click.option("--ray-address", help="The Ray cluster of --engine ray; default: RAY_ADDRESS, else this machine."),
    click.option("--ray-workers", type=click.IntRange(1), help="Workers of --engine ray; default: one a GPU, else one a node."),
)

max_errors = click.option("--max-errors", metavar="N|P%", help="Exit with 3 when more rows than this fail; results go aside.")
attribute = click.option("--attribute", help="Which attribute of the settings to learn.")
product_column = click.option(
    "--product-column",
    help="Whose value rows of one product share, which no split parts; default: product_id, where there is one.",
)
overwrite = click.option("--overwrite", is_flag=True, help="Replace what is there.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

# How a ResNet18 is trained.
recipe_options = _decorator(
    click.option("--init", default="imagenet", show_default=True, help="imagenet, random, or a file with a ResNet18's weights."),
    click.option("--epochs", type=click.IntRange(1), default=5, show_default=True, help="Passes over the rows."),
    click.option("--training-batch-size", type=click.IntRange(2), default=32, show_default=True, help="Images of a step."),
    click.option("--learning-rate", type=click.FloatRange(0, min_open=True), default=1e-3, show_default=True, help="Of Adam."),
    click.option("--image-size", type=click.IntRange(32), default=224, show_default=True, help="Pixels of a side."),
    click.option(
        "--validation", type=click.FloatRange(0, 0.5), default=0.2, show_default=True, help="Share of each label's rows."
    ),
)


def take_overrides(options: dict[str, Any]) -> Overrides:
    """Take what outranks tagger.toml out of a command's options."""
    if options.pop("no_cache", False):
        options["cache"] = False
    return cast(Overrides, {name: options.pop(name) for name in KEYS if name in options})


def take_machine(options: dict[str, Any], progress: bool = True) -> Machine:
    """Take what the machine does out of a command's options."""
    names = [one.name for one in fields(Machine) if one.name in options]
    return Machine(progress=progress, **{name: options.pop(name) for name in names})


def take_recipe(options: dict[str, Any], **more: Any) -> Recipe:  # Recipe's other fields, by the same names
    """Take how a ResNet18 is trained out of a command's options."""
    names = ("init", "epochs", "learning_rate", "image_size", "validation")
    return Recipe(batch_size=options.pop("training_batch_size"), **{name: options.pop(name) for name in names}, **more)
