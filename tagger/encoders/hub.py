"""`tagger models`: a checkpoint on the hub -> a pinned copy in a folder, for machines that see no hub at night."""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from tagger.core import shutdown
from tagger.core.errors import ModelError, StoppedError, TaggerError, UsageError
from tagger.core.files import flush, reason, write_text
from tagger.core.lock import hold
from tagger.core.text import first_line
from tagger.encoders.pinned import NAME, Pinned, PinnedFile, problems, read_pinned, sha256

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoSibling

log = logging.getLogger(__name__)

UNFINISHED = ".unfinished"  # what an interrupted pull has of files, by their hashes
SECONDS = 30.0  # for the hub to answer
HASH = re.compile("[0-9a-f]{40}(?:[0-9a-f]{24})?")
CONVERTER = "SFconvertbot"  # the hub's own account that offers safetensors, as pull requests

# All that encoders/clip.py reads beside the weights.
TEXTS = {
    *("config.json", "preprocessor_config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json"),
    *("vocab.json", "merges.txt", "special_tokens_map.json", "added_tokens.json"),
}


def pull(name: str, folder: Path, revision: str = "main") -> Pinned:
    """Copy the checkpoint `name` of the hub, at the commit that `revision` (a branch, tag or commit) is now, to `folder`.

    Only what a CLIP consists of, safetensors among it and never a pickle; every file is compared with the hub's own hash. What
    the folder holds already, whole, is not fetched again, and a file that was cut off goes on where it ended. The copy is
    opened as a run would open it; then tagger-model.json is written. UsageError where the folder holds something else,
    ModelError where there is no such CLIP, or no hub, StoppedError where it cannot be written.
    """
    try:
        there = _look(name, folder)
        if there and there.commit == revision and not problems(folder, there):
            return there  # without a word to the hub
        (folder / UNFINISHED).mkdir(parents=True, exist_ok=True)
        with hold(folder / UNFINISHED):
            pinned = _pull(name, folder, revision, there)
        shutil.rmtree(folder / UNFINISHED)
    except OSError as error:
        raise StoppedError(
            f"{folder}: expected to write a model there, found: {reason(error)}; free the disk, or correct the permissions, and "
            "run again to continue"
        ) from error
    return pinned


def verify(folder: Path) -> Pinned:
    """Read a pinned copy whole; ModelError, with a line for each file that is not as it was pulled."""
    pinned = read_pinned(folder)
    if pinned is None:
        raise ModelError(f"{folder}: expected a copy that `tagger models pull` has completed, found no {NAME} in it; pull it")
    if found := problems(folder, pinned):
        raise ModelError(*(f"{folder}/{problem}; pull it again" for problem in found))
    return pinned


def _look(name: str, folder: Path) -> Pinned | None:
    """What is complete in the folder; UsageError where it is not this checkpoint's."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--to {folder}: expected a folder, or nothing, found a file; choose another")
    there = read_pinned(folder)
    if there is not None and there.repository != name:
        raise UsageError(f"--to {folder}: expected a copy of {name}, or nothing, found one of {there.repository}; choose another")
    if there is None and folder.exists() and not (folder / UNFINISHED).is_dir():
        other = next(iter(sorted(folder.iterdir())), None)
        if other is not None:
            raise UsageError(f"--to {folder}: expected a folder with nothing else in it, found {other.name}; choose another")
    return there


def _pull(name: str, folder: Path, revision: str, there: Pinned | None) -> Pinned:
    commit, files = _resolve(name, revision)
    wanted = {file.rfilename: file for file in files}
    lacking = [file for file in files if not _is_whole(folder / file.rfilename, file)]
    strangers = [path for path in folder.iterdir() if path.name not in wanted and _belongs(path.name)]
    if there and there.commit == commit and not lacking and not strangers:
        return there
    (folder / NAME).unlink(missing_ok=True)
    for path in strangers:  # of another commit
        path.unlink()
    for file in lacking:
        shutdown.check()
        _fetch(name, commit, file, folder)
    _open(folder)
    described = {file: PinnedFile(size=(folder / file).stat().st_size, sha256=sha256(folder / file)) for file in sorted(wanted)}
    pinned = Pinned(repository=name, commit=commit, files=described)
    flush(folder)
    write_text(folder / NAME, pinned.model_dump_json(indent=2) + "\n")
    log.info("%d of %d files fetched", len(lacking), len(files))
    return pinned


def _resolve(name: str, revision: str) -> tuple[str, list[RepoSibling]]:
    """The commit that a revision is, and those of its files that make a CLIP."""
    from huggingface_hub import HfApi

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # what ends a pull, its one line says
    api = HfApi()
    try:
        found = api.model_info(name, revision=revision, files_metadata=True, timeout=SECONDS)
        siblings = found.siblings or []
        files = [file for file in siblings if _belongs(file.rfilename)]
        if not any(file.rfilename.endswith(".safetensors") for file in files):
            raise ModelError(_without_safetensors(name, [file.rfilename for file in siblings], _conversions(api, name)))
    except TaggerError:
        raise
    except Exception as error:
        raise ModelError(_explain(name, revision, error)) from error
    if any(file.rfilename == "model.safetensors" for file in files):  # which is what a run takes, then
        files = [file for file in files if not fnmatchcase(file.rfilename, "model[-.]*") or file.rfilename == "model.safetensors"]
    hashes = [found.sha, *map(_hash_of, files)]  # some of which will be names of files
    if not all(one and HASH.fullmatch(one) for one in hashes) or any(file.size is None for file in files):
        raise ModelError(f"model {name}: expected a hub that tells the hashes of files, found none; correct HF_ENDPOINT")
    return str(found.sha), files


def _belongs(name: str) -> bool:
    """Whether a file of a repository is one of a CLIP's."""
    weights = ("model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors")
    return name in TEXTS or ("/" not in name and any(fnmatchcase(name, pattern) for pattern in weights))


def _conversions(api: HfApi, name: str) -> list[str]:
    """Revisions with the hub's own conversion to safetensors, newest first."""
    offers = api.get_repo_discussions(name, author=CONVERTER, discussion_type="pull_request", discussion_status="open")
    return [offer.git_reference for offer in offers if offer.author == CONVERTER and offer.git_reference]


def _without_safetensors(name: str, files: Sequence[str], conversions: Sequence[str]) -> str:
    remedy = "name another, or convert it where you trust it"
    if conversions:
        remedy = f"the hub's own conversion is --revision {conversions[0]}"
    pickle = next((file for file in files if file.endswith((".bin", ".pt", ".pth", ".ckpt", ".pkl"))), None)
    found = f"only {pickle}, a pickle, which can run any code when it is loaded" if pickle else "none"
    return f"model {name}: expected safetensors weights, found {found}; {remedy}"


def _hash_of(file: RepoSibling) -> str | None:
    """SHA-256 of a file in LFS, of others SHA-1 as git computes it."""
    return file.lfs.sha256 if file.lfs else file.blob_id


def _is_whole(path: Path, file: RepoSibling) -> bool:
    if path.is_symlink() or not path.is_file() or path.stat().st_size != file.size:
        return False
    return _hash(path, file) == _hash_of(file)


def _hash(path: Path, file: RepoSibling) -> str:
    if file.lfs:
        return sha256(path)
    return hashlib.sha1(b"blob %d\0" % path.stat().st_size + path.read_bytes(), usedforsecurity=False).hexdigest()


def _fetch(name: str, commit: str, file: RepoSibling, folder: Path) -> None:
    """Fetch a file, or the rest of it, and put it into the folder if it is what the hub says that it is."""
    from huggingface_hub import get_token, hf_hub_url
    from huggingface_hub.file_download import http_get

    token = get_token()
    headers = {"Accept-Encoding": "identity", **({"authorization": f"Bearer {token}"} if token else {})}
    # hf_hub_download would throw away what it has of a file when it is interrupted (huggingface_hub 2).
    partial = folder / UNFINISHED / str(_hash_of(file))
    with partial.open("ab") as target:
        if target.tell() > (file.size or 0):
            target.truncate(0)
        try:
            http_get(
                hf_hub_url(name, file.rfilename, revision=commit),
                target,
                resume_size=target.tell(),
                headers=headers,
                expected_size=file.size,
                displayed_filename=file.rfilename,
            )
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk's: those of the network have no number
            raise ModelError(_explain(name, commit, error)) from error
    flush(partial)
    if (found := _hash(partial, file)) != _hash_of(file):
        partial.unlink()
        raise ModelError(
            f"model {name}: expected {file.rfilename} with the hash {_hash_of(file)}, as the hub says, found {found}; pull "
            "again, and if that does not help, ask who runs the hub or the proxy"
        )
    partial.replace(folder / file.rfilename)


def _open(folder: Path) -> None:
    """Open the copy as a run would: what is broken is found today. ModelError."""
    import torch

    from tagger.encoders.clip import load_clip

    load_clip(str(folder), None, torch.device("cpu")).encode_prompts(["A photo of a shirt."])


def _explain(name: str, revision: str, error: Exception) -> str:
    from huggingface_hub import constants, errors

    if isinstance(error, errors.GatedRepoError):
        return f"model {name}: expected a model that may be had, found a gated one; ask for it on its page, and set HF_TOKEN"
    if isinstance(error, errors.RepositoryNotFoundError):
        where = constants.ENDPOINT
        return f"model {name}: expected a model on {where}, found none; correct the name, or set HF_TOKEN for a private one"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"model {name}: expected a revision {revision}, found no such branch, tag or commit; correct --revision"
    if isinstance(error, errors.HFValidationError):
        return f"model {name}: expected the name of a model on the hub, such as openai/clip-vit-large-patch14, found another text"
    found = first_line(error)
    return (
        f"model {name}: expected it from {constants.ENDPOINT}, found: {found}; pull again where there is a connection: what "
        "has come is kept"
    )
