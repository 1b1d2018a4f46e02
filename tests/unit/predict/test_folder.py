"""A folder of maps: which scenes are there, asked once, and what names may meet."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rsdl.core.errors import ConfigError
from rsdl.predict.folder import MapFolder
from rsdl.raster.scenes import Scene, SceneRules, describe_scenes
from rsdl.records.prediction import PREDICTION, Prediction, parse_prediction
from rsdl.storage.local import LocalStore
from rsdl.storage.store import Entry
from tests.unit.predict.scenes import draw_scene


def map_name(scene: Scene) -> str:
    return f"{scene.slug}.tif"


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
    assert folder.missing(scenes, map_name) == list(scenes)
    for scene in scenes[1:4]:
        folder.finish(scene)
    for scene in scenes[1:3]:
        store.write(map_name(scene), b"a map")  # that of the fourth was deleted
    store.lists = store.reads = store.sizes = 0
    assert folder.missing(scenes, map_name) == [scenes[0], *scenes[3:]]
    assert (store.lists, store.reads, store.sizes) == (1, 2, 0)


def test_a_folder_without_maps_takes_other_settings_and_one_with_maps_none(tmp_path: Path):
    draw_scene(tmp_path / "a.tif")
    (scene,) = describe_scenes([tmp_path / "a.tif"], SceneRules())
    store = LocalStore(tmp_path / "maps")
    folder = MapFolder(store)
    first = Prediction(
        run="r", weights="0" * 64, classes=("a",), window=(8, 8), overlap=2, tta=False,
        probabilities=False, bands=None, alpha="auto", unscale="auto", nodata=None,
    )  # fmt: skip
    other = first.model_copy(update={"tta": True})
    folder.claim(first, dry_run=False)
    folder.claim(other, dry_run=True)
    assert parse_prediction(store.read(PREDICTION), "x") == first
    folder.claim(other, dry_run=False)
    assert parse_prediction(store.read(PREDICTION), "x") == other
    store.write(map_name(scene), b"a map")
    with pytest.raises(ConfigError, match=r"holds maps made with tta True, not False"):
        folder.claim(first, dry_run=False)


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
