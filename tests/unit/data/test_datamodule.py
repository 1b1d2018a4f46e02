import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pydantic
import pytest
import pytorch_lightning as pl
import torch

from rsdl.config.data import DataConfig
from rsdl.core.errors import ConfigError, DataError
from rsdl.data.datamodule import DataModule
from rsdl.data.dataset import DataSet, eval_plan, train_plan
from rsdl.data.gpu.loader import DeviceLoader
from rsdl.data.packing.index_shards import index_shards
from rsdl.data.plan import Share
from rsdl.data.tar import tar_bytes
from rsdl.storage.connect import connect


def module_of(url: str, *, accumulate: int = 1, **config: Any) -> DataModule:  # noqa: ANN401
    data = DataSet(DataConfig(url=url, **({"batch_size": 6, "image_size": 16} | config)))
    return DataModule(data, seed=5, accumulate=accumulate)


def attach(module: DataModule, epoch: int = 0) -> DataModule:
    """Give the module what it asks of a Lightning trainer."""
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    trainer: Any = SimpleNamespace(
        current_epoch=epoch,
        max_epochs=9,
        global_rank=0,
        world_size=1,
        num_devices=1,
        strategy=strategy,
    )
    module.trainer = trainer
    return module


@pytest.mark.parametrize(
    ("device", "changes", "accumulate", "expected"),
    [
        ("cpu", {}, 1, 6),
        ("cuda", {}, 1, 24),
        ("cuda", {}, 3, 8),
        ("cuda", {"eval_batch_size": 5}, 1, 5),
        ("cpu", {"eval_batch_size": 5}, 1, 5),
    ],
)
def test_a_gpu_evaluates_four_micro_batches_at_a_time(
    packed: str, device: str, changes: dict[str, int], accumulate: int, expected: int
):
    module = attach(module_of(packed, accumulate=accumulate, **changes))
    strategy: Any = SimpleNamespace(root_device=torch.device(device))
    module.trainer.strategy = strategy
    loader = module.val_dataloader()
    assert loader.plan.global_batch == expected
    assert loader.plan.num_planned == len(module.data.split("val", "x").index)


class Reader(pl.LightningModule):
    """Writes down what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.train_samples: list[list[int]] = []
        self.val_samples: list[list[int]] = []

    def on_train_epoch_start(self) -> None:
        self.train_samples.append([])

    def on_validation_epoch_start(self) -> None:
        self.val_samples.append([])

    def training_step(self, batch: Any) -> torch.Tensor:  # noqa: ANN401
        self.train_samples[-1] += batch.samples[batch.valid].tolist()
        return self.weight.sum()

    def validation_step(self, batch: Any) -> None:  # noqa: ANN401
        self.val_samples[-1] += batch.samples[batch.valid].tolist()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_lightning_reads_a_fresh_plan_every_epoch(packed: str):
    module, reader = module_of(packed), Reader()
    trainer = pl.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        reload_dataloaders_every_n_epochs=1,
    )
    trainer.fit(reader, module)

    assert [sorted(samples) for samples in reader.train_samples] == [list(range(18))] * 3
    assert len({tuple(samples) for samples in reader.train_samples}) == 3
    assert reader.val_samples == [list(range(9))] * 3


def test_resuming_begins_the_named_epoch_in_the_middle(packed: str):
    module = attach(module_of(packed), epoch=2)
    whole = [batch.samples.tolist() for batch in module.train_dataloader()]
    module.resume(2, 12)

    assert [batch.samples.tolist() for batch in module.train_dataloader()] == whole[2:]
    attach(module, epoch=3)
    assert len(module.train_dataloader()) == 3


def test_a_device_decodes_for_training_alone(packed: str):
    module = attach(module_of(packed, decode="device"))
    loader = module.train_dataloader()
    assert isinstance(loader, DeviceLoader) and loader.following is not None
    assert not isinstance(module.val_dataloader(), DeviceLoader)
    whole = [batch.images for batch in loader]
    module.resume(0, 12)
    rest = [batch.images for batch in module.train_dataloader()]
    assert len(rest) == 1 and torch.equal(rest[0], whole[2])


def test_what_a_resident_split_holds_is_not_decoded_again(packed: str):
    module = attach(module_of(packed, decode="device", resident="on"))
    assert not isinstance(module.train_dataloader(), DeviceLoader)


def test_who_decodes_is_decided_once(packed: str):
    module = attach(module_of(packed, decode="device"))
    list(module.train_dataloader())
    # Another run completes the pixels meanwhile: those of this run stay what they are.
    list(attach(module_of(packed)).train_dataloader())
    assert isinstance(module.train_dataloader(), DeviceLoader)
    later = attach(module_of(packed, decode="device"))
    assert not isinstance(later.train_dataloader(), DeviceLoader)


def test_every_split_is_evaluated_once_in_the_order_of_the_index(packed: str):
    module = attach(module_of(packed, eval_batch_size=4))
    for loader in (module.val_dataloader(), module.test_dataloader()):
        batches = list(loader)
        samples = [s for b in batches for s in b.samples[b.valid].tolist()]
        assert samples == list(range(9))
        assert [len(batch) for batch in batches] == [4, 4, 1]


@pytest.mark.parametrize(
    ("config", "world_size", "accumulate", "problem"),
    [
        ({"batch_size": 19}, 1, 1, "data.batch_size: 19 exceeds the 18 samples"),
        ({"batch_size": 8}, 3, 1, "data.batch_size: 8 samples cannot be shared equally by 3"),
        ({"batch_size": 6}, 2, 2, "data.batch_size: 6 samples cannot be shared"),
        ({"eval_batch_size": 5}, 2, 1, "data.eval_batch_size: 5 samples cannot be shared"),
        ({"partitions": 4}, 1, 1, "data.batch_size: 6 samples cannot be taken evenly from 4"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused_before_training(
    config: dict[str, Any], world_size: int, accumulate: int, problem: str, packed: str
):
    with pytest.raises(ConfigError) as caught:
        module_of(packed, accumulate=accumulate, **config).check(world_size)
    assert str(caught.value).startswith(problem)


def test_what_fits_passes(packed: str):
    module_of(packed, accumulate=3).check(2)
    module_of(packed, batch_size=24, tail="pad").check(4)


def test_a_split_of_one_class_is_refused_before_training(tmp_path: Path):
    shard = {f"s{n}.npy": npy(np.full((8, 8, 3), n, np.uint8)) for n in range(4)}
    train, val = ({f"s{n}.cls": b"%d" % label for n in range(4)} for label in (1, 0))
    (tmp_path / "train-0.tar").write_bytes(tar_bytes(shard | train))
    (tmp_path / "val-0.tar").write_bytes(tar_bytes(shard | val))
    index_shards(connect(str(tmp_path)), classes=("farm", "forest"))
    problem = 'data.train_split: all samples of "train" are of the class forest'
    with pytest.raises(ConfigError, match=problem):
        module_of(str(tmp_path), batch_size=2).check(1)


def npy(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, pixels)
    return stream.getvalue()


def test_a_missing_data_set_names_the_field():
    with pytest.raises(DataError, match=r"^data\.url: no manifest at nowhere"):
        DataSet(DataConfig(url="./nowhere"))


def test_a_missing_split_names_the_field(packed: str):
    with pytest.raises(DataError, match=r'^data\.train_split: .* no split "dev"'):
        module_of(packed, train_split="dev")


@pytest.mark.parametrize(
    "config",
    [
        {"crop_scale": (0.5, 0.2)},
        {"crop_scale": (0.0, 1.0)},
        {"crop_scale": (0.5, 1.5)},
        {"crop_ratio": (2.0, 1.0)},
        {"crop_ratio": (0.0, 1.0)},
        {"eval_crop": 0},
        {"batch_size": 0},
        {"num_workers": 0},
        {"prefetch": 0},
        {"window": 0},
        {"image_size": 4},
        {"tail": "shrink"},
        {"unknown": 1},
        {"decode_size": 4},
        {"decoded_cache": "some"},
        {"decoded_cache": True},
        {"decode": "gpu"},
        {"decode": "device", "decode_size": 100},
    ],
)
def test_impossible_configs_are_refused(config: dict[str, Any]):
    with pytest.raises(pydantic.ValidationError):
        DataConfig(url="x", **config)


def test_balanced_training_draws_rare_classes_as_often(packed: str):
    config = DataConfig(url=packed, batch_size=6, sampling="balanced")
    data = DataSet(config).split("train", "")
    # Leave one sample of class 2: it makes a third of the draws.
    rows = data.index.rows.copy()
    rows["label"][np.flatnonzero(rows["label"] == 2)[1:]] = 0
    data.index.rows = rows

    plan = train_plan(config, data, seed=1, epoch=0)
    samples = np.concatenate([planned.samples for planned in plan.batches(Share())])

    assert np.bincount(rows["label"][samples]).tolist() == [6, 6, 6]


def test_evaluation_plans_do_not_depend_on_seeds_or_windows(packed: str):
    config = DataConfig(url=packed, window=1, partitions=2, eval_batch_size=9)
    data = DataSet(config).split("val", "")
    (planned,) = eval_plan(config, data).batches(Share())
    assert planned.samples.tolist() == list(range(9))
