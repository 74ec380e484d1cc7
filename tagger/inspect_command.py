"""`tagger inspect`: what a run would find and take."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from tagger.catalog.check import start_check
from tagger.catalog.storage import is_remote
from tagger.log import log_to_stderr


@click.command()
@click.argument("manifest")
@click.option("--config", type=click.Path(path_type=Path), help="Settings; default: tagger.toml beside MANIFEST or here.")
@click.option("--labels", help="Labels to choose between, separated by commas.")
@click.option("--model", help="CLIP checkpoint: a hub id or a local folder.")
@click.option("--revision", help="Hub commit, tag or branch of --model.")
@click.option("--backend", type=click.Choice(["torch", "openvino"]), help="What computes; default: torch.")
@click.option(
    "--precision", type=click.Choice(["auto", "fp32", "bf16", "fp16", "int8"]), help="Of the image encoder; default: auto."
)
@click.option("--image-column", help="Column with paths or embedded images; found by itself if named as usual.")
@click.option("--image-root", type=click.Path(path_type=Path), help="Where image paths start; default: MANIFEST's folder.")
@click.option("--device", help="cpu, cuda, cuda:1, mps …; default: an accelerator if there is one.")
@click.option("--workers", type=click.IntRange(0), help="Processes that decode images; default: by the machine.")
@click.option("--image-timeout", type=click.FloatRange(0, min_open=True), help="Seconds for one image; default: 60.")
@click.option("--allow-formats", help="Image formats beside JPEG, PNG and WebP, for example GIF,TIFF.")
@click.option("--exact-preprocessing", is_flag=True, help="Pixels as the model's own image processor makes them; slower.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect(
    manifest: str,
    config: Path | None,
    labels: str | None,
    model: str | None,
    revision: str | None,
    backend: str | None,
    precision: str | None,
    image_column: str | None,
    image_root: Path | None,
    device: str | None,
    workers: int | None,
    image_timeout: float | None,
    allow_formats: str | None,
    exact_preprocessing: bool,
    as_json: bool,
) -> None:
    """Look at MANIFEST before the night: columns, images, labels, and what `tagger run` with the same options would take.

    Reads the manifest and a few images drawn evenly, writes nothing, loads no model and asks no hub. What would end the run
    is one line and its exit code: 65 for the manifest, 69 for the model, 78 for the settings.

    \b
    Example:
      tagger inspect manifest.parquet --model ./clip
    """
    log_to_stderr(logging.INFO)
    if not is_remote(manifest):
        start_check(manifest)
    import tagger

    found = tagger.inspect(
        manifest,
        config,
        labels=_split(labels),
        model=model,
        revision=revision,
        backend=backend,
        precision=precision,
        image_column=image_column,
        image_root=image_root,
        device=device,
        workers=workers,
        image_timeout=image_timeout,
        allow_formats=_split(allow_formats),
        exact_preprocessing=exact_preprocessing,
    )
    click.echo(found.to_json() if as_json else found.to_text())


def _split(names: str | None) -> list[str] | None:
    return None if names is None else [name.strip() for name in names.split(",")]
