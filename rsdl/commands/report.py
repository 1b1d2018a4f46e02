"""``rsdl report``: HTML reports from the records of runs."""

import json
import sys
from collections.abc import Sequence

import yaml
from rich.console import Console

from rsdl.config.load import validate
from rsdl.core.errors import ConfigErrors, DataError
from rsdl.evaluate.compared_run import ComparedRun
from rsdl.evaluate.report import render_report
from rsdl.evaluate.study import render_study, study_of
from rsdl.records.evaluation import REPORT, TTA_REPORT, Evaluation, parse_evaluation
from rsdl.records.run_record import CONFIG, RunRecord
from rsdl.records.run_record import REPORT as PAGE
from rsdl.storage.connect import connect, join
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
    entries = [read_entry(folder) for folder in folders]
    path = out or "comparison.html"
    place, _, name = path.rpartition("/")
    connect(place or ".").write(name, render_study(study_of(entries)).encode())
    console.print(f"{len(entries)} runs compared: {path}", highlight=False)
    return 0


def find_runs(target: str) -> list[RunFolder]:
    """Return the run at a folder, or those directly below it.

    Raises:
        DataError: If there are none.
    """
    store = connect(target)
    if store.size("run.json") is not None:
        return [RunFolder(store)]
    names = [e.name for e in store.list() if e.name.endswith("/run.json")]
    if not names:
        raise DataError(target, "holds no run", "name a folder that rsdl train wrote")
    return [RunFolder(connect(join(target, name.removesuffix("/run.json")))) for name in names]


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
    """Return a run's result-determining config without name and seed; empty without a config."""
    if folder.store.size(CONFIG) is None:
        return ""
    try:
        config = validate(yaml.safe_load(folder.store.read(CONFIG)))
    except (ConfigErrors, yaml.YAMLError):
        return ""
    leaves = config.identity()
    del leaves["name"], leaves["seed"]
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
