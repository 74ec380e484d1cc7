"""Check values that are read from files: their models are frozen and refuse unknown keys."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """The base of pydantic models that cannot be changed once they are made, and refuse keys that they do not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")
