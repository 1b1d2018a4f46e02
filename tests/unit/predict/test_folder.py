"""A folder of maps: which scenes are there, asked once, and what names may meet."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rsdl.core.errors import ConfigError
from rsdl.predict.folder import MapFolder
from rsdl.raster.scenes import SceneRules, describe_scenes
from rsdl.storage.local import LocalStore
from rsdl.storage.store import Entry
from tests.unit.predict.scenes import draw_scene


class CountingStore(LocalStore):
    """A folder that counts what it is asked."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.lists = self.reads = self.sizes = 0

    def size(self, name: str) -> int | None:
        self.sizes += 1
        return super().size(name)

    def list(self, prefix: str = "") -> Iterator[Entry]:
        self.lists += 1
        for entry in super().list(prefix):
            self.sizes -= 1  # a local folder asks itself
            yield entry

    def read(self, name: str) -> bytes:
        self.reads += 1
        return super().read(name)


def test_a_store_is_listed_once_and_asked_for_the_scenes_that_are_there_alone(tmp_path: Path):
    for number in range(6):
        draw_scene(tmp_path / f"{number}.tif", (10 + number, 12))
    scenes = describe_scenes(sorted(tmp_path.glob("*.tif")), SceneRules())
    store = CountingStore(tmp_path / "maps")
    folder = MapFolder(store)
    assert folder.missing(scenes) == list(scenes)
    for scene in scenes[1:3]:
        folder.finish(scene)
    store.lists = store.reads = store.sizes = 0
    assert folder.missing(scenes) == [scenes[0], *scenes[3:]]
    assert (store.lists, store.reads, store.sizes) == (1, 2, 0)


@pytest.mark.parametrize(
    ("first", "second"),
    [("a", "a_probabilities"), ("prediction", "b")],
)
def test_files_of_two_scenes_never_share_a_name(tmp_path: Path, first: str, second: str):
    for number, name in enumerate((first, second)):
        draw_scene(tmp_path / f"{name}.tif", (10 + number, 12))
    scenes = describe_scenes(sorted(tmp_path.glob("*.tif")), SceneRules())
    with pytest.raises(ConfigError, match="would be of"):
        MapFolder(LocalStore(tmp_path / "maps")).check_apart(scenes)
