"""A trained network that takes raw pixels, with its classes and bands."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from rsdl.core.errors import DataError
from rsdl.data.batch_buffer import TORCH_DTYPES
from rsdl.data.crop import central_box
from rsdl.export.preprocess import Preprocess
from rsdl.records.model_spec import ModelSpec
from rsdl.tasks.base import Task, turned_views
from rsdl.tasks.boxes import DETECTED, SCORE, resize_boxes

Images = Tensor | NDArray[Any]


@dataclass(frozen=True, slots=True)
class Prediction:
    """The predictions of ``N`` images.

    Attributes:
        labels: Name of the most probable class of each; of segmentation, the names of the classes
            in it, those of most pixels first; of detection the class and score of each object.
        probabilities: Probability of each class, ``[N, num_classes]`` float32, on the CPU; of
            segmentation ``[N, num_classes, H, W]``, for the image as the network sees it; of
            detection the score of each detection, ``[N, M]``.
        detections: Of detection, in the image as the network sees it: centre x and y, width,
            height and angle of a box, score and label, the best first; rows without one have the
            label -1, ``[N, M, 7]``.
    """

    labels: list[Any]
    probabilities: Tensor
    detections: Tensor | None = None


class TrainedModel(nn.Module):
    """A trained network with its preprocessing, in evaluation mode.

    Args:
        spec: What the network takes and returns.
        task: Its task.
        network: The network with its weights.
    """

    def __init__(self, spec: ModelSpec, task: Task, network: nn.Module) -> None:
        super().__init__()
        self.spec = spec
        self.task = task
        self.preprocess = Preprocess(spec)
        self.network = network
        self.eval()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the outputs."""
        return self.spec.classes

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands that images must have, in this order."""
        return self.spec.bands

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, ``[B, num_classes]``.

        Args:
            images: Raw pixels in the units of the data set (``spec.dtype``; 0 to 255 for uint8),
                ``[B, C, H, W]`` or ``[B, H, W, C]``, of any size and any real dtype.

        Raises:
            DataError: If no axis has one entry a band, or both could be the bands.
        """
        if not torch.compiler.is_exporting():
            images = channels_first(images, self.bands)
        with torch.autocast(images.device.type, enabled=False):
            pixels = self.preprocess(images)
        return self.network(pixels)  # type: ignore[no-any-return]

    @torch.inference_mode()
    def predict(self, images: Images | Sequence[Images], *, batch_size: int = 32) -> Prediction:
        """Return the classes of images.

        Images on the CPU in the data set's dtype are cropped and resized by the loader's own code,
        so that the probabilities are those of ``rsdl evaluate``; others as by :meth:`forward`.

        Args:
            images: One image ``[H, W, C]`` or ``[C, H, W]``, a batch as :meth:`forward` takes it,
                or a sequence of images of any sizes.
            batch_size: Images computed at once.

        Raises:
            DataError: As :meth:`forward`, and if there are no images.
        """
        single = isinstance(images, (Tensor, np.ndarray)) and images.ndim == 3
        entries = [images] if single else images
        if not len(entries):
            raise DataError("images", "are none", "pass at least one")
        fitted = [self._fit(torch.as_tensor(image)) for image in entries]
        parts = []
        for first in range(0, len(fitted), batch_size):
            pixels = torch.cat(fitted[first : first + batch_size])
            outputs = self.network(self.preprocess.normalize(pixels))
            if self.finds_objects:  # whose outputs are many numbers for each detection
                outputs = self.task.predict(outputs)
            parts.append(outputs.float().cpu())
        outputs = torch.cat(parts)
        if self.finds_objects:
            return Prediction(self.task.labels(outputs), outputs[..., SCORE], outputs)
        return Prediction(self.task.labels(self.task.predict(outputs)), outputs.softmax(1))

    @property
    def is_dense(self) -> bool:
        """Whether the network says something of every pixel."""
        return self.spec.task.facts.target == "mask"

    @property
    def finds_objects(self) -> bool:
        """Whether the network finds objects."""
        return self.spec.task.facts.target == "objects"

    @property
    def is_local(self) -> bool:
        """Whether the network says something of places in an image, and not of the whole."""
        return self.is_dense or self.finds_objects

    def window_size(self, tile: int) -> tuple[int, int]:
        """Return height and width of the windows that a scene is cut into.

        The network then sees the ground as in evaluation: of tiles of that side it is shown the
        central box, so that a network of places takes windows of the box's size.

        Args:
            tile: Side of the tiles that the data set was cut into, in pixels.
        """
        if not self.is_local:
            return tile, tile
        _, _, height, width = central_box(self.preprocess.rule, tile, tile)
        return height, width

    @torch.inference_mode()
    def predict_windows(self, windows: NDArray[Any], *, tta: bool = False) -> NDArray[np.float32]:
        """Return class probabilities of windows of a scene.

        Args:
            windows: Stored pixels of :meth:`window_size`, ``[B, H, W, C]``.
            tta: Whether to average over flips and quarter turns, as ``rsdl evaluate --tta``.

        Returns:
            ``[B, num_classes, H, W]``, or ``[B, num_classes, 1, 1]`` where an image has one class.
        """
        pixels = self._fit_windows(windows)
        if tta:
            outputs, _ = self.task.merge_views(map(self.network, turned_views(pixels)))
        else:
            outputs = self.network(pixels)
        shares: Tensor = outputs.float().softmax(1)
        if not self.is_dense:
            shares = shares[:, :, None, None]
        elif shares.shape[2:] != windows.shape[1:3]:
            size = windows.shape[1:3]
            shares = F.interpolate(shares, size=size, mode="bilinear", align_corners=False)
        return shares.cpu().numpy()

    @torch.inference_mode()
    def detect_windows(
        self, windows: NDArray[Any], *, tta: bool = False
    ) -> list[NDArray[np.float64]]:
        """Return the objects that are found in windows of a scene.

        Args:
            windows: Stored pixels of :meth:`window_size`, ``[B, H, W, C]``.
            tta: Whether to merge what is found in flips and quarter turns, as
                ``rsdl evaluate --tta``.

        Returns:
            For each window centre x and y, width and height in its pixels, the angle of the width
            in radians from the x axis towards the y axis (down), score and label, ``[N, 7]``.
        """
        pixels = self._fit_windows(windows)
        if tta:
            _, found = self.task.merge_views(map(self.network, turned_views(pixels)))
        else:
            found = self.task.predict(self.network(pixels))
        factors = [a / b for a, b in zip(windows.shape[2:0:-1], pixels.shape[:1:-1], strict=True)]
        rows = found.double().cpu().numpy()
        return [resize_boxes(each[each[:, DETECTED] >= 0], *factors) for each in rows]

    def digest(self) -> str:
        """Return the SHA-256 of the network's weights."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.network.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.cpu().contiguous().view(-1).numpy().tobytes())
        return digest.hexdigest()

    def _fit_windows(self, windows: NDArray[Any]) -> Tensor:
        """Return windows as the network takes them, ``[B, C, S, T]``, on its device."""
        fit = self.preprocess.resize_on_host if self.is_local else self.preprocess.fit_on_host
        seen = [fit(window) for window in windows]
        # Windows of the network's size are handed back as they are, and need no copy.
        is_same = all(np.shares_memory(one, windows) for one in seen)
        fitted = torch.from_numpy(
            np.require(windows, requirements=["C", "W"]) if is_same else np.stack(seen)
        )
        images = fitted.permute(0, 3, 1, 2).to(self.device).to(torch.float32)
        return self.preprocess.normalize(images)

    def _fit(self, image: Tensor) -> Tensor:
        """Return one image in the network's size, ``[1, C, S, T]``, on the network's device."""
        batch = channels_first(image[None], self.bands)
        if batch.device.type != "cpu" or batch.dtype != TORCH_DTYPES[self.spec.dtype]:
            return self.preprocess.fit(batch.to(self.device))
        pixels = np.ascontiguousarray(batch[0].permute(1, 2, 0).numpy())
        fitted = torch.from_numpy(self.preprocess.fit_on_host(pixels))
        return fitted.permute(2, 0, 1)[None].to(self.device, torch.float32)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.preprocess.mean.device


def channels_first(images: Tensor, bands: Sequence[str]) -> Tensor:
    """Return a batch as ``[B, C, H, W]``, a view.

    Raises:
        DataError: If it is no batch of images with these bands, or ambiguous.
    """
    shape, count = tuple(images.shape), len(bands)
    remedy = f"pass [B, H, W, {count}] or [B, {count}, H, W]: {', '.join(bands)}"
    if len(shape) != 4 or 0 in shape:
        raise DataError("images", f"have shape {list(shape)}, which is no batch", remedy)
    first, last = shape[1] == count, shape[3] == count
    if first and last:
        problem = f"have shape {list(shape)}: axis 1 and axis 3 could both be the bands"
        raise DataError("images", problem, "pass images of another width or height")
    if not first and not last:
        problem = f"have shape {list(shape)}, and no axis of {count} bands"
        raise DataError("images", problem, remedy)
    return images if first else images.permute(0, 3, 1, 2)
