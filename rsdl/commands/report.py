"""``rsdl report`` and ``rsdl sweep report``: pages about one run or several, from their records."""

import json
import sys
from collections.abc import Sequence

import yaml
from rich.console import Console

from rsdl.commands.runs import find_runs
from rsdl.config.fold import parse_fold
from rsdl.config.load import validate_written
from rsdl.core.errors import ConfigErrors, DataError
from rsdl.evaluate.compared_run import ComparedRun
from rsdl.evaluate.report import render_report
from rsdl.evaluate.study import Study, render_study, study_of
from rsdl.records.evaluation import REPORT, TTA_REPORT, parse_evaluation
from rsdl.records.evaluation_base import Evaluation
from rsdl.records.run_record import CONFIG, RunRecord
from rsdl.records.run_record import REPORT as PAGE
from rsdl.storage.connect import connect, join
from rsdl.storage.s3.endpoint import AWS, StorageConfig
from rsdl.train.run_folder import RunFolder


def report(targets: Sequence[str], *, out: str | None = None) -> int:
    """Rewrite one run's report, or compare several runs on one page.

    Args:
        targets: Folders of runs, or folders that contain runs.
        out: File to write; ``None`` takes ``report.html`` in the run, or ``comparison.html`` here.
    """
    console = Console(file=sys.stdout, soft_wrap=True)
    folders = [folder for target in targets for folder in find_runs(target)]
    if len(folders) == 1 and out is None:
        console.print(f"report: {write_report(folders[0], None)}", highlight=False)
        return 0
    study, page = read_study(folders), out or "comparison.html"
    _write(page, render_study(study))
    console.print(f"{len(study.rows)} runs compared: {page}", highlight=False)
    return 0


def report_study(
    urls: Sequence[str],
    *,
    out: str = "study.html",
    latex: str | None = None,
    csv: str | None = None,
) -> int:
    """Write the HTML page of a study, or of several together, and its tables.

    Args:
        urls: Folders or ``s3://`` URLs of the runs of each study.
        out: File of the page.
        latex: File of the LaTeX tables; ``None`` writes them beside the page.
        csv: File of the CSV; ``None`` writes it beside the page.

    Raises:
        DataError: If there are no runs, or a record is damaged.
    """
    found = {folder.store.url: folder for url in urls for folder in find_runs(url)}
    study = read_study(list(found.values()))
    write_study(study, out, latex=latex, csv=csv)
    print_totals(study, out)
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
        _write(path, text, storage)


def _write(path: str, text: str, storage: StorageConfig = AWS) -> None:
    place, slash, name = path.rpartition("/")
    connect(place or slash or ".", storage=storage).write(name, text.encode())


def print_totals(study: Study, out: str) -> None:
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


def write_report(
    folder: RunFolder, evaluation: Evaluation | None, record: RunRecord | None = None
) -> str:
    """Write ``report.json`` and ``report.html`` of a run and return the URL of the page.

    Args:
        folder: The run.
        evaluation: A new evaluation; ``None`` takes the last one.
        record: The run's record; ``None`` reads it.
    """
    store = folder.store
    if evaluation is not None:
        name = TTA_REPORT if evaluation.tta else REPORT
        store.write(name, (evaluation.model_dump_json(indent=1) + "\n").encode())
    config = store.read(CONFIG).decode() if store.size(CONFIG) is not None else ""
    page = render_report(read_entry(folder, record), config_yaml=config)
    store.write(PAGE, page.encode())
    return join(store.url, PAGE)


def read_entry(folder: RunFolder, record: RunRecord | None = None) -> ComparedRun:
    """Return a run's files for a report; ``None`` for ``record`` reads it.

    Raises:
        DataError: If there is no run, or a file is damaged.
    """
    run = folder.read_record() if record is None else record
    if run is None:
        raise DataError(folder.store.url, "is no run: it has no run.json", "name a trained run")
    return ComparedRun(
        run,
        read_evaluation(folder),
        folder.read_history(),
        read_evaluation(folder, tta=True),
        read_recipe(folder),
    )


def read_recipe(folder: RunFolder) -> str:
    """Return a run's result-determining config without what repeats differ in; empty without one.

    These are name and seed, and the number of the fold.
    """
    if folder.store.size(CONFIG) is None:
        return ""
    try:
        config = validate_written(yaml.safe_load(folder.store.read(CONFIG)))
    except (ConfigErrors, yaml.YAMLError):
        return ""
    leaves = config.identity()
    del leaves["name"], leaves["seed"]
    if config.data.fold is not None:
        leaves["data.fold"] = parse_fold(config.data.fold).num_folds
    return json.dumps(leaves, sort_keys=True)


def read_evaluation(folder: RunFolder, *, tta: bool = False) -> Evaluation | None:
    """Return the run's last evaluation, plain or with test-time augmentation, if it has one."""
    # Releases before 0.1.0 wrote the result with augmentation to the file of the plain one.
    for name in (TTA_REPORT, REPORT) if tta else (REPORT,):
        if folder.store.size(name) is None:
            continue
        found = parse_evaluation(folder.store.read(name), join(folder.store.url, name))
        if found.tta == tta:
            return found
    return None
