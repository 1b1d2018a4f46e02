"""Whatever lies in a folder or in a tar: one line of error, or a data set that is right.

What each file shows is computed by Pillow and rasterio alone, in ``mixtures.py``.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rsdl.core.errors import RsdlError
from rsdl.data.decode import DecodeRule, decode_sample
from rsdl.data.index import open_index
from rsdl.data.manifest import Manifest, load_manifest
from rsdl.data.packing.index_shards import index_shards
from rsdl.data.packing.pack import PackOptions, pack
from rsdl.data.packing.verify import check_dataset
from rsdl.data.reader import ShardReader
from rsdl.data.sample import EXTENSIONS
from rsdl.data.sources.folder import FolderSource
from rsdl.data.tar import tar_bytes
from rsdl.raster.picture import PictureRules
from rsdl.storage.connect import connect
from tests.unit.data.mixtures import BAD, GOOD, LITTER, Shown, show

BOUNDED = settings(
    max_examples=500,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
# Kinds that one data set may hold together are drawn together more often than by chance.
ALIKE = (
    [kind for kind in GOOD if kind not in ("cmyk jpeg", "class png")],
    ["jpeg", "grey jpeg", "turned jpeg", "png", "grey png", "la png", "rgba png", "palette png"],
    ["tiff", "tiff nodata 0", "tiff nodata 7", "tiff mask", "tiff alpha", "planar tiff", "npy"],
    ["bmp", "webp", "rgba webp", "turned png", "tiff", "jpeg", "1-bit png", "progressive jpeg"],
    ["tiff float", "tiff nan", "tiff nan nodata", "npy nan", "npy float fortran"],
    ["tiff uint16", "npy big-endian", "16-bit rgb png", "16-bit grey png", "tiff scaled"],
    ["tiff soft alpha", "tiff 4 bands", "tiff alpha", "tiff nodata alpha", "rgba png"],
    list(GOOD),
)
MIXTURES = st.sampled_from(ALIKE).flatmap(
    lambda kinds: st.lists(
        st.one_of(st.sampled_from(kinds), st.sampled_from(kinds), st.sampled_from([*BAD])),
        min_size=2,
        max_size=7,
    )
)
RULES = st.builds(
    PictureRules,
    nodata=st.sampled_from([None, None, 0.0, 7.0]),
    alpha=st.sampled_from(["auto", "auto", "mask", "band"]),
    unscale=st.sampled_from([False, False, True]),
)
PLACES = st.sampled_from(["a", "a/deep", "b_c", "b", "b/c_d"])


def make(kind: str, number: int) -> bytes:
    return (GOOD | BAD)[kind][1](np.random.default_rng(number))


def expect(shown: Shown, rules: PictureRules, bands: int) -> Shown:
    """Return pixels and where each band has data, as the options and the data set want them."""
    pixels, colours = shown.pixels, shown.pixels.shape[2]
    present = np.ones(pixels.shape, bool) if shown.present is None else shown.present
    if shown.alpha is not None:
        grey = colours == 1 and rules.alpha == "auto"
        if rules.alpha == "mask" or grey or (rules.alpha == "auto" and colours == bands):
            present = present & (shown.alpha > 0)[:, :, None]
        else:
            pixels = np.dstack([pixels, shown.alpha])
            present = np.dstack([present, np.ones(shown.alpha.shape, bool)])
    if pixels.dtype.kind == "f":
        present = present & np.isfinite(pixels)
    if rules.nodata is not None:
        marked = pixels == rules.nodata
        if pixels.dtype.kind != "f":
            marked = np.broadcast_to(marked.all(axis=2, keepdims=True), marked.shape)
        present = present & ~marked
    if rules.unscale and shown.scaling is not None:
        scale, offset = shown.scaling
        pixels = (pixels.astype(float) * scale + offset).astype(np.float32)
    if shown.photograph and pixels.shape[2] == 1 and bands == 3:
        pixels, present = np.repeat(pixels, 3, 2), np.repeat(present, 3, 2)
    return shown._replace(pixels=pixels, alpha=None, present=present)


def read_all(root: Path, manifest: Manifest) -> Iterator[tuple[dict[str, Any], str, np.ndarray]]:
    """Yield ``json``, key and pixels of every sample, through the data set's own reader."""
    store = connect(str(root))
    for name, split in manifest.splits.items():
        index = open_index(store.local(split.index.name), split, name)
        reader = ShardReader(store, index.shard_names)
        shards = index.shards_of(np.arange(len(index)))
        for row, shard in zip(index.rows, shards, strict=True):
            data = reader.read(int(shard), int(row["offset"]), int(row["length"]))
            meta = reader.read(int(shard), int(row["meta_offset"]), int(row["meta_length"]))
            rule = DecodeRule(len(manifest.bands), manifest.dtype)
            pixels = decode_sample(data, EXTENSIONS[row["extension"]], rule)
            yield json.loads(meta or b"{}"), row["key"].decode(), pixels
        reader.close()


def check_line(error: RsdlError) -> None:
    assert str(error).count("\n") == 0
    assert error.exit_code == 2
    assert error.problem


def check_pixels(found: np.ndarray, wanted: Shown, where: str) -> np.ndarray:
    """Check one sample and return where the whole pixel has data."""
    assert found.shape == wanted.pixels.shape, where
    assert found.dtype == wanted.pixels.dtype.newbyteorder("="), where
    assert np.isfinite(found).all(), where
    present = wanted.present
    assert present is not None
    valid: Any = present.any(2) if wanted.dark_zero else present.all(2)
    kept = np.broadcast_to(valid[:, :, None], present.shape) if wanted.dark_zero else present
    wide = found.astype(float)
    off = np.abs(wide - np.where(kept, wanted.pixels, wide))
    assert off.max() <= (0 if wanted.exact else 2), where
    for band in range(found.shape[2]):  # filled with the mean of what is there
        data = wide[:, :, band][kept[:, :, band]]
        if data.size:
            filled = wide[:, :, band][~kept[:, :, band]]
            assert (np.abs(filled - data.mean()) <= 1 + 1e-4 * abs(data.mean())).all(), where
    return valid


@BOUNDED
@given(
    st.lists(st.tuples(MIXTURES, PLACES), min_size=1, max_size=3),
    st.lists(st.sampled_from(LITTER), max_size=2, unique=True),
    RULES,
    st.sampled_from(["skip", "skip", "error"]),
)
def test_any_folder_is_packed_rightly_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory,
    groups: list[tuple[list[str], str]],
    litter: list[str],
    rules: PictureRules,
    on_corrupt: str,
):
    root = tmp_path_factory.mktemp("mixture")
    tree, kinds = root / "tree", {}
    for kind, place in [(kind, place) for mixture, place in groups for kind in mixture]:
        path = f"{place}/{len(kinds)}.{(GOOD | BAD)[kind][0]}"
        kinds[path] = kind
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(make(kind, len(kinds)))
    for name in litter:
        folder = (tree / next(iter(kinds))).parent
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(make("png", 0))
    (tree / "z").mkdir()
    (tree / "z" / "last.jpg").write_bytes(make("jpeg", 9))
    kinds["z/last.jpg"] = "jpeg"
    store = connect(str(root / "out"))
    try:
        source = FolderSource(tree, fractions=(1, 0, 0), rules=rules)
        pack(source, store, PackOptions(on_corrupt=on_corrupt, num_workers=1))
    except RsdlError as error:
        check_line(error)
        assert store.size("manifest.json") is None
        return
    check_folder(root, kinds, rules, sum(len(files) for *_, files in os.walk(tree)))


def check_folder(root: Path, kinds: dict[str, str], rules: PictureRules, num_files: int) -> None:
    """Check a packed folder against what its files show."""
    manifest = load_manifest(connect(str(root / "out")))
    facts: dict[str, Any] = manifest.provenance
    bands = len(manifest.bands)
    assert check_dataset(connect(str(root / "out"))).problems == []
    assert np.isfinite([*manifest.mean, *manifest.std]).all()
    shown = {
        path: show((root / "tree" / path).read_bytes(), kind)
        for path, kind in kinds.items()
        if kind in GOOD and kind not in ("cmyk jpeg", "class png")
    }
    wanted = {path: expect(each, rules, bands) for path, each in shown.items()}
    taken, sums, num = set(), np.zeros(bands), 0
    for meta, _, pixels in read_all(root / "out", manifest):
        path = meta["source"]
        assert kinds[path] in GOOD, kinds[path]
        valid = check_pixels(pixels, wanted[path], f"{path}: {kinds[path]}")
        assert meta["class"] == manifest.classes[0] or path.startswith(f"{meta['class']}/")
        taken.add(path)
        sums += pixels[valid].sum(axis=0, dtype=np.float64)
        num += int(valid.sum())
    np.testing.assert_allclose(manifest.mean, sums / num, rtol=1e-4, atol=1e-4)
    left_out = facts["num_skipped"] + sum(facts.get("left_out", {}).values())
    assert len(taken) + left_out == num_files
    # Nothing that fits is lost; whether alpha beside unnamed fourth bands does is not ours to say.
    for path in set(wanted) - taken:
        if rules.alpha == "auto" and bands == 4 and shown[path].alpha is not None:
            continue
        pixels, present = wanted[path].pixels, wanted[path].present
        fits = pixels.dtype.name == manifest.dtype and pixels.shape[2] == bands
        assert not fits or present is None or not present.all(2).any(), kinds[path]


@BOUNDED
@given(MIXTURES, st.sampled_from(["skip", "skip", "error"]))
def test_any_tar_is_indexed_rightly_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, mixture: list[str], on_corrupt: str
):
    root = tmp_path_factory.mktemp("tars")
    kinds, members = {}, {}
    mixture = [kind for kind in mixture if "bmp" not in kind and "webp" not in kind]
    for number, kind in enumerate([*mixture, "png", "png"]):
        suffix = (GOOD | BAD)[kind][0]
        kinds[f"s{number}"] = kind
        members[f"s{number}.{suffix}"] = make(kind, number)
        members[f"s{number}.cls"] = b"%d" % (number % 2)
    (root / "train-0.tar").write_bytes(tar_bytes(members))
    try:
        manifest = index_shards(connect(str(root)), on_corrupt=on_corrupt)
    except RsdlError as error:
        check_line(error)
        return
    assert load_manifest(connect(str(root))) == manifest
    assert check_dataset(connect(str(root))).problems == []
    assert np.isfinite([*manifest.mean, *manifest.std]).all()
    num = 0
    for _, key, pixels in read_all(root, manifest):
        data = next(members[name] for name in members if name.split(".")[0] == key)
        bands = len(manifest.bands)
        wanted = expect(show(data, kinds[key]), PictureRules(), bands)
        assert check_pixels(pixels, wanted, kinds[key]).all(), kinds[key]
        num += 1
    assert num + manifest.provenance.get("num_skipped", 0) == len(kinds)


def test_grey_with_alpha_as_a_band_is_stored_so_that_it_is_read_again(tmp_path: Path):
    """Decoders make four bands of such a PNG, three of them equal."""
    for number, name in enumerate(("a", "b")):
        (tmp_path / "tree" / name).mkdir(parents=True)
        (tmp_path / "tree" / name / "x.png").write_bytes(make("la png", number))
    source = FolderSource(tmp_path / "tree", fractions=(1, 0, 0), rules=PictureRules(alpha="band"))
    manifest = pack(source, connect(str(tmp_path / "out")), PackOptions(num_workers=1))
    assert check_dataset(connect(str(tmp_path / "out"))).problems == []
    assert [pixels.shape[2] for *_, pixels in read_all(tmp_path / "out", manifest)] == [2, 2]


def test_a_dark_band_stays_data_where_scales_are_applied(tmp_path: Path):
    """Nodata 0 in whole numbers: a pixel that is 0 in one band has data, unscaled or not."""
    for number, name in enumerate(("a", "b")):
        (tmp_path / "tree" / name).mkdir(parents=True)
        (tmp_path / "tree" / name / "x.tif").write_bytes(make("tiff uint16", number))
    source = FolderSource(tmp_path / "tree", fractions=(1, 0, 0), rules=PictureRules(unscale=True))
    manifest = pack(source, connect(str(tmp_path / "out")), PackOptions(num_workers=1))
    for meta, _, pixels in read_all(tmp_path / "out", manifest):
        with rasterio.open(tmp_path / "tree" / meta["source"]) as scene:
            dark = scene.read()[:, 4, 4]
        assert dark[0] == 0
        np.testing.assert_array_equal(pixels[4, 4], dark)
