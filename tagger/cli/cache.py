"""`tagger cache`: look after the embedding cache."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def cache() -> None:
    """Look after the embedding cache, which keeps `tagger run` from encoding an image twice.

    \b
    Example:
      tagger cache stats
    """


_cache_folder = click.option("--cache", "folder", type=click.Path(path_type=Path), help="Its folder; default: the user's cache.")
_cache_url = click.option("--url", metavar="URL", help="Of a shared cache, as in [cache] url, instead of a folder.")


@cache.command()
@_cache_folder
@_cache_url
def stats(folder: Path | None, url: str | None) -> None:
    """Print how much is in it, and in the folders of models beside it.

    \b
    Examples:
      tagger cache stats --cache /var/cache/tagger
      tagger cache stats --url postgresql://tagger@db.example.com/tagger
    """
    if url is not None:
        place = _checked(url, folder)
        from tagger.cache import shared_cache

        click.echo(shared_cache.statistics(place))
        return
    from tagger.cache import maintenance

    click.echo(maintenance.statistics(maintenance.find_cache(folder)))


@cache.command()
@_cache_folder
@click.option("--max-gb", type=click.FloatRange(0), help="Remove what was not used for longest until all is this small.")
@click.option("--unused-days", type=click.IntRange(1), help="Remove what no run has used for so many days.")
@_cache_url
def prune(folder: Path | None, max_gb: float | None, unused_days: int | None, url: str | None) -> None:
    """Make it, and the folders of models beside it, smaller.

    \b
    Examples:
      tagger cache prune --unused-days 90
      tagger cache prune --max-gb 5
      tagger cache prune --unused-days 90 --url postgresql://tagger@db.example.com/tagger
    """
    if max_gb is None and unused_days is None:
        raise click.UsageError("expected --max-gb or --unused-days, found neither; say what is to go")
    if url is not None:
        if max_gb is not None or unused_days is None:
            raise click.UsageError("expected --unused-days, of a shared cache, found --max-gb; a server keeps its own sizes")
        place = _checked(url, folder)
        from tagger.cache import shared_cache

        click.echo(f"{shared_cache.prune(place, unused_days):,} embeddings removed")
        return
    from tagger.cache import maintenance

    removed = maintenance.prune(maintenance.find_cache(folder), None if max_gb is None else int(max_gb * 1e9), unused_days)
    beside = f", and {removed.files:,} files beside them" if removed.files else ""
    click.echo(f"{removed.embeddings:,} embeddings removed{beside}")


@cache.command()
@_cache_folder
def verify(folder: Path | None) -> None:
    """Read all of it, and remove what is damaged: it will be computed again.

    \b
    Example:
      tagger cache verify
    """
    from tagger.cache import maintenance

    path = maintenance.find_cache(folder)
    if (counts := maintenance.verify(path)) is None:
        click.echo(f"{path}: the file was damaged as a whole and is removed; the next run makes a new one")
    else:
        click.echo(f"{counts[0]:,} embeddings are whole, {counts[1]:,} were damaged and are removed")


def _checked(url: str, folder: Path | None) -> str:
    """Return the URL; UsageError for one that [cache] url could not have, or a folder beside it."""
    from tagger.core.errors import UsageError
    from tagger.settings.cache_url import check_cache_url

    if folder is not None:
        raise click.UsageError("expected --cache or --url, found both; leave out one")
    try:
        return check_cache_url(url)
    except ValueError as error:
        raise UsageError(f"--url: {error}") from error
