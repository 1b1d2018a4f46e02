"""``rsdl predict``: a map of each scene, by a trained network."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from numpy.typing import NDArray

from rsdl.commands.bars import SampleProgress, pixel_bar
from rsdl.core.errors import ConfigError, CorruptSampleError, DataError
from rsdl.core.image_size import show_size
from rsdl.data.targets.mask import MAX_CLASSES
from rsdl.export.load import load
from rsdl.export.model import TrainedModel
from rsdl.predict.detect import MergeRule
from rsdl.predict.find import find_files
from rsdl.predict.folder import MapFolder
from rsdl.predict.inputs import SceneOptions, choose_part, choose_scenes, find_tile, scene_rules
from rsdl.predict.object_writer import ObjectWriter
from rsdl.predict.outputs import MapWriter, OutputOptions
from rsdl.predict.scene import WindowRule
from rsdl.raster.scenes import Scene, SceneRules
from rsdl.records.prediction import Prediction
from rsdl.storage.connect import connect, join
from rsdl.storage.store import Store
from rsdl.train.accelerator import choose_device

# Windows at once by type of device: more gain nothing on a CPU, and take memory.
BATCH_SIZES = {"cpu": 4, "cuda": 16}


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictOptions:
    """How scenes are predicted.

    Attributes:
        tile: Side of the training tiles in pixels; ``None``: as the run's data set was cut.
        overlap: Pixels that two windows share; ``None``: a quarter, and 0 where a tile has a class.
        outputs: What is written beside each map.
        tta: Whether to average over flips and quarter turns.
        batch_size: Windows computed at once; ``None``: ``BATCH_SIZES`` of the device.
        device: ``auto``, or a device of PyTorch.
        part: ``I/N`` takes every N-th scene from the I-th on.
        dry_run: Whether to list the scenes only.
    """

    tile: int | None = None
    overlap: int | None = None
    outputs: OutputOptions = field(default_factory=OutputOptions)
    tta: bool = False
    batch_size: int | None = None
    device: str = "auto"
    part: str | None = None
    dry_run: bool = False


def predict(
    run: str, paths: Sequence[str], out: str, given: SceneOptions, options: PredictOptions
) -> int:
    """Write a map for each scene that has none yet, and print how long each took.

    Args:
        run: What ``rsdl.load`` takes.
        paths: Scenes: what ``find_files`` takes.
        out: Folder or URL to write to.
        given: What the user says of the scenes.
        options: How they are predicted.

    Raises:
        InputError: If the run, a scene, an option or ``out`` cannot be used.
        NoGpuError: If the GPU that is asked for is not there.
    """
    device = choose_device(options.device, "--device")
    model, folder = load(run, device=device), MapFolder(connect(out))
    rules = scene_rules(model.spec, given)
    mapper = Mapper(model, rules, folder.store, options)
    files = find_files(paths, asset=given.asset, maps=folder.maps)
    chosen = choose_scenes(files, rules, model.spec, given)
    for line in chosen.remarks:
        print(line)
    folder.check_apart(chosen.scenes)
    scenes = choose_part(chosen.scenes, options.part)
    mapper.writer.check(scenes)
    settings = mapper.settings.model_copy(update=chosen.record)
    folder.claim(settings, dry_run=options.dry_run)
    missing = folder.missing(scenes, mapper.writer.name)
    print(f"{mapper.windows}, on {device}")
    if options.dry_run:
        names = {scene.slug for scene in missing}
        for scene in scenes:
            state = "to predict" if scene.slug in names else "is there"
            size, name = f"{scene.height} x {scene.width} px", mapper.writer.name(scene)
            print(f"{scene.path}: {size}, {name} {state}")
        print(f"{len(missing)} of {len(scenes)} scenes to predict, {num_pixels(*missing):,} px")
        return 0
    with pixel_bar("predict") as bar:
        before, total = 0, num_pixels(*missing)
        damaged: list[CorruptSampleError] = []
        for scene in missing:
            try:
                said = mapper.write(scene, bar, before, total)
                folder.finish(scene)
            except CorruptSampleError as error:  # the others can be mapped
                damaged.append(error)
                said = str(error)
            before += num_pixels(scene)
            print(said, flush=True)
    if damaged:
        count = f"{len(damaged)} of {len(scenes)} scenes have no map"
        raise DataError(damaged[0].where, f"{damaged[0].problem}; {count}", damaged[0].remedy)
    there = f"; {len(scenes) - len(missing)} were there" if len(missing) < len(scenes) else ""
    print(f"{len(missing)} of {len(scenes)} maps written to {folder.store.url}{there}")
    return 0


class Mapper:
    """Writes maps of scenes with one network.

    Args:
        model: The network.
        rules: How scenes are read.
        store: Where maps go.
        options: How they are predicted.

    Attributes:
        settings: What the maps are made with.
        windows: How scenes are cut, for users.
        writer: What predicts a scene and writes its files.

    Raises:
        ConfigError: If the network makes no maps, or windows cannot be laid.
    """

    def __init__(
        self, model: TrainedModel, rules: SceneRules, store: Store, options: PredictOptions
    ) -> None:
        if len(model.classes) > MAX_CLASSES:
            problem = f"has {len(model.classes)} classes, and a map holds {MAX_CLASSES} at most"
            raise ConfigError(model.spec.run, problem, "name another run")
        self._store, self._options = store, options
        self._batch_size = options.batch_size or BATCH_SIZES[model.device.type]
        outputs = options.outputs
        kind = ObjectMaps(model, outputs) if model.finds_objects else PixelMaps(model, outputs)
        self._network = kind.network
        self._rule, self.windows = window_rule(model, options, judged=rules.alpha == "auto")
        self.settings = Prediction(
            run=model.spec.run,
            weights=model.digest(),
            classes=model.classes,
            window=self._rule.size,
            overlap=self._rule.overlap,
            tta=options.tta,
            probabilities=outputs.probabilities,
            polygons=outputs.polygons,
            quicklook=outputs.quicklook,
            page=outputs.page,
            bands=rules.bands,
            alpha=rules.alpha,
            unscale=rules.unscale,
            nodata=rules.nodata,
            **kind.record,
        )
        self.writer = kind.writer(store, self.settings, self._rule)

    def write(self, scene: Scene, bar: SampleProgress, before: int, total: int) -> str:
        """Write the files of a scene's map, and return what is to be said of it.

        Args:
            scene: The scene.
            bar: Shows the pixels that are done.
            before: Pixels of the scenes before it.
            total: Pixels of all scenes.
        """
        start, pixels = time.monotonic(), num_pixels(scene)
        try:
            said = self.writer.write(
                scene,
                self._compute,
                batch_size=self._batch_size,
                progress=lambda share: bar(before + round(share * pixels), total),
            )
        except MemoryError as error:
            raise self._too_large() from error
        spent = time.monotonic() - start
        where, said = join(self._store.url, self.writer.name(scene)), said and f"{said}; "
        return f"{where}: {said}{pixels:,} px in {spent:.1f} s, {pixels / spent / 1e6:.2f} Mpx/s"

    def _compute(self, windows: NDArray[Any]) -> Any:  # noqa: ANN401 - what the writer merges
        try:
            return self._network(windows, tta=self._options.tta)
        except torch.OutOfMemoryError as error:
            problem = f"{len(windows)} windows do not fit into the device's memory"
            raise ConfigError("--batch-size", problem, "use fewer") from error
        except MemoryError as error:
            raise self._too_large() from error

    def _too_large(self) -> ConfigError:
        size = show_size(self._rule.size)
        problem = f"windows of {size} px, {self._batch_size} at once, do not fit into memory"
        return ConfigError("--tile", problem, "use a smaller one, or a smaller --batch-size")


class PixelMaps:
    """Maps with a class for each pixel or tile.

    Args:
        model: The network.
        outputs: What is written.

    Attributes:
        network: Predicts windows.
        record: Fields of the prediction's record.

    Raises:
        ConfigError: If an option means nothing for them.
    """

    def __init__(self, model: TrainedModel, outputs: OutputOptions) -> None:
        self._is_dense = model.is_dense
        simplify_px, min_area_m2 = outputs.polygon_rules(is_dense=model.is_dense)
        self.network = model.predict_windows
        self.record = {"simplify_px": simplify_px, "min_area_m2": min_area_m2}

    def writer(self, store: Store, settings: Prediction, rule: WindowRule) -> MapWriter:
        """Return what predicts scenes and writes their files."""
        return MapWriter(store, settings, rule, is_dense=self._is_dense)


class ObjectMaps:
    """Maps of objects; as :class:`PixelMaps`."""

    def __init__(self, model: TrainedModel, outputs: OutputOptions) -> None:
        outputs.check_objects()
        task: Any = model.task
        if outputs.score is not None:
            task.config = task.config.model_copy(update={"score_threshold": outputs.score})
        config = task.config
        self.network = model.detect_windows
        self.record = {"score": config.score_threshold}
        self._merge = MergeRule(config.iou_of_nms, config.is_oriented)

    def writer(self, store: Store, settings: Prediction, rule: WindowRule) -> ObjectWriter:
        """Return what finds the objects of scenes and writes their files."""
        return ObjectWriter(store, settings, rule, self._merge)


def window_rule(
    model: TrainedModel, options: PredictOptions, *, judged: bool
) -> tuple[WindowRule, str]:
    """Return how scenes are cut for a network, in words, too.

    Raises:
        ConfigError: If windows never advance.
    """
    tile, reason = (options.tile, "--tile") if options.tile else find_tile(model.spec)
    size = model.window_size(tile)
    overlap = options.overlap
    if overlap is None:
        overlap = min(size) // 4 if model.is_local else 0
    if not 0 <= overlap < min(size):
        raise ConfigError("--overlap", f"is {overlap} px", f"use 0 to {min(size) - 1}")
    said = f"windows of {size[0]} x {size[1]} px ({reason}) that overlap by {overlap}"
    return WindowRule(size, overlap, model.is_local, judged), said


def num_pixels(*scenes: Scene) -> int:
    """Return the pixels of scenes."""
    return sum(scene.height * scene.width for scene in scenes)
