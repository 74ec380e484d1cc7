"""Which bytes a reference led to when it was read last, so that what has not changed is not read again."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from tagger.catalog.references import ImageRefs
from tagger.core.errors import ImageError
from tagger.core.types import ImagePolicy, ImageRef
from tagger.images.file_versions import ABSENT, FileVersions
from tagger.images.sources import read_bytes
from tagger.inference.embedding_stream import EmbeddingStream
from tagger.inference.shard_state import OpenShard


class FileMemory:
    """Looks up digests by name and version of files, in the stream's cache, and keeps there those that were read.

    verify_content: know no file, so that all are read.
    """

    def __init__(self, stream: EmbeddingStream, policy: ImagePolicy, verify_content: bool) -> None:
        self._stream, self._policy, self._verify_content = stream, policy, verify_content
        self._versions = FileVersions(policy)

    def recall(self, shard: OpenShard, refs: ImageRefs) -> dict[int, ImageRef]:
        """Give the shard the digests of its images that are in the manifest or that have not changed since they were read.

        Rows whose image is not there get their error. Returns row -> reference, with version and digest, of remote images that
        were read before: only their servers can say whether they have changed.
        """
        rows = shard.rows.tolist()
        if refs.data is not None:
            for row in rows:
                if (data := refs.data[row]) is not None:
                    shard.digests[row] = hashlib.sha256(data).digest()
        found = self._versions.of([None if shard.digests[row] else refs.paths[row] for row in rows])
        shard.files = {row: file for row, file in zip(rows, found, strict=True) if file is not None and file != ABSENT}
        for row, file in zip(rows, found, strict=True):
            if file == ABSENT and not shard.digests[row] and (error := self._missing(refs[row])) is not None:
                shard.errors[row] = error
        if self._verify_content:
            return {}
        remote = {}
        kept = self._stream.cache.known_files([name for name, _ in shard.files.values()])
        for (row, (_, version)), (last, digest) in zip(shard.files.items(), kept, strict=True):
            if last and last == version:
                shard.digests[row] = digest
            elif last and not version:
                remote[row] = replace(refs[row], version=last.decode("ascii", "replace"), digest=digest)
        return remote

    def keep(self, shard: OpenShard, row: int, digest: bytes, current: str | None) -> None:
        """Keep which bytes the row's file has, and wait for it no longer; `current` is the version that its server sent."""
        ref = shard.loading.pop(row)
        shard.digests[row] = digest
        name, version = shard.files.get(row, (b"", b""))
        if current:
            self._stream.remember_file(name, current.encode(), digest)
        elif version and self._versions(ref.path) == (name, version):  # else it was changed while it was read
            self._stream.remember_file(name, version, digest)

    def _missing(self, ref: ImageRef) -> ImageError | None:
        try:
            read_bytes(ref, self._policy)
        except ImageError as error:
            if error.code == "missing":
                return error
        return None  # it has come in this moment, or something else is wrong: a decoding process reads it
