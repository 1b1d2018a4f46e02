"""Images and masks in two folders, as people have them: which class each pixel gets."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from rsdl.core.errors import ConfigError, CorruptSampleError, DataError, RsdlError
from rsdl.data.manifest import Manifest
from rsdl.data.packing.pack import PackOptions, pack
from rsdl.data.packing.verify import check_dataset
from rsdl.data.sources.mask_file import UNKNOWN, read_mask
from rsdl.data.sources.mask_folder import MaskFolderSource, MaskOptions
from rsdl.data.targets.mask import IGNORE
from rsdl.raster.picture import PictureRules
from rsdl.storage.connect import connect

SIDE = 24
Draw = Callable[..., tuple[Path, Path]]


def write(path: Path, pixels: NDArray[np.uint8]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels[..., ::-1] if pixels.ndim == 3 else pixels)
    return path


def draw_mask(number: int, values: list[int]) -> NDArray[np.uint8]:
    return np.random.default_rng(number).choice(np.array(values, np.uint8), (SIDE, SIDE))


@pytest.fixture
def draw(tmp_path: Path) -> Draw:
    """Return what draws eight images, and masks of the values that are named."""

    def make(
        values: list[int], *, folders: tuple[str, ...] = ("",), ending: str = ""
    ) -> tuple[Path, Path]:
        for number in range(8):
            name = f"{folders[number % len(folders)]}/scene_{number}"
            image = np.random.default_rng(number).integers(1, 255, (SIDE, SIDE, 3), np.uint8)
            write(tmp_path / f"images/{name}.png", image)
            write(tmp_path / f"masks/{name}{ending}.png", draw_mask(number, values))
        return tmp_path / "images", tmp_path / "masks"

    return make


def samples(source: MaskFolderSource) -> dict[str, NDArray[np.uint8]]:
    """Return the mask of each sample by its key."""
    read = [source.read(item) for plan in source.shards(10**6) for item in plan.items]
    return {sample.key: sample.target for sample in read if not isinstance(sample, str)}


def pack_masks(source: MaskFolderSource, out: Path) -> Manifest:
    return pack(source, connect(str(out)), PackOptions(num_workers=1))


@pytest.mark.parametrize(
    ("values", "fields", "classes", "codes"),
    [
        ([0, 1, 2], {}, ("class_0", "class_1", "class_2"), {0: 0, 1: 1, 2: 2}),
        ([0, 255], {}, ("background", "foreground"), {0: 0, 255: 1}),
        ([0, 1], {}, ("background", "foreground"), {0: 0, 1: 1}),
        ([0, 1, 255], {}, ("background", "foreground"), None),
        ([0, 3, 255], {}, ("class_0", "class_3"), {0: 0, 3: 1, 255: IGNORE}),
        ([0, 1, 7], {"ignore": ("0",)}, ("class_1", "class_7"), {0: IGNORE, 1: 0, 7: 1}),
        ([0, 1, 255], {"classes": ("a", "b")}, ("a", "b"), {0: 0, 1: 1, 255: IGNORE}),
        ([1, 4, 5], {"classes": ("4=a", "1=b", "5=a")}, ("a", "b"), {4: 0, 1: 1, 5: 0}),
    ],
)
def test_values_become_classes(
    values: list[int], fields: dict[str, Any], classes: tuple[str, ...],
    codes: dict[int, int] | None, draw: Draw,
):  # fmt: skip
    source = MaskFolderSource(*draw(values), MaskOptions(**fields))
    if codes is None:  # 255 beside 0 and 1 counts for nothing
        classes, codes = ("class_0", "class_1"), {0: 0, 1: 1, 255: IGNORE}
    assert source.classes == classes
    found = samples(source)
    assert len(found) == 8
    for number in range(8):
        mask = draw_mask(number, values)
        wanted = np.vectorize(codes.__getitem__)(mask)
        assert (found[f"scene_{number}"] == wanted).all()


def test_packed_masks_verify_and_their_pixels_are_counted(draw: Draw, tmp_path: Path):
    source = MaskFolderSource(*draw([0, 1, 2, 9]), MaskOptions(ignore=("9",)))
    manifest = pack_masks(source, tmp_path / "out")
    assert manifest.target == "mask" and [manifest.splits[s].samples for s in manifest.splits] == [
        6,
        1,
        1,
    ]
    counts = np.sum([split.class_counts for split in manifest.splits.values()], axis=0)
    drawn = np.stack([draw_mask(number, [0, 1, 2, 9]) for number in range(8)])
    assert counts.tolist() == [int((drawn == value).sum()) for value in range(3)]
    report = check_dataset(connect(str(tmp_path / "out")))
    assert (report.num_samples, report.problems) == (8, [])


def test_a_mask_that_was_painted_over_is_packed_again(draw: Draw, tmp_path: Path):
    images, masks = draw([0, 1])
    for path in list(masks.iterdir()):
        pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        path.unlink()
        with rasterio.open(
            path.with_suffix(".tif"), "w", driver="GTiff", width=SIDE, height=SIDE, count=1,
            dtype="uint8",
        ) as file:  # fmt: skip
            file.write(pixels, 1)

    def pack_again() -> Manifest:
        return pack_masks(MaskFolderSource(images, masks, MaskOptions()), tmp_path / "shards")

    first, mask = pack_again(), masks / "scene_3.tif"
    assert pack_again() == first
    size = mask.stat().st_size
    with rasterio.open(mask, "r+") as file:
        file.write(1 - file.read())
    assert mask.stat().st_size == size
    assert pack_again().digest != first.digest


def test_a_folder_may_be_named_by_a_dot(draw: Draw, monkeypatch: pytest.MonkeyPatch):
    images, masks = draw([0, 1])
    monkeypatch.chdir(images)
    found = MaskFolderSource(Path("."), Path("../masks"), MaskOptions())
    assert found.dataset == "images"
    assert samples(found).keys() == samples(MaskFolderSource(images, masks, MaskOptions())).keys()


def test_folders_named_as_splits_are_splits_and_masks_may_have_an_ending(draw: Draw):
    images, masks = draw([0, 1], folders=("train", "val"), ending="_mask")
    plans = MaskFolderSource(images, masks, MaskOptions()).shards(10**6)
    assert {plan.split: len(plan.items) for plan in plans} == {"train": 4, "val": 4}


def test_tiles_of_an_image_lie_in_one_split_and_are_its_parts(draw: Draw):
    images, masks = draw([0, 1, 2])
    source = MaskFolderSource(images, masks, MaskOptions(tile=12, overlap=4))
    splits: dict[str, set[str]] = {}
    for plan in source.shards(10**5):
        for item in plan.items:
            sample = source.read(item)
            assert not isinstance(sample, str)
            name, row, col = sample.key.rsplit("_", 2)
            top, left = int(row[1:]), int(col[1:])
            number = int(name.rpartition("_")[2])
            whole = draw_mask(number, [0, 1, 2])
            assert (sample.target == whole[top : top + 12, left : left + 12]).all()
            assert sample.pixels is not None and sample.pixels.shape == (12, 12, 3)
            splits.setdefault(name, set()).add(plan.split)
            assert sample.group == f"images/scene_{number}.png"
    assert len(splits) == 8 and all(len(found) == 1 for found in splits.values())


def test_colours_are_classes(tmp_path: Path, draw: Draw):
    images, masks = draw([0])
    colours = np.array([[255, 0, 0], [0, 0, 255], [0, 0, 0]], np.uint8)
    for number in range(8):
        write(masks / f"scene_{number}.png", colours[draw_mask(number, [0, 1, 2])])
    table = tmp_path / "colours.txt"
    table.write_text("# R G B NAME\n255 0 0 clutter of all kinds\n0,0,255 building\n0 0 0 edge\n")
    for given in (str(table), "isprs"):
        ignore = ("edge",) if given != "isprs" else ()
        source = MaskFolderSource(images, masks, MaskOptions(colours=given, ignore=ignore))
        names = [
            source.classes.index(n) for n in source.classes if n.startswith(("clutter", "build"))
        ]
        codes = np.array([max(names), min(names), IGNORE])
        if given == str(table):
            assert source.classes == ("clutter of all kinds", "building")
            codes = np.array([0, 1, IGNORE])
        for number in range(8):
            wanted = codes[draw_mask(number, [0, 1, 2])]
            assert (samples(source)[f"scene_{number}"] == wanted).all()


def test_pixels_without_data_count_for_nothing(draw: Draw):
    images, masks = draw([0, 1])
    image = np.full((SIDE, SIDE, 3), 255, np.uint8)
    image[:, :10] = np.random.default_rng(0).integers(1, 250, (SIDE, 10, 3))
    write(images / "scene_3.png", image)
    rules = PictureRules(nodata=255)
    found = samples(MaskFolderSource(images, masks, MaskOptions(rules=rules)))["scene_3"]
    assert (found[:, 10:] == IGNORE).all() and (found[:, :10] != IGNORE).all()


def test_images_without_a_label_are_left_out_unless_wanted(draw: Draw):
    images, masks = draw([0, 1])
    write(masks / "scene_2.png", np.full((SIDE, SIDE), 255, np.uint8))
    options: dict[str, Any] = {"classes": ("a", "b")}
    assert "scene_2" not in samples(MaskFolderSource(images, masks, MaskOptions(**options)))
    kept = MaskFolderSource(images, masks, MaskOptions(**options, keep_unlabelled=True))
    assert (samples(kept)["scene_2"] == IGNORE).all()


def test_what_has_no_counterpart_is_counted(draw: Draw):
    images, masks = draw([0, 1])
    (masks / "scene_1.png").unlink()
    (images / "scene_2.png").unlink()
    source = MaskFolderSource(images, masks, MaskOptions())
    assert source.left_out == {"images without a mask": 1, "masks without an image": 1}


def write_tif(
    path: Path, pixels: NDArray[Any], *, origin: float = 0.0, nodata: float | None = None
) -> None:
    path.unlink(missing_ok=True)
    count = 1 if pixels.ndim == 2 else pixels.shape[2]
    with rasterio.open(
        path, "w", driver="GTiff", height=SIDE, width=SIDE, count=count, dtype=pixels.dtype,
        crs="EPSG:32633", transform=rasterio.Affine(10, 0, 500_000 + origin, 0, -10, 5_000_000),
        nodata=nodata,
    ) as target:  # fmt: skip
        target.write(pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, 2, 0))


def test_a_mask_s_nodata_and_nan_count_for_nothing(draw: Draw):
    images, masks = draw([0, 1])
    for number in range(8):
        (masks / f"scene_{number}.png").unlink()
        mask = draw_mask(number, [0, 1, 9]).astype(np.float32)
        mask[0, :3] = np.nan
        write_tif(masks / f"scene_{number}.tif", mask, nodata=9)
    source = MaskFolderSource(images, masks, MaskOptions())
    assert source.classes == ("background", "foreground")
    found = samples(source)["scene_3"]
    drawn = draw_mask(3, [0, 1, 9])
    assert (found[0, :3] == IGNORE).all() and (found[1:][drawn[1:] == 9] == IGNORE).all()
    assert (found[1:][drawn[1:] != 9] == drawn[1:][drawn[1:] != 9]).all()


def test_a_sidecar_of_a_grey_png_says_what_is_nothing(tmp_path: Path):
    path = tmp_path / "mask.png"
    values = np.random.default_rng(0).integers(0, 9, (40, 50), np.uint8)
    cv2.imwrite(str(path), values)
    plain = read_mask(path, is_colour=False)
    assert (plain.values == values).all() and plain.values.dtype == np.uint8
    band = '<PAMRasterBand band="1"><NoDataValue>3</NoDataValue></PAMRasterBand>'
    Path(f"{path}.aux.xml").write_text(f"<PAMDataset>{band}</PAMDataset>")
    marked = read_mask(path, is_colour=False).values
    assert ((marked == UNKNOWN) == (values == 3)).all()
    assert (marked[values != 3] == values[values != 3]).all()


def test_a_mask_lies_where_its_image_does(draw: Draw, tmp_path: Path):
    images, masks = draw([0, 1])
    for number in range(8):
        image = np.random.default_rng(number).integers(1, 255, (SIDE, SIDE, 3), np.uint8)
        (images / f"scene_{number}.png").unlink()
        write_tif(images / f"scene_{number}.tif", image)
        (masks / f"scene_{number}.png").unlink()
        write_tif(masks / f"scene_{number}.tif", draw_mask(number, [0, 1]), origin=4.0)
    assert len(samples(MaskFolderSource(images, masks, MaskOptions()))) == 8  # within half a pixel
    write_tif(masks / "scene_5.tif", draw_mask(5, [0, 1]), origin=6.0)
    with pytest.raises(CorruptSampleError, match=r"scene_5\.tif: lies elsewhere than its image"):
        pack_masks(MaskFolderSource(images, masks, MaskOptions()), tmp_path / "out")


def test_two_images_never_share_a_mask(draw: Draw):
    images, masks = draw([0, 1])
    write(images / "other" / "scene_1.png", np.zeros((SIDE, SIDE, 3), np.uint8))
    with pytest.raises(DataError, match=r'scene_1\.png" would have the same mask, "scene_1"'):
        MaskFolderSource(images, masks, MaskOptions())


@pytest.mark.parametrize("bits", [4, 8])
def test_a_palette_has_the_colours_of_its_numbers(bits: int, draw: Draw):
    images, masks = draw([0])
    for number in range(8):
        path = masks / f"scene_{number}.png"
        path.unlink()
        with rasterio.open(
            path, "w", driver="PNG", height=SIDE, width=SIDE, count=1, dtype="uint8", nbits=bits
        ) as target:
            target.write(draw_mask(number, [0, 1, 2])[None])
            target.write_colormap(1, {0: (0, 0, 0), 1: (0, 0, 255), 2: (255, 0, 0)})
    source = MaskFolderSource(images, masks, MaskOptions(colours="isprs"))
    names = [None, "building", "clutter"]
    codes = [IGNORE, *(source.classes.index(str(name)) for name in names[1:])]
    for number in range(8):
        wanted = np.array(codes)[draw_mask(number, [0, 1, 2])]
        assert (samples(source)[f"scene_{number}"] == wanted).all()


def test_numbers_are_not_the_colours_that_were_asked_for(draw: Draw, tmp_path: Path):
    source = MaskFolderSource(*draw([0, 1]), MaskOptions(colours="isprs"))
    with pytest.raises(CorruptSampleError, match=r"has 1 bands of uint8.*; leave --colors out"):
        pack_masks(source, tmp_path / "out")


def test_masks_without_any_label_are_refused(draw: Draw):
    images, masks = draw([255])
    with pytest.raises(DataError, match="MASKS: have no label: all is 255 or ignored"):
        MaskFolderSource(images, masks, MaskOptions())


def damage(images: Path, masks: Path, how: str) -> None:
    if how == "size":
        write(masks / "scene_0.png", np.zeros((SIDE, SIDE + 1), np.uint8))
    elif how == "value":
        write(masks / "scene_0.png", np.full((SIDE, SIDE), 7, np.uint8))
    elif how == "colour":
        write(
            masks / "scene_0.png",
            np.random.default_rng(0).integers(0, 2, (SIDE, SIDE, 3), np.uint8),
        )
    elif how == "jpeg":
        (masks / "scene_0.png").unlink()
        write(masks / "scene_0.jpg", np.zeros((SIDE, SIDE), np.uint8))
    elif how == "fraction":
        (masks / "scene_0.png").unlink()
        with rasterio.open(
            masks / "scene_0.tif", "w", driver="GTiff", height=SIDE, width=SIDE, count=1,
            dtype="float32", transform=rasterio.Affine(1, 0, 0, 0, -1, 0),
        ) as target:  # fmt: skip
            target.write(np.full((1, SIDE, SIDE), 0.5, np.float32))
    elif how == "twice":
        write(masks / "scene_0_mask.png", np.zeros((SIDE, SIDE), np.uint8))
    elif how == "none":
        for path in masks.iterdir():
            path.rename(path.with_name(f"x{path.name}"))


@pytest.mark.parametrize(
    ("how", "problem"),
    [
        ("size", "scene_0.png: is 24 x 25 px, and its image images/scene_0.png is 24 x 24 px"),
        ("value", r"scene_0.png: holds 7, which is no class \(a, b\); name it with --classes"),
        ("colour", "scene_0.png: is a colour image: its bands differ; pass --colors FILE, or one"),
        ("jpeg", "scene_0.jpg: is a JPEG, which changes the values of a mask"),
        ("fraction", "scene_0.tif: holds fractions or infinity; give a mask of whole numbers"),
        ("twice", '"scene_0.*" and "scene_0.*" are masks of the same image; remove one'),
        ("none", 'has no mask for any image, such as "images/scene_0.png"'),
    ],
)
def test_masks_that_do_not_fit_are_one_line_that_names_the_file(
    how: str, problem: str, draw: Draw, tmp_path: Path
):
    images, masks = draw([0, 1])
    damage(images, masks, how)
    with pytest.raises((DataError, CorruptSampleError), match=problem) as caught:
        pack_masks(MaskFolderSource(images, masks, MaskOptions(classes=("a", "b"))), tmp_path / "o")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"classes": ("a", "b"), "ignore": ("1",)}, "--ignore: 1 is among the classes, too"),
        ({"colours": "isprs", "classes": ("a",)}, "--classes: does not go with --colors"),
        ({"colours": "isprs", "ignore": ("sea",)}, '--ignore: no colour is named "sea"; use imper'),
        ({"colours": "no/such"}, "--colors: cannot read no/such: .*; or use isprs, deepglobe"),
        ({"tile": 4}, "--tile: is 4 px; use 0, or 8 and more"),
        (
            {"tile": 48},
            "--tile: is 48 px, but .* is only 24 x 24 px; use 0 to keep images whole, or 24 ",
        ),
        ({"tile": 8, "overlap": 8}, "overlap: is 8; use 0 to 7"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    fields: dict[str, Any], problem: str, draw: Draw, tmp_path: Path
):
    images, masks = draw([0, 1])
    with pytest.raises((ConfigError, RsdlError), match=problem):
        pack_masks(MaskFolderSource(images, masks, MaskOptions(**fields)), tmp_path / "out")


def test_the_pixel_size_of_georeferenced_images_is_recorded(draw: Draw, tmp_path: Path):
    images, masks = draw([0, 1])
    packed = pack_all(images, masks, tmp_path / "plain")
    assert "gsd_m" not in packed.provenance
    for number in range(8):
        image = np.random.default_rng(number).integers(1, 255, (SIDE, SIDE, 3), np.uint8)
        (images / f"scene_{number}.png").unlink()
        write_tif(images / f"scene_{number}.tif", image)
    found: Any = pack_all(images, masks, tmp_path / "placed").provenance["gsd_m"]
    assert found["min"] == found["median"] == found["max"] == pytest.approx(10.004, abs=1e-3)


def pack_all(images: Path, masks: Path, out: Path) -> Manifest:
    source = MaskFolderSource(images, masks, MaskOptions(classes=("a", "b")))
    return pack(source, connect(str(out)), PackOptions(num_workers=1))
