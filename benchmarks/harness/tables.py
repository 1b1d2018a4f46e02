"""Results as text: tables for the terminal and in Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any


def format_figure(value: float | None) -> str:
    """Return a number with three significant digits and thousands separators."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def format_ratio(ratio: Mapping[str, float] | None) -> str:
    """Return a ratio with its range over the rounds."""
    if ratio is None:
        return "-"
    low, middle, high = (format_figure(ratio[key]) for key in ("low", "median", "high"))
    return f"{middle} ({low} to {high})"


def table_cells(table: Mapping[str, Any]) -> list[list[str]]:
    """Return a table of a result as text, heading first: for the terminal and for RESULTS.md."""
    facts = list(dict.fromkeys(key for row in table["rows"] for key in row["facts"]))
    head = ["", f"{table['unit']}, median", f"ratio to {table['reference']} (range)", *facts, ""]
    cells = [head]
    for row in table["rows"]:
        extra = [format_figure(row["facts"].get(key)) for key in facts]
        figures = [format_figure(row["median"]), format_ratio(row["ratio"])]
        cells.append([row["name"], *figures, *extra, row["note"]])
    return cells


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table; all columns but the first are right-aligned."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return ["| " + " | ".join(line) + " |" for line in (head, rule, *rows)]


def target_line(target: Mapping[str, Any]) -> str:
    """Return a target, the measured value, and whether it is met."""
    sign = ">=" if target["at_least"] else "<="
    verdict = "met" if target["met"] else "MISSED"
    figures = f"{format_figure(target['value'])} {sign} {format_figure(target['bound'])}"
    return f"{verdict}: {target['text']}: {figures}"


def print_result(result: Mapping[str, Any]) -> None:
    """Print the tables of a result, and whether its targets are met."""
    machine = result["machine"]
    print(f"{result['title']}\n{machine['processor']}, {machine['cores']} cores, {result['date']}")
    for table in result["tables"]:
        cells = table_cells(table)
        widths = [max(len(line[place]) for line in cells) for place in range(len(cells[0]))]
        print(f"\n{table['title']}")
        for line in cells:
            name, *others = (
                cell.ljust(width) if place in (0, len(widths) - 1) else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            print("  ".join([name, *others]).rstrip())
        for target in table["targets"]:
            print(target_line(target))
