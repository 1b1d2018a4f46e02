"""Totals of a study: sums over run records only.

Costs (time, imagery, energy) count for every run, completed or not. Only a completed run counts as
a trained model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import fsum

from rsdl.evaluate import formatting as formatting
from rsdl.evaluate.energy import Use, is_gpu, uses_of
from rsdl.evaluate.study_rows import StudyRow

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


def numbers_of(rows: Sequence[StudyRow]) -> dict[str, Number]:
    """Return the numbers of a study, by key, in the order of the page."""
    models = [s for s in rows if s.status == "completed"]
    machines = machines_of(rows)
    rest = len(rows) - len(models)
    found = {
        "models": Number(
            "Trained models", len(models), formatting.count(len(models)),
            f"{_plural(rest, 'more run')} not completed" if rest else "every run is completed",
        ),
        "architectures": _distinct("Architectures", [s.architecture for s in rows]),
        "datasets": _distinct("Data sets", [s.dataset for s in rows]),
        "parameters": _sum("Parameters", models, "parameters", formatting.compact, "of all models"),
        "epochs": _sum("Epochs", rows, "epochs_completed", formatting.count),
        "iterations": _sum("Iterations", rows, "optimizer_steps", formatting.compact,
                           "optimizer steps"),
        "images": _sum("Images read", rows, "samples_read", formatting.compact, "for training"),
        "decoded": _sum("Imagery read", rows, "bytes_decoded", formatting.size, "as pixels"),
        "encoded": _sum("Imagery, encoded", rows, "bytes_encoded", formatting.size,
                        "from shards; kept pixels are not read again"),
        "wall": _sum("Wall-clock", rows, "wall_s", formatting.duration, _span(rows)),
    }  # fmt: skip
    return found | _device_time(machines) | _use(rows) | _energy(machines) | _stops(rows)


def machines_of(rows: Sequence[StudyRow]) -> list[Machine]:
    """Return the types of device that runs used, most device seconds first."""
    by_name: dict[str, list[Use]] = {}
    for row in rows:
        for use in uses_of(row.entry.run):
            by_name.setdefault(use.device, []).append(use)
    machines = [_machine(name, uses) for name, uses in by_name.items()]
    return sorted(machines, key=lambda machine: -machine.device_s)


def sum_exactly(values: Sequence[Exact]) -> Exact:
    """Return the sum: an integer for integers, else a float that is rounded once."""
    return sum(values) if all(isinstance(value, int) for value in values) else fsum(values)


def _machine(name: str, uses: Sequence[Use]) -> Machine:
    known = [use for use in uses if use.energy_j is not None]
    peaks = [use.memory_bytes for use in uses if use.memory_bytes is not None]
    return Machine(
        device=name,
        num_runs=len(uses),
        device_s=fsum(use.device_s for use in uses),
        utilization=_mean_use(uses)[0],
        memory_bytes=max(peaks, default=None),
        energy_j=fsum(use.energy_j or 0.0 for use in known) if known else None,
        basis=" and ".join(sorted({str(use.basis) for use in known})),
        missing_s=fsum(use.device_s for use in uses if use.energy_j is None),
    )


def _mean_use(uses: Sequence[Use]) -> tuple[float | None, int]:
    """Return the mean utilization over all readings, and their number."""
    read = [(u.utilization, u.readings) for u in uses if u.utilization is not None and u.readings]
    readings = sum(count for _, count in read)
    return fsum(share * count for share, count in read) / readings if readings else None, readings


def _sum(
    label: str,
    rows: Sequence[StudyRow],
    key: str,
    word: Callable[[object], str],
    note: str = "",
) -> Number:
    values = [s.entry.run.get(key) for s in rows]
    known = [v for v in values if isinstance(v, int | float) and formatting.number(v) is not None]
    if not known:
        return Number(label, None, formatting.DASH, note)
    total = sum_exactly(known)
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


def _use(rows: Sequence[StudyRow]) -> dict[str, Number]:
    """Return the mean GPU utilization over all readings of all runs."""
    mean, readings = _mean_use([use for s in rows for use in uses_of(s.entry.run)])
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


def _stops(rows: Sequence[StudyRow]) -> dict[str, Number]:
    hit = [s for s in rows if formatting.number(s.entry.run.get("preemptions"))]
    ended = sum(s.status == "completed" for s in hit)
    note = f"in {_plural(len(hit), 'run')}, {ended} of them completed" if hit else ""
    stops = _sum("Preemptions", rows, "preemptions", formatting.count, note)
    again = _sum("Resumes", rows, "resumes", formatting.count, "after preemptions and kills")
    return {"preemptions": stops, "resumes": again}


def _span(rows: Sequence[StudyRow]) -> str:
    """Return a note with the time from the first start to the last update of the study's runs."""
    times = []
    for row in rows:
        try:
            begin = datetime.fromisoformat(str(row.entry.run.get("started_at")))
            end = datetime.fromisoformat(str(row.entry.run.get("updated_at")))
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


def device_hours(row: StudyRow) -> float | None:
    """Return the device hours of one run."""
    seconds = formatting.number(row.entry.run.get("device_s"))
    return None if seconds is None else seconds / 3600


def energy_of(row: StudyRow) -> tuple[float | None, str]:
    """Return the joules of one run and their basis; ``None`` if a part is unknown."""
    uses = uses_of(row.entry.run)
    if not uses or any(use.energy_j is None for use in uses):
        return None, ""
    basis = " and ".join(sorted({str(use.basis) for use in uses}))
    return fsum(use.energy_j or 0.0 for use in uses), basis
