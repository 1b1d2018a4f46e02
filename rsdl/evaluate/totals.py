"""Totals of a study: sums over run records only.

Costs (time, imagery, energy) count for every run, completed or not. Only a completed run counts as
a trained model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import fsum

from rsdl.evaluate import formatting
from rsdl.evaluate.energy import Use, is_gpu, uses_of
from rsdl.records.device_use import mean_utilization
from rsdl.records.run_record import RunRecord

Exact = int | float


@dataclass(frozen=True, slots=True)
class Number:
    """One number of the study.

    Attributes:
        label: Label for the reader.
        value: Exact value in the record's unit; ``None`` if unknown.
        shown: Formatted value.
        note: Explanation for the reader.
    """

    label: str
    value: Exact | None
    shown: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Machine:
    """One type of device, over all runs that used it.

    Attributes:
        basis: ``measured``, ``rated`` or ``measured and rated``; empty if no energy is known.
        missing_s: Device seconds without known energy.
    """

    device: str
    num_runs: int
    device_s: float
    utilization: float | None
    memory_bytes: int | None
    energy_j: float | None
    basis: str
    missing_s: float


def numbers_of(runs: Sequence[RunRecord]) -> dict[str, Number]:
    """Return the numbers of a study, by key, in the order of the page."""
    models = [run for run in runs if run.status == "completed"]
    machines = machines_of(runs)
    rest = len(runs) - len(models)
    count, compact, size = formatting.count, formatting.compact, formatting.size
    found = {
        "models": Number(
            "Trained models", len(models), count(len(models)),
            f"{_plural(rest, 'more run')} not completed" if rest else "every run is completed",
        ),
        "architectures": _distinct("Architectures", [run.architecture for run in runs]),
        "datasets": _distinct("Data sets", [run.dataset for run in runs]),
        "parameters": _sum("Parameters", [run.parameters for run in models], compact,
                           "of all models"),
        "epochs": _sum("Epochs", [run.epochs_completed for run in runs], count),
        "iterations": _sum("Iterations", [run.optimizer_steps for run in runs], compact,
                           "optimizer steps"),
        "images": _sum("Images read", [run.samples_read for run in runs], compact, "for training"),
        "decoded": _sum("Imagery read", [run.bytes_decoded for run in runs], size, "as pixels"),
        "encoded": _sum("Imagery, encoded", [run.bytes_encoded for run in runs], size,
                        "from shards; kept pixels are not read again"),
        "wall": _sum("Wall-clock", [run.wall_s for run in runs], formatting.duration, _span(runs)),
    }  # fmt: skip
    return found | _device_time(machines) | _use(runs) | _energy(machines) | _stops(runs)


def machines_of(runs: Sequence[RunRecord]) -> list[Machine]:
    """Return the types of device that runs used, most device seconds first."""
    by_name: dict[str, list[Use]] = {}
    for run in runs:
        for use in uses_of(run):
            by_name.setdefault(use.device, []).append(use)
    machines = [_machine(name, uses) for name, uses in by_name.items()]
    return sorted(machines, key=lambda machine: -machine.device_s)


def sum_exactly(values: Sequence[Exact]) -> Exact:
    """Return the sum: an integer for integers, else a float that is rounded once."""
    return sum(values) if all(isinstance(value, int) for value in values) else fsum(values)


def _machine(name: str, uses: Sequence[Use]) -> Machine:
    known = [use for use in uses if use.energy_j is not None]
    peaks = [use.meters.memory_bytes for use in uses if use.meters.memory_bytes is not None]
    return Machine(
        device=name,
        num_runs=len(uses),
        device_s=fsum(use.meters.device_s for use in uses),
        utilization=mean_utilization(use.meters for use in uses),
        memory_bytes=max(peaks, default=None),
        energy_j=fsum(use.energy_j or 0.0 for use in known) if known else None,
        basis=" and ".join(sorted({str(use.basis) for use in known})),
        missing_s=fsum(use.meters.device_s for use in uses if use.energy_j is None),
    )


def _sum(
    label: str, values: Sequence[Exact], word: Callable[[Exact], str], note: str = ""
) -> Number:
    if not values:
        return Number(label, None, formatting.DASH, note)
    total = sum_exactly(values)
    return Number(label, total, word(total), note)


def _distinct(label: str, names: Sequence[str]) -> Number:
    return Number(label, len(set(names)), formatting.count(len(set(names))))


def _device_time(machines: Sequence[Machine]) -> dict[str, Number]:
    cards = [m for m in machines if is_gpu(m.device)]
    counted = cards or machines
    seconds = fsum(m.device_s for m in counted)
    label = "GPU-hours" if cards else "Device hours"
    others = fsum(m.device_s for m in machines if m not in counted)
    notes = [_plural(len(cards), "type") + " of GPU"] if cards else ["on CPUs"] if machines else []
    notes += [f"{formatting.hours(others)} more on CPUs"] if others else []
    shown = formatting.hours(seconds) if counted else formatting.DASH
    return {"device": Number(label, seconds if counted else None, shown, ", ".join(notes))}


def _use(runs: Sequence[RunRecord]) -> dict[str, Number]:
    """Return the mean GPU utilization over all readings of all runs."""
    meters = [use.meters for run in runs for use in uses_of(run)]
    mean = mean_utilization(meters)
    readings = sum(use.readings for use in meters if use.utilization is not None)
    note = f"mean of {readings:,} readings" if readings else "none was sampled"
    return {"use": Number("GPU use", mean, formatting.percent(mean), note)}


def _energy(machines: Sequence[Machine]) -> dict[str, Number]:
    known = [m for m in machines if m.energy_j is not None]
    missing = [m for m in machines if m.missing_s]
    left_out = "; not known for " + ", ".join(m.device for m in missing) if missing else ""
    if not known:
        note = left_out.removeprefix("; ")
        return {"energy": Number("Energy", None, formatting.DASH, note)}
    joules = fsum(m.energy_j or 0.0 for m in known)
    basis = {part for m in known for part in m.basis.split(" and ")}
    said = {"measured": "from measured power", "rated": "from rated power, an upper bound"}
    note = said[next(iter(basis))] if len(basis) == 1 else "power measured, else as rated"
    return {"energy": Number("Energy", joules, formatting.energy(joules), note + left_out)}


def _stops(runs: Sequence[RunRecord]) -> dict[str, Number]:
    hit = [run for run in runs if run.preemptions]
    ended = sum(run.status == "completed" for run in hit)
    note = f"in {_plural(len(hit), 'run')}, {ended} of them completed" if hit else ""
    count, again = formatting.count, "after preemptions and kills"
    return {
        "preemptions": _sum("Preemptions", [run.preemptions for run in runs], count, note),
        "resumes": _sum("Resumes", [run.resumes for run in runs], count, again),
    }


def _span(runs: Sequence[RunRecord]) -> str:
    """Return a note with the time from the first start to the last update of the study's runs."""
    times = []
    for run in runs:
        try:
            begin = datetime.fromisoformat(run.started_at)
            end = datetime.fromisoformat(run.updated_at)
        except ValueError:
            continue
        if begin.tzinfo and end.tzinfo:
            times.append((begin, end))
    if not times:
        return "all runs together"
    seconds = (max(end for _, end in times) - min(begin for begin, _ in times)).total_seconds()
    return f"all runs together; first start to last end {formatting.duration(seconds)}"


def _plural(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def energy_of(run: RunRecord) -> tuple[float | None, str]:
    """Return the joules of one run and their basis; ``None`` if a part is unknown."""
    uses = uses_of(run)
    if not uses or any(use.energy_j is None for use in uses):
        return None, ""
    basis = " and ".join(sorted({str(use.basis) for use in uses}))
    return fsum(use.energy_j or 0.0 for use in uses), basis
