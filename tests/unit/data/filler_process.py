"""A process that reads splits through the decoded cache, and may be killed in the midst of a write.

Run as a script, with one JSON request a line on stdin; each is served by a fork, so that only one
process pays for the imports. ``die`` is the number of the ``os.pwrite`` that writes half of its
bytes and is the process's last.
"""

import itertools
import json
import os
import signal
import sys
from typing import Any

import numpy as np

from rsdl.config.data import DataConfig
from rsdl.core.rng import uniforms
from rsdl.data.batch_buffer import LoadRule, open_buffer
from rsdl.data.crop import CropRule
from rsdl.data.dataset import DataSet, SplitData
from rsdl.data.plan import PlannedBatch
from rsdl.data.sample_loader import SampleLoader

RULE = LoadRule(image_size=16, crop=CropRule(random=True, scale=(0.3, 1.0)))


def main() -> None:
    """Serve requests until stdin ends."""
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if not pid:
            serve(request)
        _, status = os.waitpid(pid, 0)
        print(json.dumps(os.waitstatus_to_exitcode(status)), flush=True)


def serve(request: dict[str, Any]) -> None:
    """Read a split once, one sample at a time, and end."""
    if request["die"] is not None:
        die_at(request["die"])
    data = DataSet(DataConfig(**request["data"])).split("train", "")
    read_rows(data, request["order"])
    os._exit(0)


def read_rows(data: SplitData, order: list[int]) -> tuple[np.ndarray, int]:
    """Return the rows of samples in the given order, and the bytes read from shards."""
    sample_loader = SampleLoader(data, RULE, [])
    samples = np.array(order, dtype=np.int64)
    planned = PlannedBatch(0, samples, samples, np.ones(len(samples), bool), len(samples))
    numbers = uniforms(5, samples, RULE.crop.num_uniforms)
    buffer = open_buffer(planned, data.manifest, RULE, numbers)
    encoded = sum(sample_loader.fill(buffer, row, row + 1)[0] for row in range(len(samples)))
    sample_loader.close()
    return buffer.pixels, encoded


def die_at(number: int) -> None:
    """Kill this process in the midst of its ``number``-th write."""
    count, write = itertools.count(), os.pwrite

    def torn(fd: int, data: Any, offset: int) -> int:  # noqa: ANN401
        if next(count) == number:
            content = bytes(data)
            write(fd, content[: len(content) // 2], offset)
            os.kill(os.getpid(), signal.SIGKILL)
        return write(fd, data, offset)

    os.pwrite = torn


if __name__ == "__main__":
    main()
