"""Pods are as large as what they train, and no GPU is promised more than it has."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from rsdl.cluster.resources import DETECTION, NETWORKS, device_gb, estimate_sizes, network_of
from rsdl.cluster.settings import Settings
from rsdl.config.load import load_config, validate
from rsdl.config.run import RunConfig
from rsdl.core.errors import ConfigError
from rsdl.models.catalog import ARCHITECTURES
from rsdl.storage.s3.endpoint import AWS
from rsdl.tasks.build import BUILDERS

SETTINGS = Settings()
ROOT = Path(__file__).parents[3]


def config_of(
    model: str = "resnet50", data: str = "ucm", task: object = None, **fields: object
) -> RunConfig:
    own = {"url": f"s3://b/data/{data}", **fields}
    tree = {"name": "x", "model": {"name": model}, "data": own}
    return validate(tree | ({"task": task} if task else {}))


def test_every_architecture_is_known():
    assert set(NETWORKS) == set(ARCHITECTURES)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_known_of_a_network_is_what_it_takes(name: str):
    model = timm.create_model(ARCHITECTURES[name].timm_name, num_classes=21)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(
        NETWORKS[name].parameters, abs=0.1
    )

    assert images_mb(model, 224, 1) == pytest.approx(NETWORKS[name].activations_mb, rel=0.02)


def images_mb(
    model: torch.nn.Module, side: int, batch: int, shapes: AbstractContextManager[Any] | None = None
) -> float:
    """Return what the backward pass keeps of one image, in MB.

    Shapes alone are computed, unless another context is given.
    """

    def count(batch: int) -> int:
        kept: dict[int, torch.UntypedStorage] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            kept[storage._cdata] = storage
            return tensor

        with (
            shapes or FakeTensorMode(allow_non_fake_inputs=True),  # no memory, no arithmetic
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            torch.autocast("cpu", torch.bfloat16),
        ):
            model(torch.zeros(batch, 3, side, side))
        return sum(storage.nbytes() for storage in kept.values())

    # The difference is images alone: weights and half-precision copies of them are kept as well.
    return (count(batch + 1) - count(batch)) / 1e6


def test_pixels_that_a_node_keeps_fit_into_half_of_the_memory():
    for data, pixels in [("ucm", 2100 * 256**2 * 3), ("aid", 10000 * 600**2 * 3)]:
        sizes = estimate_sizes(config_of(data=data), SETTINGS)
        assert sizes.memory_gib * 2**30 / 2 > 0.8 * pixels
        assert sizes.cache_gb * 1e9 > pixels
    assert estimate_sizes(config_of(data="unknown"), SETTINGS).cache_gb == 30


@given(
    st.sampled_from([*ARCHITECTURES, "resnet18"]), st.sampled_from(["ucm", "aid", "mine"]),
    st.integers(1, 64), st.integers(32, 512), st.sampled_from([1, 2, 4, 8]), st.integers(1, 4),
)  # fmt: skip
def test_sizes_grow_with_the_work_and_a_gpu_is_never_too_small(
    model: str, data: str, batch: int, image: int, gpus: int, nodes: int
):
    settings = SETTINGS.model_copy(update={"gpu": "a100", "gpus": gpus, "nodes": nodes})
    config = config_of(model, data, batch_size=batch, image_size=image)
    if device_gb(config, settings) > 40:
        with pytest.raises(ConfigError, match="a100 has 40"):
            estimate_sizes(config, settings)
        return
    sizes = estimate_sizes(config, settings)
    alone = estimate_sizes(config, settings.model_copy(update={"gpus": 1, "nodes": nodes * gpus}))
    assert sizes.cpu == alone.cpu * gpus and sizes.memory_gib >= alone.memory_gib
    assert sizes.cache_gib * 2**30 > sizes.cache_gb * 1e9
    assert sizes.ephemeral_gib > sizes.cache_gib and sizes.shm_gib <= sizes.memory_gib / 2
    assert sizes.grace_s >= 60


@given(
    st.sampled_from([*ARCHITECTURES]), st.integers(1, 512), st.integers(32, 512),
    st.tuples(st.integers(1, 16), st.integers(1, 16)).filter(lambda ends: ends[0] < ends[1]),
)  # fmt: skip
def test_a_pod_of_a_run_that_grows_is_large_enough_with_any_number_of_nodes(
    model: str, batch: int, image: int, ends: tuple[int, int]
):
    config = config_of(model, "mine", batch_size=batch, image_size=image)
    least, most, elastic = (
        SETTINGS.model_copy(update={"gpu": "a100", "nodes": nodes})
        for nodes in (*ends, f"{ends[0]}:{ends[1]}")
    )
    # No micro-batch is larger than with all nodes, and no share of a batch than with the fewest.
    assert device_gb(config, elastic) == device_gb(config, most) <= device_gb(config, least)
    if device_gb(config, least) <= 40:
        assert estimate_sizes(config, elastic) == estimate_sizes(config, least)


def test_pixels_that_fit_into_no_memory_ask_for_none():
    tiles = 66.2e9  # of dota
    kept, left = (estimate_sizes(detector(data), SETTINGS) for data in ("rareplanes", "dota"))
    assert kept.memory_gib * 2**30 / 2 > 0.8 * 8_525 * 512**2 * 3
    assert left.memory_gib < 20 and tiles < left.cache_gb * 1e9 < 1.2 * tiles


def test_a_finer_pyramid_takes_more_of_the_gpu_than_the_backbone_alone():
    alone = device_gb(config_of(batch_size=8, image_size=512), SETTINGS)
    coarse, fine = (device_gb(detector("xview", (low, 6)), SETTINGS) for low in (3, 2))
    masks = config_of(batch_size=8, image_size=512, task={"name": "segmentation"})
    assert alone < coarse < fine and device_gb(masks, SETTINGS) > alone


def detector(data: str, levels: tuple[int, int] = (3, 7)) -> RunConfig:
    task = {"name": "detection", "levels": list(levels)}
    return config_of(data=data, task=task, batch_size=8, image_size=512)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["segmentation/swin_base_loveda", "segmentation/vit_base_loveda",
             "detection/swin_base_xview", "detection/resnet50_dota"],
)  # fmt: skip
def test_what_is_known_of_a_head_covers_what_it_takes(name: str):
    own = ["model.weights=none", "data.image_size=512"]
    run = load_config(str(ROOT / "configs" / f"{name}.yaml"), own)
    task = BUILDERS[run.task.name](run.task, ("a", "b"), None)
    network = task.build_network(run.model, in_chans=3, image_size=512, storage=AWS, bands=())
    known = network_of(run)
    assert 0.75 < sum(p.numel() for p in network.parameters()) / 1e6 / known.parameters < 1
    assert 0.75 < images_mb(network.train(), 512, 2) / (512 / 224) ** 2 / known.activations_mb < 1


@pytest.mark.slow
@pytest.mark.parametrize("head", sorted(set(DETECTION) - {"dense"}))
def test_what_is_known_of_another_head_covers_what_it_takes(head: str):
    fields = [f"task.head={head}", "task.boxes=aligned", "augment.rotate=0", "model.weights=none"]
    fields += ["task.levels=[3,5]"] if head == "rt_detr_v2" else []
    run = load_config(str(ROOT / "configs/detection/resnet50_dota.yaml"), fields)
    classes = tuple(f"class_{number}" for number in range(15))
    task = BUILDERS["detection"](run.task, classes, None)
    network = task.build_network(run.model, in_chans=3, image_size=512, storage=AWS, bands=())
    own, known = NETWORKS["resnet50"], network_of(run)
    # Real arithmetic: their shapes depend on values.
    taken = images_mb(network.train(), 512, 1, nullcontext()) / (512 / 224) ** 2
    parameters = sum(p.numel() for p in network.parameters()) / 1e6
    assert 0.5 < (parameters - own.parameters) / (known.parameters - own.parameters) < 1
    added = known.activations_mb - own.activations_mb
    assert 0.3 < (taken - own.activations_mb) / added < 1


def test_accumulation_makes_a_batch_fit():
    config = config_of("maxvit_small", batch_size=128)
    with pytest.raises(
        ConfigError, match=r"x: data\.batch_size: 128 images of 224 px .*accumulate=2"
    ):
        estimate_sizes(config, SETTINGS)
    fitting = config.model_copy(
        update={"trainer": config.trainer.model_copy(update={"accumulate": 2})}
    )
    assert estimate_sizes(fitting, SETTINGS).cpu == 4
