"""``rsdl k8s render``: render the manifests of the studies, or of some Jobs, from the configs."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from omegaconf import OmegaConf

from rsdl.cluster.render import (
    PodConfig,
    fields_of_pods,
    render_indexed,
    render_jobs,
    render_studies,
)
from rsdl.cluster.settings import FILE, Settings, change, load_settings, to_yaml
from rsdl.cluster.studies import FIRST, STUDIES, config_paths, study_configs
from rsdl.config.load import fill_in, merge_config, parse_override
from rsdl.core.errors import ConfigError
from rsdl.storage.local import translate


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
        configs: Files or names of configs; none for all studies.
        out: Folder of the manifests.
        changes: ``KEY=VALUE`` settings to change first.
        check: Whether to compare only and write nothing.
        folder: Folder of the configs.
        indexed: Whether to also write the study of ``k8s/`` as one Indexed Job.

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
    """Return the files of all studies, or of the named jobs only, by path."""
    if names:
        jobs = render_jobs(_load(names, settings, folder), settings)
        return {FILE: to_yaml(settings)} | jobs
    studies = [name for task in STUDIES for name in study_configs(task)]
    extra = [name for name in settings.jobs if name not in studies]
    files = render_studies(_load(studies, settings, folder), settings)
    return files | render_jobs(_load(extra, settings, folder), settings)


def _load(names: Sequence[str], settings: Settings, folder: str) -> dict[str, PodConfig]:
    # Resolve variables as in a pod, not from this shell.
    environment = dict(os.environ) | {
        "RSDL_DATA": f"s3://{settings.bucket}/data",
        "RSDL_CACHE_SIZE": "1GB",
    }
    loaded = {}
    for name in names:
        path = _find(name, folder)
        tree = merge_config(path)
        own = settings.of(name, str(OmegaConf.select(tree, "task.name", default=FIRST)))
        tree.merge_with(*map(parse_override, own.overrides))
        runs = f"s3://{settings.bucket}/runs/{own.study}"
        run = fill_in(tree, path, environment | {"RSDL_RUNS": runs})
        tree.merge_with(*map(parse_override, fields_of_pods(run, settings)))
        loaded[name] = PodConfig(
            f"configs{path.removeprefix(folder)}", run, OmegaConf.to_yaml(tree)
        )
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
    """Return the name of a config given by name, with its task or without, or as a file.

    Raises:
        ConfigError: If the file is elsewhere, since a pod would not find it, or is not the one that
            counts for its name.
    """
    path = Path(config)
    if path.suffix not in (".yaml", ".yml"):
        if len(path.parts) == 1:
            return config
        path = Path(f"{folder}/{config}.yaml")
    places = [Path(file) for file in config_paths(path.stem, folder)]
    if path.suffix != ".yaml" or path.resolve() not in [place.resolve() for place in places]:
        raise ConfigError(config, f"does not lie in {folder}", f"move it there as {folder}/*.yaml")
    first = Path(_find(path.stem, folder))
    if path.is_file() and first.resolve() != path.resolve():
        raise ConfigError(config, f"has the same job name as {first}", "rename one of the files")
    return path.stem


def _find(name: str, folder: str) -> str:
    """Return the file of a config; the first place of its name if there is none."""
    places = config_paths(name, folder)
    return next((place for place in places if Path(place).is_file()), places[0])


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
