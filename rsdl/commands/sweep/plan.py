"""Plan of a local study: its configs, checked together, and the existing state of its runs."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rsdl.config.load import load_config
from rsdl.config.run import RunConfig
from rsdl.core.errors import ConfigError, ConfigErrors
from rsdl.records.run_record import RunRecord
from rsdl.storage.connect import connect, join
from rsdl.train.run_folder import RunFolder, check_same_run

Todo = Literal["begin", "resume", "leave"]

# Reason of a run that the user stopped by a second Ctrl-C; it is resumed, unlike a failed run.
INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Repeats:
    """Runs of each config of a study.

    Attributes:
        seeds: Seeds: its own, and those that follow.
        folds: Folds of a cross-validation, each a run for each seed; ``None`` for none.
    """

    seeds: int = 1
    folds: int | None = None


ONCE = Repeats()


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run of a study.

    Attributes:
        path: Config file.
        folder: Folder of the run.
        record: Existing record; ``None`` for a new run.
        is_extended: Whether the run is completed, and the config makes it longer.
        overrides: Overrides of this run alone: its seed and a name of its own, its fold.
    """

    path: str
    config: RunConfig
    folder: RunFolder
    record: RunRecord | None
    is_extended: bool = False
    overrides: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the run, unique in the study."""
        return self.config.name

    @property
    def is_completed(self) -> bool:
        """Whether the run is completed."""
        completed = self.record is not None and self.record.status == "completed"
        return completed and not self.is_extended

    def todo(self, *, retry: bool) -> Todo:
        """Return the action for the run; a failed run is left alone unless ``retry``."""
        if self.record is None:
            return "begin"
        if self.is_completed:
            return "leave"
        failed = self.record.status == "failed" and self.record.reason != INTERRUPTED
        return "leave" if failed and not retry else "resume"


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return config files and overrides; an override contains ``=``.

    Raises:
        ConfigError: If there is no config file.
    """
    overrides = [argument for argument in arguments if "=" in argument]
    paths = [argument for argument in arguments if "=" not in argument]
    if not paths:
        raise ConfigError("CONFIG", "is required", "name YAML files, such as configs/*.yaml")
    return list(dict.fromkeys(paths)), overrides


def plan_study(
    paths: Sequence[str], overrides: Sequence[str], repeats: Repeats = ONCE
) -> list[PlannedRun]:
    """Return the runs of configs, with their existing records.

    Args:
        paths: Config files.
        overrides: ``key=value`` overrides for all of them.
        repeats: Runs of each config.

    Raises:
        ConfigErrors: With the errors of all configs; no run was started then.
    """
    errors: list[tuple[str, ConfigError]] = []
    planned: list[tuple[str, tuple[str, ...], RunConfig]] = []
    for path in paths:
        try:
            planned += _repeat(path, overrides, repeats)
        except ConfigErrors as found:
            errors += [(path, error) for error in found.errors]
        except ConfigError as error:
            errors.append((path, error))
    _raise_all(errors, len(paths))
    configs = [config for *_, config in planned]
    _raise_all(
        [(path, error) for path, _, config in planned for error in _check(config, configs)],
        len(paths),
    )
    runs = []
    for path, own, config in planned:
        folder = RunFolder(connect(join(config.output, config.name), storage=config.storage))
        record = folder.read_record()
        is_extended = False
        if record is not None:
            try:
                is_extended = check_same_run(config, record, folder)
            except ConfigError as error:
                errors.append((path, error))
        runs.append(PlannedRun(path, config, folder, record, is_extended, own))
    _raise_all(errors, len(paths))
    return runs


def _repeat(
    path: str, overrides: Sequence[str], repeats: Repeats
) -> list[tuple[str, tuple[str, ...], RunConfig]]:
    """Return a config for each seed and fold, with its overrides; the first seed needs none."""
    first = load_config(path, overrides)
    if repeats.folds is not None and first.data.fold is not None:
        raise ConfigError("data.fold", f"is {first.data.fold}, and --folds is given", "leave one")
    seeds = [
        (f"seed={seed}", f"name={first.name}_seed{seed}") if seed > first.seed else ()
        for seed in range(first.seed, first.seed + repeats.seeds)
    ]
    folds = (
        [()]
        if repeats.folds is None
        else [(f"data.fold={number}/{repeats.folds}",) for number in range(1, repeats.folds + 1)]
    )
    return [
        (path, own, load_config(path, [*overrides, *own]))
        for own in (seed + fold for seed in seeds for fold in folds)
    ]


def _check(config: RunConfig, configs: Sequence[RunConfig]) -> list[ConfigError]:
    """Return the errors that exclude a config from a study on one machine."""
    errors = []
    if Counter(c.name for c in configs)[config.name] > 1:
        remedy = "give each run a name of its own"
        errors.append(ConfigError("name", f"another config is named {config.name}, too", remedy))
    if len({c.output for c in configs}) > 1:
        problem = f"is {config.output}, but not in every config"
        errors.append(ConfigError("output", problem, "pass output=URL"))
    if config.trainer.devices not in ("auto", 1) or config.trainer.num_nodes not in ("auto", 1):
        problem = "asks for several devices, but each run of a local sweep gets one"
        errors.append(ConfigError("trainer.devices", problem, "pass trainer.devices=1"))
    return errors


def _raise_all(errors: Sequence[tuple[str, ConfigError]], num_paths: int) -> None:
    """Raise errors with their config files; an error of all files is raised once."""
    paths: dict[tuple[str, str, str | None], list[str]] = {}
    for path, error in errors:
        paths.setdefault((error.where, error.problem, error.remedy), []).append(path)
    told = []
    for (where, problem, remedy), files in paths.items():
        files = list(dict.fromkeys(files))  # of several seeds once
        if len(files) == num_paths:
            told.append(ConfigError(where, problem, remedy))
        else:
            told += [ConfigError(f"{file}: {where}", problem, remedy) for file in files]
    if told:
        raise ConfigErrors(told)
