"""Compare a night's result with the last published one: what has shifted by more than chance, and by enough to matter.

Each figure has a size, for people and thresholds, and a test, which respects how many rows there are. The p-values of all
tests of a night are corrected together (Holm 1979), so that a night without a shift raises any alarm with a probability of LEVEL
at the most, whatever its number of rows, labels and attributes. Rows that are the same on both nights make alarms rarer still.
An alarm also takes a size of at least SIZES, since among a million rows every difference is significant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tagger.core.text import one_line
from tagger.evaluation.distributions import BINS, Distributions

Figure = Literal["labels", "confidence", "errors", "embeddings"]

LEVEL = 0.01
# The population stability index of a shift of ten points is 0.04 or more (Pinsker's inequality); a largest difference of two
# distributions and a share of the rows, in the same sense; a small effect in Cohen's sense (1988).
SIZES: Mapping[Figure, float] = {"labels": 0.02, "confidence": 0.05, "errors": 0.01, "embeddings": 0.2}
FEW = 5.0  # rows that a label is expected to have for the chi-square test: others are pooled (Cochran 1954)
SHOWN_BINS, SHOWN_LABELS = 20, 3
NO_EARLIER = "there is no earlier result to compare with"
TOO_FEW, OTHER_LABELS = "too few rows to tell", "its labels have changed since"


@dataclass(frozen=True, kw_only=True)
class Shift:
    """How far one figure has shifted, of one attribute or (None) of all rows.

    size: for labels the population stability index; for confidence the largest difference of the two cumulative distributions;
    for errors the difference of their shares; for embeddings the largest difference of a coordinate's means, in standard
    deviations. before, now: mean confidence, share of errors; for embeddings `now` is the cosine of both means. p_value:
    corrected for the night's other tests, None where there was nothing to test; `note` says why.
    """

    figure: Figure
    attribute: str | None = None
    size: float | None = None
    before: float | None = None
    now: float | None = None
    p_value: float | None = None
    note: str | None = None

    @property
    def significant(self) -> bool:
        return self.p_value is not None and self.p_value < LEVEL

    @property
    def alarm(self) -> bool:
        return self.significant and self.size is not None and self.size >= SIZES[self.figure]


@dataclass(frozen=True, kw_only=True)
class Drift:
    """How a result differs from the last published one; `missing` says why there is nothing to compare, else None.

    rows, errors: before and now. labels: attribute -> label -> rows before and now. confidences: attribute -> the rows of
    SHOWN_BINS bins of confidence before, and now.
    """

    missing: str | None = None
    rows: tuple[int, int] | None = None
    errors: tuple[int, int] | None = None
    shifts: tuple[Shift, ...] = ()
    labels: Mapping[str, Mapping[str, tuple[int, int]]] = field(default_factory=dict)
    confidences: Mapping[str, tuple[list[int], list[int]]] = field(default_factory=dict)

    def warnings(self) -> list[str]:
        """Return a line for each alarm."""
        return [self._line(shift) for shift in self.shifts if shift.alarm]

    def to_dict(self) -> dict[str, Any]:
        shifts = [{**asdict(one), "significant": one.significant, "alarm": one.alarm} for one in self.shifts]
        return {**asdict(self), "shifts": shifts}

    def _line(self, shift: Shift) -> str:
        of = f"{shift.attribute}: " if shift.attribute else ""
        if shift.figure == "labels":
            return f"{of}the shares of labels have shifted (population stability index {shift.size:.3f}): {self._moved(shift)}"
        if shift.figure == "confidence":
            return f"{of}confidence has shifted: {shift.before:.3f} on average before, {shift.now:.3f} now"
        if shift.figure == "errors":
            return f"error rows have become more: {shift.before:.2%} before, {shift.now:.2%} now"
        return f"the pictures have shifted: an embedding's mean by {shift.size:.2f} standard deviations"

    def _moved(self, shift: Shift) -> str:
        """Return the labels whose shares have moved most."""
        counts = self.labels[shift.attribute or ""]
        before, now = np.array(list(counts.values()), np.float64).T
        before, now = before / before.sum(), now / now.sum()
        most = np.argsort(-np.abs(now - before), kind="stable")[:SHOWN_LABELS]
        names = list(counts)
        return ", ".join(f"{one_line(names[one])} {before[one]:.1%} to {now[one]:.1%}" for one in most.tolist())


def compare_nights(before: Distributions | str, now: Distributions) -> Drift:
    """Compare a result with an earlier one; a text in its place says why there is nothing to compare."""
    if isinstance(before, str):
        return Drift(missing=before)
    return Drift(
        rows=(before.rows, now.rows),
        errors=(before.errors, now.errors),
        shifts=tuple(_corrected([*_of_attributes(before, now), _errors(before, now), _embeddings(before, now)])),
        labels={name: _label_counts(before, now, name) for name in now.attributes if name in before.attributes},
        confidences={
            name: (_coarse(before.confidences[name]), _coarse(now.confidences[name]))
            for name in now.attributes
            if name in before.attributes
        },
    )


def stability_index(before: NDArray[np.int64], now: NDArray[np.int64]) -> float:
    """Return the population stability index of two counts of labels (K,), half a row added to each so that none is 0."""
    first, second = ((one + 0.5) / (one.sum() + len(one) / 2) for one in (before, now))
    return float(((second - first) * np.log(second / first)).sum())


def _of_attributes(before: Distributions, now: Distributions) -> Iterator[Shift]:
    for name, labels in now.attributes.items():
        if set(before.attributes.get(name, ())) != set(labels):
            note = OTHER_LABELS if name in before.attributes else "the earlier result does not have it"
            yield from (Shift(figure=figure, attribute=name, note=note) for figure in ("labels", "confidence"))
            continue
        place = {label: number for number, label in enumerate(before.attributes[name])}
        counts = before.labels[name][[place[label] for label in labels]], now.labels[name]
        size = stability_index(*counts) if min(one.sum() for one in counts) else None
        yield _shift("labels", name, size, _chi_square(*counts))
        yield _confidence(before, now, name)


def _chi_square(before: NDArray[np.int64], now: NDArray[np.int64]) -> float | None:
    """Return the p-value of Pearson's test that both have the same shares; None where there are too few rows."""
    both = before + now
    order = np.argsort(both, kind="stable")
    expected = both[order] * min(before.sum(), now.sum()) / max(both.sum(), 1)
    # The rarest labels are counted as one, which is expected often enough.
    pooled = max(int(np.searchsorted(expected, FEW)), int(np.searchsorted(np.cumsum(expected), FEW)) + 1)
    table = np.array([before, now])[:, order]
    table = np.column_stack([table[:, :pooled].sum(1), table[:, pooled:]])
    if table.shape[1] < 2:
        return None
    if np.array_equal(before, now):
        return 1.0  # what has not shifted is not tested, and imports nothing
    from tagger.evaluation.significance import chi_square

    return chi_square(table)


def _confidence(before: Distributions, now: Distributions, name: str) -> Shift:
    """Test by Kolmogorov and Smirnov on the bins, whose largest difference is at most the exact one: it errs towards no alarm."""
    counts = before.confidences[name], now.confidences[name]
    rows = [int(one.sum()) for one in counts]
    if not min(rows):
        return _shift("confidence", name, None, None)
    size = float(np.abs(np.cumsum(counts[0]) / rows[0] - np.cumsum(counts[1]) / rows[1]).max())
    p_value = 1.0
    if size:
        from tagger.evaluation.significance import kolmogorov_smirnov

        p_value = kolmogorov_smirnov(size, *rows)
    means = (one.confidence_sums[name] / count for one, count in zip((before, now), rows, strict=True))
    return _shift("confidence", name, size, p_value, *means)


def _errors(before: Distributions, now: Distributions) -> Shift:
    """Test by Fisher, exact for any number of rows, whether errors have become more: fewer alarm nobody."""
    if not min(before.rows, now.rows):
        return _shift("errors", None, None, None)
    shares = before.errors / before.rows, now.errors / now.rows
    p_value = 1.0
    if shares[1] > shares[0]:
        from tagger.evaluation.significance import fisher_more

        p_value = fisher_more((before.errors, before.rows), (now.errors, now.rows))
    return _shift("errors", None, shares[1] - shares[0], p_value, *shares)


def _embeddings(before: Distributions, now: Distributions) -> Shift:
    """Test each coordinate's mean by Welch, all of them corrected together (Bonferroni)."""
    first, second = before.embeddings, now.embeddings
    if first is None or second is None:
        whose = "the earlier result" if second is not None else "this result"
        return Shift(figure="embeddings", note=f"the embeddings of all rows of {whose} are not known")
    if before.weights != now.weights:
        return Shift(figure="embeddings", note="the earlier result is another model's")
    if min(first.rows, second.rows) < 2 or len(first.sums) != len(second.sums):
        return Shift(figure="embeddings", note=TOO_FEW)
    if np.array_equal(first.mean, second.mean):
        return _shift("embeddings", None, 0.0, 1.0, None, 1.0)
    from tagger.evaluation.significance import Sample, welch

    p_values = welch(*(Sample(one.mean, one.variance, one.rows) for one in (first, second)))
    with np.errstate(divide="ignore", invalid="ignore"):  # coordinates that do not vary
        sizes = np.abs(second.mean - first.mean) / np.sqrt((first.variance + second.variance) / 2)
    p_value = min(1.0, float(np.nan_to_num(p_values, nan=1.0).min()) * len(sizes))
    cosine = first.mean @ second.mean / max(np.linalg.norm(first.mean) * np.linalg.norm(second.mean), np.finfo(float).tiny)
    varying = sizes[np.isfinite(sizes)]
    return _shift("embeddings", None, float(varying.max(initial=0.0)), p_value, None, float(cosine))


def _shift(
    figure: Figure,
    attribute: str | None,
    size: float | None,
    p_value: float | None,
    before: float | None = None,
    now: float | None = None,
) -> Shift:
    note = TOO_FEW if p_value is None else None
    return Shift(figure=figure, attribute=attribute, size=size, before=before, now=now, p_value=p_value, note=note)


def _corrected(shifts: list[Shift]) -> list[Shift]:
    """Return the shifts with p-values that are corrected for their number (Holm 1979)."""
    tested = sorted((one.p_value, number) for number, one in enumerate(shifts) if one.p_value is not None)
    found, last = list(shifts), 0.0
    for rank, (p_value, number) in enumerate(tested):
        last = min(1.0, max(last, p_value * (len(tested) - rank)))
        found[number] = replace(found[number], p_value=last)
    return found


def _label_counts(before: Distributions, now: Distributions, name: str) -> dict[str, tuple[int, int]]:
    """Return label -> rows before and now, tonight's labels first."""
    first, second = (dict(zip(one.attributes[name], one.labels[name].tolist(), strict=True)) for one in (before, now))
    return {
        label: (first.get(label, 0), second.get(label, 0)) for label in [*second, *(one for one in first if one not in second)]
    }


def _coarse(counts: NDArray[np.int64]) -> list[int]:
    found: list[int] = counts.reshape(SHOWN_BINS, BINS // SHOWN_BINS).sum(1).tolist()
    return found
