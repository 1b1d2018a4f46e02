"""Shared by all benchmarks: interleaving, medians, paired ratios, tables.

A machine is never idle, and its noise changes slowly: measurements are therefore interleaved, round
by round, and a ratio is the median over rounds of (theirs / ours) in the same round. A result is
one plain dict, printed as a table and written as JSON; ``results.py`` renders them to RESULTS.md.
Only the standard library is needed: peers in other environments import this too.

A benchmark is a file with three functions, run from the checkout as ``python -m benchmarks.NAME``:

    def add_arguments(parser): ...          # its own options, beside the common ones
    def run(options) -> dict: ...           # measures; returns build_result(...)
    def main(): run_benchmark(__doc__, add_arguments, run)
"""

import argparse
import json
import os
import shlex
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.harness.machine import count_cores, describe_machine, describe_versions
from benchmarks.harness.tables import print_result

ROUNDS = 5
MAX_LOAD = 0.5  # load average per core, of the last minute, up to which a result is kept


@dataclass(frozen=True, slots=True)
class Ratio:
    """Ratio of two rows over the rounds of both.

    Attributes:
        median: Median over rounds of the ratio within the round.
        low: The smallest ratio.
        high: The largest ratio.
    """

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Row:
    """One line in a table.

    Attributes:
        name: Name of the measurement.
        values: One value per round, in the table's unit; empty where it could not be measured.
        note: Remark; where ``values`` is empty, the reason and how to install what is missing.
        facts: Further values by column heading, each with its unit in the heading.
    """

    name: str
    values: Sequence[float] = ()
    note: str = ""
    facts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Target:
    """A regression threshold: a value that was reached, and is to be reached again.

    Attributes:
        text: The value in words.
        value: The measured value.
        bound: The threshold.
        at_least: Whether ``value`` must reach ``bound``, rather than stay at or below it.
    """

    text: str
    value: float
    bound: float
    at_least: bool = True

    @property
    def met(self) -> bool:
        """Whether the value is on its side of the threshold."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound


@dataclass(frozen=True, slots=True)
class Table:
    """A comparison.

    Attributes:
        title: The task.
        unit: Unit of the rows' values.
        reference: Name of the row that the others are compared with.
        rows: What is compared, in the order to print.
        targets: Regression thresholds for these values.
    """

    title: str
    unit: str
    reference: str
    rows: Sequence[Row]
    targets: Sequence[Target] = ()

    def row(self, name: str) -> Row:
        """Return a row by name."""
        return next(row for row in self.rows if row.name == name)

    def ratio(self, name: str, to: str | None = None) -> Ratio | None:
        """Return row ``name`` over row ``to`` (the reference), or ``None`` where one is empty."""
        return pair_ratio(self.row(name).values, self.row(to or self.reference).values)


def interleave(
    runs: Mapping[str, Callable[[], float]], *, rounds: int = ROUNDS, warmups: int = 1
) -> dict[str, list[float]]:
    """Measure runs interleaved, round by round; return the values of each, one per round.

    Every other round is in reverse order, so that none always follows the same one.

    Args:
        runs: Name -> function that returns one value.
        rounds: Rounds that count.
        warmups: Rounds before those, which do not count.
    """
    values: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(-warmups, rounds):
        names = list(runs) if number % 2 == 0 else list(runs)[::-1]
        for name in names:
            show_progress(
                f"round {number + 1} of {rounds}: {name}" if number >= 0 else f"warm-up: {name}"
            )
            value = runs[name]()
            if number >= 0:
                values[name].append(value)
    return values


def show_progress(text: str) -> None:
    """Show the current measurement on a terminal; an empty text clears it.

    Called before a turn, never during it: a moving bar would take time from the measurement.
    """
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


def pair_ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio | None:
    """Return ours over theirs per round; ``None`` where a value is missing or zero."""
    if not ours or len(ours) != len(theirs) or not all(theirs):
        return None
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def build_result(
    benchmark: str,
    title: str,
    tables: Sequence[Table],
    *,
    options: Mapping[str, Any],
    versions: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return a result as plain values, ready for JSON.

    Args:
        benchmark: Name of the result file, without suffix.
        title: The measurement, in one line.
        tables: The tables.
        options: The benchmark's options.
        versions: Versions of all that took part; ``None`` uses those of this process.
    """
    arguments = [portable(part) for part in sys.argv[1:]]
    return {
        "benchmark": benchmark,
        "title": title,
        "command": shlex.join(["python", "-m", _module(benchmark), *arguments]),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": describe_machine(),
        "versions": dict(describe_versions() if versions is None else versions),
        "options": {key: _plain(value) for key, value in options.items() if key != "json"},
        "tables": [table_to_dict(table) for table in tables],
    }


def _module(benchmark: str) -> str:
    """Return the running module, as for ``python -m``."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    name = spec.name if spec is not None else ""
    return name if name.startswith("benchmarks.") else f"benchmarks.{benchmark}"


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever argparse made of it
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, int | float | bool | None):
        return value
    return portable(str(value))


def portable(text: str) -> str:
    """Return an argument without this machine's folders: results are read elsewhere.

    Keeps only the name of an absolute path, and for a Python also that of its environment.
    """
    option, equals, value = text.partition("=") if text.startswith("--") else ("", "", text)
    path = Path(value)
    if not path.is_absolute():
        return text
    kept = path.parts[-3:] if path.parent.name == "bin" else path.parts[-1:]
    return f"{option}{equals}{'/'.join(kept)}"


def table_to_dict(table: Table) -> dict[str, Any]:
    """Return a table as plain values, including medians and ratios."""
    rows = []
    for row in table.rows:
        ratio = table.ratio(row.name)
        rows.append(
            {
                "name": row.name,
                "values": list(row.values),
                "median": statistics.median(row.values) if row.values else None,
                "ratio": asdict(ratio) if ratio is not None else None,
                "note": row.note,
                "facts": dict(row.facts),
            }
        )
    return {
        "title": table.title,
        "unit": table.unit,
        "reference": table.reference,
        "rows": rows,
        "targets": [asdict(target) | {"met": target.met} for target in table.targets],
    }


def write_result(result: Mapping[str, Any], path: Path) -> None:
    """Write a result as JSON, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(result, indent=1) + "\n")
    part.replace(path)


def explain_load() -> str | None:
    """Return why other load would distort values measured now; ``None`` on an idle machine."""
    cores = count_cores()
    load = os.getloadavg()[0] / cores
    if load <= MAX_LOAD:
        return None
    return f"the load is {load:.2f} on each of {cores} cores, {MAX_LOAD} are allowed"


def run_benchmark(
    doc: str | None,
    add_arguments: Callable[[argparse.ArgumentParser], None],
    run: Callable[[argparse.Namespace], dict[str, Any]],
) -> None:
    """Parse the options of a benchmark, run it, print its tables and write its JSON.

    Every benchmark takes ``--rounds``, ``--quick`` and ``--json`` beside its own.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, help="rounds that count (%(default)s)"
    )
    parser.add_argument("--quick", action="store_true", help="less of everything, for a first look")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there too")
    add_arguments(parser)
    options = parser.parse_args()
    if options.json is not None and (reason := explain_load()) is not None:
        parser.error(f"--json: {reason}; wait, or leave it out")
    result = run(options)
    show_progress("")
    print_result(result)
    if options.json is not None:
        write_result(result, options.json)
        print(f"\nwritten to {options.json}")
