import pytest

from rsdl.config.load import validate, validate_written
from rsdl.config.model import ModelConfig
from rsdl.core.errors import ConfigError, ConfigErrors
from rsdl.models.normalization import Normalization, choose_normalization

OWN = Normalization((1.0, 2.0, 3.0), (4.0, 5.0, 6.0), "the data set")
RGB = ("red", "green", "blue")
IMAGENET = (123.675, 116.28, 103.53)


def chosen(how: str, weights: str, bands: tuple[str, ...] = RGB, dtype: str = "uint8") -> str:
    config = ModelConfig(name="resnet50", weights=weights)
    return choose_normalization(how, config, bands, dtype, OWN).source


def test_images_are_normalised_as_the_weights_were_trained():
    config = ModelConfig(name="resnet50", weights="pretrained")
    found = choose_normalization("auto", config, ("blue", "green", "red"), "uint8", OWN)
    assert found.mean == pytest.approx(IMAGENET[::-1])
    assert found.std == pytest.approx((57.375, 57.12, 58.395))  # blue, green, red
    assert found.source == "the weights of resnet50"


@pytest.mark.parametrize(
    ("how", "weights", "bands", "dtype", "source"),
    [
        ("auto", "w.safetensors", RGB, "uint8", "the weights of resnet50"),
        ("weights", "runs/a/checkpoints/best.ckpt", RGB, "uint8", "the weights of resnet50"),
        ("auto", "none", RGB, "uint8", "the data set"),
        ("auto", "runs/a/checkpoints/best.ckpt", RGB, "uint8", "the data set"),
        ("auto", "pretrained", (*RGB, "nir"), "uint8", "the data set"),
        ("auto", "pretrained", ("b04", "b03", "b02"), "uint16", "the data set"),
        ("auto", "pretrained", ("a", "b", "c"), "uint8", "the data set"),
        ("dataset", "pretrained", RGB, "uint8", "the data set"),
    ],
)
def test_auto_is_the_data_sets_where_the_weights_do_not_tell(
    how: str, weights: str, bands: tuple[str, ...], dtype: str, source: str
):
    assert chosen(how, weights, bands, dtype) == source


def test_weights_that_saw_other_bands_are_refused():
    with pytest.raises(ConfigError, match=r"data\.normalize: is weights, .* uint8 red, nir; set"):
        chosen("weights", "pretrained", ("red", "nir"))
    with pytest.raises(
        ConfigErrors, match=r"data\.normalize: is weights, and model\.weights is none"
    ):
        validate(
            {"name": "a", "model": {"name": "b"}, "data": {"url": "c", "normalize": "weights"}}
        )


def test_a_run_that_is_older_than_the_field_was_normalised_by_its_data_set():
    for weights in ("none", "pretrained"):
        tree = {"name": "a", "model": {"name": "b", "weights": weights}, "data": {"url": "c"}}
        old = validate_written(tree)
        assert old.data.normalize == "dataset"
        same = old.identity() == validate(tree).identity()
        assert same == (weights == "none")  # a new run of pretrained weights is another run
