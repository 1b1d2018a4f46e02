"""Load a RunConfig from YAML, its ``extends`` and overrides; report every error by field path."""

import difflib
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from rsdl.config.names import find_config, nearest_config
from rsdl.config.run import RunConfig
from rsdl.config.task import CONFIGS as TASK_CONFIGS
from rsdl.core.errors import ConfigError, ConfigErrors

EXTENDS = "extends"

# Fields of earlier releases: the value that is still read, since it changed nothing, and what to
# say about any other.
REMOVED: dict[str, tuple[object, str, str]] = {
    "data.scaled_decode": (
        False,
        "is gone: it was not faster than decoding whole images",
        "remove it: samples and crops stay the same",
    ),
}

_ENVIRONMENT = threading.Lock()


def load_config(
    path: str, overrides: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> RunConfig:
    """Return the run that a config file and overrides describe.

    Args:
        path: YAML file, or the name of a config (:mod:`rsdl.config.names`); the file's name without
            suffix is the default for ``name``.
        overrides: ``key=value`` pairs with dotted keys; values are YAML.
        environment: Variables for ``${oc.env:NAME}``; ``None`` uses those of this process.

    Raises:
        ConfigError: If a file is missing or not YAML, or an override is not ``key=value``.
        ConfigErrors: With every invalid field.
    """
    return fill_in(merge_config(path, overrides), path, environment)


def merge_config(path: str, overrides: Sequence[str] = ()) -> DictConfig:
    """Return a config merged with the files it extends and overrides; ``${...}`` stay unresolved.

    Args:
        path: YAML file, or the name of a config (:mod:`rsdl.config.names`); the file's name without
            suffix is the default for ``name``.
        overrides: ``key=value`` pairs with dotted keys; values are YAML.

    Raises:
        ConfigError: If a file is missing or not YAML, or an override is not ``key=value``.
    """
    file = find_config(path)
    tree = OmegaConf.merge(read_tree(file), *map(parse_override, overrides))
    assert isinstance(tree, DictConfig)
    if "name" not in tree:
        tree["name"] = file.stem
    return tree


def parse_config(text: str, path: str, overrides: Sequence[str] = ()) -> DictConfig:
    """Return the text of a config that extends no other, merged with overrides.

    Args:
        text: YAML.
        path: Its name in errors.
        overrides: ``key=value`` pairs with dotted keys; values are YAML.

    Raises:
        ConfigError: If it is not YAML or extends another, or an override is not ``key=value``.
    """
    try:
        tree = OmegaConf.create(yaml.safe_load(text))
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(path, f"is not YAML: {reason}") from error
    if not isinstance(tree, DictConfig):
        raise ConfigError(path, "must hold a mapping of fields", "see rsdl config quickstart")
    if EXTENDS in tree:
        raise ConfigError(path, "extends another file, which is not there", "write it out in full")
    merged = OmegaConf.merge(tree, *map(parse_override, overrides))
    assert isinstance(merged, DictConfig)
    return merged


def fill_in(tree: DictConfig, path: str, environment: Mapping[str, str] | None = None) -> RunConfig:
    """Return the run that a tree describes, with every ``${...}`` resolved.

    Args:
        tree: The merged config.
        path: Its name in errors.
        environment: Variables for ``${oc.env:NAME}``; ``None`` uses those of this process.

    Raises:
        ConfigError: If a ``${...}`` cannot be resolved.
        ConfigErrors: With every invalid field.
    """
    with _stand_in(environment):
        plain = resolve(tree, path)
    return validate(plain)


@contextmanager
def _stand_in(environment: Mapping[str, str] | None) -> Iterator[None]:
    """Make ``${oc.env:NAME}`` read another environment.

    OmegaConf reads only the environment of the process, so it is replaced while values are
    resolved. Not safe if other threads read environment variables meanwhile.
    """
    if environment is None:
        yield
        return
    with _ENVIRONMENT:
        kept = dict(os.environ)
        os.environ.clear()
        os.environ.update(environment)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(kept)


def read_tree(path: Path, seen: tuple[Path, ...] = ()) -> DictConfig:
    """Return a YAML file merged over the files that it extends."""
    if path.resolve() in seen:
        chain = " -> ".join(str(step.name) for step in (*seen, path))
        raise ConfigError(str(path), f"extends itself: {chain}", "break the circle")
    try:
        tree = OmegaConf.load(path)
    except FileNotFoundError as error:
        source = seen[-1] if seen else None
        remedy = f"mend extends in {source}" if source else nearest_config(path)
        raise ConfigError(str(path), "no such file", remedy) from error
    except (yaml.YAMLError, OmegaConfBaseException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(str(path), f"is not YAML: {reason}") from error
    if not isinstance(tree, DictConfig):
        raise ConfigError(str(path), "must hold a mapping of fields", "see rsdl config quickstart")
    parts = [
        read_tree(path.parent / name, (*seen, path.resolve())) for name in _pop_bases(tree, path)
    ]
    try:
        merged = OmegaConf.merge(*parts, tree)
    except OmegaConfBaseException as error:
        raise ConfigError(str(path), f"does not fit what it extends: {error}") from error
    assert isinstance(merged, DictConfig)
    return merged


def _pop_bases(tree: DictConfig, path: Path) -> list[str]:
    bases: object = tree.pop(EXTENDS, None)
    if isinstance(bases, (ListConfig, DictConfig)):
        bases = OmegaConf.to_container(bases)
    names = [bases] if isinstance(bases, str) else bases or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{path}: extends", f"names no files: {bases!r}", "write [base.yaml]")
    return names


def parse_override(text: str) -> DictConfig:
    """Return ``key=value`` as a tree."""
    key, equals, _ = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(text, "is not key=value", "write for example optim.lr=1e-3")
    try:
        return OmegaConf.from_dotlist([text])
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(key, f"cannot read the value {text[len(key) + 1 :]!r}") from error


def write_override(key: str, value: str) -> str:
    """Return ``key=value`` for :func:`parse_override`, of a value without quotes.

    YAML 1.1 reads 1:3 without quotes as a number to the base of 60.
    """
    return f'{key}="{value}"' if ":" in value else f"{key}={value}"


def resolve(tree: DictConfig, path: str) -> dict[str, Any]:
    """Return plain values, with every ``${...}`` resolved."""
    try:
        plain = OmegaConf.to_container(tree, resolve=True)
    except OmegaConfBaseException as error:
        where = getattr(error, "full_key", None) or path
        reason = str(error).splitlines()[0]
        raise ConfigError(where, reason, "set it, or give ${oc.env:NAME,default}") from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def validate(tree: dict[str, Any]) -> RunConfig:
    """Return the run; raise all errors together."""
    try:
        return RunConfig.model_validate(_drop_removed(tree))
    except ValidationError as error:
        # A default that is chosen by a field which is wrong is no error of its own.
        told = (each for each in error.errors() if each["type"] != "default_factory_not_called")
        raise ConfigErrors(_merge_choices(map(_explain, told))) from error


def validate_written(tree: Any) -> RunConfig:  # noqa: ANN401 - what a YAML file holds
    """Return the run of a ``config.yaml``; a field that its release lacked says what that did."""
    data = tree.get("data") if isinstance(tree, dict) else None
    if isinstance(data, dict):
        tree = tree | {"data": {"normalize": "dataset"} | data}
    return validate(tree)


def _drop_removed(tree: Any) -> Any:  # noqa: ANN401 - what a YAML file holds
    """Return a tree without the fields of earlier releases that changed nothing."""
    for path, (harmless, *_) in REMOVED.items():
        group, _, name = path.partition(".")
        fields = tree.get(group) if isinstance(tree, dict) else None
        if isinstance(fields, dict) and name in fields and fields[name] is harmless:
            rest = {key: value for key, value in fields.items() if key != name}
            tree = tree | {group: rest}
    return tree


def to_yaml(config: RunConfig) -> str:
    """Return the resolved run as YAML."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _merge_choices(errors: Iterable[ConfigError]) -> list[ConfigError]:
    """Return one error for each field: pydantic reports one for each choice of a union."""
    merged: dict[str, ConfigError] = {}
    for error in errors:
        if error.where in merged:
            before, _, value = merged[error.where].problem.rpartition(", is ")
            if before and error.problem.endswith(f", is {value}"):
                error.problem = f"{before} or {error.problem}"
        merged[error.where] = error
    return list(merged.values())


def _explain(error: ErrorDetails) -> ConfigError:
    location = [str(part) for part in error["loc"]]
    if error["type"] == "union_tag_invalid":  # only the task's name selects a class
        choices = " or ".join(f'"{name}"' for name in TASK_CONFIGS)
        return ConfigError("task.name", f"must be {choices}, is {error['ctx']['tag']!r}")
    # pydantic appends the name of the failed union member, which is not part of the field path.
    path = ".".join(part for part in _without_tag(location) if _is_field(part))
    value, kind = error.get("input"), error["type"]
    if kind == "extra_forbidden" and path in REMOVED:
        return ConfigError(path, *REMOVED[path][1:])
    if kind == "extra_forbidden":
        known = _fields_at(location[:-1])
        near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
        remedy = f'did you mean "{near[0]}"?' if near else f"known here: {', '.join(known)}"
        return ConfigError(path, "unknown field", remedy)
    if kind == "missing":
        return ConfigError(path, "is required", f"set {path}=... or put it in the config")
    if kind == "model_type":
        return ConfigError(path, f"is a group of fields, not {value!r}", f"set {path}.FIELD=VALUE")
    message = error["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if not location:  # fields of two groups do not fit each other; the message names one
        return ConfigError(*message.split(": ", 1))
    if isinstance(value, dict):
        return ConfigError(path, message)
    return ConfigError(path, f"{message}, is {value!r}")


def _without_tag(location: Sequence[str]) -> Sequence[str]:
    """Return a location without the name of the task, which pydantic puts after ``task``."""
    return location if location[:1] != ["task"] else ["task", *location[2:]]


def _is_field(part: str) -> bool:
    marks = ("[", "(", "literal", "function-", "constrained-")
    return part not in {"int", "str", "float", "bool"} and not any(mark in part for mark in marks)


def _fields_at(location: Sequence[str]) -> list[str]:
    model: type[BaseModel] = RunConfig
    if location[:1] == ["task"]:
        return list(TASK_CONFIGS[location[1]].model_fields)
    for part in location:
        field = model.model_fields.get(part)
        if field is None:
            return []
        kinds = (field.annotation, *get_args(field.annotation))
        inner = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]
        if not inner:
            return []
        model = inner[0]
    return list(model.model_fields)
