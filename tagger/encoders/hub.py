"""`tagger models`: a checkpoint on the hub -> a pinned copy in a folder, for machines that see no hub at night."""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tagger.core import shutdown
from tagger.core.errors import ModelError, TaggerError, UsageError
from tagger.core.files import flush, write_text
from tagger.core.lock import hold
from tagger.core.text import first_line
from tagger.core.write_check import require_writable_folder, write_error
from tagger.encoders.clip_files import CONFIG, INT8, PICKLES, is_clip_file, is_known, select_files
from tagger.encoders.pinned import PIN_FILE, Pinned, PinnedFile, find_problems, read_pinned, sha256

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoSibling

log = logging.getLogger(__name__)

UNFINISHED = ".unfinished"  # the folder in which an interrupted pull keeps partial files, named by their hashes
TIMEOUT = 30.0  # seconds for the hub to answer
HASH = re.compile("[0-9a-f]{40}(?:[0-9a-f]{24})?")
CONVERTER = "SFconvertbot"  # the hub's own account that offers safetensors, as pull requests


def pull(name: str, folder: Path, revision: str = "main") -> Pinned:
    """Copy the checkpoint `name` of the hub, at the commit that `revision` (a branch, tag or commit) is now, to `folder`.

    Only the files of a CLIP are copied (clip_files.py), safetensors among them and never a pickle; every file is compared with
    the hub's own hash. A file that the folder holds already, whole, is not fetched again, and one that was cut off is continued
    where it ended. The copy is opened as a run would open it; then tagger-model.json is written. UsageError where the folder
    holds something else, ModelError where there is no such CLIP, or no hub, StoppedError where it cannot be written.
    """
    try:
        copy = _read_copy(name, folder)
        if copy and copy.commit == revision and not find_problems(folder, copy):
            return copy  # without asking the hub
        require_writable_folder(folder, f"--to {folder}", [PIN_FILE], overwrite=True)
        (folder / UNFINISHED).mkdir(parents=True, exist_ok=True)
        with hold(folder / UNFINISHED):
            pinned = _update_copy(name, folder, revision, copy)
        shutil.rmtree(folder / UNFINISHED)
    except OSError as error:
        raise write_error(f"--to {folder}", error) from error
    return pinned


def verify(folder: Path) -> Pinned:
    """Read a pinned copy whole; ModelError, with a line for each file that is not as it was pulled."""
    pinned = read_pinned(folder)
    if pinned is None:
        raise ModelError(f"{folder}: expected a copy that `tagger models pull` has completed, found no {PIN_FILE} in it; pull it")
    if problems := find_problems(folder, pinned):
        raise ModelError(*(f"{folder}/{problem}" for problem in problems))
    return pinned


def _read_copy(name: str, folder: Path) -> Pinned | None:
    """Return the description of a complete copy in the folder; UsageError where the folder holds anything but this checkpoint."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--to {folder}: expected a folder, or nothing, found a file; choose another")
    copy = read_pinned(folder)
    if copy is not None and copy.repository != name:
        raise UsageError(f"--to {folder}: expected a copy of {name}, or nothing, found one of {copy.repository}; choose another")
    if copy is None and folder.exists() and not (folder / UNFINISHED).is_dir():
        other = next(iter(sorted(folder.iterdir())), None)
        if other is not None:
            raise UsageError(f"--to {folder}: expected a folder with nothing else in it, found {other.name}; choose another")
    return copy


def _update_copy(name: str, folder: Path, revision: str, copy: Pinned | None) -> Pinned:
    commit, licence, files = _list_files(name, revision)
    wanted = {file.rfilename for file in files}
    missing = [file for file in files if not _is_whole(folder / file.rfilename, file)]
    leftovers = [path for path in folder.iterdir() if path.name not in wanted and is_clip_file(path.name)]
    if copy and copy.commit == commit and not missing and not leftovers:
        return copy
    (folder / PIN_FILE).unlink(missing_ok=True)
    for path in leftovers:  # of another commit
        path.unlink()
    if copy is None or copy.commit != commit:
        shutil.rmtree(folder / INT8, ignore_errors=True)  # made of other weights: what stays is not found, and harms nobody
    for file in missing:
        shutdown.check()
        _fetch_file(name, commit, file, folder)
    _load_once(folder)
    described = {file: PinnedFile(size=(folder / file).stat().st_size, sha256=sha256(folder / file)) for file in sorted(wanted)}
    pinned = Pinned(repository=name, commit=commit, licence=licence, files=described)
    flush(folder)
    write_text(folder / PIN_FILE, pinned.model_dump_json(indent=2) + "\n")
    log.info("%d of %d files fetched", len(missing), len(files))
    return pinned


def _list_files(name: str, revision: str) -> tuple[str, str | None, list[RepoSibling]]:
    """Return the commit that a revision is, its licence, and those of its files that a run reads."""
    from huggingface_hub import HfApi

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # the one line of a ModelError says what ended a pull
    api = HfApi()
    try:
        found = api.model_info(name, revision=revision, files_metadata=True, timeout=TIMEOUT)
        siblings = found.siblings or []
        names = [file.rfilename for file in siblings]
        foreign = CONFIG not in names or (found.config is not None and not is_known(found.config))
        wanted = select_files(names, open_clip=foreign)
        files = [file for file in siblings if file.rfilename in wanted]
        if not any(file.rfilename.endswith(".safetensors") for file in files):
            raise ModelError(_describe_missing_safetensors(name, names, _find_conversions(api, name)))
    except TaggerError:
        raise
    except Exception as error:
        raise ModelError(_describe_hub_error(name, revision, error)) from error
    hashes = [found.sha, *map(_expected_hash, files)]  # some of which will be names of files
    if not all(one and HASH.fullmatch(one) for one in hashes) or any(file.size is None for file in files):
        raise ModelError(f"model {name}: expected a hub that tells the hashes of files, found none; correct HF_ENDPOINT")
    licence = found.card_data.get("license") if found.card_data is not None else None
    return str(found.sha), licence if isinstance(licence, str) else None, files


def _find_conversions(api: HfApi, name: str) -> list[str]:
    """Return the revisions with the hub's own conversion to safetensors, newest first."""
    offers = api.get_repo_discussions(name, author=CONVERTER, discussion_type="pull_request", discussion_status="open")
    return [offer.git_reference for offer in offers if offer.author == CONVERTER and offer.git_reference]


def _describe_missing_safetensors(name: str, files: Sequence[str], conversions: Sequence[str]) -> str:
    remedy = "name another, or convert it where you trust it"
    if conversions:
        remedy = f"the hub's own conversion is --revision {conversions[0]}"
    pickle = next((file for file in files if file.endswith(PICKLES)), None)
    found = f"only {pickle}, a pickle, which can run any code when it is loaded" if pickle else "none"
    return f"model {name}: expected safetensors weights, found {found}; {remedy}"


def _expected_hash(file: RepoSibling) -> str | None:
    """Return the hub's hash of a file: SHA-256 for one in LFS, for others SHA-1 as git computes it."""
    return file.lfs.sha256 if file.lfs else file.blob_id


def _actual_hash(path: Path, file: RepoSibling) -> str:
    if file.lfs:
        return sha256(path)
    return hashlib.sha1(b"blob %d\0" % path.stat().st_size + path.read_bytes(), usedforsecurity=False).hexdigest()


def _is_whole(path: Path, file: RepoSibling) -> bool:
    if path.is_symlink() or not path.is_file() or path.stat().st_size != file.size:
        return False
    return _actual_hash(path, file) == _expected_hash(file)


def _fetch_file(name: str, commit: str, file: RepoSibling, folder: Path) -> None:
    """Fetch a file, or the rest of it, and put it into the folder if it has the hub's hash."""
    from huggingface_hub import get_token, hf_hub_url
    from huggingface_hub.file_download import http_get

    token = get_token()
    headers = {"Accept-Encoding": "identity", **({"authorization": f"Bearer {token}"} if token else {})}
    # hf_hub_download would throw away the part of a file that it has when it is interrupted (huggingface_hub 2).
    partial = folder / UNFINISHED / str(_expected_hash(file))
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
                raise  # an error of the disk: those of the network have no number
            raise ModelError(_describe_hub_error(name, commit, error)) from error
    flush(partial)
    if (found := _actual_hash(partial, file)) != _expected_hash(file):
        partial.unlink()
        raise ModelError(
            f"model {name}: expected {file.rfilename} with the hash {_expected_hash(file)}, as the hub says, found {found}; pull "
            "again, and if that does not help, ask who runs the hub or the proxy"
        )
    partial.replace(folder / file.rfilename)


def _load_once(folder: Path) -> None:
    """Load the copy as a run would, so that a broken one is found today; ModelError."""
    import torch

    from tagger.encoders.clip import load_clip

    load_clip(str(folder), None, torch.device("cpu")).encode_prompts(["A photo of a shirt."])


def _describe_hub_error(name: str, revision: str, error: Exception) -> str:
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
    return (
        f"model {name}: expected it from {constants.ENDPOINT}, found: {first_line(error)}; pull again where there is a "
        "connection: what has come is kept"
    )
