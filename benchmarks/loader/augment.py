"""Cost of flips, rotations and normalisation on a CPU, per image and per batch.

A GPU works per batch; both ways give the same pixels, which is checked here too. One thread, its
own CPU time.

    python -m benchmarks.loader.augment
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness.machine import describe_versions
from benchmarks.harness.measure import Aim, Row, Table, build_result, run_benchmark, take_turns
from rsdl.config.data import AugmentConfig
from rsdl.core.allocator import keep_freed_memory
from rsdl.data.augment import Augment
from rsdl.data.dihedral import apply_dihedral, dihedral, draw_dihedral

AT_ONCE, ONE_BY_ONE = "all at once", "image by image"
NUM_UNIFORMS = 12
KINDS = ((3, "uint8"), (4, "uint16"), (13, "float32"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's own options."""
    add = parser.add_argument
    add("--image-size", type=int, default=224, help="px (%(default)s)")
    add("--batch-size", type=int, default=64, help="images (%(default)s)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure; return the result."""
    keep_freed_memory()  # as a run does on a CPU
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        tables = [measure(bands, dtype, options) for bands, dtype in KINDS]
    finally:
        torch.set_num_threads(threads)
    versions = describe_versions(("rsdl-train", "torch", "opencv-python-headless"))
    title = f"Augmentation on the processor, batches of {options.batch_size}"
    return build_result("augment", title, tables, options=vars(options), versions=versions)


def measure(bands: int, dtype: str, options: argparse.Namespace) -> Table:
    """Return the cost of both ways for images of one kind."""
    size, side = options.batch_size, options.image_size
    generator = torch.Generator().manual_seed(0)
    shape = (size, side, side, bands)
    images = torch.randint(0, 256, shape, generator=generator).to(getattr(torch, dtype))
    numbers = torch.rand((size, NUM_UNIFORMS), generator=generator)
    augment = Augment(AugmentConfig(), [100.0] * bands, [50.0] * bands, dtype)
    mean, scale = (values.view(1, -1, 1, 1) for values in (augment.mean, augment.scale))

    def turn_at_once() -> Tensor:
        pixels = images.to(torch.float32) if dtype == "uint16" else images
        turned = apply_dihedral(pixels, *draw_dihedral(numbers, flip=True, rotate90=True))
        return (turned.permute(0, 3, 1, 2).to(torch.float32) - mean).mul_(scale)

    def turn_one_by_one() -> Tensor:
        turned = dihedral(images, numbers, flip=True, rotate90=True)
        return augment.normalize(turned.permute(0, 3, 1, 2))

    assert torch.equal(turn_at_once(), turn_one_by_one())
    ways = {AT_ONCE: turn_at_once, ONE_BY_ONE: turn_one_by_one}
    figures = take_turns(
        {name: Turn(way, size, 1 if options.quick else 3) for name, way in ways.items()},
        rounds=options.rounds,
    )
    rows = [Row(name, values) for name, values in figures.items()]
    title = f"{bands} band{'s' * (bands > 1)} of {dtype}, {side} px"
    table = Table(title, "CPU us/image", AT_ONCE, rows)
    ratio = table.ratio(ONE_BY_ONE)
    assert ratio is not None
    aim = Aim("image by image over all at once", ratio.median, 1.0, at_least=False)
    return Table(title, table.unit, AT_ONCE, rows, [aim])


class Turn:
    """Some batches, augmented in one way."""

    def __init__(self, way: Callable[[], Tensor], size: int, batches: int) -> None:
        self._way = way
        self._size = size
        self._batches = batches

    def __call__(self) -> float:
        """Return microseconds of the thread per image."""
        begin = time.thread_time()
        for _ in range(self._batches):
            self._way()
        return 1e6 * (time.thread_time() - begin) / (self._batches * self._size)


def main() -> None:
    """Run the benchmark."""
    run_benchmark(__doc__, add_arguments, run)


if __name__ == "__main__":
    main()
