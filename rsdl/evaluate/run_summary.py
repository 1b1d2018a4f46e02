"""Summary of a run record as labelled facts; keys that old or unfinished runs lack are allowed."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rsdl.evaluate import formatting as formatting
from rsdl.evaluate.formatting import DASH, number
from rsdl.records.evaluation import Evaluation

Run = Mapping[str, Any]
STATUSES = ("running", "completed", "preempted", "failed")


@dataclass(frozen=True, slots=True)
class Group:
    """A titled group of (label, text) rows."""

    title: str
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Headline:
    """The main metrics of a run, and the split that they were measured on.

    Attributes:
        basis: Name of the split; ``None`` if the run was not evaluated.
        note: Description of the measurement, for the reader.
        metrics: Values by name.
    """

    basis: str | None
    note: str
    metrics: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LedgerTotal:
    """Sums of the ledger of one split over all epochs."""

    split: str
    epochs: int
    planned: int
    delivered: int
    padded: int
    skipped: int
    balanced: bool


def headline(run: Run, evaluation: Evaluation | None) -> Headline:
    """Return the evaluation's metrics, else those of the run's best or last validation."""
    if evaluation is not None:
        return Headline(evaluation.split, f"{evaluation.split} split", evaluation.metrics)
    metrics = mapping(run.get("metrics"))
    best, final = mapping(metrics.get("best")), mapping(metrics.get("final"))
    if number(best.get("oa")) is not None:
        epoch = number(best.get("epoch"))
        note = "best validation" + (f", epoch {epoch:.0f}" if epoch is not None else "")
        return Headline("val", note, best)
    if number(final.get("oa")) is not None:
        return Headline("val", "last validation", final)
    return Headline(None, "not evaluated yet", {})


def status_of(run: Run) -> str:
    """Return the run's status, or ``unknown`` if rsdl has no such status."""
    status = run.get("status")
    return status if status in STATUSES else "unknown"


def ledger_of(run: Run) -> list[Mapping[str, Any]]:
    """Return the ledger's rows."""
    rows = run.get("ledger")
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []


def ledger_totals(run: Run) -> list[LedgerTotal]:
    """Return the ledger summed over epochs, one row for each split in order of appearance."""
    rows = ledger_of(run)
    totals = []
    for split in dict.fromkeys(formatting.text(row.get("split")) for row in rows):
        mine = [row for row in rows if formatting.text(row.get("split")) == split]
        totals.append(
            LedgerTotal(
                split=split,
                epochs=len(mine),
                planned=_total(mine, "planned"),
                delivered=_total(mine, "delivered"),
                padded=_total(mine, "padded"),
                skipped=_total(mine, "skipped"),
                balanced=all(row.get("balanced") is True for row in mine),
            )
        )
    return totals


def epochs(run: Run) -> str:
    """Return the epochs completed, as ``30`` or ``12 of 30``."""
    done, planned = (
        formatting.count(run.get("epochs_completed")),
        formatting.count(run.get("epochs_planned")),
    )
    return done if planned in (done, DASH) else f"{done} of {planned}"


def device(run: Run) -> str:
    """Return the number and name of the devices, as ``4 x NVIDIA A100``."""
    name, num_devices = formatting.text(run.get("device_name")), number(run.get("device_count"))
    return f"{num_devices:.0f} × {name}" if num_devices and num_devices > 1 else name  # noqa: RUF001


def run_facts(run: Run) -> list[Group]:
    """Return the whole record in groups; keys unknown to this version come last."""
    groups = [
        Group(title, tuple((label, word(run.get(key))) for label, key, word in fields))
        for title, fields in _FIELDS.items()
    ]
    environment = mapping(run.get("environment"))
    if environment:
        rows = tuple((str(key), formatting.text(value)) for key, value in environment.items())
        groups.append(Group("Environment", rows))
    known = {key for fields in _FIELDS.values() for _, key, _ in fields} | _ELSEWHERE
    rest = tuple((str(key), _any(value)) for key, value in run.items() if key not in known)
    return [*groups, Group("Other", rest)] if rest else groups


def mapping(value: object) -> Mapping[str, Any]:
    """Return ``value`` if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def _total(rows: Sequence[Mapping[str, Any]], key: str) -> int:
    return round(sum(number(row.get(key)) or 0 for row in rows))


def _any(value: object) -> str:
    return (
        json.dumps(value, default=str) if isinstance(value, dict | list) else formatting.text(value)
    )


def _count_or_list(value: object) -> str:
    return formatting.count(value) if number(value) is not None else formatting.text(value)


def _side(value: object) -> str:
    return f"{formatting.text(value)} px" if number(value) is not None else formatting.text(value)


def _devices(value: object) -> str:
    """Return hours, peak memory and metered energy of each type of device."""
    lines = []
    for name, use in mapping(value).items():
        found = mapping(use)
        parts = [formatting.hours(found.get("device_s"))]
        if number(found.get("memory_bytes")):
            parts.append(f"{formatting.size(found['memory_bytes'])} of memory")
        if number(found.get("metered_s")):
            parts.append(f"{formatting.energy(found.get('energy_j'))} metered")
        lines.append(f"{name}: {', '.join(parts)}")
    return "; ".join(lines) or DASH


_Field = tuple[str, str, Callable[[object], str]]
_ELSEWHERE = {"format", "name", "metrics", "ledger", "environment"}
_FIELDS: Mapping[str, Sequence[_Field]] = {
    "Network": (
        ("Architecture", "architecture", formatting.text),
        ("timm model", "timm_model", formatting.text),
        ("Parameters", "parameters", formatting.count),
    ),
    "Data": (
        ("Data set", "dataset", formatting.text),
        ("Classes", "num_classes", formatting.count),
        ("Bands", "bands", _count_or_list),
        ("Image side", "image_size", _side),
        ("Manifest digest", "manifest_digest", formatting.text),
    ),
    "Training": (
        ("Status", "status", formatting.text),
        ("Reason", "reason", formatting.text),
        ("Epochs completed", "epochs_completed", formatting.count),
        ("Epochs planned", "epochs_planned", formatting.count),
        ("Optimizer steps", "optimizer_steps", formatting.count),
        ("Global batch", "global_batch", formatting.count),
        ("Seed", "seed", formatting.text),
        ("Samples read", "samples_read", formatting.count),
        ("Imagery read, encoded", "bytes_encoded", formatting.size),
        ("Imagery read, decoded", "bytes_decoded", formatting.size),
    ),
    "Machine": (
        ("Device", "device_name", formatting.text),
        ("Devices", "device_count", formatting.count),
        ("Wall-clock", "wall_s", formatting.duration),
        ("Device time", "device_s", formatting.duration),
        ("Waited for data", "data_wait_s", formatting.duration),
        ("GPU utilization", "gpu_utilization", formatting.percent),
        ("By device", "devices", _devices),
        ("Preemptions", "preemptions", formatting.count),
        ("Resumes", "resumes", formatting.count),
    ),
    "Origin": (
        ("rsdl version", "rsdl_version", formatting.text),
        ("Git revision", "git_revision", formatting.text),
        ("Config digest", "config_digest", formatting.text),
        ("Started", "started_at", formatting.moment),
        ("Updated", "updated_at", formatting.moment),
    ),
}
