"""Read the summary.json of a run again."""

from __future__ import annotations

import json
from functools import cache

from pydantic import TypeAdapter

from tagger.reports.summary import RunSummary


def parse_summary(text: str) -> RunSummary:
    """Return the summary that `RunSummary.to_json` wrote. Raises ValueError for any other text, of another version too."""
    values = json.loads(text)
    if not isinstance(values, dict) or values.get("schema_version") != RunSummary.schema_version:
        raise ValueError(f"expected schema_version {RunSummary.schema_version}; it is of another version of tagger")
    if values.get("evaluation") is not None:
        values["evaluation"] = {"attributes": values["evaluation"]}
    return _adapter().validate_python(values)


@cache
def _adapter() -> TypeAdapter[RunSummary]:
    return TypeAdapter(RunSummary)
