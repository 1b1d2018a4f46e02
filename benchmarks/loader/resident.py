"""Images per second ready for the network: from device memory compared with from files.

Both make the same batches of the same epochs (random resized crop, flips and quarter turns,
normalisation), augmented on the available device: a GPU, else the CPU. The file loader decodes and
resizes in threads and copies; the resident loader gathers on the device. Epochs alternate, so that
other load affects both alike, and the first of each is not counted. On a GPU the resident loader
should be far ahead and needs no core; on a CPU files are faster, which is why
``data.resident=auto`` selects it on a GPU only.

    python -m benchmarks.loader.resident URL [--image-size 224] [--batch-size 64] [--epochs 6]
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from rsdl.config.data import AugmentConfig, DataConfig
from rsdl.core.resources import usable_cores
from rsdl.data.augment import Augment
from rsdl.data.datamodule import load_rule
from rsdl.data.dataset import DataSet, train_plan
from rsdl.data.gpu.read_split import ResidentSplit, estimate_pixels, read_split
from rsdl.data.gpu.resident import ResidentLoader
from rsdl.data.loader import BatchLoader
from rsdl.data.plan import Share

Loader = BatchLoader | ResidentLoader


def run_epoch(loader: Loader, augment: Augment, device: torch.device) -> tuple[float, float]:
    """Return images per second, and the cores kept busy."""
    begin, work, num = time.perf_counter(), time.process_time(), 0
    for batch in loader:
        augment(batch.to(device), training=True)
        num += len(batch)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    passed = time.perf_counter() - begin
    return num / passed, (time.process_time() - work) / passed


def measure(
    dataset: DataSet, device: torch.device, epochs: int
) -> tuple[list[tuple[float, float]], list[tuple[float, float]], float]:
    """Return the values of each counted epoch, from files and from memory, and the loading time."""
    config, manifest = dataset.config, dataset.manifest
    data = dataset.split(config.train_split, "data.train_split")
    on_gpu = device.type == "cuda"
    rule = load_rule(config, training=True, pin_memory=on_gpu, processes=1)
    augment = Augment(AugmentConfig(), manifest.mean, manifest.std, manifest.dtype).to(device)
    begin = time.perf_counter()
    resident: ResidentSplit = read_split(
        data,
        device,
        expected=estimate_pixels(data),
        limit=1 << 62,
        num_workers=rule.num_workers,
    )
    loaded_s = time.perf_counter() - begin
    files, memory = [], []
    for epoch in range(epochs):
        plan = train_plan(config, data, seed=0, epoch=epoch)
        files.append(run_epoch(BatchLoader(data, plan, Share(), rule), augment, device))
        memory.append(run_epoch(ResidentLoader(resident, plan, Share(), rule), augment, device))
    return files[1:], memory[1:], loaded_s


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--num-workers", type=int, default=usable_cores())
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    dataset = DataSet(
        DataConfig(
            url=options.url,
            image_size=options.image_size,
            batch_size=options.batch_size,
            num_workers=options.num_workers,
        )
    )
    files, memory, loaded_s = measure(dataset, device, options.epochs)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    ratios = [ours[0] / theirs[0] for ours, theirs in zip(memory, files, strict=True)]
    print(f"{options.url} to {options.image_size} px, batch {options.batch_size}, {name}, "
          f"{options.num_workers} loader threads, medians of {len(files)} epochs")  # fmt: skip
    for title, found in (("files", files), ("resident", memory)):
        print(f"{title:9} {_median(found, 0):10.0f} images/s  {_median(found, 1):5.2f} cores busy")
    print(f"resident / files {statistics.median(ratios):.2f}  ({min(ratios):.2f} to "
          f"{max(ratios):.2f}); loaded in {loaded_s:.1f} s")  # fmt: skip
    if options.json:
        figures = {"device": name, "files": files, "resident": memory, "loaded_s": loaded_s}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def _median(found: Sequence[tuple[float, float]], column: int) -> float:
    return statistics.median(row[column] for row in found)


if __name__ == "__main__":
    main()
