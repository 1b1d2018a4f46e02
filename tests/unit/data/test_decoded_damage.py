"""Damage to a file of decoded pixels: found, said, decoded again, and never read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rsdl.config.data import DataConfig
from rsdl.data.dataset import DataSet, SplitData
from rsdl.data.decoded_cache.layout import HEADER
from tests.unit.data import filler_process
from tests.unit.data.kept import (
    ALIKE,
    UNLIKE,
    assert_same,
    encoded_bytes,
    file_of,
    fill,
    open_split,
    read,
    read_while,
)

KINDS = pytest.mark.parametrize("sizes", [ALIKE, UNLIKE], ids=["slots", "reserved"])


def flip(path: Path, byte: int, bit: int = 0) -> None:
    """Flip a bit of a file, as a disk does."""
    with path.open("r+b") as file:
        file.seek(byte)
        (value,) = file.read(1)
        file.seek(byte)
        file.write(bytes([value ^ 1 << bit]))


def damage(data: SplitData, *samples: int) -> None:
    """Flip a bit in the midst of the pixels of samples."""
    file = file_of(data)
    for sample in samples:
        found = file.find(np.array([sample]))
        middle = int(found.heights[0] * found.widths[0]) * 3 // 2
        flip(file.path, int(found.offsets[0]) + middle, bit=sample % 8)


def damage_closed(url: str, *samples: int, **config: Any) -> None:  # noqa: ANN401
    data = open_split(url, **config)
    damage(data, *samples)
    file_of(data).close()


@KINDS
def test_a_damaged_sample_is_decoded_again_written_again_and_said_once(
    sizes: list[tuple[int, int]], pack_sizes: Callable[..., str], caplog: pytest.LogCaptureFixture
):
    url = pack_sizes(sizes)
    path = fill(url)
    plain = [read(open_split(url, "off"), epoch) for epoch in range(3)]
    damage_closed(url, 2, 5)

    data = open_split(url)
    first = read(data, 0)

    assert_same(first, plain[0])
    index = data.index
    assert encoded_bytes(first) == sum(int(index.rows[sample]["length"]) for sample in (2, 5))
    (record,) = caplog.records
    assert record.message == (
        f"data.decoded_cache: {path}: damaged pixels of 2 of 7 samples were decoded again: "
        "check the disk, or move data.cache.folder to another"
    )
    second = read(data, 1)
    third = read(open_split(url), 2)
    assert_same(second, plain[1])
    assert_same(third, plain[2])
    assert encoded_bytes(second) == encoded_bytes(third) == 0
    assert len(caplog.records) == 1


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(draw=st.data())
@pytest.mark.parametrize("sizes", [ALIKE, UNLIKE], ids=["slots", "reserved"])
def test_no_flipped_bit_of_a_file_reaches_a_batch(
    sizes: list[tuple[int, int]], draw: st.DataObject, pack_sizes: Callable[..., str]
):
    url = Path(pack_sizes(sizes, seed=1))
    path = fill(str(url))
    header, table = st.integers(0, HEADER.itemsize - 1), st.integers(4096, 4096 + 21 * 7 - 1)
    pixels = st.integers(8192, path.stat().st_size - 1)
    for _ in range(draw.draw(st.integers(1, 3), label="bits")):
        where = draw.draw(st.one_of(header, table, pixels), label="byte")
        flip(path, where, draw.draw(st.integers(0, 7), label="bit"))
    expected, _ = filler_process.read_rows(open_split(str(url), "off"), list(range(7)))

    for _ in range(2):
        data = open_split(str(url))
        found, _ = filler_process.read_rows(data, list(range(7)))
        assert np.array_equal(found, expected)
        file_of(data).close()
    path.unlink()


@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
@KINDS
def test_a_file_that_was_cut_off_is_made_anew(
    share: float, sizes: list[tuple[int, int]], pack_sizes: Callable[..., str]
):
    url = pack_sizes(sizes)
    path = fill(url)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])

    data = open_split(url)

    assert file_of(data).num_here == 0
    assert_same(read(data), read(open_split(url, "off")))
    assert encoded_bytes(read(data, 1)) == 0


@KINDS
def test_kills_while_damage_is_written_over_leave_no_wrong_sample(
    sizes: list[tuple[int, int]],
    filler: Callable[..., int],
    pack_sizes: Callable[..., str],
    tmp_path: Path,
):
    url = pack_sizes(sizes)
    cache = {"folder": str(tmp_path / "cache")}
    config, order = {"url": url, "cache": cache}, list(range(7))
    fill(url, cache=cache)
    damage_closed(url, *order, cache=cache)
    expected, _ = filler_process.read_rows(open_split(url, "off"), order)

    for die in (0, 1):  # what was reserved for these is lost, and room is scarce
        assert filler(config, order, die) == -9
    mine = DataSet(DataConfig(**config)).split("train", "")
    found, encoded = filler_process.read_rows(mine, order)

    assert np.array_equal(found, expected) and encoded > 0


@KINDS
def test_processes_that_share_a_damaged_file_read_no_damage(
    sizes: list[tuple[int, int]],
    filler: Callable[..., int],
    pack_sizes: Callable[..., str],
    tmp_path: Path,
):
    url = pack_sizes(sizes * 4)
    cache = {"folder": str(tmp_path / "cache")}
    config, order = {"url": url, "cache": cache}, list(range(28))
    fill(url, cache=cache)
    damage_closed(url, *order[::3], cache=cache)
    expected, _ = filler_process.read_rows(open_split(url, "off"), order)
    mine = DataSet(DataConfig(**config)).split("train", "")
    found = read_while(filler, config, mine, order)

    assert np.array_equal(found[::-1], expected)
    later, _ = filler_process.read_rows(open_split(url, cache=cache), order)
    assert np.array_equal(later, expected)


@KINDS
def test_a_sample_that_another_wrote_again_is_read_from_its_new_place(
    sizes: list[tuple[int, int]], pack_sizes: Callable[..., str]
):
    url = pack_sizes(sizes)
    fill(url)
    one, other, order = open_split(url), open_split(url), list(range(7))
    expected, _ = filler_process.read_rows(one, order)
    damage(one, 0)
    filler_process.read_rows(other, order)

    found, encoded = filler_process.read_rows(one, order)

    assert np.array_equal(found, expected) and encoded == 0


@pytest.mark.parametrize("copy", [0, 1])
def test_a_damaged_mark_of_the_room_in_use_gives_no_room_twice(
    copy: int, pack_sizes: Callable[..., str]
):
    url = pack_sizes(UNLIKE)
    data = open_split(url)
    filler_process.read_rows(data, [0, 1, 2])
    header = np.memmap(file_of(data).path, HEADER, "r+", shape=1)
    header["used"][0, copy] = 8192
    filler_process.read_rows(data, [3, 4, 5, 6])

    again = open_split(url)
    expected, _ = filler_process.read_rows(open_split(url, "off"), list(range(7)))
    found, encoded = filler_process.read_rows(again, list(range(7)))

    assert np.array_equal(found, expected) and encoded == 0


def test_a_sample_is_written_again_on_a_full_disk_where_its_room_is(
    small_disk: Path, pack_sizes: Callable[..., str]
):
    url = pack_sizes(ALIKE)
    cache = {"folder": str(small_disk / "cache")}
    fill(url, cache=cache, decoded_cache="100kB")
    damage_closed(url, 1, cache=cache, decoded_cache="100kB")
    with (small_disk / "ballast").open("wb", buffering=0) as ballast, pytest.raises(OSError):
        while True:
            ballast.write(bytes(4096))
    expected, _ = filler_process.read_rows(open_split(url, "off"), list(range(7)))

    data = open_split(url, "100kB", cache=cache)

    for rereads in (True, False):
        found, encoded = filler_process.read_rows(data, list(range(7)))
        assert np.array_equal(found, expected) and (encoded > 0) == rereads
