"""The second night of remote images: what its server says has not changed is not sent again, and no result differs."""

from __future__ import annotations

import hashlib
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import tagger
from tagger.core.types import ImageRef, Preprocessing
from tagger.images.fetch import fetch
from tagger.images.reading import Reading
from tagger.images.resilient_loader import load_images
from tests.conftest import WriteManifest
from tests.helpers.https_server import HttpsServer
from tests.helpers.keywords import keywords

COUNT = 12
HOST = "127.0.0.1"  # which any process resolves
SHAPE = Preprocessing(resize=32, crop=(32, 32), resample=3, rescale=1 / 255, mean=(0, 0, 0), std=(1, 1, 1))
Night = Callable[..., tuple[int, bytes]]


@pytest.fixture
def shop(server: HttpsServer, pictures: Path) -> HttpsServer:
    """The web server with pictures that have strong tags, and a page that is none."""
    server.files = {f"/{number}.png": (pictures / f"{number:04d}.png").read_bytes() for number in range(COUNT)}
    server.files["/page.png"] = b"<html>"
    server.headers = {path: {"ETag": f'"{hashlib.md5(content).hexdigest()}"'} for path, content in server.files.items()}
    return server


@pytest.fixture
def night(shop: HttpsServer, small_clip: Path, write_manifest: WriteManifest) -> Night:
    """Tag all that the shop has: how many images it had to send for that, and the result's bytes."""

    def run(**options: object) -> tuple[int, bytes]:
        manifest = write_manifest([shop.url(path, HOST) for path in (*shop.files, "/none.png")])
        images = {"allow_hosts": [f"{HOST}:{shop.port}"], "allow_private_networks": ["127.0.0.0/8"]}
        model = {"name": str(small_clip), "precision": "fp32"}  # which is not tried first
        options = {"workers": 0, "overwrite": True, "labels": ["shirt", "dress", "shoes"], **options}
        shop.answered.clear()
        summary = tagger.run(manifest, {"images": images, "model": model}, **keywords(**options))
        assert summary.errors == {"not-an-image": 1, "missing": 1}
        return shop.answered[200] - 1, summary.output.read_bytes()  # the page, which nobody remembers

    return run


def test_what_has_not_changed_is_not_sent_again(shop: HttpsServer, night: Night):
    sent, expected = night()
    assert sent == COUNT
    for _ in range(2):
        assert night() == (0, expected)
        assert shop.answered == {304: COUNT, 200: 1, 404: 1}
    assert night(cache=False) == (COUNT, expected)


def test_decoding_processes_ask_as_well(shop: HttpsServer, night: Night, small_clip: Path, tmp_path: Path):
    _, expected = night(cache=False)
    (tmp_path / "tagger.toml").write_text(
        f'[images]\nallow_hosts = ["{HOST}:{shop.port}"]\nallow_private_networks = ["127.0.0.0/8"]\n'
        f'[model]\nname = "{small_clip}"\nprecision = "fp32"\n'
    )
    command = [sys.executable, "-m", "tagger", "run", "manifest.parquet", "--overwrite", "--no-report"]
    command += ["--workers", "2", "--labels", "shirt,dress,shoes"]
    for wanted in (200, 304):  # in processes of their own, whose workers know this server's certificate
        shop.answered.clear()
        subprocess.run(command, check=True, capture_output=True, cwd=tmp_path, timeout=120)
        assert shop.answered == Counter({wanted: COUNT}) + Counter({200: 1, 404: 1})
        assert (tmp_path / "manifest.tagged.parquet").read_bytes() == expected


def test_only_what_was_replaced_is_sent(shop: HttpsServer, night: Night, pictures: Path):
    _, before = night()
    shop.files["/3.png"] = (pictures / "0501.png").read_bytes()
    shop.headers["/3.png"] = {"ETag": '"another"'}
    sent, after = night()
    assert (sent, after != before) == (1, True)
    assert night() == (0, after)
    assert night(cache=False)[1] == after


def test_verify_content_has_everything_sent(shop: HttpsServer, night: Night, pictures: Path):
    """A server that keeps its tag when an image is replaced: only the bytes tell."""
    _, before = night()
    shop.files["/3.png"] = (pictures / "0501.png").read_bytes()
    assert night() == (0, before)
    sent, after = night(verify_content=True)
    assert (sent, after != before) == (COUNT, True)
    assert night() == (0, after)


@pytest.mark.parametrize("tag", [None, 'W/"weak"', "unquoted", '""', '"two", "tags"', f'"{"long" * 100}"', '"\u00fc"'])
def test_without_a_strong_tag_an_image_is_sent_every_night(shop: HttpsServer, night: Night, pictures: Path, tag: str | None):
    shop.headers = {path: {} if tag is None else {"ETag": tag} for path in shop.files}
    _, expected = night()
    assert night() == (COUNT, expected)
    shop.files["/3.png"] = (pictures / "0501.png").read_bytes()
    assert night()[1] == night(cache=False)[1] != expected


def test_a_tag_that_became_weak_is_no_longer_trusted(shop: HttpsServer, night: Night):
    _, expected = night()
    shop.headers = {path: {"ETag": f"W/{headers['ETag']}"} for path, headers in shop.headers.items()}
    assert night() == (COUNT, expected)


@pytest.mark.parametrize("status", [200, 400, 405, 412, 501, 503])
def test_a_server_that_does_not_heed_or_bear_the_question_sends_the_image(shop: HttpsServer, night: Night, status: int):
    _, expected = night()
    shop.condition_status = None if status == 200 else status
    if status == 200:
        shop.headers = {}
    assert night() == (COUNT, expected)


def test_faults_meanwhile_change_nothing(shop: HttpsServer, night: Night):
    _, expected = night()
    for number, fault in enumerate(["503", "reset", "429", "truncated", "wrong-length"]):
        shop.faults[f"/{number}.png"] = [fault, fault]
    assert night()[1] == expected
    assert shop.happened.total() == 10


def test_another_label_set_needs_no_image_and_another_model_needs_all(shop: HttpsServer, night: Night, small_clip: Path):
    night()
    assert night(labels=["hat", "bag"])[0] == 0
    assert night(exact_preprocessing=True)[0] == COUNT  # whose embeddings are not there


@pytest.mark.parametrize("damage", ["DELETE FROM embeddings", "UPDATE embeddings SET vector = zeroblob(length(vector))",
                                    "UPDATE files SET version = 'a' || char(10)", "UPDATE files SET version = x'22ff22'",
                                    "UPDATE files SET digest = 7"])  # fmt: skip
def test_a_cache_that_lost_something_changes_nothing(night: Night, tmp_path: Path, damage: str):
    _, expected = night()
    (file,) = (tmp_path / "cache").rglob("embeddings.sqlite")
    with closing(sqlite3.connect(file)) as db, db:
        db.execute(damage)
    assert night() == (COUNT, expected)
    assert night() == (0, expected)


def test_the_question_costs_no_connection_of_its_own(shop: HttpsServer):
    policy = shop.policy()
    for path, content in shop.files.items():
        tag = shop.headers[path]["ETag"]
        assert fetch(shop.url(path), policy, 1 << 20) == (content, tag)
        assert fetch(shop.url(path), policy, 1 << 20, tag) == (None, tag)
    assert (len(shop.requests), len(shop.names)) == (2 * len(shop.files), 1)


def test_a_tag_of_where_a_redirect_leads_is_neither_told_nor_asked_for(shop: HttpsServer):
    """It tells apart what was at one URL, and tomorrow the redirect may lead to another."""
    shop.redirects["/moved.png"] = "/1.png"
    tag = shop.headers["/1.png"]["ETag"]
    for known in ("", tag):
        assert fetch(shop.url("/moved.png"), shop.policy(), 1 << 20, known) == (shop.files["/1.png"], "")


@pytest.mark.parametrize(("known", "decode", "status"), [(True, False, 304), (True, True, 200), (False, False, 200)])
def test_bytes_that_must_be_decoded_are_fetched_whatever_their_version(shop: HttpsServer, known: bool, decode: bool, status: int):
    digest = hashlib.sha256(shop.files["/1.png"]).digest()
    ref = ImageRef(5, shop.url("/1.png"), decode=decode, version=shop.headers["/1.png"]["ETag"], digest=digest)
    known_digests = {digest} if known else set[bytes]()
    reading = Reading(policy=shop.policy(), preprocessings={"clip": SHAPE}, known=known_digests, workers=0)
    [batch] = load_images([[ref]], reading)
    assert shop.answered == {status: 1}
    if status == 304:
        assert (batch.known, batch.rows.tolist(), batch.versions) == ({5: digest}, [], {})
    else:
        assert (batch.known, batch.rows.tolist(), batch.versions) == ({}, [5], {5: ref.version})
