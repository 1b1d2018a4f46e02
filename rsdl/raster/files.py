"""Find the files of scenes and rasters, and name them."""

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath, PurePosixPath

from rsdl.core.errors import DataError
from rsdl.raster.remote import RasterFile, RemoteFile

SUFFIXES = (".tif", ".tiff")
# What to do where there are none: a folder may hold pictures that are no scenes.
REMEDY = "give GeoTIFFs or a folder with some, or name files of other formats, as FOLDER/*.png"


def find_rasters(
    paths: Sequence[str | Path], *, what: str = "scenes", leave_out: Path | None = None
) -> list[Path]:
    """Return the files that ``paths`` refer to, each once, sorted.

    Args:
        paths: Files, folders (searched recursively for ``.tif`` and ``.tiff``) and globs.
        what: Kind of files, for errors.
        leave_out: A file or folder to exclude (labels stored among the scenes).

    Raises:
        DataError: If a path matches no file.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        matches = list(_expand(Path(path).expanduser()))
        if not matches:
            raise DataError(str(path), f"no {what} found", REMEDY)
        found |= {match.resolve(): match for match in matches}
    if leave_out is not None:
        skip = leave_out.expanduser().resolve()
        found = {real: match for real, match in found.items() if not real.is_relative_to(skip)}
    if not found:
        raise DataError(str(paths[0]), f"no {what} found", REMEDY)
    return sorted(found)


def _expand(path: Path) -> Iterable[Path]:
    if path.is_dir():
        return (
            file
            for file in path.rglob("*")
            if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()
        )
    if path.is_file():
        return (path,)
    matches = (Path(match) for match in glob.glob(str(path), recursive=True))
    return (file for match in matches for file in _expand(match))


def relative_names(files: Sequence[RasterFile]) -> list[str]:
    """Return each path relative to the common folder, so that names agree on every machine."""
    paths: list[PurePath] = [
        PurePosixPath("/", file.scheme, file.path) if isinstance(file, RemoteFile) else file
        for file in files
    ]
    if len({path.is_absolute() for path in paths}) > 1:
        paths = [Path(os.path.abspath(path)) for path in paths]
    folder = os.path.commonpath([path.parent for path in paths])
    return [path.relative_to(folder).as_posix() for path in paths]


def make_slugs(names: Sequence[str]) -> list[str]:
    """Return a unique name without dots and slashes for each file: its stem if that is unique."""
    stems = [re.sub(r"[^A-Za-z0-9_-]", "_", Path(name).stem) for name in names]
    count = Counter(stems)
    slugs: dict[str, None] = {}
    for name, stem in zip(names, stems, strict=True):
        whole = re.sub(r"[^A-Za-z0-9_-]", "_", str(Path(name).with_suffix("")))
        slug = base = stem if count[stem] == 1 else whole
        number = 2
        while slug in slugs or (slug != stem and slug in count):
            slug = f"{base}-{number}"
            number += 1
        slugs[slug] = None
    return list(slugs)
