"""``rsdl.DataModule`` in a plain loop, in two processes, and in Lightning Trainers of anyone."""

from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import spawn

import rsdl
from rsdl.config.data import DataConfig, DataFields
from rsdl.core.errors import ConfigError, ConfigErrors, DataError
from rsdl.data.epochs import LabeledBatch
from rsdl.data.standalone import this_process

TRAINER: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def open_data(url: str, **fields: Any) -> rsdl.DataModule:  # noqa: ANN401
    return rsdl.DataModule(url, **({"image_size": 16, "batch_size": 6} | fields))


def test_a_plain_loop_trains(packed: str):
    data = open_data(packed, seed=1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, data.num_classes))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    loader = data.train_loader()
    assert len(loader) == 3
    for _ in range(12):
        for images, targets, valid in loader:
            assert images.shape == (6, 3, 16, 16) and images.dtype == torch.float32
            assert valid.all()
            loss = nn.functional.cross_entropy(model(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.inference_mode():
        hits = [(model(images).argmax(1) == targets) for images, targets, _ in data.test_loader()]
    assert torch.cat(hits).float().mean() > 0.8  # classes differ by colour; chance is 0.33


def test_each_iteration_is_an_epoch_of_its_own_and_can_be_repeated(packed: str):
    loader = open_data(packed).train_loader()
    first, second = (torch.cat([batch.images for batch in loader]) for _ in range(2))
    assert not torch.equal(first, second)
    assert loader.epoch == 2
    loader.epoch = 1
    assert torch.equal(torch.cat([batch.images for batch in loader]), second)


def test_evaluation_reads_each_sample_once_unaugmented_and_normalised(packed: str):
    data = open_data(packed, batch_size=4)
    batches = list(data.val_loader())
    assert [len(batch.targets) for batch in batches] == [4, 4, 1]
    again = list(data.val_loader())
    assert all(torch.equal(a.images, b.images) for a, b in zip(batches, again, strict=True))
    stored = next(iter(data._loaders.open_val_loader(this_process("cpu"))))
    manifest = data.data.manifest
    expected = (stored.images.numpy() - np.array(manifest.mean)) / np.array(manifest.std)
    assert np.allclose(batches[0].images.permute(0, 2, 3, 1).numpy(), expected, atol=1e-5)


class Model(pl.LightningModule):
    """A stranger's module, which knows nothing of rsdl."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, num_classes))
        self.seen: dict[str, list[torch.Tensor]] = {"train": [], "val": [], "test": []}

    def _step(self, batch: Any, stage: str) -> torch.Tensor:  # noqa: ANN401
        images, targets, valid = batch
        self.seen[stage].append(images.detach().clone())
        losses = nn.functional.cross_entropy(self.net(images), targets, reduction="none")
        loss = losses[valid].mean()
        self.log(f"{stage}_loss", loss)
        return loss

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:  # noqa: ANN401
        return self._step(batch, "train")

    def validation_step(self, batch: Any, batch_idx: int) -> None:  # noqa: ANN401
        self._step(batch, "val")

    def test_step(self, batch: Any, batch_idx: int) -> None:  # noqa: ANN401
        self._step(batch, "test")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_a_trainer_of_anyone_gets_what_a_plain_loop_gets(packed: str):
    model, trainer = Model(3), pl.Trainer(max_epochs=2, **TRAINER)
    trainer.fit(model, datamodule=open_data(packed, seed=3))
    trainer.test(model, datamodule=open_data(packed, seed=3), verbose=False)

    plain = open_data(packed, seed=3)
    loader = plain.train_loader()
    expected = [batch.images for _ in range(2) for batch in loader]
    assert all(torch.equal(a, b) for a, b in zip(model.seen["train"], expected, strict=True))
    val = [batch.images for batch in plain.val_loader()]
    assert all(torch.equal(a, b) for a, b in zip(model.seen["val"][-len(val) :], val, strict=True))
    test = [batch.images for batch in plain.test_loader()]
    assert all(torch.equal(a, b) for a, b in zip(model.seen["test"], test, strict=True))
    assert trainer.callback_metrics["test_loss"].isfinite()


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_images_have_the_precision_of_the_trainer(packed: str, precision: Any):  # noqa: ANN401
    dtype = {"bf16-true": torch.bfloat16, "64-true": torch.float64}.get(precision, torch.float32)
    model, trainer = Model(3), pl.Trainer(max_epochs=1, precision=precision, **TRAINER)
    trainer.fit(model, datamodule=open_data(packed))
    plain = [batch.images.to(dtype) for batch in open_data(packed).train_loader()]
    assert all(torch.equal(a, b) for a, b in zip(model.seen["train"], plain, strict=True))


def read_as_rank(rank: int, url: str, folder: str) -> None:
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    data = open_data(url, num_workers=1, batch_size=4)
    torch.save([list(data.train_loader()), list(data.val_loader())], f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_share_each_batch(packed: str, tmp_path: Path):
    spawn(read_as_rank, (packed, str(tmp_path)), nprocs=2)
    with torch.serialization.safe_globals([LabeledBatch]):
        ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    alone = open_data(packed, batch_size=4)
    for whole, *parts in zip(alone.train_loader(), *(rank[0] for rank in ranks), strict=True):
        assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
    val = [torch.cat([batch.targets[batch.valid] for batch in rank[1]]) for rank in ranks]
    assert sum(map(len, val)) == 9  # 9 samples by 4: the last batch of one rank is padding
    assert sorted(torch.cat(val).tolist()) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


class Sums(Model):
    """Writes down what its rank has trained on."""

    def __init__(self, folder: str) -> None:
        super().__init__(3)
        self.folder = folder

    def on_train_end(self) -> None:
        sums = torch.cat([images.sum((1, 2, 3)) for images in self.seen["train"]])
        torch.save(sums, f"{self.folder}/{self.global_rank}.pt")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_a_trainer_on_two_devices_reads_each_sample_once(packed: str, tmp_path: Path):
    model = Sums(str(tmp_path))
    trainer = pl.Trainer(max_epochs=1, devices=2, strategy="ddp_spawn", **TRAINER)
    trainer.fit(model, datamodule=open_data(packed, num_workers=1))
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    alone = torch.cat([b.images.sum((1, 2, 3)) for b in open_data(packed).train_loader()])
    assert [len(rank) for rank in ranks] == [9, 9]
    assert torch.equal(torch.cat(ranks).sort().values, alone.sort().values)


def test_what_is_wrong_is_told_by_field(packed: str, tmp_path: Path):
    with pytest.raises(ConfigErrors) as told:
        open_data(packed, image_sise=16, batch_size=0, augment={"hue": 2})
    text = str(told.value)
    assert 'data.image_sise: unknown field; did you mean "image_size"?' in text
    assert "data.batch_size" in text and "augment.hue" in text
    with pytest.raises(ConfigError, match=r"augment\.cutmix: mixes targets too"):
        open_data(packed, augment={"cutmix": 1.0})
    with pytest.raises(ConfigError, match=r"data\.val_split: is null"):
        open_data(packed, val_split=None).val_loader()
    with pytest.raises(ConfigErrors, match=r"augment\.rotate90"):
        open_data(packed, image_size=(16, 24))
    with pytest.raises(ConfigError, match=r"data\.batch_size: 64 exceeds the 18 samples"):
        rsdl.DataModule(packed, image_size=16).train_loader()
    with pytest.raises(DataError, match="no manifest"):
        open_data(str(tmp_path / "nowhere"))


def test_the_keywords_are_the_fields_of_the_config():
    assert {"url", *get_type_hints(DataFields)} == set(DataConfig.model_fields)
