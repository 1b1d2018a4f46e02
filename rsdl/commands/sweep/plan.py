"""What there is to do of a study: its configs, checked together, and what is done already."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rsdl.commands.build import check_same_run
from rsdl.config.load import load_config
from rsdl.config.run import RunConfig
from rsdl.core.errors import ConfigError, ConfigErrors
from rsdl.records.run_record import RunRecord
from rsdl.storage.connect import connect, join
from rsdl.train.run_folder import RunFolder

Todo = Literal["begin", "resume", "leave"]

# How a run ends that a person stopped twice: that is no reason to leave it.
INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run of a study.

    Attributes:
        path: Its config file.
        folder: Where it lies.
        record: What is there of it; ``None`` where nothing is.
    """

    path: str
    config: RunConfig
    folder: RunFolder
    record: RunRecord | None

    @property
    def name(self) -> str:
        """Its name, which no other run of the study has."""
        return self.config.name

    @property
    def is_completed(self) -> bool:
        """Whether nothing is left to do."""
        return self.record is not None and self.record.status == "completed"

    def todo(self, *, retry: bool) -> Todo:
        """Return what to do about it; a run that failed is left, unless it is to be retried."""
        if self.record is None:
            return "begin"
        if self.is_completed:
            return "leave"
        failed = self.record.status == "failed" and self.record.reason != INTERRUPTED
        return "leave" if failed and not retry else "resume"


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return config files and overrides, which have a ``=``.

    Raises:
        ConfigError: If there is no config file.
    """
    overrides = [argument for argument in arguments if "=" in argument]
    paths = [argument for argument in arguments if "=" not in argument]
    if not paths:
        raise ConfigError("CONFIG", "is required", "name YAML files, such as configs/*.yaml")
    return list(dict.fromkeys(paths)), overrides


def plan_study(paths: Sequence[str], overrides: Sequence[str]) -> list[PlannedRun]:
    """Return the runs that configs describe, and what is there of them.

    Raises:
        ConfigErrors: With all that is wrong in any of them; nothing has been begun then.
    """
    errors: list[tuple[str, ConfigError]] = []
    configs: dict[str, RunConfig] = {}
    for path in paths:
        try:
            configs[path] = load_config(path, overrides)
        except ConfigErrors as found:
            errors += [(path, error) for error in found.errors]
        except ConfigError as error:
            errors.append((path, error))
    _raise_all(errors, len(paths))
    _raise_all(
        [(path, error) for path, config in configs.items() for error in _check(config, configs)],
        len(paths),
    )
    runs = []
    for path, config in configs.items():
        folder = RunFolder(connect(join(config.output, config.name), storage=config.storage))
        record = folder.read_record()
        if record is not None:
            try:
                check_same_run(config, record, folder)
            except ConfigError as error:
                errors.append((path, error))
        runs.append(PlannedRun(path, config, folder, record))
    _raise_all(errors, len(paths))
    return runs


def _check(config: RunConfig, configs: dict[str, RunConfig]) -> list[ConfigError]:
    """Return what keeps a config from being one of a study on one machine."""
    errors = []
    if Counter(c.name for c in configs.values())[config.name] > 1:
        remedy = "give each run a name of its own"
        errors.append(ConfigError("name", f"another config is named {config.name}, too", remedy))
    if len({c.output for c in configs.values()}) > 1:
        problem = f"is {config.output}, but not in every config"
        errors.append(ConfigError("output", problem, "pass output=URL"))
    if config.trainer.devices not in ("auto", 1) or config.trainer.num_nodes not in ("auto", 1):
        problem = "asks for several devices, but each run of a local sweep gets one"
        errors.append(ConfigError("trainer.devices", problem, "pass trainer.devices=1"))
    return errors


def _raise_all(errors: Sequence[tuple[str, ConfigError]], num_paths: int) -> None:
    """Raise errors with the files that they are in; what is wrong in all of them is said once."""
    paths: dict[tuple[str, str, str | None], list[str]] = {}
    for path, error in errors:
        paths.setdefault((error.where, error.problem, error.remedy), []).append(path)
    told = []
    for (where, problem, remedy), files in paths.items():
        if len(files) == num_paths:
            told.append(ConfigError(where, problem, remedy))
        else:
            told += [ConfigError(f"{file}: {where}", problem, remedy) for file in files]
    if told:
        raise ConfigErrors(told)
