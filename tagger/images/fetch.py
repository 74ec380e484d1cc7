"""From a remote reference to encoded bytes: tried again while that may help, never for longer than one image may take.

https:// is read by https.py, s3://, gs:// and az:// by object_stores.py, which are imported when they are first needed.

Codes: forbidden-path (a host, bucket or address that is not allowed, and was not contacted; a URL that is not plain), missing
(404, 410, no such object), unreadable (any other refusal, such as 403), not-an-image (empty), too-large, unreachable (still
failing after ATTEMPTS, or a certificate that is not trusted), timeout (the policy's time is over). Messages hold no query
string and no user name.

What an earlier run has read is requested on a condition (If-None-Match): the server sends the bytes only if they have changed.
So the question costs no request of its own, and the version in the answer is that of the very bytes.
"""

from __future__ import annotations

import random
import time

from tagger.core.errors import ImageError
from tagger.core.types import ImagePolicy
from tagger.images.transport import TransientError, shown, strong

ATTEMPTS = 6
BACKOFF = 0.2  # seconds before the second attempt at most, twice that before the third, and so on


def fetch(reference: str, policy: ImagePolicy, limit: int, version: str = "") -> tuple[bytes | None, str]:
    """Return the bytes behind a remote reference, at most `limit` of them, and their version, "" if the server names none.

    version: of bytes that are known; None comes instead of them if they are still there. Raises ImageError.
    """
    if reference.lower().startswith("https:"):
        from tagger.images.https import read
    else:
        from tagger.images.object_stores import read

    deadline = time.monotonic() + policy.timeout
    attempt, version = 1, strong(version)
    while True:
        try:
            data, current = read(reference, policy, limit, deadline, version)
            if data == b"":
                raise ImageError("not-an-image", f"{shown(reference)} is empty")
            return data, current
        except ImageError as error:
            if not version or error.code != "unreadable":
                raise
            version = ""  # it may be the condition that was refused
            continue
        except TransientError as error:
            version = ""
            # Jitter, so that the many that failed at one moment do not all come back at one moment.
            pause = max(error.wait, BACKOFF * 2 ** (attempt - 1) * random.uniform(0.5, 1))
            too_late = time.monotonic() + pause >= deadline
            if attempt == ATTEMPTS or (too_late and error.wait):
                raise ImageError("unreachable", f"{shown(reference)}: {error} (attempt {attempt} of {ATTEMPTS})") from error
            if too_late:
                raise ImageError("timeout", f"{shown(reference)}: {error}, and {policy.timeout:g} s are over") from error
        time.sleep(pause)
        attempt += 1
