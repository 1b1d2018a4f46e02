"""``rsdl predict``: maps of scenes by a run, the same after any kill, and refusals in one line."""

import hashlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
import torch
import yaml
from rasterio.features import rasterize
from rasterio.warp import transform_bounds

import rsdl as api
from tests.integration.conftest import Rsdl as Command
from tests.integration.conftest import refusal, tiny_run

if TYPE_CHECKING:
    import subprocess

    from tests.integration.conftest import Rsdl

pytestmark = pytest.mark.slow
OUTPUTS = ("--probabilities", "--vectorize", "gpkg", "--quicklook", "--page")
FILES = [
    f"scene_000{suffix}"
    for suffix in (".gpkg", ".html", ".json", ".tif", "_probabilities.tif", "_quicklook.png")
]


@pytest.fixture(scope="module")
def study(
    fork_server: "subprocess.Popen[str]", tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Return a folder with scenes and runs of both tasks, hardly trained."""
    folder = tmp_path_factory.mktemp("predict")
    rsdl = Command(fork_server, folder)
    ended = [rsdl("data", "scenes", "scenes", "--num-scenes", 6, "--size", 256)]
    for task in ("classification", "segmentation"):
        ended.append(
            rsdl(
                "data", "pack", "geotiff", "scenes", "--labels", "scenes/labels.geojson",
                "--tile", 64, "--task", task, "--out", f"data/{task}",
            )
        )  # fmt: skip
        fields = {"name": task, "data__image_size": 64, "trainer__max_epochs": 1}
        tree = tiny_run(f"data/{task}", "runs", fields) | {"task": {"name": task}}
        tree["model"]["name"] = "test_resnet"
        (folder / f"{task}.yaml").write_text(yaml.safe_dump(tree))
        ended.append(rsdl("train", f"{task}.yaml"))
    assert [each.returncode for each in ended] == [0] * len(ended), ended
    yield folder
    rsdl.end()


def test_each_scene_gets_a_map_on_its_grid_with_the_classes_of_the_run(
    rsdl: "Rsdl", study: Path, tmp_path: Path
):
    run = study / "runs/segmentation"
    ended = rsdl("predict", run, study / "scenes", "--out", "maps", "--probabilities")
    assert ended.returncode == 0, ended.stderr
    assert "windows of 64 x 64 px (as the data set was cut) that overlap by 16" in ended.stdout
    assert "6 of 6 maps written to maps" in ended.stdout
    classes = json.loads((run / "model.json").read_text())["classes"]
    with (
        rasterio.open(study / "scenes/scene_000.tif") as scene,
        rasterio.open(tmp_path / "maps/scene_000.tif") as found,
        rasterio.open(tmp_path / "maps/scene_000_probabilities.tif") as shares,
    ):
        assert (found.shape, found.transform, found.crs) == (
            scene.shape, scene.transform, scene.crs,
        )  # fmt: skip
        assert [found.tags()[f"CLASS_{n}"] for n in range(len(classes))] == classes
        assert shares.descriptions == tuple(classes)
        chosen, levels = found.read(1), shares.read()
    assert (np.take_along_axis(levels, chosen[None].astype(int), 0)[0] == levels.max(0)).all()
    again = rsdl("predict", run, study / "scenes", "--out", "maps", "--probabilities")
    assert "0 of 6 maps written to maps; 6 were there" in again.stdout


def test_each_tile_has_the_class_that_the_loaded_network_gives_it(
    rsdl: "Rsdl", study: Path, tmp_path: Path
):
    run = study / "runs/classification"
    assert rsdl("predict", run, study / "scenes", "--out", "maps").returncode == 0
    model = api.load(str(run))
    for number in range(6):
        with rasterio.open(study / f"scenes/scene_00{number}.tif") as scene:
            pixels = np.moveaxis(scene.read(), 0, 2)
        with rasterio.open(tmp_path / f"maps/scene_00{number}.tif") as found:
            classes = found.read(1)
        for row in range(0, 256, 64):
            for col in range(0, 256, 64):
                place = slice(row, row + 64), slice(col, col + 64)
                label = model.predict(pixels[place]).labels[0]
                assert (classes[place] == model.classes.index(label)).all()


def test_a_scene_as_large_as_a_window_is_what_the_network_says_of_it(
    rsdl: "Rsdl", study: Path, tmp_path: Path
):
    run = study / "runs/segmentation"
    pixels = cut(study / "scenes/scene_001.tif", tmp_path / "one.tif", 64, 64)
    assert rsdl("predict", run, "one.tif", "--out", "maps").returncode == 0
    with torch.inference_mode():
        logits = api.load(str(run))(torch.from_numpy(pixels[None]))
    with rasterio.open(tmp_path / "maps/one.tif") as found:
        np.testing.assert_array_equal(found.read(1), logits[0].argmax(0).numpy())


def test_the_map_is_the_same_for_any_batch_and_scenes_in_parts(
    rsdl: "Rsdl", study: Path, tmp_path: Path
):
    run = study / "runs/segmentation"
    for part in ("1/2", "2/2"):
        ended = rsdl("predict", run, study / "scenes", "--out", "a", "--part", part)
        assert "3 of 3 maps written" in ended.stdout, ended.stderr
    ended = rsdl("predict", run, study / "scenes", "--out", "b", "--batch-size", 3)
    assert ended.returncode == 0, ended.stderr
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_a_prediction_killed_anywhere_goes_on_to_the_same_files(
    rsdl: "Rsdl", study: Path, tmp_path: Path
):
    scenes = study / "scenes/*_00[0-3].tif"
    command = ("predict", study / "runs/segmentation", scenes, *OUTPUTS, "--batch-size", 16)
    assert rsdl(*command, "--out", "whole").returncode == 0
    begun = tmp_path / "begun"
    running = rsdl.start(*command, "--out", "killed", tell=("rsdl.predict.scene:compute", 4, begun))
    running.wait_for(begun.exists)
    running.kill()
    assert running.wait().returncode == -signal.SIGKILL
    assert names(tmp_path / "killed")[1:] == FILES
    deaths = 0
    # The six files of a scene take 18 calls, so that each start ends amid its second scene.
    while (ended := rsdl(*command, "--out", "killed", die=26)).returncode:
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        for name in names(tmp_path / "killed"):
            assert digest(tmp_path / "killed" / name) == digest(tmp_path / "whole" / name)
        deaths += 1
        assert deaths < 20, "no progress"
    assert deaths >= 2
    # Parts of killed writers are removed by the next one; nothing hidden is left.
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")


@pytest.mark.parametrize("function", ["polygons:trace_strip", "outputs:draw_page"])
def test_a_prediction_killed_while_it_draws_goes_on_to_the_same_files(
    rsdl: "Rsdl", study: Path, tmp_path: Path, function: str
):
    command = ("predict", study / "runs/segmentation", study / "scenes/*_00[01].tif", *OUTPUTS)
    assert rsdl(*command, "--out", "whole").returncode == 0
    begun = tmp_path / "begun"
    tell = (f"rsdl.predict.{function}", 1, begun)  # of the first scene: the second is still to come
    running = rsdl.start(*command, "--out", "killed", tell=tell)
    running.wait_for(begun.exists)
    running.kill()
    assert running.wait().returncode == -signal.SIGKILL
    assert rsdl(*command, "--out", "killed").returncode == 0
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")


def test_polygons_of_a_run_are_its_map_in_longitude_and_latitude_or_the_crs_of_the_scene(
    rsdl: "Rsdl", study: Path, tmp_path: Path
):
    run, scene = study / "runs/segmentation", study / "scenes/scene_002.tif"
    for kind in ("gpkg", "geojson"):
        options = ("--vectorize", kind, "--simplify", 0)
        ended = rsdl("predict", run, scene, "--out", kind, *options)
        assert ended.returncode == 0, ended.stderr
    with rasterio.open(tmp_path / "gpkg/scene_002.tif") as raster:
        classes, crs, transform = raster.read(1), raster.crs, raster.transform
    meta, _, blobs, columns = pyogrio.raw.read(tmp_path / "gpkg/scene_002.gpkg")
    assert meta["crs"] == crs.to_string()
    marks = zip(shapely.from_wkb(blobs), columns[0].tolist(), strict=True)
    drawn = rasterize(marks, out=np.full_like(classes, 255), transform=transform)
    np.testing.assert_array_equal(drawn, classes)
    page = json.loads((tmp_path / "geojson/scene_002.geojson").read_text())
    assert [each["properties"]["class"] for each in page["features"]] == columns[0].tolist()
    areas = [each["properties"]["area_m2"] for each in page["features"]]
    assert areas == columns[2].tolist()
    assert sum(areas) == pytest.approx(256 * 256 * abs(transform.determinant), rel=2e-3)


def test_each_tile_of_a_classification_is_a_feature_with_class_and_probability(
    rsdl: "Rsdl", study: Path, tmp_path: Path
):
    run, scene = study / "runs/classification", study / "scenes/scene_000.tif"
    options = ("--vectorize", "gpkg", "--probabilities", "--quicklook", "--page")
    ended = rsdl("predict", run, scene, "--out", "maps", *options)
    assert ended.returncode == 0, ended.stderr
    meta, _, blobs, columns = pyogrio.raw.read(tmp_path / "maps/scene_000.gpkg")
    assert meta["fields"].tolist() == ["class", "name", "area_m2", "probability"]
    assert len(blobs) == 16
    with (
        rasterio.open(tmp_path / "maps/scene_000.tif") as raster,
        rasterio.open(tmp_path / "maps/scene_000_probabilities.tif") as levels,
    ):
        for shape, label, probability in zip(
            shapely.from_wkb(blobs), columns[0], columns[3], strict=True
        ):
            place = [(shape.centroid.x, shape.centroid.y)]
            assert next(raster.sample(place))[0] == label
            level = next(levels.sample(place))[label] / 254
            assert level == pytest.approx(probability, abs=0.5 / 254 + 1e-6)
    classes = api.load(str(run)).classes
    assert columns[1].tolist() == [classes[label] for label in columns[0]]


def test_outputs_that_a_folder_was_not_made_with_and_odd_options_are_refused_in_one_line(
    rsdl: "Rsdl", study: Path, tmp_path: Path
):
    scene = study / "scenes/scene_000.tif"
    command = ("predict", study / "runs/segmentation", scene, "--out", "maps")
    assert rsdl(*command).returncode == 0
    for option, field in (("--quicklook", "quicklook"), ("--page", "page")):
        line = refusal(rsdl(*command, option))
        assert f"holds maps made with {field} False, not True; name another folder" in line
    line = refusal(rsdl(*command, "--vectorize", "gpkg"))
    assert "holds maps made with polygons None, not gpkg; name another folder" in line
    line = refusal(rsdl(*command, "--min-area", 5))
    assert "--min-area: is for polygons; add --vectorize gpkg or geojson" in line
    line = refusal(rsdl(*command, "--vectorize", "gpkg", "--simplify", "inf"))
    assert "--simplify: is inf; use a number of 0 or more" in line
    tiles = ("predict", study / "runs/classification", scene, "--out", "tiles")
    line = refusal(rsdl(*tiles, "--vectorize", "gpkg", "--simplify", 2))
    assert "--simplify: is for maps of pixels; here each tile is a rectangle" in line
    assert not (tmp_path / "tiles").exists()
    cut(scene, tmp_path / "in/first.tif", 64, 64)
    cut(scene, tmp_path / "in/site.tif", 64, 64, crs='LOCAL_CS["site",UNIT["metre",1]]')
    sites = ("predict", study / "runs/segmentation", "in", "--out", "site")
    line = refusal(rsdl(*sites, "--vectorize", "gpkg"))
    assert "site.tif: cannot be placed on Earth" in line
    assert not (tmp_path / "site").exists()  # said before the first is mapped
    ended = rsdl(*sites, "--quicklook", "--page")
    assert ended.returncode == 0, ended.stderr


def test_turned_views_are_averaged(rsdl: "Rsdl", study: Path, tmp_path: Path):
    run, scene = study / "runs/segmentation", study / "scenes/scene_000.tif"
    with rasterio.open(scene) as source:
        profile, pixels = source.profile, source.read()
    with rasterio.open(tmp_path / "scene_000.tif", "w", **profile) as turned:
        turned.write(pixels[:, ::-1])
    for out, source in (("a", scene), ("b", tmp_path / "scene_000.tif")):
        ended = rsdl("predict", run, source, "--out", out, "--tta", "--probabilities")
        assert ended.returncode == 0, ended.stderr
    straight, turned = (
        rasterio.open(tmp_path / out / "scene_000_probabilities.tif").read().astype(int)
        for out in "ab"
    )
    # 256 px are 5 windows of 64, every 48: their grid is symmetric, so that the maps are, too.
    assert np.abs(straight - turned[:, ::-1]).max() <= 1


def test_a_dry_run_lists_scenes_and_writes_nothing(rsdl: "Rsdl", study: Path, tmp_path: Path):
    run = study / "runs/segmentation"
    ended = rsdl("predict", run, study / "scenes/*_00[0-2].tif", "--out", "maps", "--dry-run")
    assert ended.returncode == 0
    assert "scene_002.tif: 256 x 256 px, scene_002.tif to predict" in ended.stdout
    assert "3 of 3 scenes to predict, 196,608 px" in ended.stdout
    assert not (tmp_path / "maps").exists()


def test_what_the_run_was_not_trained_on_is_refused_in_one_line(
    rsdl: "Rsdl", study: Path, tmp_path: Path
):
    run = study / "runs/segmentation"

    def refused(*arguments: object) -> str:
        return refusal(rsdl("predict", run, *arguments, "--out", "maps"))

    cut(study / "scenes/scene_000.tif", tmp_path / "two.tif", 64, 64, bands=(1, 2))
    assert "two.tif: has 2 bands (band_1, band_2), the run was trained on 3" in refused("two.tif")
    cut(study / "scenes/scene_000.tif", tmp_path / "wide.tif", 64, 64, dtype="uint16")
    assert "has pixels of uint16, the run was trained on uint8" in refused("wide.tif")
    assert 'wide.tif has no band "nir"; it has band_1, band_2' in refused(
        "wide.tif", "--bands", "nir,2,1"
    )
    assert "--bands: names 2 bands" in refused("wide.tif", "--bands", "2,1")
    scene = study / "scenes/scene_000.tif"
    assert '--part: "3/2" is not I/N' in refused(scene, "--part", "3/2")
    assert "--overlap: is 64 px; use 0 to 63" in refused(scene, "--overlap", 64)
    assert '--device: "gpu" is no device' in refused(scene, "--device", "gpu")
    assert "no scenes found" in refused("absent.tif")
    assert not (tmp_path / "maps").exists()


def test_a_damaged_scene_keeps_no_other_from_being_mapped(
    rsdl: "Rsdl", study: Path, tmp_path: Path
):
    command = ("predict", study / "runs/segmentation", "in", "--out", "maps")
    (tmp_path / "in").mkdir()
    whole = (study / "scenes/scene_000.tif").read_bytes()
    for name, count in (("a", len(whole) * 2 // 3), ("b", len(whole))):
        (tmp_path / f"in/{name}.tif").write_bytes(whole[:count])
    for _ in range(2):
        ended = rsdl(*command)
        assert ended.returncode == 2, ended
        (line,) = ended.stderr.splitlines()
        assert "in/a.tif: cannot be read at row 0" in line
        assert "1 of 2 scenes have no map" in line
        assert names(tmp_path / "maps") == ["b.json", "b.tif", "prediction.json"]
    line = refusal(rsdl("predict", *command[1:3], "--tile", 200_000, "--out", "large"))
    assert "--tile: windows of 200000 x 200000 px" in line


def test_another_scene_of_the_same_name_is_not_taken_for_one_that_is_mapped(
    rsdl: "Rsdl", study: Path, tmp_path: Path
):
    command = ("predict", study / "runs/segmentation", "--out", "maps")
    for number, folder in enumerate(("first", "second")):
        cut(study / f"scenes/scene_00{number}.tif", tmp_path / folder / "one.tif", 64, 64)
    assert rsdl(*command, "first/one.tif").returncode == 0
    line = refusal(rsdl(*command, "second/one.tif"))
    assert "maps holds the map of another one.tif than" in line
    assert "1 were there" in rsdl(*command, "first").stdout
    (tmp_path / "maps/one.json").unlink()
    assert "1 of 1 maps written" in rsdl(*command, "second/one.tif").stdout


def test_an_area_is_mapped_as_the_scene_is_there_and_belongs_to_the_folder(
    rsdl: "Rsdl", study: Path, tmp_path: Path
):
    command = ("predict", study / "runs/segmentation", study / "scenes")
    assert rsdl(*command, "--out", "whole", "--probabilities").returncode == 0
    with rasterio.open(study / "scenes/scene_000.tif") as scene:
        left, bottom, right, top = transform_bounds(scene.crs, "EPSG:4326", *scene.bounds)
    width, height = (right - left) / 4, (top - bottom) / 4
    box = f"{left + width},{bottom + height},{right - width},{top - height}"
    ended = rsdl(*command, "--out", "part", "--probabilities", "--bbox", box)
    assert "5 of 6 scenes lie outside of the area and are left out" in ended.stdout, ended
    assert "1 of 1 maps written to part" in ended.stdout
    with (
        rasterio.open(tmp_path / "whole/scene_000_probabilities.tif") as whole,
        rasterio.open(tmp_path / "part/scene_000_probabilities.tif") as part,
    ):
        row = round((whole.bounds.top - part.bounds.top) / whole.res[1])
        col = round((part.bounds.left - whole.bounds.left) / whole.res[0])
        levels = part.read()
        there = whole.read()[:, row : row + part.height, col : col + part.width]
    known = (levels != 255).all(axis=0)
    assert 0.9 < known.mean() <= 1
    # Batches of other windows: kernels round otherwise in the last bit.
    assert np.abs(levels[:, known].astype(int) - there[:, known]).max() <= 1
    line = refusal(rsdl(*command, "--out", "part", "--probabilities"))
    assert f"holds maps made with area {box}, not None" in line
    line = refusal(rsdl(*command, "--out", "none", "--bbox", "1,2,3,4"))
    assert "--bbox: the polygons cover (1, 2, 3, 4) in EPSG:4326, but the scenes lie in" in line


def test_a_scene_of_another_pixel_size_is_refused_or_resampled(
    rsdl: "Rsdl", study: Path, tmp_path: Path
):
    run = study / "runs/segmentation"
    with rasterio.open(study / "scenes/scene_000.tif") as scene:
        pixels, profile = scene.read(out_shape=(3, 64, 64)), scene.profile
        ground = scene.bounds
    place = rasterio.Affine(0.57 * 4, 0, ground.left, 0, -0.57 * 4, ground.top)
    profile |= {"width": 64, "height": 64, "transform": place}
    with rasterio.open(tmp_path / "coarse.tif", "w", **profile) as coarse:
        coarse.write(pixels)
    line = refusal(rsdl("predict", run, "coarse.tif", "--out", "maps"))
    assert "coarse.tif: has pixels of 2.28 m, the run was trained on 0.54 to 0.69 m" in line
    assert "pass --resample to map it at 0.62 m" in line
    ended = rsdl("predict", run, "coarse.tif", "--out", "maps", "--resample")
    assert "1 of 1 scenes are read, and mapped, at 0.62 m" in ended.stdout, ended.stderr
    with rasterio.open(tmp_path / "maps/coarse.tif") as found:
        np.testing.assert_allclose(found.bounds, ground)
        assert found.res[0] == pytest.approx(0.62, abs=0.002)
    line = refusal(rsdl("predict", run, "coarse.tif", "--out", "maps", "--gsd", 2.3))
    assert "holds maps made with gsd_m 0.62" in line


def test_maps_made_otherwise_and_folders_of_scenes_are_not_written_to(
    rsdl: "Rsdl", study: Path, tmp_path: Path
):
    run, other = study / "runs/segmentation", study / "runs/classification"
    cut(study / "scenes/scene_000.tif", tmp_path / "in" / "one.tif", 64, 64)
    assert "--out: holds the scene" in refusal(rsdl("predict", run, "in", "--out", "in"))
    assert rsdl("predict", run, "in", "--out", "in/maps").returncode == 0
    again = rsdl("predict", run, "in", "--out", "in/maps")  # maps are no scenes
    assert "0 of 1 maps written to in/maps; 1 were there" in again.stdout
    line = refusal(rsdl("predict", other, "in", "--out", "in/maps"))
    assert "in/maps holds maps made with run segmentation, not classification" in line
    line = refusal(rsdl("predict", run, "in", "--out", "in/maps", "--overlap", 8, "--dry-run"))
    assert "maps made with overlap 16, not 8" in line


def cut(
    source: Path,
    path: Path,
    *size: int,
    bands: tuple[int, ...] = (1, 2, 3),
    dtype: str = "uint8",
    crs: str | None = None,
) -> np.ndarray:
    """Write the first pixels of a scene to another file, and return them."""
    path.parent.mkdir(exist_ok=True)
    with rasterio.open(source) as scene:
        pixels: Any = scene.read(bands)[:, : size[0], : size[1]].astype(dtype)
        profile = {"crs": crs or scene.crs, "transform": scene.transform, "dtype": dtype}
    with rasterio.open(
        path, "w", driver="GTiff", count=len(bands), height=size[0], width=size[1], **profile
    ) as raster:
        raster.write(pixels)
    return pixels


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digests(folder: Path) -> dict[str, str]:
    return {path.name: digest(path) for path in sorted(folder.iterdir())}
