"""Build a network by the name in a config.

The nine architectures are in a dict; every other name is looked up in timm. torch and timm take
seconds to import, so they are imported only when a network is built, to keep reading a config fast.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from rsdl.config.model import ModelConfig
from rsdl.core.bands import RGB_BANDS, match_bands
from rsdl.core.errors import ConfigError
from rsdl.core.image_size import ImageSize
from rsdl.models.sizes import SizeRule
from rsdl.storage.s3.endpoint import AWS, StorageConfig

if TYPE_CHECKING:
    from torch import nn

UNEXPECTED_OPTION = re.compile(r"unexpected keyword argument '(\w+)'")


@dataclass(frozen=True, slots=True)
class Architecture:
    """One of the nine architectures.

    Attributes:
        timm_name: Name of the model in timm.
        family: CNN, transformer or hybrid.
        sizes: Image sizes that it accepts.
    """

    timm_name: str
    family: Literal["CNN", "transformer", "hybrid"]
    sizes: SizeRule


# 32 is the stride of the last feature map, so a smaller image would have less than one cell.
ARCHITECTURES: dict[str, Architecture] = {
    "resnet50": Architecture("resnet50", "CNN", SizeRule(1, minimum=32)),
    "resnext101": Architecture("resnext101_32x8d", "CNN", SizeRule(1, minimum=32)),
    "densenet161": Architecture("densenet161", "CNN", SizeRule(1, minimum=32)),
    "efficientnet_b5": Architecture("efficientnet_b5", "CNN", SizeRule(1, minimum=32)),
    "convnext_base": Architecture("convnext_base", "CNN", SizeRule(1, minimum=32)),
    "vit_base": Architecture("vit_base_patch16_224", "transformer", SizeRule(16, minimum=16)),
    "swin_base": Architecture(
        "swin_base_patch4_window7_224", "transformer", SizeRule(4, minimum=32)
    ),
    "pvt_v2_b5": Architecture("pvt_v2_b5", "transformer", SizeRule(1, minimum=32)),
    "maxvit_small": Architecture("maxvit_small_tf_224", "hybrid", SizeRule(32, minimum=32)),
}


def find_timm_name(name: str) -> str:
    """Return the timm model name of a config name.

    Raises:
        ConfigError: If neither the catalog nor timm has the name; the message lists close matches.
    """
    if name in ARCHITECTURES:
        return ARCHITECTURES[name].timm_name
    import timm

    arch, _, tag = name.partition(".")
    if not timm.is_model(arch):
        known = [*ARCHITECTURES, *timm.list_models()]
        near = get_close_matches(arch.lower(), known, n=3, cutoff=0.6) or list(ARCHITECTURES)
        raise ConfigError("model.name", f'no model "{name}"', f"use {_either(near)}")
    if tag and name not in timm.list_pretrained(f"{arch}.*"):
        raise ConfigError("model.name", f'{arch} has no weights "{tag}"', f"use {arch}")
    return name


def build_model(
    config: ModelConfig,
    *,
    num_classes: int,
    in_chans: int,
    image_size: ImageSize,
    storage: StorageConfig = AWS,
    bands: Sequence[str] = (),
) -> "nn.Module":
    """Build the classifier of a config and load its weights.

    It maps ``[B, in_chans, H, W]`` to logits ``[B, num_classes]``.

    Args:
        config: Name, weights and drop rates.
        num_classes: Classes of the data set; 0 omits the classifier, for outputs ``[B, D]``.
        in_chans: Bands of the data set, at least 1.
        image_size: Size of the input in pixels.
        storage: Endpoint of the object store, if the weights are in a bucket.
        bands: Names of the data set's bands, which get the filters of pretrained weights for the
            same bands; without names, filters are adapted in their order.

    Raises:
        ConfigError: If the name is unknown, the network does not accept the size or an option, or
            the weights cannot be read or do not fit.
    """
    options = _options(config, in_chans, image_size) | {"num_classes": num_classes}
    return _create_loaded(config, options, storage, bands)


def _create_loaded(
    config: ModelConfig, options: dict[str, Any], storage: StorageConfig, bands: Sequence[str]
) -> "nn.Module":
    from rsdl.models.sources import find_source
    from rsdl.models.weights import load_rgb, load_weights

    in_chans = options["in_chans"]
    matches = match_bands(bands, RGB_BANDS)
    in_order = matches == (0, 1, 2) or not any(match is not None for match in matches)
    if config.weights == "pretrained" and in_chans == len(RGB_BANDS) and in_order:
        return _create_pretrained(config, options)
    model = _create(config.name, options)
    if config.weights == "pretrained":
        options |= {"in_chans": len(RGB_BANDS)}
        load_rgb(model, _create_pretrained(config, options), bands)
    elif config.weights != "none":
        source = find_source(config.weights, find_timm_name(config.name), storage)
        load_weights(model, source, bands)
    return model


def build_backbone(
    config: ModelConfig,
    *,
    in_chans: int,
    image_size: ImageSize,
    storage: StorageConfig = AWS,
    bands: Sequence[str] = (),
    options: Mapping[str, Any] = MappingProxyType({}),
) -> "nn.Module":
    """Build the network without its classifier, as a source of feature maps for other heads.

    It maps ``[B, in_chans, H, W]`` to a list of maps ``[B, D, H, W]``, fine to
    coarse; ``feature_info.channels()`` and ``feature_info.reduction()`` return D and the strides.

    Args:
        config: Name, weights and drop rates.
        in_chans: Bands of the data set, at least 1.
        image_size: Size of the input in pixels.
        storage: Endpoint of the object store, if the weights are in a bucket.
        bands: As for ``build_model``.
        options: Further arguments of the network in timm, in place of its image size.

    Raises:
        ConfigError: As for ``build_model``.
    """
    # "getter" gives [B, D, H, W] for every family; without it Swin's maps are [B, H, W, D].
    own = _options(config, in_chans, image_size)
    if options:
        own = {key: value for key, value in own.items() if key != "img_size"} | dict(options)
    backbone = _create(config.name, own | {"features_only": True, "feature_cls": "getter"})
    if config.weights != "none":
        # The wrapper lacks layers that weights have, so they are loaded into the full network.
        whole = _create_loaded(config, own | {"num_classes": 0}, storage, bands)
        body, fitted = backbone.get_submodule("model"), whole.state_dict()
        body.load_state_dict({name: fitted[name] for name in body.state_dict()})
    return backbone


def _options(config: ModelConfig, in_chans: int, image_size: ImageSize) -> dict[str, Any]:
    """Return timm's arguments, after checking the name and the image size."""
    from rsdl.models.probe import check_image_size

    timm_name = find_timm_name(config.name)
    if config.name in ARCHITECTURES:
        ARCHITECTURES[config.name].sizes.check(image_size, config.name)
    else:
        check_image_size(timm_name, in_chans=in_chans, image_size=image_size)
    rates = {"drop_rate": config.drop_rate, "drop_path_rate": config.drop_path_rate}
    given = {key: value for key, value in rates.items() if value is not None}
    return {"in_chans": in_chans, "img_size": image_size, **given}


def _create_pretrained(config: ModelConfig, options: dict[str, Any]) -> "nn.Module":
    import torch

    from rsdl.models.hub import find_pretrained
    from rsdl.models.weights import quiet_resizing

    with torch.device("meta"):
        _create(config.name, options)  # check the options before downloading weights
    overlay = find_pretrained(find_timm_name(config.name))
    try:
        with quiet_resizing():
            return _create(
                config.name, options | {"pretrained": True, "pretrained_cfg_overlay": overlay}
            )
    except Exception as error:  # hub, TLS, HTTP and file errors share no base class
        raise ConfigError(
            "model.weights",
            f"the pretrained weights of {config.name} cannot be loaded ({error})",
            "name a file with model.weights=PATH, or start at random with model.weights=none",
        ) from error


def _create(name: str, options: dict[str, Any]) -> "nn.Module":
    """Create a timm model; omit ``img_size`` if the model has no such option."""
    import timm

    try:
        model: nn.Module = timm.create_model(find_timm_name(name), **options)
    except TypeError as error:
        refused = UNEXPECTED_OPTION.search(str(error))
        if refused is None:
            raise
        if refused[1] == "img_size":
            return _create(name, {key: options[key] for key in options if key != "img_size"})
        raise ConfigError(
            f"model.{refused[1]}", f"{name} has no such option", "leave it out"
        ) from error
    return model


def _either(names: list[str]) -> str:
    """Return ``a, b or c``."""
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
