"""``rsdl.train`` and ``rsdl.evaluate``: the commands as functions, for scripts and notebooks.

What ends a command with an exit code is an exception here; signals are handled as before once a
function has returned.
"""

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePath

from rsdl.commands.evaluate import evaluate_run
from rsdl.commands.train import train as train_command
from rsdl.config.load import load_config
from rsdl.core.errors import UNAVAILABLE, ConfigError, InputError, PreemptedError, RsdlError
from rsdl.records.evaluation_base import Evaluation
from rsdl.records.run_record import RunRecord
from rsdl.storage.connect import connect, join
from rsdl.train.run_folder import RunFolder
from rsdl.train.signals import SIGNALS


@dataclass(frozen=True, slots=True)
class TrainedRun:
    """A completed run.

    Attributes:
        url: The run's folder; :func:`evaluate` takes it, and ``rsdl report``.
        record: Content of its ``run.json``: data, cost, and ``metrics`` by split.
    """

    url: str
    record: RunRecord


def train(
    config: str | os.PathLike[str], *, restart: bool = False, **overrides: object
) -> TrainedRun:
    """Train the run of a config as ``rsdl train`` does; the same call again resumes it.

    >>> import rsdl
    >>> run = rsdl.train(
    ...     "quickstart", data__url="data/mine", output="runs", trainer__max_epochs=1
    ... )  # doctest: +ELLIPSIS
    quickstart: ...
    >>> run.url, run.record.status
    ('runs/quickstart', 'completed')
    >>> sorted(run.record.metrics)
    ['best', 'final', 'test']

    Several devices are trained on by processes that it starts, so notebooks can do so as well.
    Ctrl-C finishes the step and saves; the same call goes on.

    Args:
        config: YAML file, or the name of a config: ``rsdl config --list`` shows them.
        restart: Whether to discard an existing run.
        overrides: Fields of the config, with ``__`` for the dot: ``trainer__max_epochs=1``. Dotted
            names do as well: ``**{"trainer.max_epochs": 1}``. Values are what YAML can hold.

    Raises:
        ConfigErrors: With every field that is wrong.
        InputError: If config, data or the run's folder are wrong.
        PreemptedError: If it was asked to stop and has saved.
        RsdlError: If a process that it started has failed.
    """
    path = os.fspath(config)
    fields = [to_override(name, value) for name, value in overrides.items()]
    with restored_signals():
        code = train_command(path, fields, restart=restart)
    if code:
        raise _error_of(code)
    chosen = load_config(path, fields)
    folder = RunFolder(connect(join(chosen.output, chosen.name), storage=chosen.storage))
    record = folder.read_record()
    assert record is not None  # a completed run has one
    return TrainedRun(folder.store.url, record)


def evaluate(
    run: str | os.PathLike[str] | TrainedRun,
    *,
    split: str | None = None,
    tta: bool = False,
    windows: bool = False,
    data_url: str | os.PathLike[str] | None = None,
) -> Evaluation:
    """Evaluate a run's best weights on a split as ``rsdl evaluate`` does, and rewrite its report.

    >>> import rsdl
    >>> evaluation = rsdl.evaluate("runs/quickstart", split="val")
    >>> evaluation.split, 0 <= evaluation.metrics["oa"] <= 1
    ('val', True)

    Args:
        run: A run's folder, one of its checkpoints, or what :func:`train` has returned.
        split: Split to evaluate on; ``None`` takes the config's test split, else validation.
        tta: Whether to average over flips and rotations.
        windows: Segmentation: whether to predict whole images by overlapping windows.
        data_url: New location of the data, if it has moved.

    Returns:
        The content of the run's ``report.json``: ``metrics`` by name and by class.

    Raises:
        InputError: If there is no such run, checkpoint, split or data set.
    """
    target = run.url if isinstance(run, TrainedRun) else os.fspath(run)
    moved = None if data_url is None else os.fspath(data_url)
    evaluation, _ = evaluate_run(target, split=split, tta=tta, windows=windows, data_url=moved)
    return evaluation


def to_override(name: str, value: object) -> str:
    """Return a keyword as ``key=value`` of the command line.

    Raises:
        ConfigError: If YAML cannot hold the value.
    """
    key = name.replace("__", ".")
    try:
        return f"{key}={json.dumps(value, default=_to_text)}"
    except (TypeError, ValueError) as error:
        raise ConfigError(
            key, f"is of type {type(value).__name__}", "pass a number, a string, a list or a dict"
        ) from error


def _to_text(value: object) -> str:
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(type(value).__name__)


@contextmanager
def restored_signals() -> Iterator[None]:
    """Give the caller its signal handlers back; only the main thread has any to lose."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # None: not set from Python
                signal.signal(number, handler)


def _error_of(code: int) -> RsdlError:
    """Return the error of processes that ended with ``code``; they have printed the reason."""
    if code == PreemptedError.exit_code:
        return PreemptedError("run", "was stopped and has saved", "call rsdl.train again to go on")
    kind = InputError if code == 2 else RsdlError
    error = kind("run", f"its processes ended with exit code {code}", "see what they printed")
    if code == UNAVAILABLE:
        error.exit_code = UNAVAILABLE
    return error
