"""Decode JPEGs on the training device with torchvision: nvJPEG on CUDA.

The device decodes each image, or the host if the device rejects it, independent of the other images
of the batch: so a row of a batch is a function of its sample alone. On a CPU torchvision's pixels
are bit-identical to TurboJPEG's. Those of a GPU differ by rounding and, unless chroma has full
resolution, in chroma upsampling: torchvision has nvJPEG repeat samples where libjpeg interpolates.
If TurboJPEG repeats them too, crops of synthetic scenes at 4:2:0, resized to 224 px, differ by
about one grey level on average (``benchmarks/loader/pixels.py``), at colour edges by up to 68;
torchvision's own tests allow two on average before the crop. This has not been measured on a GPU
yet.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import simplejpeg
import torch
from torch import Tensor

from rsdl.core.errors import ConfigError
from rsdl.data.gpu.jpeg import Jpeg, read_jpeg
from rsdl.data.gpu.resample import PackedPixels, open_store

FIELD = "data.decode"
REMEDY = "pass data.decode=host"

# torchvision announces that TorchCodec will replace it. Set once: warning filters are not
# thread-safe.
warnings.filterwarnings(
    "ignore", message="The image decoding and encoding capabilities", category=DeprecationWarning
)

# Errors not caused by an image; torchvision preserves their text but not their type.
FATAL = ("CUDA error", "out of memory")

# Largest mean difference of the decoders on the probe picture, in grey levels.
PROBE_LEVELS = 2.0


class DeviceDecoder:
    """Decodes JPEGs on one device. One thread decodes; other threads use the results.

    Args:
        device: A CUDA device, or the CPU.

    Raises:
        ConfigError: If JPEGs cannot be decoded on the device.
    """

    def __init__(self, device: torch.device) -> None:
        try:
            from torchvision.io import ImageReadMode, decode_jpeg
        except (ImportError, OSError) as error:
            problem = "is device, but no torchvision that decodes JPEGs is installed"
            raise ConfigError(FIELD, problem, REMEDY) from error
        self.device = device
        self._decode_jpeg = decode_jpeg
        self._modes = {1: ImageReadMode.GRAY, 3: ImageReadMode.RGB}
        self._stream = _open_stream(device)
        self._try_out()

    @contextmanager
    def work(self) -> Iterator[None]:
        """Run this thread's device work on a separate CUDA stream, concurrently with training.

        Gradients are disabled.
        """
        with torch.no_grad():
            if self._stream is None:
                yield
            else:
                with torch.cuda.device(self.device), torch.cuda.stream(self._stream):
                    yield

    def decode(self, jpegs: Sequence[Jpeg]) -> list[Tensor | None]:
        """Return the pixels of each, ``[C, H, W]`` uint8; ``None`` for images the device rejects.

        Synchronizes with the device. Call it within :meth:`work`.

        Args:
            jpegs: At least one, all with the same number of bands.

        Raises:
            RuntimeError: If the device is out of memory, or fails.
        """
        if self._stream is not None:
            # torchvision decodes on its own stream, without waiting for this one, into memory that
            # this stream may still read (pytorch/vision#9606).
            self._stream.synchronize()
        images = [torch.frombuffer(bytearray(jpeg.data), dtype=torch.uint8) for jpeg in jpegs]
        found = self._decode(images, self._modes[jpegs[0].bands])
        for number, (image, jpeg) in enumerate(zip(found, jpegs, strict=True)):
            if image is not None and image.shape != (jpeg.bands, jpeg.height, jpeg.width):
                found[number] = None
        return found

    def _decode(self, images: list[Tensor], mode: Any) -> list[Tensor | None]:  # noqa: ANN401
        try:
            return list(self._decode_jpeg(images, mode=mode, device=self.device))
        except RuntimeError as error:
            if any(mark in str(error) for mark in FATAL):
                raise
            if self._stream is not None:
                # Other images of the batch may still be written, to memory that is already freed.
                torch.cuda.synchronize(self.device)
            if len(images) == 1:
                return [None]
        # The error does not identify the rejected image: bisect.
        half = len(images) // 2
        return self._decode(images[:half], mode) + self._decode(images[half:], mode)

    def mark(self) -> "torch.cuda.Event | None":
        """Return an event after all device work submitted so far, for :meth:`hand_over`."""
        return None if self._stream is None else self._stream.record_event()

    def hand_over(self, images: Tensor, done: "torch.cuda.Event | None") -> None:
        """Make the current stream of this thread wait for images, without blocking the host.

        Args:
            images: Tensor created within :meth:`work`.
            done: Event from :meth:`mark`, recorded after the images were created.
        """
        if done is None:
            return
        stream = torch.cuda.current_stream(self.device)
        stream.wait_event(done)
        images.record_stream(stream)

    def _try_out(self) -> None:
        """Decode a probe picture and compare it with the host's result.

        Raises:
            ConfigError: If decoding fails, or the pixels differ too much.
        """
        where = f"is device, but JPEGs cannot be decoded on {self.device}"
        if self.device.type not in ("cpu", "cuda"):
            raise ConfigError(FIELD, f"{where}: torchvision knows CUDA alone", REMEDY)
        ramp = np.linspace(0, 255, 64, dtype=np.uint8)
        picture = np.stack(np.broadcast_arrays(ramp[:, None], ramp, ramp[::-1]), axis=2)
        data = simplejpeg.encode_jpeg(np.ascontiguousarray(picture), colorsubsampling="420")
        jpeg = read_jpeg(data)
        assert jpeg is not None, "a plain JPEG"
        image = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        try:
            with self.work():
                found = self._decode_jpeg([image], mode=self._modes[3], device=self.device)[0]
        except (RuntimeError, AttributeError) as error:
            raise ConfigError(FIELD, f"{where} ({_first_line(error)})", REMEDY) from error
        expected = torch.from_numpy(simplejpeg.decode_jpeg(data)).permute(2, 0, 1).float()
        if found.shape != expected.shape:
            raise ConfigError(FIELD, f"{where}: a picture has shape {tuple(found.shape)}", REMEDY)
        gap = float((found.cpu().float() - expected).abs().mean())
        if gap > PROBE_LEVELS:
            problem = f"{where}: a picture is {gap:.1f} grey levels off"
            raise ConfigError(FIELD, problem, REMEDY)


def lay_out(images: Sequence[Tensor]) -> PackedPixels:
    """Return decoded images of any sizes, packed for cropping.

    Args:
        images: ``[C, H, W]`` each, on one device.
    """
    # All at once and not image by image: [C, H, W] each -> [C, P] -> [P, C].
    pixels = torch.cat([image.flatten(1) for image in images], dim=1).t().contiguous()
    return open_store(pixels, np.array([image.shape[1:] for image in images], dtype=np.int64))


def _open_stream(device: torch.device) -> "torch.cuda.Stream | None":
    if device.type != "cuda" or not torch.cuda.is_available():
        return None
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
