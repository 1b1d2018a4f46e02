"""Maps go to a bucket whole; a killed prediction goes on there."""

import signal
from pathlib import Path

import numpy as np
import pytest
import rasterio

from rsdl.storage.connect import connect

from ..conftest import Find, Rsdl, Write

pytestmark = pytest.mark.ceph
OUTPUTS = ("--probabilities", "--vectorize", "geojson", "--quicklook", "--page")


def test_maps_in_a_bucket_are_those_of_a_folder_after_a_kill(
    rsdl: Rsdl, bucket: str, write_config: Write, run_at: Find, env: dict[str, str], tmp_path: Path
):
    assert rsdl("train", write_config("run", trainer__max_epochs=1)).returncode == 0
    (tmp_path / "scenes").mkdir()
    for number in range(2):
        draw(tmp_path / f"scenes/{number}.tif", number)
    command = ("predict", run_at("run").folder, "scenes", *OUTPUTS)
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


def draw(path: Path, seed: int) -> None:
    """Draw a scene of 6 x 12 windows, 3 to 5 batches of 16, with three colours."""
    pixels = np.random.default_rng(seed).integers(1, 256, (3, 180, 370), np.uint8)
    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint8", count=3, height=180, width=370, crs="EPSG:32633",
        transform=rasterio.Affine(0.5, 0, 390_000, 0, -0.5, 5_700_000), photometric="RGB",
    ) as raster:  # fmt: skip
        raster.write(pixels)
