"""Published splits of tiles that a script cuts from scenes: LandCover.ai's ``split.py``.

The lists name tiles ``SCENE_K``: the K-th tile of a grid from the scene's top left, row by row,
counted from 0 with the incomplete ones at the right and bottom, which are never listed. Cut here,
tiles keep the scenes' pixels; the script saves them as JPEGs.
"""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from rsdl.core.errors import ConfigError, DataError
from rsdl.data.sources.mask_pairs import Pairs, image_size
from rsdl.data.sources.split_files import SplitFile


def pick_listed_tiles(
    pairs: Pairs, lists: Mapping[str, SplitFile], tile: int | None, published: int | None
) -> Pairs:
    """Return the scenes once for each split that lists tiles of theirs, with these tiles alone.

    Args:
        pairs: The scenes, which no list names.
        lists: The tiles of each split.
        tile: The user's side of a tile in pixels; must be the published one.
        published: Side of the listed tiles in pixels.

    Raises:
        ConfigError: If ``tile`` is not ``published``.
        DataError: If a list names a tile that is not in a scene, or one that another list names.
    """
    if tile is None or tile != published:
        problem = f"is {tile or 0}, and the published split lists tiles of {published} px"
        raise ConfigError("--tile", problem, "leave it out, or draw the splits with --split")
    scenes = {Path(file.path).stem: file for file in pairs.tree.files}
    sizes: dict[str, tuple[int, int]] = {}
    split_of: dict[str, str] = {}
    corners: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for split, each in lists.items():
        for name in dict.fromkeys(each.names):
            scene, _, number = name.rpartition("_")
            if scene not in scenes or not number.isdecimal():
                raise _wrong(each, f'"{name}" is no tile of a scene')
            if name in split_of:
                raise _wrong(each, f'"{name}" is in the list of {split_of[name]}, too')
            split_of[name] = split
            path = scenes[scene].path
            if path not in sizes:
                sizes[path] = image_size(pairs.tree.root / path)
            height, width = sizes[path]
            row, col = (place * tile for place in divmod(int(number), -(-width // tile)))
            if row + tile > height or col + tile > width:
                raise _wrong(each, f'"{name}" is not whole in {path}, {height} x {width} px')
            corners[path, split].append((row, col))
    by_path = {file.path: file for file in pairs.tree.files}
    files = tuple(by_path[path]._replace(split=split) for path, split in sorted(corners))
    left_out = dict(pairs.tree.left_out)
    if num_out := len(by_path) - len(sizes):
        left_out["images without a listed tile"] = num_out
    tree = pairs.tree._replace(files=files, has_splits=True, left_out=left_out)
    return Pairs(tree, pairs.masks, {key: tuple(sorted(each)) for key, each in corners.items()})


def _wrong(listed: SplitFile, problem: str) -> DataError:
    return DataError(str(listed.path), problem, "use the published lists with the published images")
