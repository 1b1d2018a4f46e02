"""An index in another place than its shards: read through the same commands and loaders."""

import json
from pathlib import Path

import numpy as np
import pytest

from rsdl.commands.doctor import check_data
from rsdl.config.data import DataConfig
from rsdl.core.errors import DataError, StorageError
from rsdl.data.crop import CropRule
from rsdl.data.dataset import DataSet, eval_plan
from rsdl.data.loader import BatchLoader, LoadRule
from rsdl.data.manifest import MANIFEST, Manifest, load_manifest
from rsdl.data.packing.index_shards import index_shards
from rsdl.data.packing.verify import check_dataset
from rsdl.data.plan import Share
from rsdl.data.preview import contact_sheet
from rsdl.data.shard_store import SHARDS_URL, open_shards
from rsdl.storage.connect import connect


@pytest.fixture
def shards(packed: str) -> Path:
    """Return a folder of shards that has neither manifest nor index."""
    for path in Path(packed).iterdir():
        if path.suffix != ".tar":
            path.unlink()
    return Path(packed)


def index(shards: Path | str, out: Path | str, *, overwrite: bool = False) -> Manifest:
    return index_shards(connect(str(shards)), connect(str(out)), overwrite=overwrite)


def listing(root: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of change of all below a folder, and of itself."""
    return {
        str(path.relative_to(root)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in [root, *root.rglob("*")]
    }


def read(url: Path, split: str, **options: object) -> tuple[np.ndarray, np.ndarray]:
    """Return images and labels of a split, through the loader."""
    config = {"url": str(url), "batch_size": 4, **options}
    dataset = DataSet(DataConfig.model_validate(config))
    data = dataset.split(split, "data.train_split")
    rule = LoadRule(image_size=24, crop=CropRule(), num_workers=2)
    batches = list(BatchLoader(data, eval_plan(dataset.config, data), Share(), rule))
    assert all(batch.valid.all() for batch in batches)
    images = np.concatenate([batch.images.numpy() for batch in batches])
    return images, np.concatenate([batch.targets.numpy() for batch in batches])


def test_the_shards_are_left_alone_and_read_as_if_indexed_in_place(shards: Path, tmp_path: Path):
    before, out = listing(shards), tmp_path / "out"
    manifest = index(shards, out)
    found = [read(out, split) for split in ("train", "val", "test")]
    assert check_dataset(connect(str(out))).problems == []
    assert contact_sheet(DataSet(DataConfig(url=str(out))).split("val", "--split")).any()
    assert check_data(str(out)).status == "ok"
    assert listing(shards) == before
    assert sorted(path.name for path in out.iterdir()) == [
        "index-test.npy", "index-train.npy", "index-val.npy", MANIFEST,
    ]  # fmt: skip

    beside = index_shards(connect(str(shards)))
    assert SHARDS_URL not in beside.provenance
    assert (manifest.splits, manifest.mean, manifest.dataset) == (
        beside.splits, beside.mean, beside.dataset,
    )  # fmt: skip
    for split, (images, labels) in zip(("train", "val", "test"), found, strict=True):
        expected = read(shards, split)
        assert np.array_equal(images, expected[0]) and np.array_equal(labels, expected[1])


def test_pixels_are_kept_of_shards_elsewhere(shards: Path, tmp_path: Path):
    index(shards, tmp_path / "out")
    first = read(tmp_path / "out", "train", decoded_cache="1GB")
    again = DataSet(DataConfig(url=str(tmp_path / "out"), decoded_cache="1GB"))
    decoded_cache = again.split("train", "data.train_split").decoded_cache
    assert decoded_cache is not None and decoded_cache.is_complete
    assert np.array_equal(read(tmp_path / "out", "train", decoded_cache="1GB")[0], first[0])


@pytest.mark.parametrize("typed", ["packed", "./packed/", "other/../packed", "link/../packed"])
def test_a_relative_folder_is_found_from_anywhere(
    typed: str, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "other").mkdir()
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "er")
    (tmp_path / "deep" / "packed").symlink_to(shards)  # what link/../packed is
    monkeypatch.chdir(tmp_path)
    url = index(typed, "out").provenance[SHARDS_URL]
    assert isinstance(url, str) and Path(url).is_absolute() and ".." not in url
    assert Path(url).resolve() == shards
    monkeypatch.chdir("/")
    assert len(read(tmp_path / "out", "train")[1]) == 18


def test_the_same_place_by_another_name_is_in_place(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "link").symlink_to(shards)
    monkeypatch.chdir(tmp_path)
    for number, out in enumerate(("packed", "./packed/", f"file://{shards}", "link")):
        assert SHARDS_URL not in index(shards, out, overwrite=number > 0).provenance
    assert (shards / MANIFEST).exists()


def test_indexing_again_asks_for_overwrite(shards: Path, tmp_path: Path):
    first = index(shards, tmp_path / "out")
    with pytest.raises(DataError, match=r"out: has a manifest already; pass --overwrite"):
        index(shards, tmp_path / "out")
    assert index(shards, tmp_path / "out", overwrite=True) == first
    index(shards, shards)  # a manifest beside the shards is no obstacle, nor is it touched
    before = listing(shards)
    assert index(shards, tmp_path / "second").splits == first.splits
    assert listing(shards) == before


@pytest.mark.parametrize("harm", ["gone", "one gone", "longer"])
def test_shards_that_are_gone_or_changed_are_refused_by_both_names(
    harm: str, shards: Path, tmp_path: Path
):
    out = tmp_path / "out"
    first = index(shards, out).splits["train"].shards[0]
    path = shards / first.name
    if harm == "gone":
        shards.rename(tmp_path / "moved")
    elif harm == "one gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes() + b"\0")
    dataset = DataSet(DataConfig(url=str(out)))  # what it is can be told all the same
    with pytest.raises(DataError) as caught:
        dataset.split("train", "data.train_split")
    sizes = f"has {first.bytes + 1} bytes, not {first.bytes} as indexed"
    told = f'restore it, or run "rsdl data index {shards} --out {out} --overwrite"'
    what = sizes if harm == "longer" else "is missing"
    assert str(caught.value) == f"{path}: {what} (a shard of {out}); {told}"
    problems = check_dataset(connect(str(out))).problems
    assert any(problem.startswith(f"{path}: is ") for problem in problems)
    assert check_data(str(out)).status == "fail"


def test_a_sample_that_is_cut_off_names_the_data_set_to_verify(shards: Path, tmp_path: Path):
    first = index(shards, tmp_path / "out").splits["train"].shards[0]
    data = DataSet(DataConfig(url=str(tmp_path / "out"))).split("train", "--split")
    (shards / first.name).write_bytes(b"")  # after it was looked at
    with pytest.raises(DataError, match=f'"rsdl data verify {tmp_path}/out"'):
        data.open_reader().shards.read(0, 0, 10)


@pytest.mark.parametrize("url", ["shards", "", 3, "http://host/shards", "/a\0b", None])
def test_a_place_that_is_none_everywhere_is_refused(url: object, shards: Path, tmp_path: Path):
    index(shards, tmp_path / "out")
    page = json.loads((tmp_path / "out" / MANIFEST).read_text())
    page["provenance"][SHARDS_URL] = url
    (tmp_path / "out" / MANIFEST).write_text(json.dumps(page))
    store = connect(str(tmp_path / "out"))
    manifest = load_manifest(store)
    if url is None:
        assert open_shards(store, manifest) is store
    else:
        with pytest.raises(DataError, match=r"out/manifest\.json: provenance\.shards_url must be"):
            open_shards(store, manifest)


def test_who_may_not_write_beside_the_shards_is_told_of_out(shards: Path):
    (shards / "index-test.npy").mkdir()  # nothing can be renamed over a folder
    with pytest.raises(StorageError, match=r"or index into another place with --out$"):
        index_shards(connect(str(shards)))
