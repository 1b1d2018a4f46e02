"""A compiled run: all that is compiled is compiled in the first epoch."""

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch._dynamo.utils import counters

from tests.integration.test_no_wait import open_run

pytestmark = pytest.mark.slow


class Graphs(pl.Callback):
    """Counts the graphs that have been compiled by the end of each epoch."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.counts.append(counters["stats"]["unique_graphs"])


@pytest.mark.filterwarnings("ignore")  # what torch.compile has to say of this machine
@pytest.mark.parametrize("averages", [True, False])
def test_nothing_is_compiled_after_the_first_epoch(packed: str, tmp_path: Path, averages: bool):
    torch._dynamo.reset()
    counters.clear()
    optim = {"clip_grad": 1.0, "ema_decay": 0.99 if averages else None}
    session = open_run(packed, tmp_path, optim=optim, compile="on", max_epochs=3)
    graphs = Graphs()
    session.trainer.callbacks.append(graphs)  # type: ignore[attr-defined]
    session.trainer.fit(session.module, datamodule=session.data)
    # Augmentation and network each have one in training and, since the last batch of an evaluation
    # is smaller, two in evaluation; the average is not compiled.
    assert graphs.counts == [4 if averages else 6] * 3
    assert not counters["graph_break"]


@pytest.mark.filterwarnings("ignore")
def test_compiled_augmentation_gives_the_same_images(packed: str, tmp_path: Path):
    torch._dynamo.reset()
    plain = open_run(packed, tmp_path / "plain")
    compiled = open_run(packed, tmp_path / "compiled", compile="on")
    found = []
    for session in (plain, compiled):
        session.data.trainer = session.trainer
        batch = next(iter(session.data.train_dataloader()))
        for training in (True, False):
            images, mix = session.module.augment(batch, training=training)
            assert images.is_contiguous(memory_format=torch.channels_last)
            found.append((images, mix))
    for (one, mix), (two, other) in zip(found[:2], found[2:], strict=True):
        assert torch.allclose(one, two, atol=1e-4)
        assert (mix is None) == (other is None)
        if mix is not None and other is not None:
            assert torch.equal(mix.partner, other.partner)
            assert torch.allclose(mix.weight, other.weight, atol=1e-6)
