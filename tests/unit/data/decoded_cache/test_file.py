"""The decoded cache: the same samples as without it, whatever happens to who fills it."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rsdl.config.data import DataConfig
from rsdl.core.errors import CorruptSampleError
from rsdl.core.sample_counts import SampleCounts
from rsdl.data.dataset import DataSet
from rsdl.data.decode import DecodeRule
from rsdl.data.decoded_cache import layout as decoded_layout
from rsdl.data.decoded_cache.policy import cache_name, lay_out
from rsdl.storage.cache.config import CacheConfig
from rsdl.storage.cache.node_cache import NodeCache, clear_cache
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


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    dtype=st.sampled_from(["uint8", "uint16", "float32"]),
    bands=st.sampled_from([1, 2, 3, 4, 5, 13]),
    sizes=st.one_of(
        st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=7),
        st.tuples(st.integers(1, 40), st.integers(1, 40)).map(lambda size: [size] * 6),
    ),
    shorter=st.sampled_from([None, 8, 20]),
    num_workers=st.integers(1, 3),
)
def test_samples_are_equal_bit_by_bit_with_and_without_the_tier(
    dtype: str,
    bands: int,
    sizes: list[tuple[int, int]],
    shorter: int | None,
    num_workers: int,
    pack_sizes: Callable[..., str],
):
    url = pack_sizes(sizes, bands=bands, dtype=dtype)
    rule = {"num_workers": num_workers}
    kept = open_split(url, "1MB", decode_size=shorter)
    plain = open_split(url, "off", decode_size=shorter)

    for epoch in range(2):
        assert_same(read(kept, epoch, **rule), read(plain, epoch, **rule))

    again = read(open_split(url, "1MB", decode_size=shorter), 2, **rule)
    assert_same(again, read(plain, 2, **rule))
    few = len(sizes) <= 7  # all of them were looked at: their slots or their sum fit
    assert few and (encoded_bytes(again) == 0 or file_of(kept).num_here < len(sizes))


@pytest.mark.parametrize("sizes", [ALIKE, UNLIKE], ids=["slots", "reserved"])
def test_pixels_are_read_from_shards_once_by_all_runs_and_splits(
    sizes: list[tuple[int, int]], pack_sizes: Callable[..., str]
):
    url = pack_sizes(sizes)
    first = open_split(url)
    assert encoded_bytes(read(first)) > 0
    assert encoded_bytes(read(first, 1)) == 0
    assert encoded_bytes(read(open_split(url), 2)) == 0
    for path in Path(url).glob("*.tar"):
        path.unlink()
    assert sum(len(batch) for batch in read(open_split(url), 3)) == 8


@pytest.mark.parametrize("sizes", [ALIKE, UNLIKE], ids=["slots", "reserved"])
def test_two_openings_of_a_file_fill_it_at_once(
    sizes: list[tuple[int, int]], pack_sizes: Callable[..., str]
):
    url = pack_sizes(sizes * 6)
    plain = read(open_split(url, "off"), 1)
    splits = [open_split(url) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        for found in pool.map(lambda split: read(split, 1, num_workers=3), splits):
            assert_same(found, plain)
    for split in splits:
        assert_same(read(split, 1), plain)


@pytest.mark.parametrize("sizes", [ALIKE * 2, UNLIKE * 2], ids=["slots", "reserved"])
def test_every_sample_is_right_after_kills_in_the_midst_of_any_write(
    sizes: list[tuple[int, int]],
    filler: Callable[..., int],
    pack_sizes: Callable[..., str],
    tmp_path: Path,
):
    url = pack_sizes(sizes)
    config = {"url": url, "cache": {"folder": str(tmp_path / "cache")}}
    order = list(range(len(sizes)))
    expected, _ = filler_process.read_rows(open_split(url, "off"), order)
    random = np.random.default_rng(1)

    # The first two writes are the header's and the table's, by whoever makes the file.
    for die in (0, 1, 2, 3, 5, 1):
        assert filler(config, random.permutation(order).tolist(), die) == -9
        found, _ = filler_process.read_rows(open_split(url, "off"), order)
        assert np.array_equal(found, expected)
    mine = DataSet(DataConfig(**config)).split("train", "")
    assert 0 < file_of(mine).num_here < len(sizes)

    assert filler(config, order) == 0
    found, encoded = filler_process.read_rows(mine, order)

    assert np.array_equal(found, expected)
    assert encoded == 0
    assert NodeCache(tmp_path / "cache", 10**9).usage()[0] == 1  # no part is left over


def test_processes_and_this_one_fill_the_same_file(
    filler: Callable[..., int], pack_sizes: Callable[..., str], tmp_path: Path
):
    url = pack_sizes(UNLIKE * 4)
    config = {"url": url, "cache": {"folder": str(tmp_path / "cache")}}
    order = list(range(28))
    expected, _ = filler_process.read_rows(open_split(url, "off"), order)
    mine = DataSet(DataConfig(**config)).split("train", "")
    found = read_while(filler, config, mine, order)

    assert np.array_equal(found[::-1], expected)
    found, encoded = filler_process.read_rows(mine, order)
    assert np.array_equal(found, expected) and encoded == 0


def test_a_file_that_was_being_filled_when_the_machine_stopped_is_thrown_away(
    pack_sizes: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    url = pack_sizes(ALIKE)
    data = open_split(url)
    filler_process.read_rows(data, [0, 1, 2])
    assert file_of(data).num_here == 3
    file_of(data).close()
    monkeypatch.setattr(decoded_layout, "BOOT_ID", tmp_path / "boot")
    (tmp_path / "boot").write_text("another\n")

    after = open_split(url)

    assert file_of(after).num_here == 0
    assert_same(read(after), read(open_split(url, "off")))


def test_a_whole_file_outlives_the_machine(
    pack_sizes: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    url = pack_sizes(ALIKE)
    fill(url)
    monkeypatch.setattr(decoded_layout, "BOOT_ID", tmp_path / "boot")
    (tmp_path / "boot").write_text("another\n")

    assert encoded_bytes(read(open_split(url), 1)) == 0


def test_a_stale_file_that_another_holds_is_left_alone(
    pack_sizes: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
):
    url = pack_sizes(ALIKE)
    other = open_split(url)
    filler_process.read_rows(other, [0, 1, 2])
    monkeypatch.setattr(decoded_layout, "BOOT_ID", tmp_path / "boot")
    (tmp_path / "boot").write_text("another\n")

    after = open_split(url)

    assert after.decoded_cache is not None and after.decoded_cache.file() is None
    assert "is in use elsewhere: samples are decoded every time" in caplog.text
    assert_same(read(after), read(open_split(url, "off")))
    assert file_of(other).num_here == 3


@pytest.mark.parametrize("content", [b"", b"short", bytes(100_000), b"rsdl-px\n" * 5000])
def test_a_file_of_anything_else_is_replaced(content: bytes, pack_sizes: Callable[..., str]):
    url = pack_sizes(ALIKE)
    data = open_split(url)
    path = file_of(data)._pin.path
    file_of(data).close()
    path.write_bytes(content)

    again = open_split(url)

    assert_same(read(again), read(open_split(url, "off")))
    assert encoded_bytes(read(again, 1)) == 0


def test_every_thing_that_pixels_depend_on_names_another_file():
    rule = DecodeRule(3, "uint8")
    names = {
        cache_name(rule, ("manifest", "train")),
        cache_name(rule, ("other", "train")),
        cache_name(rule, ("manifest", "val")),
        cache_name(DecodeRule(1, "uint8"), ("manifest", "train")),
        cache_name(DecodeRule(3, "uint16"), ("manifest", "train")),
        cache_name(DecodeRule(3, "uint8", 100), ("manifest", "train")),
    }
    assert len(names) == 6


def test_a_data_set_that_was_packed_anew_never_meets_old_pixels(
    pack_sizes: Callable[..., str],
    array_source: Any,  # noqa: ANN401
):
    url = pack_sizes(ALIKE, seed=1)
    read(open_split(url))
    other = pack_sizes(ALIKE, seed=2)
    for name in ("manifest.json", "index-train.npy"):
        Path(url, name).write_bytes(Path(other, name).read_bytes())
    for path in Path(other).glob("*.tar"):
        Path(url, path.name).write_bytes(path.read_bytes())

    assert_same(read(open_split(url), 1), read(open_split(other, "off"), 1))


def test_a_corrupt_sample_is_skipped_or_raised_in_every_epoch(packed: str):
    data = open_split(packed, "off")
    row, name = data.index.rows[5], data.index.name(5)
    path = Path(packed) / name.partition(":")[0]
    whole = bytearray(path.read_bytes())
    whole[int(row["offset"]) : int(row["offset"]) + int(row["length"])] = bytes(int(row["length"]))
    path.write_bytes(whole)
    kept, plain = open_split(packed), open_split(packed, "off")

    for epoch in range(3):
        found = read(kept, epoch, on_corrupt="skip")
        assert_same(found, read(plain, epoch, on_corrupt="skip"))
        assert sum((batch.counts for batch in found), SampleCounts()).skipped == 1
        with pytest.raises(CorruptSampleError) as caught:
            read(kept, epoch)
        assert str(caught.value).startswith(f"{name}: ")
    assert file_of(kept).num_here == 17 and file_of(kept).is_complete


def test_images_without_room_are_decoded_every_time(
    pack_sizes: Callable[..., str], monkeypatch: pytest.MonkeyPatch
):
    url = pack_sizes([(8, 8)] * 5 + [(60, 60)] * 2)
    monkeypatch.setattr("rsdl.data.decoded_cache.policy.probe_sizes", lambda *_: [(8, 8), (10, 8)])
    data, plain = open_split(url), open_split(url, "off")
    for epoch in range(3):
        assert_same(read(data, epoch), read(plain, epoch))
    assert file_of(data).num_here == 5 and file_of(data).is_complete


@pytest.mark.parametrize(
    ("decoded_cache", "cache", "said", "level"),
    [
        ("auto", {"size": "1kB"}, "is left of data.cache.size", logging.INFO),
        ("1kB", {}, "is allowed", logging.WARNING),
    ],
)
def test_pixels_that_do_not_fit_are_not_kept_and_that_is_said_once(
    decoded_cache: str,
    cache: dict[str, Any],
    said: str,
    level: int,
    pack_sizes: Callable[..., str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level(logging.INFO)
    url = pack_sizes(ALIKE)
    data = open_split(url, decoded_cache, cache={"folder": str(tmp_path / "cache"), **cache})
    for epoch in range(2):
        assert_same(read(data, epoch), read(open_split(url, "off"), epoch))
    (record,) = caplog.records
    assert record.levelno == level
    assert record.message.startswith("data.decoded_cache: ") and said in record.message


def test_auto_leaves_half_of_the_memory(
    pack_sizes: Callable[..., str], monkeypatch: pytest.MonkeyPatch
):
    url = pack_sizes(ALIKE)
    monkeypatch.setattr("rsdl.data.decoded_cache.policy.usable_memory", lambda: 2 * 15_000)
    data = open_split(url)
    assert data.decoded_cache is not None and data.decoded_cache.file() is None
    assert open_split(url, "1MB").decoded_cache.file() is not None  # type: ignore[union-attr]


@pytest.mark.parametrize("what", ["unwritable", "unlockable"])
def test_a_cache_that_cannot_be_used_is_one_line_and_no_error(
    what: str,
    pack_sizes: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    url = pack_sizes(ALIKE)
    folder = tmp_path / "cache"
    if what == "unwritable":
        folder.write_bytes(b"a file where the folder should be")
    else:

        def refuse(*_: object) -> None:
            raise OSError(37, "No locks available")

        monkeypatch.setattr("rsdl.storage.locks.fcntl.flock", refuse)
    data = open_split(url, cache={"folder": str(folder)})
    assert_same(read(data), read(open_split(url, "off")))
    assert len(caplog.records) == 1
    assert caplog.records[0].message.startswith("data.decoded_cache: ")


def test_without_a_cache_only_a_budget_of_its_own_keeps_pixels(pack_sizes: Callable[..., str]):
    url = pack_sizes(ALIKE)
    assert open_split(url, "auto", cache="none").decoded_cache is None
    data = open_split(url, "1MB", cache="none")
    read(data)
    assert encoded_bytes(read(data, 1)) == 0


@pytest.mark.parametrize("value", ["off", False])
def test_off_is_off_also_as_yaml_reads_it(value: object):
    assert DataConfig(url="x", decoded_cache=value).decoded_cache == "off"  # type: ignore[arg-type]


def test_a_file_in_use_is_never_evicted(pack_sizes: Callable[..., str], tmp_path: Path):
    url = pack_sizes(ALIKE)
    cache = CacheConfig(folder=str(tmp_path / "cache"))
    data = open_split(url, cache=cache)
    read(data)
    node = NodeCache(cache.root, 10**9)
    assert clear_cache(cache.root) == 0 and node.usage()[0] == 1
    assert encoded_bytes(read(data, 1)) == 0
    file_of(data).close()
    assert clear_cache(cache.root) > 10_000


@given(
    heights=st.lists(st.integers(1, 5000), min_size=1, max_size=32),
    samples=st.integers(1, 10**6),
    pixel=st.integers(1, 26),
)
def test_a_layout_has_room_for_what_was_looked_at(heights: list[int], samples: int, pixel: int):
    layout = lay_out([(height, 100) for height in heights], samples, pixel)
    assert layout is not None
    mean = sum(heights) * 100 * pixel / len(heights)
    assert layout.pixel_bytes >= int(mean * samples)
    if layout.slot is not None:
        assert layout.slot >= max(heights) * 100 * pixel
        assert layout.pixel_bytes <= (1.1 * mean + 64) * samples
    assert layout.start >= 4096 + 21 * samples and layout.start % 4096 == 0
