"""Configs by name: those of ``./configs``, and those that come with rsdl."""

import difflib
from pathlib import Path

# A wheel holds configs/ of the checkout inside the package.
PACKAGE = Path(__file__).parents[1]
HERE = Path("configs")
SUFFIXES = (".yaml", ".yml")


def packaged_folder() -> Path:
    """Return the folder of the configs that come with rsdl."""
    inside = PACKAGE / "_configs"
    return inside if inside.is_dir() else PACKAGE.parent / "configs"


def find_config(name: str) -> Path:
    """Return the file that a path or a bare name stands for.

    A name without suffix, such as ``resnet50_ucm`` or ``segmentation/vit_base_loveda``, is looked
    up in ``./configs`` first, then among the configs that come with rsdl. Anything else, and a name
    that neither has, is the path itself.
    """
    path = Path(name)
    if name.startswith((".", "/")) or path.suffix in SUFFIXES or path.is_file():
        return path
    files = (folder / f"{name}.yaml" for folder in (HERE, packaged_folder()))
    return next((file for file in files if file.is_file()), path)


def list_configs() -> dict[str, Path]:
    """Return the file of each name that :func:`find_config` knows, sorted by name."""
    folders = (packaged_folder(), HERE)  # the latter win
    found = {
        file.relative_to(folder).with_suffix("").as_posix(): file
        for folder in folders
        for pattern in ("*.yaml", "segmentation/*.yaml", "detection/*.yaml")
        for file in folder.glob(pattern)
    }
    return dict(sorted(found.items()))


def nearest_config(path: Path) -> str | None:
    """Return advice on a config that is not there: the one that was meant, if any is like it."""
    names = list_configs()
    if path.parent == Path() and path.suffix not in SUFFIXES:
        near = difflib.get_close_matches(path.name, names, n=1)
        return f"did you mean {near[0]}?" if near else 'see "rsdl config --list"'
    beside = [entry.name for entry in path.parent.glob("*.yaml")]
    if near := difflib.get_close_matches(path.name, beside, n=1):
        return f"did you mean {path.parent / near[0]}?"
    return f"{path.stem} alone names one that comes with rsdl" if path.stem in names else None
