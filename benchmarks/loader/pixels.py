"""Differences between pixels decoded by a device and by the host, after cropping and resizing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import torch

from benchmarks.harness.imagery import list_images
from benchmarks.harness.measure import Row, Table
from rsdl.data.crop import CropRule, crop_boxes
from rsdl.data.gpu.decoder import DeviceDecoder, lay_out
from rsdl.data.gpu.jpeg import read_jpeg
from rsdl.data.gpu.resample import resample


def compare_pixels(images: Path, size: int, image_size: int, device: torch.device) -> Table:
    """Return the differences between the device's and the host's crops, in grey levels.

    Args:
        images: Class folders of JPEGs.
        size: Their side in pixels.
        image_size: Side of the crops.
        device: Device that decodes.
    """
    contents = [path.read_bytes() for path in list_images(images)[:128]]
    whole = [simplejpeg.decode_jpeg(content) for content in contents]
    host = cut(image_size, whole)
    repeated = [simplejpeg.decode_jpeg(content, fastupsample=True) for content in contents]
    by_device = cut(image_size, decode_all(device, contents))
    rows = []
    for name, crops in (
        (f"decoded on {device.type}", by_device),
        ("TurboJPEG, chroma repeated", cut(image_size, repeated)),
    ):
        gap = np.abs(crops - host)
        facts = {"of 1 in 100, more than": float(np.percentile(gap, 99)), "at most": gap.max()}
        rows.append(Row(name, [float(gap.mean())], "", facts))
    title = f"Crops of JPEGs of {size} px, 4:2:0, from the host's"
    return Table(title, "grey levels", rows[1].name, rows)


def decode_all(device: torch.device, contents: Sequence[bytes]) -> list[np.ndarray[Any, Any]]:
    """Return the images decoded by the device, ``[H, W, C]`` each, on the host."""
    decoder = DeviceDecoder(device)
    jpegs = [read_jpeg(content) for content in contents]
    with decoder.work():
        found = decoder.decode([jpeg for jpeg in jpegs if jpeg is not None])
    assert len(found) == len(contents), "plain JPEGs"
    return [image.permute(1, 2, 0).cpu().numpy() for image in found if image is not None]


def cut(image_size: int, pictures: Sequence[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """Return random crops of pictures, the same for all decoders, ``[N, S, S, C]`` float."""
    store = lay_out([torch.from_numpy(picture).permute(2, 0, 1) for picture in pictures])
    crop = CropRule(True, (0.35, 1.0))
    numbers = np.random.default_rng(0).random((len(pictures), crop.num_uniforms))
    boxes = crop_boxes(crop, store.heights, store.widths, numbers)
    found = resample(store, np.arange(len(pictures)), boxes, image_size)
    return found.numpy().astype(np.float64)
