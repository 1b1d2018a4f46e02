"""Checkpoints are read without trusting them, and written whole."""

import threading
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch import nn

from rsdl.core.errors import DataError, StorageError
from rsdl.records.run_record import LAST
from rsdl.storage.local import LocalStore
from rsdl.train.checkpoint import (
    average_of,
    load_weights,
    state_of,
)
from rsdl.train.checkpoint_io import StoreCheckpointIO
from rsdl.train.upload_queue import UploadQueue

CONTENT = {"state_dict": {"weight": torch.arange(4.0)}, "rsdl": {"position": {"epoch": 1}}}


def test_what_is_written_is_read_and_the_loops_of_lightning_are_not_kept(tmp_path: Path):
    checkpoints = StoreCheckpointIO(UploadQueue(LocalStore(tmp_path)))
    checkpoints.save_checkpoint(CONTENT | {"loops": {"fit_loop": 1}}, LAST)
    found = checkpoints.load_checkpoint(LAST)
    assert found.keys() == CONTENT.keys()
    assert torch.equal(found["state_dict"]["weight"], torch.arange(4.0))
    assert state_of(found, "here") == {"position": {"epoch": 1}}
    checkpoints.remove_checkpoint(LAST)
    assert not (tmp_path / LAST).exists()


def test_a_write_that_fails_leaves_the_one_before(tmp_path: Path):
    checkpoints = StoreCheckpointIO(UploadQueue(LocalStore(tmp_path)))
    checkpoints.save_checkpoint(dict(CONTENT), LAST)
    with pytest.raises(AttributeError):
        checkpoints.save_checkpoint({"state_dict": lambda: None}, LAST)
    assert checkpoints.load_checkpoint(LAST).keys() == CONTENT.keys()
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["last.ckpt"]


def test_what_is_saved_in_the_background_is_the_state_at_that_moment(tmp_path: Path):
    uploads, gate = UploadQueue(LocalStore(tmp_path), background=True), threading.Event()
    checkpoints, network = StoreCheckpointIO(uploads), nn.Linear(2, 2)
    wanted = network.weight.detach().clone()
    uploads.submit("something slow", lambda: gate.wait(60))
    checkpoints.save_checkpoint({"state_dict": network.state_dict()}, LAST)
    nn.init.zeros_(network.weight)
    assert not (tmp_path / LAST).exists()
    gate.set()
    assert torch.equal(checkpoints.load_checkpoint(LAST)["state_dict"]["weight"], wanted)


def test_a_save_that_failed_in_the_background_fails_the_next(tmp_path: Path):
    uploads = UploadQueue(LocalStore(tmp_path / "file"), background=True)
    checkpoints = StoreCheckpointIO(uploads)
    (tmp_path / "file").write_text("in the way")
    checkpoints.save_checkpoint(dict(CONTENT), LAST)
    with suppress(StorageError):
        uploads.drain()
    with pytest.raises(StorageError, match="is a file, not a folder"):
        checkpoints.save_checkpoint(dict(CONTENT), LAST)


def test_averaged_weights_take_the_place_of_the_networks_own():
    state = {"model.weight": 1, "averaged.module.weight": 2, "other": 3}
    assert average_of(state) == {"model.weight": 2, "other": 3}


@pytest.mark.parametrize(
    "weights", [{"weight": torch.zeros(3, 2)}, {"other": torch.zeros(1)}, {"weight": 3}, 7]
)
def test_weights_of_another_network_are_refused_in_one_line(weights: object):
    network = nn.Linear(2, 2)
    with pytest.raises(DataError, match="does not fit the network") as caught:
        load_weights(network, {"state_dict": weights}, "best.ckpt")
    assert "\n" not in str(caught.value)
    load_weights(network, {"state_dict": nn.Linear(2, 2).state_dict()}, "best.ckpt")
