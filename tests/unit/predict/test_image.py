"""An image in memory is predicted as the scene that holds its pixels is."""

from pathlib import Path

import numpy as np
import pytest

from rsdl.predict.image import predict_image
from rsdl.predict.scene import WindowRule
from tests.unit.predict.scenes import by_place, describe, draw_scene, predict


@pytest.mark.parametrize("size", [(45, 70), (16, 16), (17, 200), (5, 9), (40, 3)])
@pytest.mark.parametrize("blend", [True, False])
def test_an_image_has_the_probabilities_of_the_scene_of_its_pixels(
    tmp_path: Path, size: tuple[int, int], blend: bool
):
    pixels = draw_scene(tmp_path / "a.tif", size)
    rule = WindowRule((16, 16), overlap=4, blend=blend)
    scene, _ = predict(describe(tmp_path / "a.tif"), by_place, rule)
    for batch_size in (1, 3, 1000):
        image = predict_image(
            np.moveaxis(pixels, 0, 2),
            by_place,
            rule,
            num_classes=len(scene),
            batch_size=batch_size,
        )
        np.testing.assert_array_equal(image, scene)
