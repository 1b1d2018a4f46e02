r"""Tables of a study for other programs: CSV for calculations, LaTeX for a paper.

The CSV has one row for each run with unrounded values, so that its sums equal those of the page.
The LaTeX needs only the package ``booktabs``; it contains only completed runs on the split that a
column names.
"""

import csv
import io
import re
from collections.abc import Mapping, Sequence

from rsdl.evaluate import formatting
from rsdl.evaluate.compared_run import ComparedRun
from rsdl.evaluate.leaderboard import Leaderboard, Result, Summary, results_of
from rsdl.evaluate.significance import Comparison
from rsdl.evaluate.totals import Number, energy_of

_RECORD = (
    "parameters", "num_classes", "image_size", "global_batch", "seed", "fold", "epochs_completed",
    "epochs_planned", "optimizer_steps", "samples_read", "bytes_encoded", "bytes_decoded", "wall_s",
    "device_s", "device_name", "device_count", "data_wait_s", "gpu_utilization", "preemptions",
    "resumes", "started_at", "updated_at", "rsdl_version", "git_revision", "config_digest",
    "manifest_digest",
)  # fmt: skip
_SPECIAL = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}  # fmt: skip


def csv_table(rows: Sequence[ComparedRun], metrics: Sequence[str]) -> str:
    """Return CSV with one row for each run; unknown values are empty.

    ``seeds`` and, for each task, mean and standard deviation of the primary metric (``oa_mean``,
    ``oa_std``) and half the 95% confidence interval of the mean (``oa_ci95``) cover the run and all
    that differ from it only by seed or fold, ``seeds`` is their number.

    Args:
        rows: The runs.
        metrics: Names of the metrics to show.
    """
    of = {id(entry): result for result in results_of(rows) for entry in result.runs}
    primary = dict.fromkeys(entry.run.facts.primary_metric for entry in rows)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    spreads = [f"{name}_{what}" for name in primary for what in ("mean", "std", "ci95")]
    writer.writerow(["run", "architecture", "dataset", "status", "split", *metrics, *_RECORD,
                     "energy_j", "energy_basis", "seeds", *spreads])  # fmt: skip
    for entry in rows:
        run, head, result = entry.run, entry.head, of[id(entry)]
        names = [run.name, run.architecture, run.dataset, run.status, head.basis]
        values = [head.metrics.get(name) for name in metrics]
        record = [getattr(run, key) for key in _RECORD]
        seeds = [
            value if name == entry.run.facts.primary_metric else None
            for name in primary
            for value in (result.score, result.std, result.half_width)
        ]
        cells = [*names, *values, *record, *energy_of(run), result.n, *seeds]
        writer.writerow(map(_inert, cells))
    return stream.getvalue()


def latex_table(
    board: Leaderboard,
    summaries: Mapping[str, Summary],
    numbers: Mapping[str, Number],
    *,
    metric: str,
    hours: str,
) -> str:
    """Return two tables: scores with the best of each column in bold, and the totals.

    Args:
        board: The scores.
        summaries: Mean, parameters and device hours of each architecture.
        numbers: The totals.
        metric: Name of the primary metric.
        hours: Column heading of the device hours.
    """
    bases = sorted({column.basis for column in board.columns if column.basis})
    splits = " and ".join(bases) or "test"
    heads = [*map(board.heading, board.columns), "Mean", "Params (M)", hours]
    lines = [
        "% Made by rsdl from run records; needs \\usepackage{booktabs}.",
        *_open(
            f"{metric} (%) on the {splits} split; the best of each column in bold; "
            "of several seeds or folds the mean, the standard deviation and their number.",
            "tab:rsdl-accuracy",
            "l" + "r" * len(heads),
        ),
        _row(["Architecture", *map(escape, heads)]),
        r"\midrule",
        *(_row(_scores(board, name, summaries[name])) for name in board.architectures),
        *_close(),
        "",
        *_open("The study by the numbers.", "tab:rsdl-numbers", "lr"),
        *(_row([escape(n.label), escape(n.shown)]) for n in numbers.values()),
        *_close(),
    ]
    return "\n".join(lines) + "\n"


def comparison_table(comparisons: Sequence[Comparison], *, metric: str) -> str:
    """Return the table of paired differences; empty without any."""
    if not comparisons:
        return ""
    caption = (
        f"{metric}: paired differences over seeds and folds in points, with the 95% confidence "
        "interval; two-sided t test, p-values adjusted by Holm's method within a data set."
    )
    heads = ["Data set", "Better", "Other", "Pairs", "Difference", "p", "adjusted"]
    rows = [
        _row([
            escape(c.column.dataset), *map(escape, c.names), str(c.test.n), _difference(c),
            *(escape(formatting.p_value(p)).replace("<", "$<$") for p in (c.test.p, c.adjusted)),
        ])
        for c in comparisons
    ]  # fmt: skip
    lines = [*_open(caption, "tab:rsdl-significance", "lllrrrr"), _row(heads), r"\midrule", *rows]
    return "\n".join(["", *lines, *_close()]) + "\n"


def _difference(comparison: Comparison) -> str:
    test = comparison.test
    mean = f"{100 * test.mean:.2f}"
    return mean if test.half_width is None else rf"{mean} $\pm$ {100 * test.half_width:.2f}"


def escape(text: str) -> str:
    """Return a text with LaTeX's special characters escaped."""
    plain = re.sub(r"[\\~^&%$#_{}]", lambda found: _SPECIAL[found[0]], text)
    return plain.replace(formatting.DASH, "--").replace("\u2212", "$-$")


def _scores(board: Leaderboard, architecture: str, summary: Summary) -> list[str]:
    cells = [escape(architecture)]
    for column in board.columns:
        runs = board.cells[(architecture, column.dataset)]
        fit = [_cell(r, best) for r, best in runs if column.compares(r)]
        cells.append(" / ".join(fit) or "--")
    cells.append(_percent(summary.mean, bold=summary.best))
    return [*cells, f"{summary.parameters / 1e6:.1f}", f"{summary.device_s / 3600:,.2f}"]


def _cell(result: Result, best: bool) -> str:
    """Return the score; for several runs the mean, standard deviation and their number."""
    mean = _percent(result.score, bold=best)
    return mean if result.std is None else rf"{mean} $\pm$ {100 * result.std:.2f} ({result.n})"


def _percent(share: float | None, *, bold: bool) -> str:
    if share is None:
        return "--"
    return rf"\textbf{{{100 * share:.2f}}}" if bold else f"{100 * share:.2f}"


def _inert(value: object) -> object:
    """Return a value that a spreadsheet does not evaluate as a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" else value


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _open(caption: str, label: str, columns: str) -> list[str]:
    return [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape(caption)}}}",
        rf"\label{{{label}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
    ]


def _close() -> list[str]:
    return [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
