import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
import webdataset
from hypothesis import given
from hypothesis import strategies as st

from rsdl.commands.data import describe_findings
from rsdl.data.index import Row, pack_rows
from rsdl.data.manifest import Manifest
from rsdl.data.packing.duplicates import (
    Part,
    describe_duplicates,
    find_duplicates,
    say_duplicates,
    sketch,
)
from rsdl.data.packing.index_shards import index_shards
from rsdl.data.packing.pack import PackOptions, pack
from rsdl.data.sources.folder import FolderSource
from rsdl.storage.connect import connect
from rsdl.storage.local import LocalStore

Images = list[tuple[str, int, bytes]]


def jpeg(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (24, 24, 3)).astype(np.uint8)
    return bytes(simplejpeg.encode_jpeg(pixels))


def write_tree(root: Path, per_class: int = 6) -> Path:
    for split in ("train", "test"):
        for label, name in enumerate(("farm", "forest")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(per_class):
                seed = number + 100 * label + 1000 * (split == "test")
                (folder / f"{split}{number}.jpg").write_bytes(jpeg(seed))
    return root


def pack_tree(tree: Path, out: Path, **options: object) -> Manifest:
    source = FolderSource(tree, decode=options.pop("decode", "all"))  # type: ignore[arg-type]
    return pack(source, connect(str(out)), PackOptions(shard_bytes=4000))


@pytest.mark.parametrize("decode", ["all", "sample"])
def test_copies_in_two_splits_and_in_two_classes_are_said_by_name(tmp_path: Path, decode: str):
    tree = write_tree(tmp_path / "tree")
    shutil.copy(tree / "train/farm/train1.jpg", tree / "test/farm/copy.jpg")
    shutil.copy(tree / "train/farm/train2.jpg", tree / "train/forest/wrong.jpg")
    shutil.copy(tree / "train/farm/train3.jpg", tree / "train/farm/harmless.jpg")
    manifest = pack_tree(tree, tmp_path / "out", decode=decode)
    assert manifest.provenance["duplicates"] == {
        "over_splits": {
            "groups": 1,
            "copies": 2,
            "first": [["train/farm_train1", "test/farm_copy"]],
        },
        "over_classes": {
            "groups": 1,
            "copies": 2,
            "first": [["train/forest_wrong", "train/farm_train2"]],
        },
    }  # fmt: skip
    assert list(describe_findings(manifest)) == [
        "in several splits, byte for byte: 1 image in 2 copies, the first train/farm_train1 and "
        "test/farm_copy; remove them, unless they are tiles of one value (manifest.json "
        "names some)",
        "in several classes, byte for byte: 1 image in 2 copies, the first train/forest_wrong and "
        "train/farm_train2; remove them, unless they are tiles of one value (manifest.json "
        "names some)",
    ]


def test_nothing_is_said_where_all_images_differ(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    manifest = pack_tree(write_tree(tmp_path / "tree"), tmp_path / "out")
    assert "duplicates" not in manifest.provenance
    assert list(describe_findings(manifest)) == []


def test_packing_that_goes_on_finds_what_one_without_a_break_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    tree = write_tree(tmp_path / "tree")
    shutil.copy(tree / "train/farm/train1.jpg", tree / "test/farm/copy.jpg")
    whole = pack_tree(tree, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr("rsdl.data.packing.pack.assemble", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pack_tree(tree, tmp_path / "parts")
    (tmp_path / "parts/.packing/test-000000.tar.record").unlink()
    assert pack_tree(tree, tmp_path / "parts") == whole
    duplicates: Any = whole.provenance["duplicates"]
    assert duplicates["over_splits"]["groups"] == 1


def test_foreign_shards_are_looked_at_too(tmp_path: Path):
    for split, seeds in (("train", (1, 2, 3)), ("val", (4, 2, 5))):
        with webdataset.TarWriter(str(tmp_path / f"{split}-0.tar")) as writer:
            for n, seed in enumerate(seeds):
                writer.write({"__key__": f"{split}{n}", "jpg": jpeg(seed), "cls": seed % 2})
    manifest = index_shards(connect(str(tmp_path)))
    assert manifest.provenance["duplicates"] == {
        "over_splits": {"groups": 1, "copies": 2, "first": [["train/train1", "val/val1"]]}
    }


@pytest.mark.parametrize(
    "odd", [5, None, [], "x", {"over_splits": 5}, {"over_splits": {"groups": 1, "first": []}}]
)
def test_what_somebody_wrote_into_the_manifest_is_passed_over(odd: object):
    assert list(say_duplicates({"duplicates": odd})) == []


def test_of_very_many_copies_the_manifest_names_some(tmp_path: Path):
    images: Images = [(("train", "test")[n % 2], 0, b"water") for n in range(500)]
    parts = write_parts(tmp_path, images, 100)
    found = describe_duplicates(LocalStore(tmp_path), parts)["duplicates"]["over_splits"]
    assert (found["groups"], found["copies"], len(found["first"][0])) == (1, 500, 10)


def test_a_shared_sketch_alone_makes_no_duplicate(tmp_path: Path):
    one = bytes(81_920)
    other = b"\0\1" + bytes(81_918)  # between the bytes that are looked at
    assert sketch(one) == sketch(other)
    assert find(tmp_path, [("train", 0, one), ("test", 0, other)]) == ((), ())
    assert find(tmp_path, [("train", 0, one), ("test", 0, one)]) == ((("train/0", "test/1"),), ())


def find(
    root: Path, images: Images, per_part: int = 1
) -> tuple[tuple[tuple[str, ...], ...], tuple[tuple[str, ...], ...]]:
    """Return what is found among images."""
    found = find_duplicates(LocalStore(root), write_parts(root, images, per_part))
    return found.over_splits, found.over_classes


def write_parts(root: Path, images: Images, per_part: int) -> list[Part]:
    """Write images ``(split, label, bytes)``, called by their place, as if to shards."""
    parts = []
    numbered = list(enumerate(images))
    for first in range(0, len(images), per_part):
        for split in ("train", "val", "test"):
            inside = [(n, i) for n, i in numbered[first : first + per_part] if i[0] == split]
            name = f"{split}-{first}.tar"
            (root / name).write_bytes(b"".join(image for _, (_, _, image) in inside))
            rows, end = [], 0
            for number, (_, label, image) in inside:
                rows.append(Row(str(number), "npy", end, len(image), 0, 0, label))
                end += len(image)
            sketches = np.array([sketch(image) for _, (_, _, image) in inside], np.uint64)
            parts.append(Part(split, name, pack_rows(rows), sketches))
    return parts


@given(
    images=st.lists(
        st.tuples(
            st.sampled_from(["train", "val", "test"]),
            st.integers(0, 2),
            st.sampled_from([b"", b"a", b"b", b"ab", bytes(9000), b"\1" + bytes(8999)]),
        ),
        min_size=1,
        max_size=30,
    ),
    per_part=st.integers(1, 7),
)
def test_what_is_found_is_what_comparing_all_pairs_finds(
    tmp_path_factory: pytest.TempPathFactory, images: Images, per_part: int
):
    found = find(tmp_path_factory.mktemp("shards"), images, per_part)
    for place, groups in enumerate(found):
        members = [int(name.partition("/")[2]) for group in groups for name in group]
        assert len(members) == len(set(members))
        equal = [[i for i in images if i[2] == content] for content in {i[2] for i in images}]
        several = [group for group in equal if len({i[place] for i in group}) > 1]
        assert len(groups) == len(several)
        assert len(members) == sum(map(len, several))
