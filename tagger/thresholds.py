"""What a run's results have to reach: the gates of the settings, and of --max-errors."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation

from tagger.config import GateSettings
from tagger.errors import ConfigError, UsageError
from tagger.tagging.taxonomy import Attribute

NEED_TRUTH = ("min_accuracy", "min_macro_f1", "min_labelled_rows")


def gate_thresholds(
    settings: GateSettings, attributes: Sequence[Attribute], max_errors: int | str | None, rows: int
) -> dict[str, float]:
    """Gate -> threshold, of those that are set; max_errors, in rows, beats max_error_rate. UsageError for what is no number,
    ConfigError for what these attributes can never reach."""
    gates: dict[str, float] = settings.model_dump(exclude_none=True)
    hopeless = [gate for gate in NEED_TRUTH if gate in gates]
    if hopeless and not any(attribute.truth_column for attribute in attributes):
        raise ConfigError(
            f"gates.{hopeless[0]}: expected an attribute with a truth_column, found none; name the column of right answers, or "
            "leave the gate out"
        )
    if max_errors is not None:
        gates.pop("max_error_rate", None)
        gates["max_errors"] = error_limit(str(max_errors), rows)
    return gates


def error_limit(text: str, rows: int) -> int:
    """Rows that may fail, given as a number or as a percentage of all."""
    try:
        limit = Decimal(text.removesuffix("%"))  # 0.57 % of 10,000 are 57, and not 56.99
        if not limit.is_finite() or limit < 0 or not (text.endswith("%") or text.isdecimal()):
            raise ValueError(text)
    except (ValueError, InvalidOperation) as error:
        raise UsageError(f"--max-errors: expected a number of rows or a percentage such as 2%, found {text}") from error
    return int(limit * rows / 100) if text.endswith("%") else int(limit)
