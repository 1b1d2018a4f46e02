"""``rsdl sweep report``: write the report of a study from the records of its runs."""

import sys
from collections.abc import Sequence

from rich.console import Console

from rsdl.commands.report import find_runs, read_entry
from rsdl.evaluate.study import Study, render_study, study_of
from rsdl.storage.connect import connect
from rsdl.storage.s3.endpoint import AWS, StorageConfig
from rsdl.train.run_folder import RunFolder


def report_study(
    url: str, *, out: str = "study.html", latex: str | None = None, csv: str | None = None
) -> int:
    """Write the HTML page of a study and its tables.

    Args:
        url: Folder or ``s3://`` URL of the runs.
        out: File of the page.
        latex: File of the LaTeX tables; ``None`` writes them beside the page.
        csv: File of the CSV; ``None`` writes it beside the page.

    Raises:
        DataError: If there are no runs, or a record is damaged.
    """
    study = read_study(find_runs(url))
    write_study(study, out, latex=latex, csv=csv)
    say(study, out)
    return 0


def read_study(folders: Sequence[RunFolder]) -> Study:
    """Return the study of runs."""
    return study_of([read_entry(folder) for folder in folders])


def write_study(
    study: Study,
    out: str,
    *,
    latex: str | None = None,
    csv: str | None = None,
    storage: StorageConfig = AWS,
) -> None:
    """Write the page and both tables."""
    stem = out.removesuffix(".html")
    files = {
        out: render_study(study),
        latex or f"{stem}.tex": study.latex,
        csv or f"{stem}.csv": study.csv,
    }
    for path, text in files.items():
        place, slash, name = path.rpartition("/")
        connect(place or slash or ".", storage=storage).write(name, text.encode())


def say(study: Study, out: str) -> None:
    """Print the main totals and the path of the page."""
    numbers = study.numbers
    spent = (
        (numbers["epochs"].shown, "epochs"),
        (numbers["iterations"].shown, "iterations"),
        (numbers["decoded"].shown, "of imagery read"),
        (numbers["device"].shown, f"of {'GPU' if numbers['use'].value else 'device'} time"),
        (numbers["preemptions"].shown, "preemptions"),
    )
    Console(file=sys.stdout, soft_wrap=True).print(
        f"{numbers['models'].shown} models of {len(study.rows)} runs "
        f"({numbers['architectures'].shown} architectures x {numbers['datasets'].shown} data sets):"
        f" {', '.join(f'{value} {what}' for value, what in spent)}\nstudy: {out}",
        highlight=False,
    )
