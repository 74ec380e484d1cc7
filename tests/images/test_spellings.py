"""References as shops write them: the file that is meant is found, the one of the very name comes first."""

from __future__ import annotations

import os
from pathlib import Path
from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagger.core.errors import ImageError
from tagger.core.types import ImagePolicy, ImageRef
from tagger.images import file_versions
from tagger.images.file_versions import FileVersions
from tagger.images.sources import read_bytes
from tagger.images.spellings import MAX_SPELLINGS, spellings

NFC, NFD = (normalize(form, "Größe é.jpg") for form in ("NFC", "NFD"))
FOLDER_NFC, FOLDER_NFD = (normalize(form, "Röcke") for form in ("NFC", "NFD"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An image root whose files hold their own names."""
    root = tmp_path.resolve() / "images"
    names = [NFD, f"{FOLDER_NFC}/{NFD}", f"{FOLDER_NFD}/ä.jpg", "m/a b.jpg", "m/100%.jpg", "50%25.jpg", "한글.jpg"]
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / os.fsdecode(b"gr\xf6\xdfe.jpg")).write_text("Latin-1")
    return root


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        (NFC, NFD),
        (f"{FOLDER_NFC}/{NFC}", f"{FOLDER_NFC}/{NFD}"),
        (f"{FOLDER_NFD}/{NFC}", f"{FOLDER_NFC}/{NFD}"),
        (normalize("NFD", f"{FOLDER_NFC}/ä.jpg"), f"{FOLDER_NFD}/ä.jpg"),
        (normalize("NFD", "한글.jpg"), "한글.jpg"),
        ("m/a b.jpg\n", "m/a b.jpg"),
        ("\ufeffm/a b.jpg", "m/a b.jpg"),
        ("\u00a0\tm/a b.jpg\u3000", "m/a b.jpg"),
        ("m\\a b.jpg", "m/a b.jpg"),
        (".\\m\\a b.jpg", "m/a b.jpg"),
        ("\\m\\a b.jpg", "m/a b.jpg"),
        ("/m/a b.jpg", "m/a b.jpg"),
        ("//m/a b.jpg", "m/a b.jpg"),
        ("m/a%20b.jpg", "m/a b.jpg"),
        ("m%2Fa%20b.jpg%0A", "m/a b.jpg"),
        ("m/100%.jpg", "m/100%.jpg"),
        ("m/100%25.jpg", "m/100%.jpg"),
        ("50%25.jpg", "50%25.jpg"),
        ("gr%F6%DFe.jpg", "Latin-1"),
        (" \\R%C3%B6cke\\Gr%C3%B6%C3%9Fe%20%C3%A9.jpg\r\n", f"{FOLDER_NFC}/{NFD}"),
        ("%ED%95%9C%EA%B8%80.jpg ", "한글.jpg"),
    ],
    ids=ascii,
)
def test_another_spelling_finds_the_file(root: Path, reference: str, name: str):
    assert read_bytes(ImageRef(0, reference), ImagePolicy(roots=(root,))).decode() == name


@pytest.mark.parametrize("reference", [NFC, "m\\a b.jpg", "m/a%20b.jpg", "m/a b.jpg ", f"{FOLDER_NFD}/{NFD}"], ids=ascii)
def test_the_file_of_the_very_name_comes_first_and_is_never_taken_for_the_other(
    root: Path, reference: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(file_versions, "SETTLED_NS", 0)
    policy, ref = ImagePolicy(roots=(root,)), ImageRef(0, reference)
    other = read_bytes(ref, policy).decode()
    remembered = FileVersions(policy)(reference)
    assert remembered is not None
    assert remembered == FileVersions(policy)(other)  # the file is, not its spelling
    (root / reference).parent.mkdir(exist_ok=True)
    (root / reference).write_text("as written")
    assert read_bytes(ref, policy) == b"as written"
    now = FileVersions(policy)(reference)
    assert now is not None
    assert now[0] != remembered[0]
    (root / reference).unlink()
    assert FileVersions(policy)(reference) == remembered


def test_a_file_that_is_there_as_written_costs_one_look(root: Path, monkeypatch: pytest.MonkeyPatch):
    looked: list[str] = []
    resolve = os.path.realpath
    monkeypatch.setattr(os.path, "realpath", lambda path: looked.append(path) or resolve(path))
    read_bytes(ImageRef(0, "50%25.jpg"), ImagePolicy(roots=(root,)))
    assert looked == [f"{root}/50%25.jpg"]


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("a.jpg", "missing: no file a.jpg in the image root {root}"),
        ("{root}/a.jpg", "missing: no file {root}/a.jpg; nor is there one below the image root"),
        ("a.jpg?v=2", 'missing: no file a.jpg?… in the image root {root}; a file has no query ("?"); write the path without it'),
        ("a.jpg,b.jpg", "missing: no file a.jpg,b.jpg in the image root {root}; this is a list; write a row for each image"),
        ("a.JPG | b.JPG", "missing: no file a.JPG | b.JPG in the image root {root}; this is a list; "),
        ("a.webp; b.webp", "missing: no file a.webp; b.webp in the image root {root}; this is a list; "),
        ('["a", "b"]', 'missing: no file ["a", "b"] in the image root {root}; this is a list; '),
        (
            "http://x/a.jpg",
            "forbidden-path: http:// is not encrypted and not read; write https://, and list the host in [images] ",
        ),
        (
            "data:image/png;base64,iVBO",
            "missing: no file data:image/png;base64,iVBO in the image root {root}; a data: URI holds ",
        ),
        ("//cdn.x/a.jpg?key", "forbidden-path: //cdn.x/a.jpg?… leads out of the image root, and into no folder of [images] "),
        ("C:\\photos\\a.jpg", "missing: no file C:\\photos\\a.jpg in the image root {root}; this is a path of Windows; "),
        (
            "\\\\nas\\photos\\a.jpg",
            "missing: no file \\\\nas\\photos\\a.jpg in the image root {root}; this is a path of Windows; ",
        ),
        ("file:///photos/a.jpg", "forbidden-path: file:// is not read; write the path alone"),
        (" \n", "missing: the manifest has no image here"),
    ],
)
def test_what_is_no_path_says_what_it_is_and_what_to_do(root: Path, reference: str, message: str):
    with pytest.raises(ImageError) as caught:
        read_bytes(ImageRef(0, reference.replace("{root}", str(root))), ImagePolicy(roots=(root,)))
    text = str(caught.value)
    assert text.startswith(message.replace("{root}", str(root)))
    assert len(text) - 2 * len(str(root)) < 250  # of the 300 characters of a reason


def test_an_address_without_its_scheme_says_so(root: Path):
    with pytest.raises(ImageError, match=r"; for an image on the web write https: before it, and list the host in \[images\]"):
        read_bytes(ImageRef(0, "//cdn.example.com/a.jpg"), ImagePolicy(roots=(root,)))


@given(st.text(st.sampled_from("a/\\ %2é\u0301ö.\n?"), max_size=30))
def test_spellings_are_few_and_each_comes_once(reference: str):
    found = list(spellings(reference))
    assert len(found) == len({*found, reference, ""} - {reference, ""}) <= MAX_SPELLINGS


def test_a_long_reference_costs_little():
    assert list(spellings("é/" * 100_000)) == []
    assert list(spellings("plain/name.jpg")) == []
    assert len(list(spellings("\u00e9/" * 2000))) == MAX_SPELLINGS
