"""``rsdl k8s render``: render the manifests of a study, or of some Jobs, from the configs."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from omegaconf import OmegaConf

from rsdl.cluster.render import (
    PodConfig,
    fields_of_pods,
    render_indexed,
    render_jobs,
    render_study,
)
from rsdl.cluster.settings import FILE, Settings, change, load_settings, to_yaml
from rsdl.config.load import fill_in, merge_config, parse_override
from rsdl.core.errors import ConfigError
from rsdl.models.catalog import ARCHITECTURES
from rsdl.storage.local import translate

STUDY_DATASETS = ("ucm", "aid", "resisc45")


def render(
    configs: Sequence[str],
    *,
    out: str,
    changes: Sequence[str] = (),
    check: bool = False,
    folder: str = "configs",
    indexed: bool = False,
) -> int:
    """Write manifests, or compare them with the existing files.

    Args:
        configs: Files or names of configs; none for the whole study.
        out: Folder of the manifests.
        changes: ``KEY=VALUE`` settings to change first.
        check: Whether to compare only and write nothing.
        folder: Folder of the configs.
        indexed: Whether to also write the study as one Indexed Job.

    Returns:
        0, or 1 if ``check`` finds a file that differs.

    Raises:
        InputError: If settings or configs are wrong, or the folder cannot be written.
    """
    target = Path(out)
    names = [_name_of(config, folder) for config in configs]
    settings = change(load_settings(target), changes, names)
    files = render_files(names, settings, folder)
    if indexed:
        if names:
            raise ConfigError("--indexed", "is for the whole study", "leave the configs out")
        files |= render_indexed(_load(study_configs(), settings, folder), settings)
    stale = [path for path, text in files.items() if _read(target / path) != text]
    if check:
        for path in stale:
            print(f'{target / path}: is not what it should be; run "rsdl k8s render"')
        return int(bool(stale))
    for path in stale:
        _write(target / path, files[path])
    num_jobs = len({path.split("/")[1] for path in files if path.startswith("jobs/")})
    print(f"{num_jobs} jobs in {target}: {len(stale)} files written")
    return 0


def render_files(names: Sequence[str], settings: Settings, folder: str) -> dict[str, str]:
    """Return the files of the whole study, or of the named jobs only, by path."""
    if names:
        jobs = render_jobs(_load(names, settings, folder), settings)
        return {FILE: to_yaml(settings)} | jobs
    study = study_configs()
    extra = [name for name in settings.jobs if name not in study]
    files = render_study(_load(study, settings, folder), settings)
    return files | render_jobs(_load(extra, settings, folder), settings)


def study_configs() -> list[str]:
    """Return the names of the study's configs, in its order."""
    return [f"{architecture}_{data}" for architecture in ARCHITECTURES for data in STUDY_DATASETS]


def _load(names: Sequence[str], settings: Settings, folder: str) -> dict[str, PodConfig]:
    # Resolve variables as in a pod, not from this shell.
    environment = dict(os.environ) | {
        "RSDL_DATA": f"s3://{settings.bucket}/data",
        "RSDL_RUNS": f"s3://{settings.bucket}/runs/{settings.study}",
        "RSDL_CACHE_SIZE": "1GB",
    }
    loaded = {}
    for name in names:
        path = f"{folder}/{name}.yaml"
        tree = merge_config(path, settings.of(name).overrides)
        run = fill_in(tree, path, environment)
        for override in fields_of_pods(run, settings):
            tree.merge_with(parse_override(override))
        loaded[name] = PodConfig(run, OmegaConf.to_yaml(tree))
    _check_mirror(loaded, settings)
    return loaded


def _check_mirror(loaded: Mapping[str, PodConfig], settings: Settings) -> None:
    """Check that a mirror of weights is of use.

    Raises:
        ConfigError: If no config of a study starts from pretrained weights.
    """
    if not settings.weights or not loaded.keys() >= set(study_configs()):
        return
    if all(config.run.model.weights != "pretrained" for config in loaded.values()):
        raise ConfigError(
            f"{FILE}: weights",
            "no config of the study has model.weights=pretrained",
            "add --set 'overrides=[model.weights=pretrained]', or take it out",
        )


def _name_of(config: str, folder: str) -> str:
    """Return the name of a config given by name or as a file in the folder.

    Raises:
        ConfigError: If the file is elsewhere, since a pod would not find it.
    """
    path = Path(config)
    if path.suffix not in (".yaml", ".yml") and len(path.parts) == 1:
        return config
    if path.suffix != ".yaml" or path.parent.resolve() != Path(folder).resolve():
        raise ConfigError(config, f"does not lie in {folder}", f"move it there as {folder}/*.yaml")
    return path.stem


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), f"cannot be read: {error}", "remove it") from error


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:
        raise translate(error, path) from error
