"""s3://, gs:// and az:// references: from buckets that are listed, with fsspec's clients (extras s3, gcs, azure).

The operator names endpoint and credentials in the environment, as each client documents it, and a manifest cannot; so no
address is checked here.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import threading
import time
from functools import cache
from typing import Any

import fsspec

from tagger.core.errors import ImageError
from tagger.core.types import ImagePolicy
from tagger.images.transport import TransientError, shown, strong

CONNECTIONS = 16

_REFERENCE = re.compile(r"(s3|gs|az)://([a-z0-9._-]+)/([^\x00-\x1f\x7f]+)", re.IGNORECASE)
_DOT_SEGMENT = re.compile(r"(^|/)\.{1,2}(/|$)")  # might be folded away on the way, and with it the bucket
_creating = threading.Lock()


def read(reference: str, policy: ImagePolicy, limit: int, deadline: float, version: str) -> tuple[bytes | None, str]:
    """Try once to read at most `limit` bytes until `deadline` (time.monotonic); return them and their version, as fetch() does.

    Raises ImageError, TransientError.
    """
    found = _REFERENCE.fullmatch(reference)
    if found is None or _DOT_SEGMENT.search(found[3]):
        raise ImageError("forbidden-path", "expected scheme://bucket/key, without dot segments and control characters")
    scheme, bucket, key = found[1].lower(), found[2], found[3]
    if f"{scheme}://{bucket}" not in policy.buckets:
        raise ImageError("forbidden-path", f"the bucket {scheme}://{bucket} is not listed in [images] allow_buckets")
    left = deadline - time.monotonic()
    if left <= 0:
        raise TransientError("no answer")
    try:
        with _creating:  # not once per thread
            store = _store(scheme, policy.timeout, os.getpid())
        # Half of what is left: time for another attempt. One byte more than allowed tells what is too large.
        attempt = asyncio.wait_for(_GET[scheme](store, f"{bucket}/{key}", limit + 1, version), left / 2)
        data, current = asyncio.run_coroutine_threadsafe(attempt, store.loop).result()
    except FileNotFoundError as error:
        raise ImageError("missing", f"no object {shown(reference)}") from error
    except PermissionError as error:
        raise ImageError("unreadable", f"{shown(reference)}: access is denied") from error
    # Each client has exceptions of its own. Their texts are not repeated: some hold the URL and its signature.
    except Exception as error:
        status, name = _status(error), type(error).__name__
        if status == 304 and version:
            return None, version
        if status == 416:  # of an empty object not even the first byte can be had
            return b"", ""
        if "Credential" in name or (400 <= status < 500 and status not in (408, 429)):
            raise ImageError("unreadable", f"{shown(reference)}: the store refuses ({name} {status or ''})") from error
        raise TransientError(f"the store failed ({name})") from error
    if data is not None and len(data) > limit:
        raise ImageError("too-large", f"{shown(reference)}: more than the {limit:,} bytes that are read")
    return data, current


# Like the clients' own _cat_file, which neither returns the version of what it reads nor takes a condition.


async def _get_s3(store: Any, path: str, size: int, known: str) -> tuple[bytes, str]:
    bucket, key, pinned = store.split_path(path)
    condition = {**({"IfNoneMatch": known} if known else {}), **({"VersionId": pinned} if pinned else {})}
    answer = await store._call_s3("get_object", Bucket=bucket, Key=key, Range=f"bytes=0-{size - 1}", **condition)
    try:
        return await answer["Body"].read(), strong(answer.get("ETag"))
    finally:
        answer["Body"].close()


async def _get_gs(store: Any, path: str, size: int, known: str) -> tuple[bytes | None, str]:
    """Return the object's generation as its version, between quotes like a tag."""
    is_zonal = getattr(store, "_is_zonal_bucket", None)
    if is_zonal and await is_zonal(path.partition("/")[0]):  # read by gRPC
        return await store._cat_file(path, start=0, end=size), ""
    condition = {"ifGenerationNotMatch": known.strip('"')} if known else {}
    status, headers, _, data = await store._request("GET", store.url(path), headers={"Range": f"bytes=0-{size - 1}"}, **condition)
    if status == 304 and known:
        return None, known
    return data, strong(f'"{headers.get("x-goog-generation", "")}"')


async def _get_az(store: Any, path: str, size: int, known: str) -> tuple[bytes, str]:
    from azure.core import MatchConditions
    from azure.core.exceptions import ResourceNotFoundError

    container, blob, pinned = store.split_path(path)
    condition = {"etag": known, "match_condition": MatchConditions.IfModified} if known else {}
    async with store.service_client.get_blob_client(container=container, blob=blob) as client:
        try:
            stream = await client.download_blob(
                offset=0,
                length=size,
                version_id=pinned,
                max_concurrency=store.max_concurrency,
                **condition,
                **store._timeout_kwargs,
            )
        except ResourceNotFoundError as error:
            raise FileNotFoundError(path) from error
        return await stream.readall(), strong(stream.properties.etag)


_GET = {"s3": _get_s3, "gs": _get_gs, "az": _get_az}


def _status(error: Exception) -> int:
    """Return the HTTP status behind an exception of s3fs (its cause is botocore's), adlfs or gcsfs; 0 where none answered."""
    answer = getattr(error.__cause__, "response", None)
    if isinstance(answer, dict):
        return int(answer["ResponseMetadata"]["HTTPStatusCode"])
    if isinstance(error, OSError) and str(error).startswith("Forbidden"):  # all that gcsfs says of a 403
        return 403
    status = str(getattr(error, "status_code", None) or getattr(error, "code", None))
    return int(status) if status.isdecimal() else 0


@cache
def _store(scheme: str, timeout: float, process: int) -> Any:
    """Return this process's client; after a fork the numbers differ, and no connection has two owners."""
    for client in ("s3fs", "gcsfs", "azure"):  # each failure has its row; they would say it too, with traceback and URL
        logging.getLogger(client).setLevel(logging.CRITICAL)
    if scheme != "s3":
        return fsspec.filesystem(scheme)
    # The attempts are counted in fetch.py; attempts of attempts of attempts would be far too many.
    store = fsspec.filesystem(
        "s3",
        config_kwargs={
            **fsspec.config.conf.get("s3", {}).get("config_kwargs", {}),
            "connect_timeout": min(5.0, timeout / 4),
            "read_timeout": min(10.0, timeout / 4),
            "retries": {"total_max_attempts": 1},
            "max_pool_connections": CONNECTIONS,
        },
    )
    store.retries = 1
    store.connect()  # now, once: the first requests would each make a client of their own
    return store
