"""The address of a shared embedding cache, which is shown and logged: one that holds a password is refused."""

from __future__ import annotations

import re
from importlib.util import find_spec

EXAMPLE = '"postgresql://tagger@db.example.com/tagger"'
# No colon before the host: a password would follow it. Where libpq and we could read a URL in different ways, we do not.
_URL = re.compile(r"postgres(ql)?://([^:@/?#\s]+@)?[A-Za-z0-9.,:_%\[\]-]*(/[^:@/?#\s]*)?(\?[^#\s]*)?")


def check_cache_url(url: str) -> str:
    """Return the URL if it is one of PostgreSQL without a password, and psycopg is there; ValueError, which never repeats it."""
    if not _URL.fullmatch(url):
        raise ValueError(
            f"expected a URL such as {EXAMPLE}, without a password, found another; the password goes into PGPASSWORD or ~/.pgpass"
        )
    if find_spec("psycopg") is None:
        raise ValueError("expected psycopg, to reach PostgreSQL, found none; pip install 'tagger[postgres]'")
    from psycopg import Error
    from psycopg.conninfo import conninfo_to_dict

    try:
        parts = conninfo_to_dict(url)
    except Error as error:
        raise ValueError(f"expected a URL such as {EXAMPLE}, found one that PostgreSQL cannot read; correct it") from error
    if any("password" in part for part in parts):
        raise ValueError("expected a URL without a password, found one with; put it into PGPASSWORD or ~/.pgpass instead")
    return url
