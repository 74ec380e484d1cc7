"""References -> batches: every row in its place, whatever the image and the number of workers."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tagger.core.errors import ImageError
from tagger.core.types import ImageBatch, ImagePolicy, ImageRef, Preprocessing
from tagger.images.reading import Reading
from tagger.images.resilient_loader import load_images

SHAPE = Preprocessing(resize=32, crop=(32, 32), resample=3, rescale=1 / 255, mean=(0, 0, 0), std=(1, 1, 1))


def load(names: list[list[str]], root: Path, workers: int) -> list[ImageBatch]:
    row = iter(range(1000))
    batches = [[ImageRef(next(row), name) for name in batch] for batch in names]
    policy = ImagePolicy(roots=(root.resolve(),))
    return list(load_images(batches, Reading(policy=policy, preprocessings={"clip": SHAPE}, workers=workers)))


@pytest.mark.parametrize("workers", [0, 2])
def test_rows_and_errors_keep_their_places(pictures: Path, workers: int):
    batches = load([["0000.png", "none.png", "0001.png"], ["none.png", "none.png"], ["0002.png"]], pictures, workers)
    assert [batch.rows.tolist() for batch in batches] == [[0, 2], [], [5]]
    assert [len(batch.rows) for batch in batches] == [2, 0, 1]
    assert [{row: error.code for row, error in batch.errors.items()} for batch in batches] == [
        {1: "missing"},
        {3: "missing", 4: "missing"},
        {},
    ]


def test_workers_give_the_same_pixels(pictures: Path):
    names = [[f"{number:04d}.png" for number in range(start, start + 5)] for start in range(0, 30, 5)]
    for alone, helped in zip(load(names, pictures, 0), load(names, pictures, 2), strict=True):
        assert list(alone.pixels) == list(helped.pixels) == (["clip"] if len(alone.rows) else [])
        assert all(torch.equal(pixels, helped.pixels[name]) for name, pixels in alone.pixels.items())
        assert alone.rows.tolist() == helped.rows.tolist()


@pytest.mark.parametrize("workers", [0, 1])
def test_names_that_want_the_same_pixels_share_them(pictures: Path, workers: int):
    """Over the process boundary, too: they travel once."""
    wanted = {"clip": SHAPE, "twin": replace(SHAPE, mean=(0.5, 0.5, 0.5)), "small": replace(SHAPE, resize=16, crop=(16, 16))}
    reading = Reading(policy=ImagePolicy(roots=(pictures.resolve(),)), preprocessings=wanted, workers=workers)
    [batch] = load_images([[ImageRef(0, "0000.png"), ImageRef(1, "0001.png")]], reading)
    assert {name: tuple(pixels.shape) for name, pixels in batch.pixels.items()} == {
        "clip": (2, 3, 32, 32),
        "twin": (2, 3, 32, 32),
        "small": (2, 3, 16, 16),
    }
    assert batch.pixels["clip"] is batch.pixels["twin"]


def test_an_image_error_survives_the_way_from_a_worker():
    error = pickle.loads(pickle.dumps(ImageError("missing", "no file x")))
    assert (error.code, error.message, str(error)) == ("missing", "no file x", "missing: no file x")


SCRIPT = """
print("began")
from pathlib import Path
from tagger.core.types import ImagePolicy, ImageRef, Preprocessing
from tagger.images.reading import Reading
from tagger.images.resilient_loader import load_images
shape = Preprocessing(resize=32, crop=(32, 32), resample=3, rescale=1 / 255, mean=(0, 0, 0), std=(1, 1, 1))
reading = Reading(policy=ImagePolicy(roots=(Path("PICTURES"),)), preprocessings={"clip": shape}, workers=1)
try:
    print([batch.rows.tolist() for batch in load_images([[ImageRef(0, "0000.png"), ImageRef(1, "0001.png")]], reading)])
except Exception as error:
    print(error)
"""


def run_script(pictures: Path, before: str = "") -> subprocess.CompletedProcess[str]:
    script = before + SCRIPT.replace("PICTURES", str(pictures.resolve()))
    return subprocess.run([sys.executable, "-"], input=script, capture_output=True, text=True, timeout=60, check=False)


def test_a_script_without_a_main_guard_runs_once(pictures: Path):
    """From stdin, too: decoding processes need nothing of the main module."""
    done = run_script(pictures)
    assert (done.stdout, done.stderr) == ("began\n[[0, 1]]\n", "")


def test_a_file_size_limit_ends_the_run_with_a_line(pictures: Path):
    """Batches are files in memory; a process that cannot send one must not leave the run waiting."""
    done = run_script(pictures, "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))\n")
    assert done.stdout == (
        "began\ndecoding processes: expected to send images through shared memory, found that the system refuses it: a limit of "
        "1,024 bytes a file (ulimit -f); raise it, or decode without them (--workers 0), and run again to continue\n"
    )
