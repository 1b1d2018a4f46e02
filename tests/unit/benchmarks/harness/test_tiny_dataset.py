"""The data set of very many small samples is one like any other."""

import tarfile
from pathlib import Path

import numpy as np

from benchmarks.harness.tiny_dataset import NUM_CLASSES, encode_png, to_digits, write_tiny_dataset
from rsdl.config.data import DataConfig
from rsdl.data.dataset import DataSet
from rsdl.data.decode import decode_image
from rsdl.data.tar import hash_file


def test_pngs_hold_their_pixels() -> None:
    pixels = np.random.default_rng(0).integers(256, size=(16, 16, 3), dtype=np.uint8)
    assert np.array_equal(decode_image(encode_png(pixels), "png", "here"), pixels)


def test_digits_come_highest_first() -> None:
    assert to_digits(np.array([7, 64]), 8, 3).tolist() == [[0, 0, 7], [1, 0, 0]]


def test_shards_index_and_manifest_agree(tmp_path: Path) -> None:
    count = 10_050  # two shards
    data = DataSet(DataConfig(url=write_tiny_dataset(tmp_path / "tiny", count))).split("train", "")
    assert len(data.index) == count
    first = 0
    for shard in data.manifest.splits["train"].shards:
        path = tmp_path / "tiny" / shard.name
        assert hash_file(path) == shard.sha256
        with tarfile.open(path) as archive:  # which checks every header's sum
            members = archive.getmembers()
            for number in (0, shard.samples - 1):
                row = data.index.rows[first + number]
                image, label = members[2 * number : 2 * number + 2]
                assert image.name == row["key"].decode() + ".png"
                assert (image.offset_data, image.size) == (row["offset"], row["length"])
                content = archive.extractfile(label)
                assert content is not None
                assert int(content.read()) == row["label"] == (first + number) % NUM_CLASSES
        assert len(members) == 2 * shard.samples
        first += shard.samples
