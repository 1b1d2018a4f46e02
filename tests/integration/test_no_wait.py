"""No training step makes the host wait for the device: nothing is read, nothing is indexed by mask.

On the CPU a witness looks at every call and operation of a step of the real trainer; on a GPU, CUDA
itself is asked to refuse whatever would wait.
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from rich.console import Console

from rsdl.config.load import validate
from rsdl.core.batch import Batch
from rsdl.storage.connect import connect
from rsdl.train.build import open_session
from rsdl.train.ranks import find_ranks
from rsdl.train.run_folder import ExistingRun, RunFolder
from rsdl.train.session import Session
from rsdl.train.signals import StopRequest
from rsdl.train.trainer import fit_to_ranks
from tests.integration.sync_detector import SyncDetector, WatchedStep

EVERYTHING: dict[str, Any] = {
    "model": {"name": "test_efficientnet", "drop_rate": 0.1, "drop_path_rate": 0.1},
    "augment": {
        "mixup": 0.2, "cutmix": 1.0, "brightness": 0.2, "contrast": 0.2, "saturation": 0.2,
        "hue": 0.1,
    },
    "task": {"label_smoothing": 0.1},
    "optim": {"clip_grad": 1.0, "ema_decay": 0.99, "layer_decay": 0.9},
}  # fmt: skip


def open_run(
    packed: str,
    output: Path,
    *,
    accelerator: str = "cpu",
    optim: dict[str, Any] | None = None,
    **fields: object,
) -> Session:
    """Return a session with everything on that a step may do, ready to train."""
    config = validate(
        {
            **EVERYTHING,
            **({"optim": optim} if optim is not None else {}),
            "name": "run",
            "data": {"url": packed, "image_size": 32, "batch_size": 4},
            "trainer": {"accelerator": accelerator, "devices": 1, "max_epochs": 2, **fields},
        }
    )
    fitted = fit_to_ranks(config.trainer, None)
    config = config.model_copy(update={"trainer": fitted})
    ranks = find_ranks(fitted, StopRequest())
    folder = RunFolder(connect(str(output)))
    return open_session(config, folder, ExistingRun(), ranks, Console(file=io.StringIO()))


def train_watched(
    session: Session, step: int, enter: Callable[[], object], leave: Callable[[], object]
) -> None:
    """Train, and have one step watched."""
    watched = WatchedStep(step, enter, leave)
    callbacks: list[pl.Callback] = session.trainer.callbacks  # type: ignore[attr-defined]
    callbacks.insert(0, watched.first)
    callbacks.append(watched.last)
    session.trainer.limit_val_batches = 0
    session.trainer.fit(session.module, datamodule=session.data)


def counters(session: Session) -> list[torch.Tensor]:
    """Return the optimizer's step counters, which lie on the host whatever the device."""
    states = session.trainer.optimizers[0].state.values()
    return [state["step"] for state in states]


@pytest.mark.parametrize("precision", ["fp32", "bf16-mixed"])
def test_a_step_reads_nothing_from_the_device(
    packed: str, tmp_path: Path, precision: str, monkeypatch: pytest.MonkeyPatch
):
    # As a GPU does it: a processor looks at each image's numbers.
    monkeypatch.setattr("rsdl.data.dihedral.ONE_BY_ONE", ())
    session = open_run(packed, tmp_path, precision=precision)
    detector = SyncDetector(lambda: counters(session))
    train_watched(session, 2, detector.__enter__, detector.__exit__)
    assert detector.num_operations > 500  # it has seen forward, backward, optimizer and average
    assert detector.found == []


@pytest.mark.parametrize(
    ("spoil", "seen"),
    [
        (lambda loss: loss.item(), "Tensor.item"),
        (lambda loss: loss.tolist(), "Tensor.tolist"),
        (lambda loss: bool(loss > 0), "Tensor.__bool__"),
        (lambda loss: loss.view(1)[loss.view(1) > 0], "aten.index.Tensor by a mask"),
        (lambda loss: torch.nonzero(loss), "aten.nonzero.default"),
        (lambda loss: loss.detach().cpu(), "Tensor.cpu"),
        (lambda loss: torch.tensor([1.0, 2.0]), "torch.tensor of a list"),
    ],
)
def test_a_step_that_reads_is_found_out(
    packed: str, tmp_path: Path, spoil: Callable[[torch.Tensor], object], seen: str
):
    session = open_run(packed, tmp_path)
    detector = SyncDetector(lambda: counters(session))
    step = session.module.training_step

    def spoilt(batch: Batch, batch_idx: int) -> torch.Tensor:
        loss = step(batch, batch_idx)
        spoil(loss)
        return loss

    session.module.training_step = spoilt  # type: ignore[method-assign]
    train_watched(session, 2, detector.__enter__, detector.__exit__)
    assert seen in detector.found


def test_a_log_row_may_come_a_step_later_but_says_the_same(
    packed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """On a GPU a row waits for its loss until the next step; the rows are those of a CPU."""

    def rows(folder: str) -> list[dict[str, float | None]]:
        session = open_run(packed, tmp_path / folder, log_every_steps=1)
        session.trainer.limit_val_batches = 0
        session.trainer.fit(session.module, datamodule=session.data)
        timed = ("time_s", "images_per_s", "data_wait_pct")
        return [
            {k: v for k, v in row.items() if k not in timed} for row in session.recorder.history
        ]

    at_once = rows("at-once")
    monkeypatch.setattr(
        "rsdl.train.async_scalars.AsyncScalars.is_late", property(lambda self: True)
    )
    assert rows("later") == at_once
    assert [row["step"] for row in at_once] == list(range(1, len(at_once) + 1))
    assert all(row["train_loss"] for row in at_once)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("compiled", ["off", "on", "reduce-overhead"])
def test_cuda_finds_nothing_to_wait_for_in_a_step(packed: str, tmp_path: Path, compiled: str):
    fields: dict[str, Any] = {"compile": compiled, "precision": "bf16-mixed"}
    session = open_run(packed, tmp_path, accelerator="gpu", **fields)

    def refuse() -> None:
        torch.cuda.set_sync_debug_mode("error")

    def allow() -> None:
        torch.cuda.set_sync_debug_mode("default")

    try:
        train_watched(session, 6, refuse, allow)
    finally:
        allow()
