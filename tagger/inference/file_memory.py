"""Which bytes a reference led to when it was read last, so that what has not changed is not read again."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from tagger.core.types import ImagePolicy, ImageRef
from tagger.images.file_versions import FileVersions
from tagger.inference.embedding_stream import EmbeddingStream
from tagger.inference.shard_state import OpenShard


class FileMemory:
    """Looks up digests by name and version of files, in the stream's cache, and keeps there those that were read.

    verify_content: know no file, so that all are read.
    """

    def __init__(self, stream: EmbeddingStream, policy: ImagePolicy, verify_content: bool) -> None:
        self._stream, self._versions, self._verify_content = stream, FileVersions(policy), verify_content

    def digests(self, shard: OpenShard, refs: list[ImageRef]) -> dict[int, bytes]:
        """Return row -> digest, of the shard's images that are in the manifest or that have not changed since they were read.

        A remote one, which only its server can say this of, gets version and digest into its reference.
        """
        digests = shard.digests
        for row in shard.rows.tolist():
            if (data := refs[row].data) is not None:
                digests[row] = hashlib.sha256(data).digest()
            elif (file := self._versions(refs[row])) is not None:
                shard.files[row] = file
        if not self._verify_content:
            kept = self._stream.cache.known_files([name for name, _ in shard.files.values()])
            for (row, (_, version)), (last, digest) in zip(shard.files.items(), kept, strict=True):
                if last and last == version:
                    digests[row] = digest
                elif last and not version:
                    refs[row] = replace(refs[row], version=last.decode("ascii", "replace"), digest=digest)
        return digests

    def keep(self, shard: OpenShard, row: int, digest: bytes, current: str | None) -> None:
        """Keep which bytes the row's file has, and wait for it no longer; `current` is the version that its server sent."""
        ref = shard.loading.pop(row)
        shard.digests[row] = digest
        name, version = shard.files.get(row, (b"", b""))
        if current:
            self._stream.remember_file(name, current.encode(), digest)
        elif version and self._versions(ref) == (name, version):  # else it was changed while it was read
            self._stream.remember_file(name, version, digest)
