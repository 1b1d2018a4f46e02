"""Host CPU cost per image when a device decodes: reading the file and parsing its header.

This is an upper bound of the images that a core can feed to a GPU that decodes by itself, and can
be measured without a GPU. For a GPU without JPEG engines the host also does the Huffman decoding.
"""

import time
from collections.abc import Callable, Iterator

import numpy as np
import torch

from benchmarks.harness.measure import Row, Table, take_turns
from rsdl.data.batch_buffer import LoadRule, open_buffer
from rsdl.data.crop import CropRule
from rsdl.data.dataset import DataSet, train_plan
from rsdl.data.plan import PlannedBatch, Share
from rsdl.data.sample_loader import SampleLoader

HOST, DEVICE = "read, decode, crop and resize", "read, and leave to the device"


def measure_host_part(dataset: DataSet, *, image_size: int, rounds: int, what: str) -> Table:
    """Return the images per second that the CPU time of one core allows, both ways.

    Args:
        dataset: The data set; its config gives the batches.
        image_size: Side of the crops in pixels.
        rounds: Epochs that count.
        what: The images, for the title.
    """
    data = dataset.split("train", "data.train_split")
    crop = CropRule(True, dataset.config.crop_scale, dataset.config.crop_ratio)
    rule = LoadRule(image_size, crop, num_workers=1)

    def batches() -> Iterator[PlannedBatch]:
        return train_plan(dataset.config, data, seed=0, epoch=0).batches(Share())

    def run(encoded: bool) -> Callable[[], float]:
        def turn() -> float:
            filler = SampleLoader(data, rule, [])
            num, spent = 0, 0.0
            for planned in batches():
                size = len(planned.samples)
                numbers = np.random.default_rng(0).random((size, crop.num_uniforms))
                slot = open_buffer(planned, data.manifest, rule, numbers)
                slot.encoded = [None] * size if encoded else None
                begin = time.thread_time()
                filler.fill(slot, 0, size)
                for jpeg in filter(None, slot.encoded or []):
                    torch.frombuffer(bytearray(jpeg.data), dtype=torch.uint8)
                spent += time.thread_time() - begin
                num += size
            filler.close()
            return num / spent

        return turn

    figures = take_turns({HOST: run(False), DEVICE: run(True)}, rounds=rounds)
    rows = [Row(name, values) for name, values in figures.items()]
    title = f"What a core does for {what}, to {image_size} px"
    return Table(title, "images/CPU s", HOST, rows)
