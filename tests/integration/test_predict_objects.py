"""``rsdl predict`` of a detection run: boxes, the same for any batch and after any kill."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyogrio
import pytest
import torch
import yaml

import rsdl as api
from rsdl.data.packing.pack import PackOptions, pack
from rsdl.storage.connect import connect
from tests.drawn_objects import DrawnObjects, draw_scene
from tests.integration.conftest import Rsdl as Command
from tests.integration.conftest import refusal, tiny_run
from tests.integration.test_predict import digests
from tests.unit.predict.objects import write_scene

if TYPE_CHECKING:
    import subprocess

    from tests.integration.conftest import Rsdl

pytestmark = pytest.mark.slow
SIDE = 64
# A network that is hardly trained finds much, none of it surely.
PREDICT = ("predict", "RUN", "--score", 0.001, "--quicklook", "--page")


@pytest.fixture(scope="module")
def study(
    fork_server: "subprocess.Popen[str]", tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Return a folder with two scenes, a picture, and a run that was hardly trained."""
    folder = tmp_path_factory.mktemp("objects")
    rsdl = Command(fork_server, folder)
    source: Any = DrawnObjects(count=8, side=SIDE)
    pack(source, connect(str(folder / "data")), PackOptions())
    task = {
        "name": "detection", "boxes": "oriented", "levels": [3, 5], "head_width": 32,
        "head_depth": 1, "max_detections": 50,
    }  # fmt: skip
    fields = {"name": "run", "data__image_size": SIDE, "trainer__max_epochs": 1}
    tree = tiny_run("data", "runs", fields) | {"task": task}
    tree["data"] |= {"crop_ratio": [1, 1], "crop_scale": [0.9, 1]}
    tree["model"]["name"] = "test_resnet"
    (folder / "run.yaml").write_text(yaml.safe_dump(tree))
    ended = rsdl("train", "run.yaml")
    assert ended.returncode == 0, ended.stderr
    (folder / "scenes").mkdir()
    for number in range(2):
        image = np.concatenate([draw_scene(10 + number * 2 + n, 110)[0] for n in range(2)], axis=1)
        write_scene(folder / f"scenes/scene_{number}.tif", image)
    write_scene(folder / "picture.png", image, crs=None)
    yield folder
    rsdl.end()


def predict(study: Path, *more: Any) -> tuple[Any, ...]:  # noqa: ANN401
    return *(study / "runs/run" if word == "RUN" else word for word in PREDICT), *more


def features(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text())["features"]
    return found


def test_each_scene_gets_its_objects_the_same_for_any_batch(
    rsdl: "Rsdl", study: Path, tmp_path: Path
):
    ended = rsdl(*predict(study, study / "scenes", "--out", "maps"))
    assert ended.returncode == 0, ended.stderr
    assert "windows of 64 x 64 px" in ended.stdout
    assert "that overlap by 16" in ended.stdout
    names = sorted(path.name for path in (tmp_path / "maps").iterdir())
    assert names == ["prediction.json"] + [
        f"scene_{n}{suffix}" for n in range(2)
        for suffix in (".geojson", ".html", ".json", "_quicklook.png")
    ]  # fmt: skip
    one = features(tmp_path / "maps/scene_0.geojson")
    assert f"scene_0.geojson: {len(one):,} objects" in ended.stdout
    again = rsdl(*predict(study, study / "scenes", "--out", "other", "--batch-size", 3))
    assert again.returncode == 0, again.stderr
    other = features(tmp_path / "other/scene_0.geojson")
    assert len(one) == len(other) > 10
    for mine, theirs in zip(one, other, strict=True):
        assert mine["properties"]["score"] == pytest.approx(theirs["properties"]["score"], abs=2e-4)
    assert "0 of 2 maps written" in rsdl(*predict(study, study / "scenes", "--out", "maps")).stdout


def test_a_scene_as_large_as_a_window_has_what_the_network_finds_in_it(
    rsdl: "Rsdl", study: Path, tmp_path: Path
):
    image, _ = draw_scene(30, SIDE)
    write_scene(tmp_path / "one.png", image, crs=None)
    for more in ((), ("--tta",)):
        out = f"maps{len(more)}"
        assert rsdl(*predict(study, "one.png", "--out", out, *more)).returncode == 0
        model = api.load(str(study / "runs/run"))
        task: Any = model.task
        task.config = task.config.model_copy(update={"score_threshold": 0.001})
        (found,) = model.detect_windows(image[None], tta=bool(more))
        inside = ((found[:, :2] >= 0) & (found[:, :2] < SIDE)).all(axis=1)
        lines = (tmp_path / out / "one.csv").read_text().splitlines()
        scores = [float(line.split(",")[2]) for line in lines[1:]]
        np.testing.assert_allclose(scores, found[inside, 5], atol=1e-3)
        if not more:
            with torch.inference_mode():
                direct = model.task.predict(model(torch.from_numpy(image[None])))[0].numpy()
            np.testing.assert_allclose(direct[direct[:, 6] >= 0], found, atol=1e-2)


def test_a_higher_score_and_another_format_leave_the_best_in_the_crs_of_the_scene(
    rsdl: "Rsdl", study: Path, tmp_path: Path
):
    scene = study / "scenes/scene_0.tif"
    assert rsdl(*predict(study, scene, "--out", "all")).returncode == 0
    scores = [each["properties"]["score"] for each in features(tmp_path / "all/scene_0.geojson")]
    middle = scores[len(scores) // 2] + 1e-3
    command = "predict", study / "runs/run", scene, "--score", middle, "--vectorize", "gpkg"
    assert rsdl(*command, "--out", "best").returncode == 0
    info = pyogrio.read_info(tmp_path / "best/scene_0.gpkg")
    assert info["crs"] == "EPSG:32633"
    assert 0 < info["features"] < len(scores)
    line = refusal(rsdl(*command, "--out", "all"))
    assert "holds maps made with polygons None, not gpkg" in line


def test_a_prediction_killed_anywhere_goes_on_to_the_same_files(
    rsdl: "Rsdl", study: Path, tmp_path: Path
):
    command = predict(study, study / "scenes", study / "picture.png")
    assert rsdl(*command, "--out", "whole").returncode == 0
    begun = tmp_path / "begun"
    tell = ("rsdl.predict.detect:merge_detections", 2, begun)
    running = rsdl.start(*command, "--out", "killed", tell=tell)
    running.wait_for(begun.exists)
    running.kill()
    assert running.wait().returncode == -signal.SIGKILL
    deaths = 0
    while (ended := rsdl(*command, "--out", "killed", die=20)).returncode:
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        deaths += 1
        assert deaths < 20, "no progress"
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")


def test_an_area_has_the_objects_whose_centre_is_in_it(rsdl: "Rsdl", study: Path, tmp_path: Path):
    scene = study / "scenes/scene_0.tif"
    assert rsdl(*predict(study, scene, "--out", "whole")).returncode == 0
    whole = features(tmp_path / "whole/scene_0.geojson")
    middles = [np.mean(each["geometry"]["coordinates"][0][:4], axis=0) for each in whole]
    west, south = np.min(middles, axis=0)
    east, north = np.max(middles, axis=0)
    box = f"{west},{(south + north) / 2},{(west + east) / 2},{north}"
    assert rsdl(*predict(study, scene, "--bbox", box, "--out", "part")).returncode == 0
    part = features(tmp_path / "part/scene_0.geojson")
    assert 0 < len(part) < len(whole)
    line = refusal(rsdl(*predict(study, study / "picture.png", "--bbox", box, "--out", "none")))
    assert "picture.png: has no coordinate reference system, and --bbox is on Earth" in line


def test_options_that_mean_nothing_are_refused_and_a_dry_run_names_the_files(
    rsdl: "Rsdl", study: Path, tmp_path: Path
):
    inputs = study / "scenes", study / "picture.png"
    ended = rsdl(*predict(study, *inputs, "--out", "maps", "--dry-run", "--part", "2/2"))
    assert "scene_0.geojson to predict" in ended.stdout
    assert "1 of 3 scenes have no coordinate reference system: all in pixels" in ended.stdout
    assert not (tmp_path / "maps").exists()
    for more, said in (
        (("--probabilities",), "--probabilities: is for maps of pixels"),
        (("--vectorize", "gpkg"), "picture.png: has no coordinate reference system: its objects"),
        (("--overlap", 64), "--overlap: is 64 px"),
    ):
        assert said in refusal(rsdl(*predict(study, *inputs, "--out", "maps", *more)))
