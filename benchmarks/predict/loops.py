"""The loops that map a scene, each in a process of its own."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.windows import Window

from benchmarks.harness.task import Counter, Task, Workload
from rsdl.commands.predict import Mapper, PredictOptions
from rsdl.config.model import ModelConfig
from rsdl.config.task import SegmentationConfig
from rsdl.core.allocator import keep_freed_memory
from rsdl.export.model import TrainedModel
from rsdl.predict.inputs import SceneOptions, find_scenes, scene_rules
from rsdl.raster.tiles import tile_starts
from rsdl.records.model_spec import ModelSpec
from rsdl.storage.connect import connect
from rsdl.storage.s3.endpoint import AWS
from rsdl.tasks.build import BUILDERS
from rsdl.train.accelerator import choose_device

NUM_CLASSES = 7


@dataclass(frozen=True, slots=True)
class Job:
    """What every loop does.

    Attributes:
        model: The network.
        scene: The scene, a GeoTIFF.
        out: Folder for maps.
        window: Side of a window in pixels.
        overlap: Pixels that neighbours share.
        batch_size: Windows computed at once.
    """

    model: TrainedModel
    scene: Path
    out: Path
    window: int
    overlap: int
    batch_size: int

    @property
    def corners(self) -> list[tuple[int, int]]:
        """Row and column of every window."""
        with rasterio.open(self.scene) as source:
            sides = source.height, source.width
        starts = (tile_starts(side, tile=self.window, overlap=self.overlap) for side in sides)
        return [(int(row), int(col)) for row, col in product(*starts)]

    def read(self, source: Any, corner: tuple[int, int]) -> NDArray[np.uint8]:  # noqa: ANN401
        """Return a window of an open scene, ``[H, W, C]``."""
        row, col = corner
        pixels = source.read(window=Window(col, row, self.window, self.window))
        return np.ascontiguousarray(np.moveaxis(pixels, 0, 2))

    def map_profile(self) -> dict[str, Any]:
        """Return the profile of a plain map of the scene."""
        with rasterio.open(self.scene) as source:
            return {
                **source.profile, "count": 1, "photometric": "minisblack", "interleave": "band",
            }  # fmt: skip

    @torch.inference_mode()
    def classify(self, images: torch.Tensor) -> NDArray[np.uint8]:
        """Return the classes of windows ``[B, C, H, W]``, as ``[B, H, W]``."""
        pixels = self.model.preprocess.normalize(images.to(torch.float32))
        return self.model.network(pixels).argmax(1).to(torch.uint8).numpy()  # type: ignore[no-any-return]

    def batches(self) -> Iterator[list[tuple[int, int]]]:
        """Yield the corners of each batch."""
        corners = self.corners
        for first in range(0, len(corners), self.batch_size):
            yield corners[first : first + self.batch_size]


def run_bare(job: Job) -> Callable[[], None]:
    """Return the loop over windows in memory, with malloc as glibc has it."""
    with rasterio.open(job.scene) as source:
        windows = [np.stack([job.read(source, each) for each in batch]) for batch in job.batches()]

    def run() -> None:
        for batch in windows:
            job.classify(torch.from_numpy(batch).permute(0, 3, 1, 2))

    return run


def run_kept(job: Job) -> Callable[[], None]:
    """Return the loop over windows in memory, with malloc as rsdl sets it."""
    keep_freed_memory()
    return run_bare(job)


def run_ours(job: Job) -> Callable[[], None]:
    """Return what ``rsdl predict`` does once the network is loaded."""
    choose_device("cpu", "--device")
    options = PredictOptions(tile=job.window, overlap=job.overlap, batch_size=job.batch_size)
    rules = scene_rules(job.model.spec, SceneOptions())
    (scene,) = find_scenes([job.scene], rules, job.model.spec)
    mapper = Mapper(job.model, rules, connect(str(job.out)), options)
    return partial(mapper.write, scene, lambda done, total: None, 0, 1)  # type: ignore[return-value,arg-type]


def run_in_turn(job: Job) -> Callable[[], None]:
    """Return the loop that reads, predicts and writes in turn.

    See https://rasterio.readthedocs.io/en/stable/topics/windowed-rw.html.
    """
    margin = job.overlap // 2

    def run() -> None:
        with (
            rasterio.open(job.scene) as source,
            rasterio.open(job.out / "in_turn.tif", "w", **job.map_profile()) as target,
        ):
            for batch in job.batches():
                pixels = np.stack([job.read(source, each) for each in batch])
                classes = job.classify(torch.from_numpy(pixels).permute(0, 3, 1, 2))
                for (row, col), found in zip(batch, classes, strict=True):
                    top, left = margin * (row > 0), margin * (col > 0)
                    place = Window(col + left, row + top, job.window - left, job.window - top)
                    target.write(found[top:, left:], 1, window=place)

    return run


def run_torchgeo(job: Job) -> Callable[[], None]:
    """Return the loop over torchgeo's sampler.

    See https://torchgeo.readthedocs.io/en/stable/tutorials/earth_surface_water.html.

    Raises:
        ImportError: If torchgeo is not installed.
    """
    from torch.utils.data import DataLoader
    from torchgeo.datasets import RasterDataset, stack_samples
    from torchgeo.samplers import GridGeoSampler

    class Scenes(RasterDataset):  # type: ignore[misc]
        filename_glob = job.scene.name

    def run() -> None:
        dataset = Scenes(str(job.scene.parent))
        sampler = GridGeoSampler(dataset, size=job.window, stride=job.window - job.overlap)
        loader: DataLoader[Any] = DataLoader(
            dataset, batch_size=job.batch_size, sampler=sampler, collate_fn=stack_samples
        )
        profile = job.map_profile()
        inverse = ~profile["transform"]
        whole = np.zeros((profile["height"], profile["width"]), np.uint8)
        for batch in loader:
            for bounds, found in zip(batch["bounds"], job.classify(batch["image"]), strict=True):
                x, y = bounds[:2]
                col, row = (round(place) for place in inverse * (x.start, y.stop))
                whole[row : row + job.window, col : col + job.window] = found
        with rasterio.open(job.out / "torchgeo.tif", "w", **profile) as target:
            target.write(whole, 1)

    return run


LOOPS = {
    "bare": run_bare, "kept": run_kept, "ours": run_ours, "in_turn": run_in_turn,
    "torchgeo": run_torchgeo,
}  # fmt: skip


def build(task: Task, loop: str, model: str) -> Workload:
    """Return a loop that maps the scene ``task.images`` once an epoch, and counts its pixels."""
    scene = Path(task.images)
    torch.manual_seed(task.seed)
    network = make_model(model, task.image_size)
    overlap = task.image_size // 4
    job = Job(network, scene, task.folder(loop), task.image_size, overlap, task.batch_size)
    with rasterio.open(scene) as source:
        pixels = source.height * source.width
    run = LOOPS[loop](job)

    def run_epoch(take: Counter) -> None:
        run()
        take.count(pixels)

    return Workload(run_epoch, note=f"{torch.get_num_threads()} threads")


def make_model(name: str, window: int) -> TrainedModel:
    """Return a segmentation network with random weights and a semantic FPN."""
    bands = ("red", "green", "blue")
    spec = ModelSpec(
        run="benchmark", task=SegmentationConfig(name="segmentation"),
        model=ModelConfig(name=name, weights="none"), timm_model=name,
        classes=tuple(f"class_{number}" for number in range(NUM_CLASSES)), bands=bands,
        dtype="uint8", mean=(128.0,) * 3, std=(64.0,) * 3, image_size=window, eval_crop=1.0,
        decode_size=None, dataset="painted", provenance={},
    )  # fmt: skip
    task = BUILDERS["segmentation"](spec.task, spec.classes, None)
    network = task.build_network(
        spec.model, in_chans=3, image_size=window, storage=AWS, bands=bands
    )
    return TrainedModel(spec, task, network.to(memory_format=torch.channels_last))
