"""The upper bound: rsdl's decoder in as many threads, on JPEGs in memory, delivering nothing."""

import threading

import numpy as np
import simplejpeg

from benchmarks.harness.task import Counter, Task, Workload
from rsdl.data.crop import CropRule, crop_box
from rsdl.data.resize import resize_into


def build(task: Task, resize: bool = False) -> Workload:
    """Return a workload that yields one empty batch as often as there are batches."""
    encoded = [path.read_bytes() for path, _ in task.list_images()]
    rule = CropRule(True, task.scale, task.ratio)
    numbers = np.random.default_rng(task.seed).random((len(encoded), rule.num_uniforms)).tolist()
    num_batches = len(encoded) // task.batch_size
    used = num_batches * task.batch_size

    def work(worker: int) -> None:
        out = np.empty((task.image_size, task.image_size, 3), np.uint8)
        for place in range(worker, used, task.workers):
            pixels = simplejpeg.decode_jpeg(encoded[place])
            if resize:
                tall, wide = pixels.shape[:2]
                top, left, height, width = crop_box(rule, tall, wide, numbers[place])
                resize_into(pixels[top : top + height, left : left + width], out)

    def run_epoch(take: Counter) -> None:
        threads = [threading.Thread(target=work, args=(n,)) for n in range(task.workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        take.count(used)

    return Workload(run_epoch, note="delivers nothing")
