import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rsdl.config.data import DataConfig
from rsdl.core.errors import DataError
from rsdl.data.dataset import DataSet, SplitData
from rsdl.data.index import Index
from rsdl.data.packing.verify import check_dataset
from rsdl.storage.connect import connect


def problems(url: str) -> list[str]:
    found = check_dataset(connect(url)).problems
    assert all("\n" not in line for line in found)
    return found


def train_index(url: str) -> Index:
    return DataSet(DataConfig(url=url)).split("train", "").index


def change_rows(url: str, **fields: object) -> None:
    """Set fields of row 5 of the training index."""
    path = Path(url) / "index-train.npy"
    rows = np.load(path)
    for name, value in fields.items():
        rows[name][5] = value
    np.save(path, rows)


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0x55
    path.write_bytes(data)


def test_a_sound_data_set_has_no_problems(packed: str):
    told: list[tuple[int, int]] = []
    report = check_dataset(connect(packed), lambda done, total: told.append((done, total)))
    assert report.problems == []
    assert report.num_samples == 36
    assert report.num_shards == len(list(Path(packed).glob("*.tar")))
    assert told[-1] == (36, 36) and told == sorted(told)


def test_every_type_of_pixels_passes(open_arrays: Callable[..., SplitData]):
    for dtype in (np.uint8, np.uint16, np.float32):
        data = open_arrays([np.ones((5, 4, 7), dtype)] * 3, split=f"{np.dtype(dtype)}")
        assert problems(data.store.url) == []


def test_no_manifest_is_an_error(tmp_path: Path):
    with pytest.raises(DataError, match="no manifest at"):
        check_dataset(connect(str(tmp_path)))


def test_a_flipped_byte_in_an_image_names_the_shard(packed: str):
    index = train_index(packed)
    name, _, key = index.name(5).partition(":")
    flip(Path(packed) / name, int(index.rows[5]["offset"]) + int(index.rows[5]["length"]) // 2)
    found = problems(packed)
    assert f"{packed}/{name}: its SHA-256 is not the manifest's" in found[0]
    assert all(line.startswith(f"{packed}/{name}:{key}: ") for line in found[1:])


def test_an_undecodable_sample_is_named(packed: str):
    index = train_index(packed)
    name, _, key = index.name(5).partition(":")
    flip(Path(packed) / name, int(index.rows[5]["offset"]))
    found = problems(packed)
    assert len(found) == 2
    assert found[1].startswith(f"{packed}/{name}:{key}: is named as a JPEG but holds no image")


def test_a_truncated_shard_and_its_lost_samples_are_named(packed: str):
    index = train_index(packed)
    name = index.shard_names[1]
    first, num = int(index.shard_samples[0]), int(index.shard_samples[1])
    assert num > 2
    path = Path(packed) / name
    path.write_bytes(path.read_bytes()[: int(index.rows[first + 1]["offset"]) + 10])

    found = problems(packed)

    assert f"{packed}/{name}: is truncated: " in found[0]
    lost = [f"{packed}/{index.name(sample)}: " for sample in range(first + 1, first + num)]
    assert [next(line for line in lost if f.startswith(line)) for f in found[1:]] == lost


def test_a_missing_shard_and_a_missing_index_are_named(packed: str):
    name = train_index(packed).shard_names[2]
    (Path(packed) / name).unlink()
    (Path(packed) / "index-val.npy").unlink()
    assert problems(packed) == [
        f"{packed}/{name}: is missing",
        f"{packed}/index-val.npy: is missing",
    ]


def test_a_shard_that_grew_is_named(packed: str):
    name = train_index(packed).shard_names[0]
    with (Path(packed) / name).open("ab") as stream:
        stream.write(b"more")
    assert re.fullmatch(rf"{packed}/{name}: is too long: \d+ of \d+ bytes", problems(packed)[0])


def test_two_swapped_shards_are_named(packed: str):
    one, other = (Path(packed) / name for name in train_index(packed).shard_names[:2])
    first = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(first)
    found = problems(packed)
    for path in (one, other):
        assert any(line.startswith(f"{path}: ") for line in found)
        assert any(
            line.startswith(f"{path}:") and "is in the index, but not in the tar" in line
            for line in found
        )


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"label": 99}, "label 99 is out of range"),
        ({"label": -1}, "label -1 is out of range"),
        ({"label": 2**31 - 1}, "label 2147483647 is out of range"),
        ({"offset": 3}, "the index and the tar disagree on where it lies"),
        ({"offset": 2**64 - 1}, "the index and the tar disagree on where it lies"),
        ({"length": 7}, "the index and the tar disagree on where it lies"),
        ({"key": b"nobody"}, "is in the index, but not in the tar"),
        ({"key": b"\xff\xfe"}, "is in the index, but not in the tar"),
        ({"extension": 200}, "the index does not say what kind of image it is"),
    ],
)
def test_a_wrong_row_of_the_index_names_the_sample(
    fields: dict[str, object], problem: str, packed: str
):
    change_rows(packed, **fields)
    name, _, key = train_index(packed).name(5).partition(":")
    found = problems(packed)
    assert "index-train.npy: its SHA-256 is not the manifest's" in found[0]
    assert f"{packed}/{name}:{key}: {problem}" in found


def test_a_wrong_label_within_range_is_found_by_the_tar(packed: str):
    index = train_index(packed)
    label = int(index.labels[5])
    wrong = (label + 1) % 3
    change_rows(packed, label=wrong)
    found = problems(packed)
    assert any("labels disagree with the manifest's counts of train" in line for line in found)
    where = f"{packed}/{index.name(5)}"
    assert f"{where}: has label {wrong} in the index and {label} in the tar" in found


def test_a_broken_index_is_named_and_its_shards_are_still_summed(packed: str):
    (Path(packed) / "index-train.npy").write_bytes(b"nonsense")
    name = train_shard = sorted(path.name for path in Path(packed).glob("train-*.tar"))[0]
    flip(Path(packed) / train_shard, 5)
    found = problems(packed)
    assert any(f"{packed}/index-train.npy: is truncated" in line for line in found)
    assert any(f"{packed}/{name}: its SHA-256" in line for line in found)
