"""The folder or bucket that maps go to: which scenes are mapped there, by which network."""

from collections.abc import Callable, Sequence

from rsdl.core.errors import ConfigError
from rsdl.predict.outputs import CSV, MAP, POLYGONS, SUFFIXES
from rsdl.raster.remote import is_inside
from rsdl.raster.scenes import Scene, fingerprint_ends
from rsdl.records.prediction import (
    PREDICTION,
    MappedScene,
    Prediction,
    parse_mapped_scene,
    parse_prediction,
)
from rsdl.storage.connect import join
from rsdl.storage.store import Store

RECORD = ".json"


class MapFolder:
    """Where maps go.

    Args:
        store: The folder or bucket; it need not exist.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    @property
    def maps(self) -> str | None:
        """The folder among whose files no scenes are looked for; ``None`` if it has no maps."""
        return self.store.url if self.store.size(PREDICTION) is not None else None

    def check_apart(self, scenes: Sequence[Scene]) -> None:
        """Check that no scene lies where maps are written, and no two maps have one name.

        Raises:
            ConfigError: If one does, or two have.
        """
        names = {PREDICTION: "the record of all maps"}
        for scene in scenes:
            for name in (f"{scene.slug}{suffix}" for suffix in (RECORD, *SUFFIXES)):
                if name in names:
                    problem = f'"{name}" would be of {scene.path} and of {names[name]}'
                    raise ConfigError("--out", problem, "rename the scene, or map it apart")
                names[name] = str(scene.path)
        for scene in scenes:
            if is_inside(scene.path, self.store.url):
                raise ConfigError("--out", f"holds the scene {scene.path}", "name another folder")

    def claim(self, settings: Prediction, *, dry_run: bool) -> None:
        """Write what maps are made with to ``prediction.json``, unless it is a dry run.

        Raises:
            ConfigError: If the maps that are there were made with something else.
        """
        store = self.store
        if store.size(PREDICTION) is None and (
            dry_run or store.write_once(PREDICTION, settings.to_json())
        ):
            return
        there = parse_prediction(store.read(PREDICTION), join(store.url, PREDICTION))
        if (field := settings.differs_in(there)) is not None:
            if not self._has_maps():  # what was begun had no scene that could be mapped
                if not dry_run:
                    store.write(PREDICTION, settings.to_json())
                return
            mine, theirs = getattr(settings, field), getattr(there, field)
            raise ConfigError(
                "--out",
                f"{store.url} holds maps made with {field} {theirs}, not {mine}",
                "name another folder, or predict as before",
            )

    def _has_maps(self) -> bool:
        names = (entry.name for entry in self.store.list())
        maps = RECORD, MAP, CSV, *POLYGONS.values()
        return any(name.endswith(maps) and name != PREDICTION for name in names)

    def missing(self, scenes: Sequence[Scene], name: Callable[[Scene], str]) -> list[Scene]:
        """Return the scenes whose map is not there.

        Args:
            scenes: The scenes.
            name: Returns the name of a scene's map.

        Raises:
            ConfigError: If one that is there is of another scene of that name.
        """
        there = {entry.name for entry in self.store.list()}
        missing = []
        for scene in scenes:
            if {f"{scene.slug}{RECORD}", name(scene)} <= there:
                self._check(scene)
            else:
                missing.append(scene)
        return missing

    def finish(self, scene: Scene) -> None:
        """Write that the map of a scene is there, whole."""
        self.store.write(f"{scene.slug}{RECORD}", _describe(scene).to_json())

    def _check(self, scene: Scene) -> None:
        """Check that a map that is there is of this scene."""
        name, url = f"{scene.slug}{RECORD}", self.store.url
        found = parse_mapped_scene(self.store.read(name), join(url, name))
        if not found.is_same(_describe(scene)):
            raise ConfigError(
                "--out",
                f"{url} holds the map of another {found.scene} than {scene.path}",
                f"name another folder, or remove {name} there to replace it",
            )


def _describe(scene: Scene) -> MappedScene:
    found = fingerprint_ends(scene.path)
    return MappedScene(
        scene=scene.name, num_bytes=found["bytes"], sha256_of_ends=found["sha256_of_ends"]
    )
