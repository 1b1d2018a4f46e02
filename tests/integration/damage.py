"""Shards that are damaged on purpose."""

from pathlib import Path

import numpy as np

from rsdl.config.data import DataConfig
from rsdl.data.dataset import DataSet


def spoil(packed: str, sample: int) -> str:
    """Write zeros over the image of a training sample, and return the sample's key."""
    index = DataSet(DataConfig(url=packed)).split("train", "data.train_split").index
    row = index.rows[sample]
    with (Path(packed) / index.name(sample).partition(":")[0]).open("r+b") as shard:
        shard.seek(int(row["offset"]))
        shard.write(bytes(int(row["length"])))
    return index.keys(np.array([sample]))[0]
