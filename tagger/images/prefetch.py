"""Remote images fetched, if they have changed, while the ones before them are decoded: in order, a bounded number at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from queue import Empty, SimpleQueue
from threading import Thread

from tagger.core.errors import ImageError
from tagger.core.types import ImagePolicy, ImageRef
from tagger.core.urls import is_remote_image
from tagger.images.fetch import fetch
from tagger.images.sources import MAX_FILE_BYTES

AT_ONCE = 16  # images that are on their way, or here and not decoded yet
GRACE = 1.0  # seconds for a fetch to say itself that its time is over

_Fetched = ImageRef | ImageError
_Answer = _Fetched | Exception  # a fault of ours is raised where it is waited for


def fetch_ahead(refs: Sequence[ImageRef], policy: ImagePolicy) -> Iterator[_Fetched]:
    """Yield the references in their order: a remote one with its bytes, or the error that came instead; others as they are.

    A remote one with a digest stays as it is, too, if its server says that the version has not changed.
    """
    waiting = iter([ref for ref in refs if _to_fetch(ref)])
    answers = deque(_start(ref, policy) for ref in islice(waiting, AT_ONCE))
    for ref in refs:
        if not _to_fetch(ref):
            yield ref
            continue
        try:
            answer: _Answer = answers.popleft().get(timeout=policy.timeout + GRACE)
        except Empty:  # the resolver, for one, cannot be interrupted
            answer = ImageError("timeout", f"not there after {policy.timeout:g} s")
        if not isinstance(answer, ImageRef | ImageError):
            raise answer
        yield answer
        answers.extend(_start(ref, policy) for ref in islice(waiting, 1))


def _to_fetch(ref: ImageRef) -> bool:
    return ref.data is None and ref.path is not None and is_remote_image(ref.path)


def _start(ref: ImageRef, policy: ImagePolicy) -> SimpleQueue[_Answer]:
    """Fetch in a thread, which a process that is to end does not wait for."""
    answer: SimpleQueue[_Answer] = SimpleQueue()
    Thread(target=lambda: answer.put(_fetch(ref, policy)), name="fetch", daemon=True).start()
    return answer


def _fetch(ref: ImageRef, policy: ImagePolicy) -> _Answer:
    try:
        assert ref.path is not None
        data, version = fetch(ref.path, policy, MAX_FILE_BYTES, ref.version if ref.digest else "")
        return ref if data is None else ImageRef(ref.row, data=data, decode=ref.decode, version=version)
    except ImageError as error:
        return error.with_traceback(None)
    except MemoryError:
        return ImageError("out-of-memory", "no memory to fetch it")
    except Exception as error:  # noqa: BLE001  # else whoever waits would take it for a slow server
        return error
