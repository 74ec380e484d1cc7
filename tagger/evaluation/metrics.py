"""Results and ground truth -> how right the tags are. scikit-learn computes; memory does not grow with the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from tagger.core.text import one_line, to_json

MAX_MATRIX = 15  # labels of a confusion matrix that still fits a terminal
UNKNOWN_KEPT, UNKNOWN_SHOWN = 1000, 10  # different truth values that are no label: in the summary, in the text


@dataclass(frozen=True, kw_only=True)
class AttributeEvaluation:
    """One attribute over the rows that have a truth value among its labels and were tagged.

    confusion_matrix[i][j]: rows with truth labels[i] that were tagged labels[j]. per_class: label -> precision, recall, f1,
    support. by_source: who decided -> labelled_rows, accuracy. The averages are over the labels that occur, as truth or as
    tag. They are None where labelled_rows is 0.
    error_rows: labelled rows whose image could not be tagged. unknown_rows: rows whose truth value is no label;
    unknown_truth: these values -> rows, for up to UNKNOWN_KEPT of them.
    """

    truth_column: str
    labels: tuple[str, ...]
    labelled_rows: int
    error_rows: int
    unknown_rows: int
    unknown_truth: dict[str, int]
    accuracy: float | None
    macro_f1: float | None
    weighted_f1: float | None
    per_class: dict[str, dict[str, float]]
    confusion_matrix: list[list[int]]
    by_source: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Evaluation:
    attributes: dict[str, AttributeEvaluation]

    def to_dict(self) -> dict[str, object]:
        return {name: asdict(attribute) for name, attribute in self.attributes.items()}

    def to_json(self) -> str:
        return to_json(self.to_dict())

    def to_text(self) -> str:
        return "\n\n".join(_text(name, _printable(attribute)) for name, attribute in self.attributes.items())


@dataclass
class _Count:
    truth_column: str
    labels: tuple[str, ...]
    matrix: NDArray[np.int64]
    errors: int = 0
    unknown_rows: int = 0
    unknown: Counter[str] = field(default_factory=Counter)
    by_source: Counter[tuple[str, bool]] = field(default_factory=Counter)  # and whether it was right


class Evaluator:
    """Counts shard by shard; `attributes` is attribute name -> (truth column, label names)."""

    def __init__(self, attributes: Mapping[str, tuple[str, Sequence[str]]]) -> None:
        self._counts = {
            name: _Count(truth, tuple(labels), np.zeros((len(labels), len(labels)), np.int64))
            for name, (truth, labels) in attributes.items()
        }

    def update(self, table: pa.Table) -> None:
        """Add rows of a result: their truth, `<attribute>_label` and `<attribute>_source` columns."""
        for name, count in self._counts.items():
            labels = pa.array(count.labels, pa.string())
            truth = pc.cast(table[count.truth_column], pa.string())
            wanted = pc.index_in(truth, labels)
            found = pc.index_in(table[f"{name}_label"], labels)
            known = pc.is_valid(wanted)
            tagged = pc.and_(known, pc.is_valid(found))
            if pc.any(tagged).as_py():
                count.matrix += confusion_matrix(
                    wanted.filter(tagged).to_numpy(), found.filter(tagged).to_numpy(), labels=np.arange(len(labels))
                )
                decided = pa.table({"by": table[f"{name}_source"], "right": pc.equal(wanted, found)}).filter(tagged)
                for item in decided.group_by(["by", "right"]).aggregate([([], "count_all")]).to_pylist():
                    count.by_source[item["by"], item["right"]] += item["count_all"]
            count.errors += pc.sum(pc.and_not(known, tagged)).as_py() or 0
            strangers = truth.filter(pc.and_(pc.is_valid(truth), pc.invert(known)))
            count.unknown_rows += len(strangers)
            for item in strangers.value_counts().to_pylist():
                if item["values"] in count.unknown or len(count.unknown) < UNKNOWN_KEPT:
                    count.unknown[item["values"]] += item["counts"]

    def result(self) -> Evaluation:
        return Evaluation({name: _evaluate(count) for name, count in self._counts.items()})


def _evaluate(count: _Count) -> AttributeEvaluation:
    labels, matrix = count.labels, count.matrix
    accuracy = macro_f1 = weighted_f1 = None
    per_class: dict[str, dict[str, float]] = {}
    if matrix.any():
        # A cell of the matrix stands for its rows: scikit-learn takes the counts as weights.
        wanted, found = np.nonzero(matrix)
        weights = matrix[wanted, found]
        occurring = np.union1d(wanted, found)
        scores = precision_recall_fscore_support(wanted, found, labels=occurring, sample_weight=weights, zero_division=0)
        for index, precision, recall, f1, support in zip(occurring, *scores, strict=True):
            values = {"precision": float(precision), "recall": float(recall), "f1": float(f1), "support": int(support)}
            per_class[labels[index]] = values
        accuracy = float(accuracy_score(wanted, found, sample_weight=weights))
        macro_f1 = float(np.mean(scores[2]))
        weighted_f1 = float(np.average(scores[2], weights=scores[3]))
    return AttributeEvaluation(
        truth_column=count.truth_column,
        labels=labels,
        labelled_rows=int(matrix.sum()),
        error_rows=count.errors,
        unknown_rows=count.unknown_rows,
        unknown_truth=dict(count.unknown.most_common()),
        accuracy=accuracy,
        macro_f1=macro_f1,
        weighted_f1=weighted_f1,
        per_class=per_class,
        confusion_matrix=matrix.tolist(),
        by_source={source: _accuracy(count.by_source, source) for source in sorted({source for source, _ in count.by_source})},
    )


def _accuracy(outcomes: Counter[tuple[str, bool]], source: str) -> dict[str, float]:
    right, wrong = outcomes[source, True], outcomes[source, False]
    return {"labelled_rows": right + wrong, "accuracy": right / (right + wrong)}


def _printable(evaluation: AttributeEvaluation) -> AttributeEvaluation:
    """The same with every text of the catalogue as a line of a table may show it."""
    return replace(
        evaluation,
        truth_column=one_line(evaluation.truth_column),
        labels=tuple(map(one_line, evaluation.labels)),
        per_class={one_line(label): row for label, row in evaluation.per_class.items()},
        unknown_truth={one_line(value): rows for value, rows in evaluation.unknown_truth.items()},
    )


def _text(name: str, evaluation: AttributeEvaluation) -> str:
    lines = []
    if evaluation.labelled_rows:
        lines += [
            f"{name}: accuracy {evaluation.accuracy:.1%}, macro F1 {evaluation.macro_f1:.3f}, "
            f"weighted F1 {evaluation.weighted_f1:.3f} on {evaluation.labelled_rows} labelled rows",
            *_by_source(evaluation),
            *_per_class(evaluation),
            *_confusions(evaluation),
        ]
    else:
        lines.append(f"{name}: no row with a truth value in {evaluation.truth_column} was tagged, nothing to evaluate")
    if evaluation.error_rows:
        lines.append(f"  labelled rows with errors, not in these figures: {evaluation.error_rows}")
    if evaluation.unknown_rows:
        shown = ", ".join(f"{rows} {value}" for value, rows in list(evaluation.unknown_truth.items())[:UNKNOWN_SHOWN])
        more = len(evaluation.unknown_truth) - UNKNOWN_SHOWN
        lines.append(
            f"  rows whose truth value is no label, not in these figures: {evaluation.unknown_rows} "
            f"({shown}{f' and {more} more values' if more > 0 else ''})"
        )
    return "\n".join(lines)


def _by_source(evaluation: AttributeEvaluation) -> list[str]:
    if len(evaluation.by_source) < 2:
        return []
    return [
        f"  decided by {source}: {values['labelled_rows']} rows, accuracy {values['accuracy']:.1%}"
        for source, values in evaluation.by_source.items()
    ]


def _per_class(evaluation: AttributeEvaluation) -> list[str]:
    width = max(map(len, evaluation.per_class))
    lines = [f"  {'':{width}}  precision  recall     F1  support"]
    lines += [
        f"  {label:{width}}  {row['precision']:9.3f}  {row['recall']:6.3f}  {row['f1']:5.3f}  {row['support']:7.0f}"
        for label, row in evaluation.per_class.items()
    ]
    return lines


def _confusions(evaluation: AttributeEvaluation) -> list[str]:
    """The confusion matrix where it fits, else the ten commonest confusions."""
    labels, matrix = evaluation.labels, evaluation.confusion_matrix
    if len(labels) <= MAX_MATRIX:
        shown = [index for index, label in enumerate(labels) if label in evaluation.per_class]
        width, cell = max(len(labels[index]) for index in shown), max(len(str(n)) for row in matrix for n in row)
        cell = max(cell, len(str(len(shown))), 3)
        lines = ["  confusion matrix (rows: truth, columns: tags, in the same order)"]
        lines.append(f"  {'':{width}}  " + " ".join(f"{number + 1:{cell}}" for number in range(len(shown))))
        for number, row in enumerate(shown):
            cells = " ".join(f"{matrix[row][column]:{cell}}" for column in shown)
            lines.append(f"  {labels[row]:{width}}  {cells}  {number + 1}")
        return lines
    pairs = sorted(
        ((rows, labels[i], labels[j]) for i, row in enumerate(matrix) for j, rows in enumerate(row) if i != j and rows),
        key=lambda pair: -pair[0],
    )
    return ["  commonest confusions"] + [f"  {truth} tagged {tag}: {rows}" for rows, truth, tag in pairs[:10]]
