"""Evaluate results that carry ground truth; memory does not grow with the number of rows.

Precision, recall and F1 are scikit-learn's to the last digit (a test says so), from the confusion matrix that is counted anyway:
importing scikit-learn would take a usual night longer than all the rest of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tagger.catalog.truth import TruthReader, to_text
from tagger.core.tables import plain_table
from tagger.core.text import listed, one_line, to_json
from tagger.evaluation.intervals import Interval, macro_f1_interval, share_interval
from tagger.evaluation.label_sets import SetCount, SetEvaluation
from tagger.evaluation.unknown import UnknownCount, UnknownEvaluation

MAX_MATRIX = 15  # labels of a confusion matrix that still fits a terminal
CONFUSIONS_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class AttributeEvaluation:
    """The evaluation of one attribute, over the rows that have a truth value among its labels and were tagged.

    confusion_matrix[i][j]: rows with truth labels[i] that were tagged labels[j]. per_class: label -> precision, recall, f1,
    support. by_source: who decided -> labelled_rows, accuracy. The averages are over the labels that occur, as truth or as tag;
    they are None where labelled_rows is 0, as their 95 % intervals are. error_rows: labelled rows whose image could not be
    tagged. rejected_rows: labelled rows that were found to be none of the labels. folded_rows: labelled rows, with an error or
    without, whose truth value is a label but for case, space or Unicode form. unknown_rows: rows whose truth value is no label;
    unknown_truth: these values -> rows, for up to VALUES_KEPT of them. sets: None where the attribute has no prediction sets, or
    no row is labelled. unknown: how well rows whose truth value is no label are told from the labelled ones; None where one of
    both is lacking.
    """

    truth_column: str
    labels: tuple[str, ...]
    labelled_rows: int
    error_rows: int
    rejected_rows: int
    folded_rows: int
    unknown_rows: int
    unknown_truth: dict[str, int]
    accuracy: float | None
    accuracy_interval: Interval | None
    macro_f1: float | None
    macro_f1_interval: Interval | None
    weighted_f1: float | None
    per_class: dict[str, dict[str, float]]
    confusion_matrix: list[list[int]]
    by_source: dict[str, dict[str, float]]
    sets: SetEvaluation | None
    unknown: UnknownEvaluation | None

    @property
    def truth_rows(self) -> int:
        """Rows with a truth value, whether it is a label or not."""
        return self.labelled_rows + self.error_rows + self.rejected_rows + self.unknown_rows


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of a result, by attribute."""

    attributes: dict[str, AttributeEvaluation]

    def to_dict(self) -> dict[str, object]:
        return {name: asdict(attribute) for name, attribute in self.attributes.items()}

    def to_json(self) -> str:
        return to_json(self.to_dict())

    def to_text(self) -> str:
        """Return the figures, the labels as a table, and the confusions, for a terminal."""
        return "\n\n".join(_text(name, attribute) for name, attribute in self.attributes.items())


@dataclass
class _Count:
    truth_column: str
    labels: tuple[str, ...]
    matrix: NDArray[np.int64]
    unknown: UnknownCount = field(default_factory=lambda: UnknownCount(judged=False))
    errors: int = 0
    rejected: int = 0
    by_source: Counter[tuple[str, bool]] = field(default_factory=Counter)  # with whether its label is correct
    sets: SetCount | None = None
    reader: TruthReader = field(init=False)

    def __post_init__(self) -> None:
        self.reader = TruthReader(self.labels)


class Evaluator:
    """Counts results shard by shard; `attributes` is attribute name -> (truth column, label names).

    set_coverages: of those with prediction sets, the share of sets that shall hold the right label. with_unknown: those whose
    images may be none of the labels.
    """

    def __init__(
        self,
        attributes: Mapping[str, tuple[str, Sequence[str]]],
        set_coverages: Mapping[str, float] = MappingProxyType({}),
        with_unknown: Collection[str] = (),
    ) -> None:
        self._with_unknown = frozenset(with_unknown)
        self._counts = {
            name: _Count(truth, tuple(labels), np.zeros((len(labels), len(labels)), np.int64), UnknownCount(name in with_unknown))
            for name, (truth, labels) in attributes.items()
        }
        for name, coverage in set_coverages.items():
            self._counts[name].sets = SetCount(coverage)

    def update(self, table: pa.Table) -> None:
        """Add rows of a result: their truth, `<attribute>_label`, `<attribute>_source` and perhaps `<attribute>_set` columns.

        What tells strangers is their `<attribute>_known` or, without, `<attribute>_confidence` columns, as far as they have them.
        """
        for name, count in self._counts.items():
            labels = pa.array(count.labels, pa.string())
            texts = to_text(table[count.truth_column], table.schema, count.truth_column)
            target = count.reader.read(texts)
            found = pc.index_in(table[f"{name}_label"], labels)
            known = pc.is_valid(target)
            tagged = pc.and_(known, pc.is_valid(found))
            if pc.any(tagged).as_py():
                pairs = target.filter(tagged).to_numpy().astype(np.int64), found.filter(tagged).to_numpy()
                np.add.at(count.matrix, pairs, 1)
                decided = pa.table({"source": table[f"{name}_source"], "correct": pc.equal(target, found)}).filter(tagged)
                for item in decided.group_by(["source", "correct"]).aggregate([([], "count_all")]).to_pylist():
                    count.by_source[item["source"], item["correct"]] += item["count_all"]
                if count.sets is not None:
                    count.sets.update(table[f"{name}_set"].filter(tagged), labels.take(target.filter(tagged)))
            untagged = pc.and_not(known, tagged)
            score = f"{name}_known" if name in self._with_unknown else f"{name}_confidence"
            if score in table.column_names:
                truth = pc.is_valid(texts)
                count.unknown.update(
                    table[score].filter(truth), table[f"{name}_label"].filter(truth), known.filter(truth).to_numpy()
                )
            if name in self._with_unknown:
                rejected = pc.sum(pc.and_(untagged, pc.is_valid(table[score]))).as_py() or 0
                count.rejected += rejected
                count.errors -= rejected
            count.errors += pc.sum(untagged).as_py() or 0

    def log(self) -> None:
        """Say of which rows the truth value was not a label as it stands."""
        for name, count in self._counts.items():
            count.reader.log(name)

    def result(self) -> Evaluation:
        return Evaluation({name: _evaluate(count) for name, count in self._counts.items()})


def _evaluate(count: _Count) -> AttributeEvaluation:
    labels, matrix = count.labels, count.matrix
    accuracy = macro_f1 = weighted_f1 = None
    per_class: dict[str, dict[str, float]] = {}
    if matrix.any():
        right, support, tags = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
        occurring = np.flatnonzero(support + tags)
        f1 = (2 * right / np.maximum(support + tags, 1))[occurring]
        for index, score in zip(occurring.tolist(), f1.tolist(), strict=True):
            per_class[labels[index]] = {
                "precision": int(right[index]) / max(int(tags[index]), 1),
                "recall": int(right[index]) / max(int(support[index]), 1),
                "f1": score,
                "support": int(support[index]),
            }
        accuracy = int(right.sum()) / int(matrix.sum())
        macro_f1 = float(np.mean(f1))
        weighted_f1 = float(np.average(f1, weights=support[occurring]))
    return AttributeEvaluation(
        truth_column=count.truth_column,
        labels=labels,
        labelled_rows=int(matrix.sum()),
        error_rows=count.errors,
        rejected_rows=count.rejected,
        folded_rows=count.reader.folded.rows,
        unknown_rows=count.reader.unknown.rows,
        unknown_truth=dict(count.reader.unknown.counts.most_common()),
        accuracy=accuracy,
        accuracy_interval=share_interval(int(np.trace(matrix)), int(matrix.sum())),
        macro_f1=macro_f1,
        macro_f1_interval=macro_f1_interval(matrix),
        weighted_f1=weighted_f1,
        per_class=per_class,
        confusion_matrix=matrix.tolist(),
        by_source={source: _accuracy(count.by_source, source) for source in sorted({source for source, _ in count.by_source})},
        sets=None if count.sets is None else count.sets.result(),
        unknown=count.unknown.result(),
    )


def _accuracy(outcomes: Counter[tuple[str, bool]], source: str) -> dict[str, float]:
    correct, wrong = outcomes[source, True], outcomes[source, False]
    return {"labelled_rows": correct + wrong, "accuracy": correct / (correct + wrong)}


def _text(name: str, evaluation: AttributeEvaluation) -> str:
    name, lines = one_line(name), []
    if evaluation.labelled_rows:
        lines += [
            f"{name}: accuracy {evaluation.accuracy:.1%}{_interval(evaluation.accuracy_interval, '.1%')}, "
            f"macro F1 {evaluation.macro_f1:.3f}{_interval(evaluation.macro_f1_interval, '.3f')}, "
            f"weighted F1 {evaluation.weighted_f1:.3f} on {evaluation.labelled_rows} labelled rows",
            *_by_source(evaluation),
            *([] if evaluation.sets is None else [f"  {evaluation.sets.to_text()}"]),
            _per_class(evaluation),
            *_confusions(evaluation),
        ]
    else:
        lines.append(f"{name}: no row with a truth value in {one_line(evaluation.truth_column)} was tagged, nothing to evaluate")
    if evaluation.error_rows:
        lines.append(f"  labelled rows with errors, not in these figures: {evaluation.error_rows}")
    if evaluation.rejected_rows:
        lines.append(f"  labelled rows that were taken for none of the labels, not in these figures: {evaluation.rejected_rows}")
    if evaluation.folded_rows:
        lines.append(f"  rows whose truth value matches a label but for case or space: {evaluation.folded_rows}")
    if evaluation.unknown_rows:
        lines.append(
            f"  rows whose truth value is no label, not in these figures: {evaluation.unknown_rows} "
            f"({listed(evaluation.unknown_truth)})"
        )
    if evaluation.unknown is not None:
        lines.append(f"  {evaluation.unknown.to_text()}")
    return "\n".join(lines)


def _interval(interval: Interval | None, form: str) -> str:
    return f" ({interval[0]:{form}} to {interval[1]:{form}})" if interval else ""


def _by_source(evaluation: AttributeEvaluation) -> list[str]:
    if len(evaluation.by_source) < 2:
        return []
    return [
        f"  decided by {source}: {values['labelled_rows']} rows, accuracy {values['accuracy']:.1%}"
        for source, values in evaluation.by_source.items()
    ]


def _per_class(evaluation: AttributeEvaluation) -> str:
    rows = [
        (label, f"{row['precision']:.3f}", f"{row['recall']:.3f}", f"{row['f1']:.3f}", f"{row['support']:.0f}")
        for label, row in evaluation.per_class.items()
    ]
    return plain_table(("", "precision", "recall", "F1", "support"), rows, indent=2)


def _confusions(evaluation: AttributeEvaluation) -> list[str]:
    """Return the lines of the confusion matrix where it fits, else those of the commonest confusions."""
    labels, matrix = evaluation.labels, evaluation.confusion_matrix
    if len(labels) <= MAX_MATRIX:
        shown = [index for index, label in enumerate(labels) if label in evaluation.per_class]
        numbers = [str(number) for number in range(1, len(shown) + 1)]
        rows = [
            (labels[row], *(str(matrix[row][column]) for column in shown), number)
            for row, number in zip(shown, numbers, strict=True)
        ]
        title = "  confusion matrix (rows: truth, columns: tags, in the same order)"
        return [title, plain_table(("", *numbers, ""), rows, indent=2)]
    pairs = sorted(
        ((rows, labels[i], labels[j]) for i, row in enumerate(matrix) for j, rows in enumerate(row) if i != j and rows),
        key=lambda pair: -pair[0],
    )
    confusions = (f"  {one_line(truth)} tagged {one_line(tag)}: {rows}" for rows, truth, tag in pairs[:CONFUSIONS_SHOWN])
    return ["  commonest confusions", *confusions]
