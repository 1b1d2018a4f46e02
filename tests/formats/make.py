"""Make the fixtures of this folder with the rsdl that is on ``PYTHONPATH``.

``python make.py FOLDER`` draws images, and packs, indexes, trains and evaluates in ``FOLDER``. Each
folder beside this file was made by the revision in its name, and is never made again: it stands for
what users of that revision have on their disks.
"""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
import torch
import yaml

CLASSES = {"field": (60, 150, 50), "harbor": (30, 70, 160), "roofs": (180, 90, 70)}
RUN: dict[str, Any] = {
    "output": "runs",
    "data": {"url": "folder", "image_size": 32, "batch_size": 4, "num_workers": 1},
    "model": {"name": "test_efficientnet_gn"},
    "optim": {"name": "momentum", "momentum": 0.0, "lr": 0.02, "warmup_epochs": 0.5},
    "trainer": {"accelerator": "cpu", "devices": 1, "max_epochs": 3, "log_every_steps": 1},
}


def rsdl(*arguments: str) -> None:
    """Run a command that must end well."""
    subprocess.run([sys.executable, "-m", "rsdl", *arguments], check=True)


def draw(root: Path) -> None:
    """Draw 12 JPEGs of 24 x 28 pixels for each class, told by colour."""
    random = np.random.default_rng(7)
    for name, colour in CLASSES.items():
        (root / name).mkdir(parents=True)
        for number in range(12):
            shade = random.integers(-25, 25, (3, 4, 1)).repeat(8, axis=0).repeat(7, axis=1)
            pixels = np.clip(np.array(colour) + shade, 0, 255).astype(np.uint8)
            data = simplejpeg.encode_jpeg(pixels, quality=80, colorspace="RGB")
            (root / name / f"{name}_{number:02d}.jpg").write_bytes(data)


def draw_masks(root: Path) -> None:
    """Draw 12 PNGs of 16 x 20 pixels, and masks of 0 and 1 with a corner of 255."""
    random = np.random.default_rng(9)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(12):
        mask = (random.random((4, 5)) < 0.3).repeat(4, axis=0).repeat(4, axis=1).astype(np.uint8)
        pixels = random.integers(1, 120, (16, 20, 3)).astype(np.uint8) + mask[..., None] * 100
        mask[:2, :2] = 255
        for folder, array in (("images", pixels), ("masks", mask)):
            assert cv2.imwrite(str(root / folder / f"field_{number:02d}.png"), array)


def write_foreign(root: Path, images: Path) -> None:
    """Write two tars as another program would: ``KEY.jpg`` and ``KEY.cls``."""
    root.mkdir()
    for split, numbers in (("train", range(8)), ("val", range(8, 12))):
        with tarfile.open(root / f"{split}-0.tar", "w") as tar:
            for label, name in enumerate(CLASSES):
                for number in numbers:
                    key = f"{name}_{number:02d}"
                    members = {
                        "jpg": (images / name / f"{key}.jpg").read_bytes(),
                        "cls": str(label).encode(),
                    }
                    for extension, data in members.items():
                        info = tarfile.TarInfo(f"{key}.{extension}")
                        info.size = len(data)
                        tar.addfile(info, io.BytesIO(data))


def train_and_stop(config: str, folder: Path) -> None:
    """Train until the second epoch has begun, ask it to stop, and check that it has saved."""
    process = subprocess.Popen([sys.executable, "-m", "rsdl", "train", config])
    history = folder / "metrics.csv"
    while not (folder / "checkpoints/best.ckpt").is_file() or not history.is_file():
        time.sleep(0.001)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 75
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "preempted" and 4 < record["optimizer_steps"] < 24, record


def weights_of(checkpoint: Path) -> dict[str, list[float]]:
    """Return mean and standard deviation of each of the final weights."""
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    return {
        name: [float(value.double().mean()), float(value.double().std(correction=0))]
        for name, value in state.items()
    }


def main(folder: Path) -> None:
    """Make everything below a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    draw(Path("images"))
    rsdl("data", "pack", "folder", "images", "--out", "folder", "--split", "0.5,0.25,0.25",
         "--shard-mb", "0.016", "--num-workers", "1")  # fmt: skip
    rsdl("data", "scenes", "scenes", "--num-scenes", "3", "--size", "256")
    rsdl("data", "pack", "geotiff", "scenes", "--labels", "scenes/labels.geojson", "--tile", "32",
         "--out", "geotiff", "--split-by", "scene", "--max-nodata", "0", "--min-cover", "1",
         "--num-workers", "1")  # fmt: skip
    shutil.rmtree("scenes")
    draw_masks(Path("pairs"))
    rsdl("data", "pack", "masks", "pairs/images", "pairs/masks", "--out", "masks", "--classes",
         "ground,roofs", "--split", "0.5,0.25,0.25", "--num-workers", "1")  # fmt: skip
    shutil.rmtree("pairs")
    write_foreign(Path("foreign"), Path("images"))
    rsdl("data", "index", "foreign", "--classes", ",".join(CLASSES))
    Path("completed.yaml").write_text(yaml.safe_dump({"name": "completed", **RUN}))
    rsdl("train", "completed.yaml")
    longer = {**RUN, "trainer": {**RUN["trainer"], "max_epochs": 6}}
    Path("preempted.yaml").write_text(yaml.safe_dump({"name": "preempted", **longer}))
    train_and_stop("preempted.yaml", Path("runs/preempted"))
    # What this very revision makes of it when it goes on.
    shutil.copytree("runs/preempted", "resumed/preempted")
    rsdl("train", "preempted.yaml", "output=resumed")
    record = json.loads(Path("resumed/preempted/run.json").read_text())
    expected = {
        "weights": weights_of(Path("resumed/preempted/checkpoints/last.ckpt")),
        "metrics": record["metrics"],
        "ledger": record["ledger"],
    }
    Path("resumed.json").write_text(json.dumps(expected, indent=1) + "\n")
    shutil.rmtree("resumed")
    for events in Path("runs").glob("*/events.out.*"):
        events.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
