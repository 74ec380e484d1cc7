"""The base of every value that is read from a file and checked: frozen, without unknown keys."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """A pydantic model that cannot be changed after it was made, and refuses keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")
