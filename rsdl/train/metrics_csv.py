"""The rows of ``metrics.csv``, and the last and the best validation derived from them.

These rows are the only record of past validations, so that a resumed run and an uninterrupted one
agree on the best epoch and on when to stop.
"""

import csv
import io
from collections.abc import Sequence

Row = dict[str, float | None]
Summary = dict[str, float | int | None]

COLUMNS = (
    "epoch", "step", "samples", "time_s", "lr", "lr_min", "lr_max", "train_loss", "images_per_s",
    "data_wait_pct",
)  # fmt: skip
PREFIX = "val_"  # of the task's metrics, which have columns from the first validation on


def format_rows(rows: Sequence[Row]) -> str:
    """Return rows as CSV with a header; every number is parsed back exactly."""
    names = (name for row in rows for name in row if name.startswith(PREFIX))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [*COLUMNS, *dict.fromkeys(names)], lineterminator="\n",
                            extrasaction="ignore")  # fmt: skip
    writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    return stream.getvalue()


def parse_rows(text: str) -> list[Row]:
    """Return the rows of a CSV that :func:`format_rows` wrote."""
    return [
        {name: float(value) if value else None for name, value in line.items()}
        for line in csv.DictReader(io.StringIO(text))
    ]


def is_validation(row: Row) -> bool:
    """Return whether a row is of a validation rather than of training steps."""
    return row.get("train_loss") is None


def rows_before(rows: Sequence[Row], step: int, *, validated: bool) -> list[Row]:
    """Return the rows up to an optimizer step.

    Args:
        rows: All rows.
        step: Optimizer steps made.
        validated: Whether to include a validation at this same step.
    """

    def is_behind(row: Row) -> bool:
        at = int(row["step"] or 0)
        return at < step or (at == step and (validated or not is_validation(row)))

    return [row for row in rows if is_behind(row)]


def summarize_validations(rows: Sequence[Row], monitor: str) -> dict[str, Summary]:
    """Return the metrics of the last and of the best validation as ``final`` and ``best``.

    Args:
        rows: All rows.
        monitor: Metric to maximize; the first of equal values is the best.
    """
    found = [row for row in rows if is_validation(row)]
    if not found:
        return {}
    best = max(found, key=lambda row: row.get(PREFIX + monitor) or 0.0)
    return {"final": _summary(found[-1]), "best": _summary(best)}


def is_best(rows: Sequence[Row], monitor: str) -> bool:
    """Return whether the last validation is the best; the first of equal values is."""
    found = [row for row in rows if is_validation(row)]
    return max(found, key=lambda row: row.get(PREFIX + monitor) or 0.0) is found[-1]


def has_stalled(rows: Sequence[Row], monitor: str, patience: int | None) -> bool:
    """Return whether none of the last ``patience`` validations beat the ones before."""
    scores = [row.get(PREFIX + monitor) or 0.0 for row in rows if is_validation(row)]
    if patience is None or len(scores) <= patience:
        return False
    return max(scores[-patience:]) <= max(scores[:-patience])


def _summary(row: Row) -> Summary:
    values = {
        name.removeprefix(PREFIX): value for name, value in row.items() if name.startswith(PREFIX)
    }
    return {"epoch": int(row["epoch"] or 0), **values}


def _cell(value: float | None) -> str:
    if value is None or value != value:
        return ""
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(value)
