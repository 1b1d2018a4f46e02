"""Scenes come from a bucket and maps go to one, whole; a killed prediction goes on there."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

from rsdl.raster.dataset_pool import DatasetPool
from rsdl.raster.read_tile import read_window
from rsdl.raster.remote import RemoteFile
from rsdl.raster.scenes import SceneRules, describe_scenes
from rsdl.storage.connect import connect

from ..conftest import Find, Rsdl, Write, refusal
from .conftest import ACCESS_KEY, SECRET_KEY, Gateway

pytestmark = pytest.mark.ceph
OUTPUTS = ("--probabilities", "--vectorize", "geojson", "--quicklook", "--page")


def test_maps_in_a_bucket_are_those_of_a_folder_after_a_kill(
    rsdl: Rsdl, bucket: str, write_config: Write, run_at: Find, env: dict[str, str], tmp_path: Path
):
    assert rsdl("train", write_config("run", trainer__max_epochs=1)).returncode == 0
    (tmp_path / "scenes").mkdir()
    for number in range(2):
        draw(tmp_path / f"scenes/{number}.tif", number)
    command = ("predict", run_at("run").folder, "scenes", *OUTPUTS, "--batch-size", 16)
    local = rsdl(*command, "--out", "maps")
    assert local.returncode == 0, local.stderr
    # The images of class folders have no size of their own: the network's is taken, and said.
    assert "windows of 32 x 32 px (data.image_size; nothing says how large" in local.stdout

    url, begun = f"{bucket}/maps", tmp_path / "begun"
    running = rsdl.start(
        *command, "--out", url, env=env, tell=("rsdl.predict.scene:compute", 8, begun)
    )
    running.wait_for(begun.exists)
    running.kill()
    assert running.wait().returncode == -signal.SIGKILL
    ended = rsdl(*command, "--out", url, env=env)
    assert "1 of 2 maps written to s3://" in ended.stdout, ended
    assert "1 were there" in ended.stdout
    stored = connect(url)
    names = sorted(path.name for path in (tmp_path / "maps").iterdir())
    assert [entry.name for entry in stored.list()] == names
    for name in names:
        assert stored.read(name) == (tmp_path / "maps" / name).read_bytes()


def test_scenes_in_a_bucket_are_mapped_as_those_of_a_folder(
    rsdl: Rsdl, bucket: str, write_config: Write, run_at: Find, env: dict[str, str], tmp_path: Path
):
    assert rsdl("train", write_config("run", trainer__max_epochs=1)).returncode == 0
    run, scenes = run_at("run").folder, tmp_path / "scenes"
    stored = connect(f"{bucket}/in", cache=None)
    for number, name in enumerate(("a.tif", "2024/b c.TIF", "2024/later/d.tif")):
        (scenes / name).parent.mkdir(parents=True, exist_ok=True)
        draw(scenes / name, number)
        stored.write(name, (scenes / name).read_bytes())
    stored.write("2024/notes.txt", b"no raster")
    stored.write("2024/.hidden.tif", b"no raster")
    item = {"id": "a", "assets": {"image": {"href": "a.tif", "type": "image/tiff"}}}
    stored.write("item.json", json.dumps(item).encode())

    local = rsdl("predict", run, "scenes", "--out", "maps")
    assert local.returncode == 0, local.stderr
    names = {path.name for path in (tmp_path / "maps").iterdir()}
    for part in ("1/2", "2/2"):
        paths = [f"{bucket}/in/", f"{bucket}/in/2024"]
        ended = rsdl("predict", run, *paths, "--out", f"{bucket}/in/maps", "--part", part, env=env)
        assert ended.returncode == 0, ended.stderr
        assert " were there" not in ended.stdout
        for secret in (ACCESS_KEY, SECRET_KEY):
            assert secret not in ended.stdout + ended.stderr
    made = connect(f"{bucket}/in/maps", cache=None)
    assert {entry.name for entry in made.list()} == names
    for name in names:
        assert made.read(name) == (tmp_path / "maps" / name).read_bytes()

    for given, name in (("2024/**/*.tif", "d"), ("*.tif", "a"), ("2024/*.TIF", "b_c"),
                        ("item.json", "a"), ("a.tif", "a")):  # fmt: skip
        ended = rsdl("predict", run, f"{bucket}/in/{given}", "--out", "again", "--dry-run", env=env)
        assert f"{name}.tif to predict\n1 of 1 scenes to predict" in ended.stdout, ended.stderr
    for given in (f"{bucket}/none/", f"{bucket}/in/none.tif", f"{bucket}/in/*.png"):
        line = refusal(rsdl("predict", run, given, "--out", "again", env=env))
        assert f"{given}: no scenes found" in line
    line = refusal(rsdl("predict", run, f"{bucket}/in/a.tif", "--out", f"{bucket}/in", env=env))
    assert "--out: holds the scene" in line
    other = env | {"AWS_SECRET_ACCESS_KEY": "notthatofthegateway"}
    line = refusal(rsdl("predict", run, f"{bucket}/in/a.tif", "--out", "again", env=other))
    assert "the secret key does not fit the access key" in line
    assert "notthatofthegateway" not in line


def test_gdal_reads_over_tls_with_the_certificate_that_is_named(
    bucket: str, gateway: Gateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    draw(tmp_path / "a.tif", 0)
    connect(bucket, cache=None).write("a.tif", (tmp_path / "a.tif").read_bytes())
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", gateway.tls_url)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(gateway.certificate))
    (scene,) = describe_scenes([RemoteFile(f"{bucket}/a.tif")], SceneRules())
    pixels, _ = read_window(scene, Window(0, 0, 50, 50), DatasetPool())
    with rasterio.open(tmp_path / "a.tif") as source:
        np.testing.assert_array_equal(np.moveaxis(pixels, 2, 0), source.read()[:, :50, :50])


def draw(path: Path, seed: int) -> None:
    """Draw a scene of 6 x 12 windows, 3 to 5 batches of 16, with three colours."""
    pixels = np.random.default_rng(seed).integers(1, 256, (3, 180, 370), np.uint8)
    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint8", count=3, height=180, width=370, crs="EPSG:32633",
        transform=rasterio.Affine(0.5, 0, 390_000, 0, -0.5, 5_700_000), photometric="RGB",
    ) as raster:  # fmt: skip
        raster.write(pixels)
