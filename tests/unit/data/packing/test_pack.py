import errno
import gc
import hashlib
import io
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
import webdataset

from rsdl.core.errors import CorruptSampleError, DataError, StorageError
from rsdl.data import tar
from rsdl.data.decode import decode_image
from rsdl.data.index import open_index
from rsdl.data.manifest import MANIFEST, load_manifest
from rsdl.data.packing.pack import PackOptions, pack
from rsdl.data.sources import folder
from rsdl.data.sources.folder import FolderSource
from rsdl.storage import local
from rsdl.storage.connect import connect
from rsdl.storage.local import LocalStore

FRACTIONS = (0.5, 0.25, 0.25)

# Slow enough to be killed anywhere, the same bytes as without.
PACK = """
import os, sys, time
from pathlib import Path
from rsdl.data.packing import pack as packing
from rsdl.data.sources import folder
from rsdl.data.sources.folder import FolderSource
from rsdl.storage.connect import connect

class Slow(FolderSource):
    def read(self, item):
        time.sleep(0.01)
        return super().read(item)

source = Slow(Path(sys.argv[1]), fractions=(0.5, 0.25, 0.25))
options = packing.PackOptions(shard_bytes=14000, num_workers=2)
packing.pack(source, connect(sys.argv[2]), options, lambda done, total: print(done, flush=True))
print("packed", flush=True)
time.sleep(60)
"""


def pack_tree(tree: Path, out: Path, **options: Any) -> Path:  # noqa: ANN401
    given = {"shard_bytes": 14000, "num_workers": 2} | options
    pack(FolderSource(tree, fractions=FRACTIONS), connect(str(out)), PackOptions(**given))
    return out


def digests(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def read_with_stock_library(urls: list[str]) -> list[dict[str, Any]]:
    with warnings.catch_warnings():
        # It leaves the last shard that it reads open.
        warnings.simplefilter("ignore", ResourceWarning)
        samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8"))
        gc.collect()
    return samples


def test_the_stock_library_reads_the_same_images_and_labels(image_tree: Path, tmp_path: Path):
    out = pack_tree(image_tree, tmp_path / "out")
    manifest = load_manifest(connect(str(out)))
    seen: Counter[str] = Counter()

    for split in manifest.splits.values():
        urls = [str(out / shard.name) for shard in split.shards]
        labels = []
        for sample in read_with_stock_library(urls):
            assert manifest.classes[sample["cls"]] == sample["json"]["class"]
            original = (image_tree / sample["json"]["source"]).read_bytes()
            pixels = simplejpeg.decode_jpeg(original)
            assert np.abs(sample["jpg"].astype(int) - pixels).max() <= 3, "another JPEG decoder"
            labels.append(sample["cls"])
            seen[sample["json"]["source"]] += 1
        index = open_index(out / split.index.name, split, "index")
        assert index.labels.tolist() == labels

    files = [path.relative_to(image_tree).as_posix() for path in image_tree.rglob("*.jpg")]
    assert seen == Counter(files)


def test_the_bytes_do_not_depend_on_threads(image_tree: Path, tmp_path: Path):
    outs = [
        digests(pack_tree(image_tree, tmp_path / f"out-{workers}", num_workers=workers))
        for workers in (1, 2, 7)
    ]
    assert outs[0] == outs[1] == outs[2]
    assert len(outs[0]) > 8


@pytest.mark.parametrize("decode", ["all", "sample"])
@pytest.mark.parametrize("chunk_bytes", [1, 3000, 1 << 20])
def test_shards_are_byte_by_byte_what_tarfile_writes(
    decode: Any,  # noqa: ANN401
    chunk_bytes: int,
    image_tree: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(tar, "CHUNK_BYTES", chunk_bytes)
    source = FolderSource(image_tree, fractions=FRACTIONS, decode=decode)
    options = PackOptions(shard_bytes=14000, num_workers=2)
    pack(source, connect(str(tmp_path / "out")), options)
    shared: Counter[str] = Counter()
    for plan in source.shards(14000):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for item in plan.items:
                meta = {"class": item.path.partition("/")[0], "source": item.path}
                for extension, content in {
                    "jpg": (image_tree / item.path).read_bytes(),
                    "cls": str(item.label).encode(),
                    "json": json.dumps(meta, sort_keys=True).encode(),
                }.items():
                    info = tarfile.TarInfo(f"{item.key}.{extension}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
            end = archive.offset
        name = f"{plan.split}-{shared[plan.split]:06d}.tar"
        shared[plan.split] += 1
        # tarfile fills up a record of 20 blocks; two blocks of zeros are the end that must be.
        assert (tmp_path / "out" / name).read_bytes() == stream.getvalue()[:end] + bytes(1024)
    assert len(list((tmp_path / "out").glob("*.tar"))) == sum(shared.values()) > 4


class HeldStore(LocalStore):
    """A store in which the first shard is not stored before the second is begun."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.second_begun = threading.Event()

    @contextmanager
    def create(self, name: str) -> Iterator[Path]:
        with super().create(name) as path:
            yield path
            if name == "train-000000.tar":
                assert self.second_begun.wait(60), "nobody fills the second shard"


def test_a_shard_on_its_way_to_the_store_holds_up_no_other(
    array_source: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store = HeldStore(tmp_path / "out")
    source = array_source([np.zeros((4, 4, 3), np.uint8)] * 8, per_shard=2, split="train")
    original, reading, most = source.read, [0], [0]

    def read(item: int) -> object:
        reading[0] += 1
        most[0] = max(most[0], reading[0])
        if item == 2:
            store.second_begun.set()
        time.sleep(0.002)
        reading[0] -= 1
        return original(item)

    monkeypatch.setattr(source, "read", read)
    manifest = pack(source, store, PackOptions(num_workers=1))
    assert manifest.splits["train"].samples == 8
    assert most == [1], "one worker reads one item at a time"


class SlowToGiveUp(LocalStore):
    """A store in which the shard that failed is the last to say so."""

    @contextmanager
    def create(self, name: str) -> Iterator[Path]:
        with super().create(name) as path:
            try:
                yield path
            except CorruptSampleError:
                time.sleep(0.5)
                raise


def test_the_manifest_says_what_is_there(image_tree: Path, tmp_path: Path):
    out = pack_tree(image_tree, tmp_path / "out")
    manifest = load_manifest(connect(str(out)))

    assert {name: split.samples for name, split in manifest.splits.items()} == {
        "train": 18,
        "val": 9,
        "test": 9,
    }
    assert manifest.classes == ("field", "harbor", "roofs")
    assert all(split.class_counts[0] == split.samples // 3 for split in manifest.splits.values())
    for split in manifest.splits.values():
        for file in (*split.shards, split.index):
            data = (out / file.name).read_bytes()
            assert len(data) == file.bytes
            assert hashlib.sha256(data).hexdigest() == file.sha256
    train = manifest.splits["train"]
    index = open_index(out / train.index.name, train, "index")
    pixels = np.concatenate(
        [
            decode_image(
                (out / index.shard_names[shard]).read_bytes()[
                    row["offset"] : row["offset"] + row["length"]
                ],
                "jpg",
                "",
            ).reshape(-1, 3)
            for row, shard in zip(index.rows, index.shards_of(np.arange(len(index))), strict=True)
        ]
    )
    assert manifest.mean == pytest.approx(pixels.mean(0), rel=1e-9)
    assert manifest.std == pytest.approx(pixels.std(0), rel=1e-9)


@pytest.mark.parametrize("moment", ["1", "7", "20", "35", "36", "packed"])
def test_killed_at_any_moment_and_run_again_gives_the_same_bytes(
    moment: str, image_tree: Path, tmp_path: Path
):
    out = tmp_path / "out"
    command = [sys.executable, "-c", PACK, str(image_tree), str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as packer:
        assert packer.stdout is not None
        for line in packer.stdout:
            if line.strip() == moment:
                break
        time.sleep(int(hashlib.sha256(moment.encode()).hexdigest(), 16) % 20 / 1000)
        packer.send_signal(signal.SIGKILL)
    assert packer.returncode == -signal.SIGKILL
    if moment in ("1", "7", "20"):
        assert not (out / MANIFEST).exists()

    pack_tree(image_tree, out)

    assert digests(out) == digests(pack_tree(image_tree, tmp_path / "uninterrupted"))
    assert not (out / ".packing").exists()


def test_the_folder_that_a_killed_run_emptied_is_removed(image_tree: Path, tmp_path: Path):
    out = pack_tree(image_tree, tmp_path / "out")
    (out / ".packing").mkdir()  # as a kill after the last record was removed leaves it

    pack_tree(image_tree, out)

    assert not (out / ".packing").exists()


def test_what_is_packed_already_is_not_packed_again(image_tree: Path, tmp_path: Path):
    out = pack_tree(image_tree, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    (out / ".packing").mkdir()
    (out / ".packing/plan.json").write_text("{}")  # as a kill during the last sweep leaves it
    with subprocess.Popen(["true"]) as dead:
        part = f".{MANIFEST}.part-{socket.gethostname()}-{dead.pid}-0123456789abcdef"
        os.link(out / MANIFEST, out / part)  # as a kill right after the manifest was linked

    pack_tree(image_tree, out)

    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_going_on_reads_only_what_was_not_packed(
    array_source: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    images = [np.full((4, 4, 3), number, np.uint8) for number in range(12)]
    source = array_source(images, per_shard=3, split="train")
    store, options = connect(str(tmp_path / "out")), PackOptions(num_workers=1)
    read: list[int] = []
    original = source.read

    def fail_at_seven(item: int) -> object:
        read.append(item)
        if item == 7 and len(read) < 9:
            raise CorruptSampleError("seven", "is broken")
        return original(item)

    monkeypatch.setattr(source, "read", fail_at_seven)
    with pytest.raises(CorruptSampleError, match="seven: is broken; mend it, or pass --on-corrupt"):
        pack(source, store, options)
    assert not (tmp_path / "out" / MANIFEST).exists()
    assert not list((tmp_path / "out").rglob(".*.part-*"))
    assert read == [0, 1, 2, 3, 4, 5, 6, 7]

    pack(source, store, options)

    assert read[8:] == [6, 7, 8, 9, 10, 11]


def test_an_error_in_one_shard_stops_the_others(
    array_source: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    images = [np.zeros((4, 4, 3), np.uint8)] * 400
    source = array_source(images, per_shard=100, split="train")
    read: list[int] = []
    original, others = source.read, threading.Event()

    def fail_first(item: int) -> object:
        read.append(item)
        if item == 0:
            assert others.wait(60)
            raise CorruptSampleError("zero", "is broken")
        others.set()
        time.sleep(0.005)
        return original(item)

    monkeypatch.setattr(source, "read", fail_first)
    # What is told is the error, and not that the others were stopped.
    with pytest.raises(CorruptSampleError, match="zero: is broken"):
        pack(source, SlowToGiveUp(tmp_path / "out"), PackOptions(num_workers=2))
    assert len(read) < 200
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("pack")]


def test_corrupt_images_are_left_out_and_named(image_tree: Path, tmp_path: Path):
    (image_tree / "field/field_03.jpg").write_bytes(b"")
    with pytest.raises(CorruptSampleError, match=r"field_03\.jpg: is empty.*--on-corrupt skip"):
        pack_tree(image_tree, tmp_path / "out")
    assert not (tmp_path / "out" / MANIFEST).exists()

    out = pack_tree(image_tree, tmp_path / "skipping", on_corrupt="skip")

    manifest = load_manifest(connect(str(out)))
    assert sum(split.samples for split in manifest.splits.values()) == 35
    assert manifest.provenance["num_skipped"] == 1
    assert "field_03.jpg" in str(manifest.provenance["skipped"])


def test_a_shard_that_loses_all_samples_is_left_out(
    array_source: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    source = array_source([np.zeros((4, 4, 3), np.uint8)] * 6, per_shard=2, split="train")
    original = source.read
    monkeypatch.setattr(source, "read", lambda item: None if item in (2, 3) else original(item))

    manifest = pack(source, connect(str(tmp_path)), PackOptions())

    assert [shard.name for shard in manifest.splits["train"].shards] == [
        "train-000000.tar",
        "train-000002.tar",
    ]
    assert sorted(path.name for path in tmp_path.glob("*.tar")) == [
        "train-000000.tar",
        "train-000002.tar",
    ]
    monkeypatch.setattr(source, "read", lambda item: None)
    with pytest.raises(DataError, match="no sample is left"):
        pack(source, connect(str(tmp_path / "empty")), PackOptions())


def test_another_data_set_is_not_overwritten_unasked(image_tree: Path, tmp_path: Path):
    out = pack_tree(image_tree, tmp_path / "out")
    (out / "notes.txt").write_text("mine")
    (out / "backup.tar").write_text("mine")
    before = digests(out)

    with pytest.raises(DataError, match=r"holds another data set .* pass --overwrite"):
        pack_tree(image_tree, out, shard_bytes=5000)
    assert digests(out) == before

    pack_tree(image_tree, out, shard_bytes=1 << 20, overwrite=True)

    fresh = digests(pack_tree(image_tree, tmp_path / "fresh", shard_bytes=1 << 20))
    assert {name: d for name, d in digests(out).items() if name not in fresh}.keys() == {
        "notes.txt",
        "backup.tar",
    }
    assert fresh.items() <= digests(out).items()


def test_an_unfinished_data_set_of_others_is_not_overwritten_unasked(
    array_source: type, image_tree: Path, tmp_path: Path
):
    (image_tree / "field/field_03.jpg").write_bytes(b"")
    out = tmp_path / "out"
    with pytest.raises(CorruptSampleError):
        pack_tree(image_tree, out)
    source = array_source([np.zeros((4, 4, 3), np.uint8)], per_shard=1, split="train")

    with pytest.raises(DataError, match="holds an unfinished data set of another source"):
        pack(source, connect(str(out)), PackOptions())
    pack(source, connect(str(out)), PackOptions(overwrite=True))

    assert sorted(digests(out)) == ["index-train.npy", "manifest.json", "train-000000.tar"]


def test_a_broken_manifest_can_be_overwritten(image_tree: Path, tmp_path: Path):
    out = pack_tree(image_tree, tmp_path / "out")
    before = digests(out)
    (out / MANIFEST).write_text("{")

    with pytest.raises(DataError, match="not a manifest of format 2"):
        pack_tree(image_tree, out)
    pack_tree(image_tree, out, overwrite=True)

    assert digests(out) == before


def test_foreign_tars_are_not_packed_over(image_tree: Path, tmp_path: Path):
    (tmp_path / "train-000000.tar").write_bytes(b"somebody's")
    with pytest.raises(DataError, match="holds tars that are not ours"):
        pack_tree(image_tree, tmp_path)
    assert (tmp_path / "train-000000.tar").read_bytes() == b"somebody's"


def test_progress_counts_every_sample_once_also_when_going_on(image_tree: Path, tmp_path: Path):
    told: list[tuple[int, int]] = []
    source = FolderSource(image_tree, fractions=FRACTIONS)
    options = PackOptions(shard_bytes=14000, num_workers=3)
    pack(source, connect(str(tmp_path / "out")), options, lambda d, t: told.append((d, t)))
    assert told == [(done, 36) for done in range(1, 37)]


def test_a_full_disk_is_one_line_and_packing_goes_on_elsewhere_later(
    small_disk: Path, array_source: type
):
    random = np.random.default_rng(0)
    images = [random.integers(0, 255, (200, 200, 3)).astype(np.uint8) for _ in range(12)]
    source = array_source(images, per_shard=2, split="train")

    with pytest.raises(StorageError, match="the disk is full; free some space") as caught:
        pack(source, connect(str(small_disk)), PackOptions(num_workers=2))

    assert "\n" not in str(caught.value)
    assert not (small_disk / MANIFEST).exists()
    assert not list(small_disk.rglob("*.part-*"))
    complete = {path.name: path.stat().st_size for path in small_disk.glob("*.tar")}
    assert complete and len(set(complete.values())) == 1, "only whole shards stay"


def test_a_file_that_outgrows_the_limit_is_one_line(
    open_arrays: Callable[..., object], tmp_path: Path
):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StorageError, match="File too large"):
            open_arrays([np.zeros((200, 200, 3), np.uint8)] * 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert left == ["plan.json"]


def test_a_disk_that_fails_at_the_last_moment_is_named(
    array_source: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    images = [np.full((4, 4, 3), number, np.uint8) for number in range(12)]
    source = array_source(images, per_shard=3, split="train")
    store, sync = connect(str(tmp_path / "out")), local._sync

    def fail(path: Path) -> None:
        if "train-000001.tar" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        sync(path)

    with monkeypatch.context() as patch:
        patch.setattr(local, "_sync", fail)
        with pytest.raises(StorageError, match="the disk is full"):
            pack(source, store, PackOptions(num_workers=2))
    assert store.size(MANIFEST) is None
    assert not list((tmp_path / "out").rglob(".*.part-*"))
    manifest = pack(source, store, PackOptions(num_workers=2))
    assert manifest.splits["train"].samples == 12


def test_an_output_that_is_a_file_is_one_line(image_tree: Path, tmp_path: Path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(StorageError, match=re.escape("is a file, not a folder")):
        pack_tree(image_tree, tmp_path / "out")


def test_a_sample_of_the_images_gives_the_same_shards_and_nearly_the_same_statistics(
    image_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = load_manifest(connect(str(pack_tree(image_tree, tmp_path / "all"))))
    monkeypatch.setattr(folder, "SAMPLE", 5)
    outs = []
    for workers in (1, 3):
        source = FolderSource(image_tree, fractions=FRACTIONS, decode="sample")
        decoded = [
            item
            for plan in source.shards(14000)
            for item in plan.items
            if source.read(item).pixels is not None
        ]
        assert len(decoded) == 5, "18 of train, every fourth"
        assert {item.label for item in decoded} == {0, 1, 2}
        outs.append(tmp_path / f"sample-{workers}")
        options = PackOptions(shard_bytes=14000, num_workers=workers)
        sampled = pack(source, connect(str(outs[-1])), options)
    assert digests(outs[0]) == digests(outs[1])
    assert sampled.splits == whole.splits
    pixels = [decode_image((image_tree / item.path).read_bytes(), "jpg", "") for item in decoded]
    assert sampled.mean == pytest.approx(np.concatenate(pixels).mean((0, 1)), rel=1e-9)
    assert sampled.provenance["decoded"] == "sample"
    assert "decoded" not in whole.provenance


@pytest.mark.parametrize("damage", ["truncated", "empty", "renamed", "no header"])
def test_a_jpeg_that_is_not_decoded_is_still_looked_at(
    damage: str, image_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(folder, "SAMPLE", 1)
    source = FolderSource(image_tree, fractions=FRACTIONS, decode="sample")
    item = next(
        item
        for plan in source.shards(14000)
        for item in plan.items
        if source.read(item).pixels is None
    )
    path = image_tree / item.path
    data = path.read_bytes()
    path.write_bytes(
        {
            "truncated": data[: len(data) // 2],
            "empty": b"",
            "renamed": b"\x89PNG\r\n\x1a\n" + data,
            "no header": data[:3] + data[-2:],
        }[damage]
    )
    with pytest.raises(CorruptSampleError, match=re.escape(item.path)):
        pack(source, connect(str(tmp_path / "out")), PackOptions(num_workers=1))


def test_a_file_changed_at_equal_size_is_packed_again(image_tree: Path, tmp_path: Path):
    out = pack_tree(image_tree, tmp_path / "out")
    first = digests(out)
    changed = image_tree / "field/field_03.jpg"
    data = bytearray(changed.read_bytes())
    data[data.index(b"\xff\xe0") + 12] ^= 1  # the density that JFIF tells
    changed.write_bytes(data)

    pack_tree(image_tree, out)

    fresh = digests(pack_tree(image_tree, tmp_path / "fresh"))
    assert digests(out) == fresh
    assert [n for n in fresh if n.endswith(".tar") and fresh[n] != first[n]]


def test_equal_files_of_another_time_give_equal_bytes(image_tree: Path, tmp_path: Path):
    out = pack_tree(image_tree, tmp_path / "out")
    first = digests(out)
    for path in image_tree.rglob("*.jpg"):
        os.utime(path, (1, 1))
    pack_tree(image_tree, out)
    second = digests(out)
    assert first.pop("source-stamp.json") != second.pop("source-stamp.json")
    assert first == second


@pytest.mark.parametrize("overwrite", [False, True])
def test_two_packings_at_once_end_with_one_whole_data_set(
    overwrite: bool, image_tree: Path, tmp_path: Path
):
    out = tmp_path / "out"
    command = [sys.executable, "-c", PACK, str(image_tree), str(out)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as packer:  # type: ignore[call-overload]
        assert packer.stdout is not None
        for line in packer.stdout:
            if line.strip() == "14":
                break
        pack_tree(image_tree, out, shard_bytes=9000 if overwrite else 14000, overwrite=overwrite)
        if overwrite:
            assert packer.wait() == 1
            error = packer.stderr.read().splitlines()[-1]
            assert "another packing has taken over" in error
        else:
            assert any(line == "packed\n" for line in packer.stdout)
            packer.kill()
    fresh = pack_tree(image_tree, tmp_path / "fresh", shard_bytes=9000 if overwrite else 14000)
    assert digests(out) == digests(fresh)
