"""Plot a result: a panel for each table, a bar for each contender, with its range.

python -m benchmarks.harness.plot RESULT.json [RESULT.png]
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.tables import format_figure

OURS, THEIRS, REFERENCE = "#1f77b4", "#b8bfc9", "#5d6673"
BAR_INCHES, HEAD_INCHES, WIDTH_INCHES = 0.32, 0.9, 9.0
TITLE_LETTERS = 90


def draw_result(result: Mapping[str, Any], path: Path) -> None:
    """Write the plot of a result.

    Args:
        result: From :func:`benchmarks.harness.measure.build_result`.
        path: PNG file; its folder is created.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    tables = result["tables"]
    heights = [HEAD_INCHES + BAR_INCHES * len(_measured(table)) for table in tables]
    figure, panels = pyplot.subplots(
        len(tables), 1, figsize=(WIDTH_INCHES, sum(heights) + 0.6), squeeze=False,
        height_ratios=heights, layout="constrained",
    )  # fmt: skip
    figure.suptitle(_shorten(result["title"]), fontsize=12, fontweight="bold")
    machine = result["machine"]
    figure.supxlabel(
        f"{machine['processor']}, {machine['cores']} cores{_gpu(machine)}; {result['date']}",
        fontsize=8, color=REFERENCE,
    )  # fmt: skip
    for panel, table in zip(panels[:, 0], tables, strict=True):
        _draw_table(panel, table)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _draw_table(panel: Any, table: Mapping[str, Any]) -> None:  # noqa: ANN401 - matplotlib's
    rows = _measured(table)
    medians = [row["median"] for row in rows]
    ranges = [
        [row["median"] - min(row["values"]) for row in rows],
        [max(row["values"]) - row["median"] for row in rows],
    ]
    colours = [_colour(row["name"], table["reference"]) for row in rows]
    bars = panel.barh(
        [row["name"] for row in rows], medians, xerr=ranges, color=colours,
        error_kw={"ecolor": REFERENCE, "elinewidth": 1, "capsize": 2},
    )  # fmt: skip
    panel.bar_label(bars, [_label(row) for row in rows], padding=6, fontsize=8)
    panel.invert_yaxis()
    panel.margins(x=0.3)
    panel.set_title(_shorten(table["title"]), fontsize=9, loc="left")
    panel.set_xlabel(f"{table['unit']}; x: ratio to {table['reference']}", fontsize=8)
    panel.tick_params(labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)


def _measured(table: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return [row for row in table["rows"] if row["values"]]


def _colour(name: str, reference: str) -> str:
    if name.startswith("rsdl") or name.startswith("data."):
        return OURS
    return REFERENCE if name == reference else THEIRS


def _label(row: Mapping[str, Any]) -> str:
    ratio = row["ratio"]
    times = f" ({format_figure(ratio['median'])}x)" if ratio is not None else ""
    return f"{format_figure(row['median'])}{times}"


def _shorten(text: str) -> str:
    return (
        text
        if len(text) <= TITLE_LETTERS
        else f"{text[: TITLE_LETTERS - 1]}\N{HORIZONTAL ELLIPSIS}"
    )


def _gpu(machine: Mapping[str, Any]) -> str:
    return f", {machine['gpus']} x {machine['gpu']}" if "gpu" in machine else ""


def main() -> None:
    """Plot one result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("result", type=Path, help="JSON file of a benchmark")
    parser.add_argument("picture", type=Path, nargs="?", help="PNG file (beside it)")
    options = parser.parse_args()
    picture = options.picture or options.result.with_suffix(".png")
    draw_result(json.loads(options.result.read_text()), picture)
    print(f"written to {picture}")


if __name__ == "__main__":
    main()
