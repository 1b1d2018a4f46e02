"""Count the objects of a split by size, as COCO's metrics divide them, by their whole area."""

from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from rsdl.data.dataset import SplitData
from rsdl.data.targets import KINDS
from rsdl.data.targets.corners import areas
from rsdl.data.targets.objects import IGNORED

SIZES = ("small", "medium", "large")
LIMITS = (32**2, 96**2)  # px


def count_sizes(data: SplitData) -> NDArray[np.int64]:
    """Return the objects of each class and size, without those that are ignored, ``[C, 3]``.

    Raises:
        CorruptSampleError: If objects cannot be read.
        StorageError: If a shard cannot be read.
    """
    counts = np.zeros((len(data.manifest.classes), len(SIZES)), np.int64)
    kind = KINDS[data.manifest.target]
    with closing(data.open_reader(shrink=False)) as reader:
        for sample in range(len(data.index)):
            objects = reader.target(sample, kind)
            objects = objects.take((objects.flags & IGNORED) == 0)
            sizes = np.searchsorted(LIMITS, areas(objects.corners), side="right")
            np.add.at(counts, (objects.labels, sizes), 1)
    return counts
