"""Load the configs of a study as its Jobs will, with their overrides and environment."""

import difflib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rsdl.cluster.policy.objects import ManifestSet
from rsdl.cluster.policy.study.command import FOLDER, Training, find_training
from rsdl.cluster.policy.study.facts import UnreadableConfig
from rsdl.config.load import fill_in, merge_config, parse_config
from rsdl.config.run import RunConfig
from rsdl.core.errors import ConfigErrors, RsdlError
from rsdl.storage.connect import join


def load_runs(
    manifest_set: ManifestSet, folder: Path | None
) -> dict[str, RunConfig | UnreadableConfig]:
    """Return the config of each Job, or why it does not load, by title of the Job.

    Args:
        manifest_set: The objects.
        folder: The folder that becomes ``configs/`` in the image.
    """
    found = {}
    for pod in manifest_set.pods:
        training = find_training(pod)
        if training is None:
            continue
        if training.mounted:
            found[pod.owner.manifest.title] = _load_all(training)
        elif folder is not None and (path := place(training.config, folder)) is not None:
            found[pod.owner.manifest.title] = load_run(training, path)
    return found


def _load_all(training: Training) -> RunConfig | UnreadableConfig:
    """Return the first of the mounted configs, or why one of them does not load."""
    folders: dict[str, str] = {}
    first: RunConfig | None = None
    for file, text in training.mounted.items():
        run = load_run(training, text)
        if isinstance(run, UnreadableConfig):
            several = len(training.mounted) > 1
            return replace(run, problem=f"{file}: {run.problem}") if several else run
        folder = join(run.output, run.name)
        if (other := folders.setdefault(folder, file)) != file:
            problem = f"{file} and {other} write to {folder}"
            return UnreadableConfig(False, problem, "give one of them another name")
        first = first or run
    assert first is not None
    return first


def place(config: str, folder: Path) -> Path | None:
    """Return the local path of a config of the image; ``None`` if it is not from ``configs/``."""
    parts = Path(config).parts
    if FOLDER not in parts or ".." in parts:
        return None
    return folder.joinpath(*parts[parts.index(FOLDER) + 1 :])


def load_run(training: Training, source: Path | str) -> RunConfig | UnreadableConfig:
    """Return a loaded config, or why it does not load.

    Args:
        training: The command that trains it.
        source: Its file, or its text.
    """
    if isinstance(source, Path) and not source.is_file():
        names = [entry.name for entry in source.parent.glob("*.yaml")]
        near = difflib.get_close_matches(source.name, names, n=1)
        remedy = f"did you mean {near[0]}?" if near else f"write {source}"
        return UnreadableConfig(True, f"there is no {source}", remedy)
    try:
        if isinstance(source, Path):
            tree = merge_config(str(source), training.overrides)
        else:
            tree = parse_config(source, training.config, training.overrides)
        return fill_in(tree, training.config, training.environment)
    except RsdlError as error:
        errors: Sequence[RsdlError] = error.errors if isinstance(error, ConfigErrors) else [error]
        problem = ", ".join(f"{one.where} {one.problem}" for one in errors)
        return UnreadableConfig(
            False, f"{training.config}: {problem}", errors[0].remedy or "mend it"
        )
