"""Options that several commands take, by the names that the library takes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


def split(context: click.Context, option: click.Parameter, value: str | None) -> list[str] | None:
    """click's callback of an option that is a list, given with commas."""
    return None if value is None else [name.strip() for name in value.split(",")]


config = click.option("--config", type=click.Path(path_type=Path), help="Settings; default: tagger.toml beside MANIFEST or here.")
labels = click.option("--labels", callback=split, help="Labels to choose between, separated by commas.")
image_root = click.option(
    "--image-root", type=click.Path(path_type=Path), help="Where image paths start; default: MANIFEST's folder."
)
device = click.option("--device", help="cpu, cuda, cuda:1, mps …; default: an accelerator if there is one.")
workers = click.option("--workers", type=click.IntRange(0), help="Processes that decode images; default: by the machine.")

_OF_A_JOB = (
    config,
    labels,
    click.option("--model", help="CLIP checkpoint: a hub id or a local folder."),
    click.option("--revision", help="Hub commit, tag or branch of --model."),
    click.option("--backend", type=click.Choice(["torch", "openvino"]), help="What computes; default: torch."),
    click.option(
        "--precision",
        type=click.Choice(["auto", "fp32", "bf16", "fp16", "int8"]),
        help="Of the image encoder; default: auto.",
    ),
    click.option("--image-column", help="Column with paths or embedded images; found by itself if named as usual."),
    image_root,
    device,
    workers,
    click.option("--image-timeout", type=click.FloatRange(0, min_open=True), help="Seconds for one image; default: 60."),
    click.option("--allow-formats", callback=split, help="Image formats beside JPEG, PNG and WebP, for example GIF,TIFF."),
    click.option("--exact-preprocessing", is_flag=True, help="Pixels as the model's own image processor makes them; slower."),
)


def of_a_job(command: Callable[..., Any]) -> Callable[..., Any]:
    """What is tagged, with which model, and how: as `tagger run` tags it and `tagger inspect` looks at it."""
    for option in reversed(_OF_A_JOB):
        command = option(command)
    return command


image_column = click.option("--image-column", help="Column with paths or embedded images.")


learned_labels = click.option("--labels", callback=split, help="Labels to learn, separated by commas.")


attribute = click.option("--attribute", help="Which attribute of the settings.")


_RECIPE = (
    click.option("--init", default="imagenet", show_default=True, help="imagenet, random, or a file with a ResNet18's weights."),
    click.option("--epochs", type=click.IntRange(1), default=5, show_default=True, help="Passes over the rows."),
    click.option("--batch-size", type=click.IntRange(2), default=32, show_default=True, help="Images of a step."),
    click.option("--learning-rate", type=click.FloatRange(0, min_open=True), default=1e-3, show_default=True, help="Of Adam."),
    click.option("--image-size", type=click.IntRange(32), default=224, show_default=True, help="Pixels of a side."),
    click.option(
        "--validation",
        type=click.FloatRange(0, 0.5),
        default=0.2,
        show_default=True,
        help="Share of each label's rows.",
    ),
)


def recipe(command: Callable[..., None]) -> Callable[..., None]:
    """The options of a training."""
    for option in reversed(_RECIPE):
        command = option(command)
    return command
