"""The status table of a study as text: coloured on a terminal, plain aligned columns if piped."""

from collections import Counter
from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from rsdl.cluster.nautilus import MIN_GPU_USE
from rsdl.commands.runs import EXTENDED
from rsdl.commands.sweep.rows import NONE, UNKNOWN, Row
from rsdl.config.task import metric_label
from rsdl.evaluate.formatting import duration
from rsdl.records.device_use import weighted_mean

DASH = "-"
LEFT_ALIGNED = 3  # number of text columns, which come first; the others are numbers
COLOURS = {
    "running": "green", "succeeded": "cyan", "completed": "cyan", "failed": "bold red",
    "broken": "bold red", "stale": "yellow", "pending": "yellow", "restarting": "yellow",
    "preempted": "yellow", "extended": "yellow", "ending": "yellow", "suspended": "magenta",
}  # fmt: skip


def print_table(rows: Sequence[Row], console: Console) -> None:
    """Print the table of a study, its totals, and the notes of single runs."""
    cells = [to_cells(row) for row in rows]
    totals = ("all", *sum_cells(rows))
    if console.is_terminal:
        console.print(_rich_table(headings(rows), cells, totals))
    else:
        for line in plain_lines([headings(rows), *cells, totals]):
            console.print(line, markup=False)
    console.print(sum_up(rows), markup=False)
    for row in rows:
        if row.note:
            console.print(f"{row.run}: {row.note}", markup=False)
    idle = [
        row.run
        for row in rows
        if row.gpu_by_cluster is not None and row.gpu_by_cluster <= MIN_GPU_USE
    ]
    if idle:
        limit = f"{MIN_GPU_USE:.0%} or less busy by the cluster, which counts against you"
        console.print(f"{', '.join(idle)}: {limit}", markup=False)


def headings(rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the headings of the table."""
    metric = metric_label(row.facts for row in rows)
    return ("run", "cluster", "record", "epoch", "left", f"{metric}(val)", "preempted", "GPU")


def to_cells(row: Row) -> tuple[str, ...]:
    """Return a row as text, one cell for each heading."""
    planned = row.epochs_planned
    return (
        row.run,
        DASH if row.cluster == UNKNOWN else row.cluster,
        DASH if row.status == NONE else row.status,
        DASH if planned is None else f"{row.epochs}/{planned}",
        DASH if row.eta_s is None else _span(row.eta_s),
        DASH if row.score is None else f"{100 * row.score:.2f}%",
        str(row.preemptions) if row.preemptions or planned is not None else DASH,
        _name_use(row),
    )


def _name_use(row: Row) -> str:
    """Return the GPU utilization from the record and, in brackets, from the cluster."""
    record = DASH if row.gpu is None else f"{100 * row.gpu:.0f}%"
    return record if row.gpu_by_cluster is None else f"{record} ({100 * row.gpu_by_cluster:.0f}%)"


def sum_cells(rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the totals: sums of epochs, time left and preemptions; means of score and GPU use."""
    planned = sum(row.epochs_planned or 0 for row in rows)
    left = [row.eta_s for row in rows if row.eta_s is not None]
    scores = [row.score for row in rows if row.score is not None]
    if len({row.facts.primary_metric for row in rows}) > 1:
        scores = []  # a mean over different metrics means nothing
    busy = weighted_mean((row.gpu, row.device_s) for row in rows)
    return (
        "",
        "",
        f"{sum(row.epochs for row in rows)}/{planned}" if planned else DASH,
        _span(sum(left)) if left else DASH,
        f"{100 * sum(scores) / len(scores):.2f}%" if scores else DASH,
        str(sum(row.preemptions for row in rows)),
        DASH if busy is None else f"{100 * busy:.0f}%",
    )


def count_states(rows: Sequence[Row]) -> dict[str, int]:
    """Return the number of runs by overall state; every run is counted once."""
    return Counter(map(overall, rows))


def overall(row: Row) -> str:
    """Return the overall state of a run; a completed run is completed whatever its Job's phase."""
    if row.status == "completed" or (row.cluster == "succeeded" and row.status != EXTENDED):
        return "completed"
    if row.cluster in ("absent", "succeeded", UNKNOWN):
        return "to go" if row.status == NONE else row.status
    return row.cluster


def sum_up(rows: Sequence[Row]) -> str:
    """Return a one-line summary of the study."""
    counts = count_states(rows)
    states = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    hours = sum(row.device_s for row in rows) / 3600
    return f"{len(rows)} runs: {states or 'none yet'}; {hours:,.1f} device-hours so far"


def _span(seconds: float) -> str:
    """Return a time as one word, since programs split the table at blanks: ``3h5min``."""
    return duration(seconds).replace(" ", "") if seconds else "0s"


def plain_lines(lines: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield lines with aligned columns, separated by two spaces."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [
            cell.ljust(width) if at < LEFT_ALIGNED else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def _rich_table(
    heads: Sequence[str], cells: Sequence[Sequence[str]], totals: Sequence[str]
) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for at, heading in enumerate(heads):
        table.add_column(heading, justify="left" if at < LEFT_ALIGNED else "right", no_wrap=True)
    for row in cells:
        table.add_row(*(_paint(cell) for cell in row))
    table.add_section()
    table.add_row(*totals, style="bold")
    return table


def _paint(cell: str) -> str:
    colour = COLOURS.get(cell)
    return cell if colour is None else f"[{colour}]{cell}[/]"
