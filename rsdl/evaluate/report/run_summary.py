"""Parts of a run's report that do not depend on its task, and what a task adds to them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rsdl.core.image_size import show_size
from rsdl.evaluate import formatting
from rsdl.evaluate.compared_run import ComparedRun
from rsdl.evaluate.figures.curves import Curves
from rsdl.evaluate.formatting import compact, count, duration, hours, moment, percent, size, text
from rsdl.records.device_use import DeviceUse
from rsdl.records.evaluation_base import Evaluation
from rsdl.records.run_record import RunRecord, World

MOST_WORLDS = 8  # listed; a run on preemptible devices may have hundreds


@dataclass(frozen=True, slots=True)
class Tile:
    """One number of the summary, shown as a tile."""

    label: str
    value: str
    note: str = ""


Column = tuple[str, str, Callable[[float | None], str]]


@dataclass(frozen=True, slots=True)
class TaskReport:
    """What a task adds to the report of a run, and to the tables of a study.

    Attributes:
        template: Template of the page, which extends ``report.html.jinja``.
        metrics: Metrics in the CSV of a study, by name.
        columns: Metrics beside the primary one in a study's table of runs: name, heading, format.
        curves: Plots of validation metrics.
        tiles: Returns the metrics of a run as tiles, the primary one first.
        verdict: Returns an evaluation with samples in a few sentences.
        sections: Returns the variables of the template for an evaluation.
    """

    template: str
    metrics: Sequence[str]
    columns: Sequence[Column]
    curves: Sequence[Curves]
    tiles: Callable[[ComparedRun], list[Tile]]
    verdict: Callable[[Any], str]  # of the task's own Evaluation
    sections: Callable[[Any], Mapping[str, object]]


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


def ledger_totals(run: RunRecord) -> list[LedgerTotal]:
    """Return the ledger summed over epochs, one row for each split in order of appearance."""
    totals = []
    for split in dict.fromkeys(row.split for row in run.ledger):
        mine = [row for row in run.ledger if row.split == split]
        totals.append(
            LedgerTotal(
                split=split,
                epochs=len(mine),
                planned=sum(row.planned for row in mine),
                delivered=sum(row.delivered for row in mine),
                padded=sum(row.padded for row in mine),
                skipped=sum(row.skipped for row in mine),
                balanced=all(row.balanced for row in mine),
            )
        )
    return totals


def effort(run: RunRecord) -> list[Tile]:
    """Return what a run read and took, as tiles."""
    read = f"{size(run.bytes_encoded)} stored, {size(run.bytes_decoded)} of pixels"
    waited = f"{percent(run.data_wait_s / run.wall_s)} waiting for data" if run.wall_s else ""
    return [
        Tile("Images read", compact(run.samples_read), read),
        Tile("Epochs", epochs(run), f"{count(run.optimizer_steps)} steps"),
        Tile("Wall-clock", duration(run.wall_s), waited),
        Tile("Parameters", compact(run.parameters), text(run.timm_model)),
    ]


def images(evaluation: Evaluation | None) -> Tile:
    """Return the number of images that were evaluated, as a tile."""
    if evaluation is None:
        return Tile("Images evaluated", formatting.DASH)
    skipped = evaluation.num_skipped
    note = f"{skipped:,} more could not be decoded" if skipped else "none skipped"
    return Tile(f"Images evaluated ({evaluation.split})", f"{evaluation.num_samples:,}", note)


def epochs(run: RunRecord) -> str:
    """Return the epochs completed, as ``30`` or ``12 of 30``."""
    done, planned = count(run.epochs_completed), count(run.epochs_planned)
    return done if planned == done else f"{done} of {planned}"


def device(run: RunRecord) -> str:
    """Return the number and name of the devices, as ``4 x NVIDIA A100``."""
    name = text(run.device_name)
    return f"{run.device_count} × {name}" if run.device_count > 1 else name  # noqa: RUF001


def run_facts(run: RunRecord) -> dict[str, dict[str, str]]:
    """Return the facts of a record by group and label."""
    groups = {
        "Network": {
            "Architecture": text(run.architecture),
            "timm model": text(run.timm_model),
            "Parameters": count(run.parameters),
        },
        "Data": {
            "Data set": text(run.dataset),
            "Classes": count(run.num_classes),
            "Bands": count(run.bands),
            "Image size": f"{show_size(run.image_size)} px",
            "Manifest digest": text(run.manifest_digest),
        },
        "Training": {
            "Status": run.status,
            "Reason": text(run.reason),
            "Epochs completed": count(run.epochs_completed),
            "Epochs planned": count(run.epochs_planned),
            "Optimizer steps": count(run.optimizer_steps),
            "Global batch": count(run.global_batch),
            "Seed": str(run.seed),
            "Fold": text(run.fold),
            "Samples read": count(run.samples_read),
            "Imagery read, encoded": size(run.bytes_encoded),
            "Imagery read, decoded": size(run.bytes_decoded),
        },
        "Machine": {
            "Device": text(run.device_name),
            "Devices": count(run.device_count),
            "Wall-clock": duration(run.wall_s),
            "Device time": duration(run.device_s),
            "Waited for data": duration(run.data_wait_s),
            "GPU utilization": percent(run.gpu_utilization),
            "By device": _devices(run.devices),
            "Preemptions": count(run.preemptions),
            "Resumes": count(run.resumes),
            "World sizes": _worlds(run.worlds),
        },
        "Origin": {
            "rsdl version": text(run.rsdl_version),
            "Git revision": text(run.git_revision),
            "Config digest": text(run.config_digest),
            "Started": moment(run.started_at),
            "Updated": moment(run.updated_at),
        },
    }
    return groups | ({"Environment": run.environment} if run.environment else {})


def _worlds(worlds: Sequence[World]) -> str:
    """Return on how many devices a run trained from which step, and what the changes cost."""
    parts = [f"{count(world.world_size)} from step {world.step:,}" for world in worlds]
    if len(worlds) < 2:
        return ", ".join(parts) or formatting.DASH
    shown = ", ".join([*["..."] * (len(parts) > MOST_WORLDS), *parts[-MOST_WORLDS:]])
    idle_s = sum(world.idle_s for world in worlds)
    redone = sum(world.samples_redone for world in worlds)
    return f"{shown}; {duration(idle_s)} without a step, {redone:,} samples trained on again"


def _devices(uses: Mapping[str, DeviceUse]) -> str:
    """Return hours, peak memory and metered energy of each type of device."""
    lines = []
    for name, use in uses.items():
        parts = [hours(use.device_s)]
        if use.memory_bytes:
            parts.append(f"{size(use.memory_bytes)} of memory")
        if use.metered_s:
            parts.append(f"{formatting.energy(use.energy_j)} metered")
        lines.append(f"{name}: {', '.join(parts)}")
    return "; ".join(lines) or formatting.DASH
