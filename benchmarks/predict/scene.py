"""Pixels/s of mapping a scene, beside the network alone and beside other loops.

A segmentation network with random weights maps a scene of deflated RGB blocks, window by window:

- network on windows in memory: the windows are read before; nothing is blended or written, so it is
  the bound;
- rsdl predict: windows read ahead, blended by cosine weights, and written as a COG with overviews;
- rasterio, in turn: read a window, predict, write the middle of it, and so on; the file is a plain
  deflated GeoTIFF;
- torchgeo GridGeoSampler: a RasterDataset through a DataLoader, each window pasted over the ones
  before, and one GeoTIFF written at the end.

All predict the same windows, in batches of the same size, by the same network in this process.

    python -m benchmarks.predict.scene [--model resnet50] [--window 512]
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.windows import Window

from benchmarks.harness.imagery import paint_scenes
from benchmarks.harness.machine import describe_versions
from benchmarks.harness.measure import Row, Table, Target, build_result, interleave, run_benchmark
from rsdl.commands.predict import Mapper, PredictOptions
from rsdl.config.model import ModelConfig
from rsdl.config.task import SegmentationConfig
from rsdl.export.model import TrainedModel
from rsdl.predict.inputs import SceneOptions, find_scenes, scene_rules
from rsdl.raster.tiles import tile_starts
from rsdl.records.model_spec import ModelSpec
from rsdl.storage.connect import connect
from rsdl.storage.s3.endpoint import AWS
from rsdl.tasks.build import BUILDERS

BARE, OURS = "network on windows in memory", "rsdl predict"
IN_TURN, TORCHGEO = "rasterio, in turn", "torchgeo GridGeoSampler"
SHARE_OF_BARE = 0.95
NUM_CLASSES = 7
CRS, PIXEL_M = "EPSG:32632", 0.25  # in binary exact: torchgeo adds windows otherwise
INSTALL = "not installed: pip install torchgeo"


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
    """Return the loop over windows in memory."""
    with rasterio.open(job.scene) as source:
        windows = [np.stack([job.read(source, each) for each in batch]) for batch in job.batches()]

    def run() -> None:
        for batch in windows:
            job.classify(torch.from_numpy(batch).permute(0, 3, 1, 2))

    return run


def run_ours(job: Job) -> Callable[[], None]:
    """Return what ``rsdl predict`` does once the network is loaded."""
    options = PredictOptions(tile=job.window, overlap=job.overlap, batch_size=job.batch_size)
    rules = scene_rules(job.model.spec, SceneOptions())
    (scene,) = find_scenes([job.scene], rules, job.model.spec)
    mapper = Mapper(job.model, rules, connect(str(job.out)), options)
    return lambda: void(mapper.write(scene, lambda done, total: None, 0, 1))  # type: ignore[arg-type]


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


LOOPS: dict[str, Callable[[Job], Callable[[], None]]] = {
    BARE: run_bare, OURS: run_ours, IN_TURN: run_in_turn, TORCHGEO: run_torchgeo,
}  # fmt: skip


def void(_: object) -> None:
    """Return nothing, whatever is passed."""


def make_scene(path: Path, side: int) -> Path:
    """Write a scene of painted land use, ``side`` x ``side`` pixels."""
    picture = next(paint_scenes(path.parent / "painted", 0))
    repeats = -(-side // min(picture.shape[:2]))
    pixels = np.tile(picture, (repeats, repeats, 1))[:side, :side]
    transform = rasterio.Affine(PIXEL_M, 0, 500_000, 0, -PIXEL_M, 5_600_000)
    with rasterio.open(
        path, "w", driver="GTiff", height=side, width=side, count=3, dtype="uint8", crs=CRS,
        transform=transform, photometric="RGB", tiled=True, blockxsize=256, blockysize=256,
        compress="deflate", predictor=2,
    ) as raster:  # fmt: skip
        raster.write(np.moveaxis(pixels, 2, 0))
    return path


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
    task = BUILDERS["segmentation"](spec.task, spec.classes, ())
    network = task.build_network(
        spec.model, in_chans=3, image_size=window, storage=AWS, bands=bands
    )
    return TrainedModel(spec, task, network.to(memory_format=torch.channels_last))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's own options."""
    add = parser.add_argument
    add("--model", default="resnet50", help="network (%(default)s)")
    add("--window", type=int, default=512, help="side of a window, px (%(default)s)")
    add("--windows", type=int, default=4, help="along each side of the scene (%(default)s)")
    add("--batch-size", type=int, default=4, help="windows at once (%(default)s)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure; return the result."""
    overlap = options.window // 4
    along = 2 if options.quick else options.windows
    side = options.window + (along - 1) * (options.window - overlap)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as temporary:
        scene = Path(temporary) / "scenes" / "scene.tif"
        scene.parent.mkdir()
        make_scene(scene, side)
        shutil.rmtree(scene.parent / "painted")
        out = Path(temporary) / "maps"
        out.mkdir()
        model = make_model(options.model, options.window)
        job = Job(model, scene, out, options.window, overlap, options.batch_size)
        table = measure(job, side**2 / 1e6, options.rounds)
    title = f"Mapping a scene: {options.model} with semantic FPN, windows of {options.window} px"
    names = ("rsdl-train", "torch", "timm", "rasterio", "torchgeo")
    versions = describe_versions(
        tuple(name for name in names if name != "torchgeo" or not table.row(TORCHGEO).note)
    )
    return build_result("predict", title, [table], options=vars(options), versions=versions)


def measure(job: Job, megapixels: float, rounds: int) -> Table:
    """Map the scene by each loop, interleaved."""
    loops: dict[str, Callable[[], float]] = {}
    notes: dict[str, str] = {}
    for name, prepare in LOOPS.items():
        try:
            loops[name] = timed(prepare(job), megapixels)
        except ImportError:
            notes[name] = INSTALL
    values = interleave(loops, rounds=rounds)
    rows = [Row(name, values.get(name, ()), notes.get(name, "")) for name in LOOPS]
    threads, count = torch.get_num_threads(), len(job.corners)
    title = (
        f"{count} windows of {megapixels:.1f} Mpx in batches of {job.batch_size}, {threads} threads"
    )
    table = Table(title, "Mpx/s", BARE, rows)
    targets = [
        Target(f"{OURS} over {name}", ratio.median, bound)
        for name, bound in ((BARE, SHARE_OF_BARE), (IN_TURN, 1.0), (TORCHGEO, 1.0))
        if (ratio := table.ratio(OURS, name)) is not None
    ]
    return replace(table, targets=targets)


def timed(loop: Callable[[], None], megapixels: float) -> Callable[[], float]:
    """Return what runs a loop and returns its Mpx/s."""

    def run() -> float:
        begin = time.perf_counter()
        loop()
        return megapixels / (time.perf_counter() - begin)

    return run


def main() -> None:
    """Run the benchmark."""
    run_benchmark(__doc__, add_arguments, run)


if __name__ == "__main__":
    main()
