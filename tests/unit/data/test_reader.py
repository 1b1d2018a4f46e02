import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsdl.core.errors import CorruptSampleError, StorageError
from rsdl.data.reader import MAX_OPEN, ShardReader
from rsdl.storage.connect import connect


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shards")
    for number in range(MAX_OPEN + 8):
        (root / f"{number}.tar").write_bytes(bytes([number]) * 100)
    return root


def reader_of(root: Path) -> ShardReader:
    return ShardReader(connect(str(root)), tuple(f"{n}.tar" for n in range(MAX_OPEN + 8)))


def num_open() -> int:
    return len(os.listdir("/proc/self/fd"))


@given(reads=st.lists(st.tuples(st.integers(0, MAX_OPEN + 7), st.integers(0, 99)), max_size=80))
def test_bytes_come_from_the_shard_asked_for(reads: list[tuple[int, int]], shards: Path):
    reader = reader_of(shards)
    for shard, offset in reads:
        assert reader.read(shard, offset, 100 - offset) == bytes([shard]) * (100 - offset)
    reader.close()


def test_a_bounded_number_of_files_is_open_and_none_after_closing(shards: Path):
    before, reader = num_open(), reader_of(shards)
    for shard in range(MAX_OPEN + 8):
        reader.read(shard, 0, 1)
    assert num_open() == before + MAX_OPEN
    reader.close()
    assert num_open() == before


@pytest.mark.parametrize(("offset", "length"), [(90, 11), (100, 1), (2**40, 5), (2**64 - 1, 5)])
def test_reading_beyond_the_end_is_a_corrupt_sample(offset: int, length: int, shards: Path):
    reader = reader_of(shards)
    with pytest.raises(CorruptSampleError, match=r'^3\.tar: is truncated: .* "rsdl data verify'):
        reader.read(3, offset, length)
    reader.close()


def test_a_missing_shard_says_how_to_find_all_of_them(tmp_path: Path):
    with pytest.raises(StorageError, match=r'0\.tar: no such file; run "rsdl data verify'):
        reader_of(tmp_path).read(0, 0, 1)
