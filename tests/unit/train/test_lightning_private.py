"""What rsdl needs of Lightning's inside is there; a new Lightning is told by this test first."""

from functools import reduce
from pathlib import Path

import pytest
import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger

from rsdl.train.lightning_private import LOOP, PRIVATE


@pytest.fixture(scope="module")
def trainer() -> pl.Trainer:
    return pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, barebones=False)


@pytest.mark.parametrize("path", PRIVATE)
def test_lightning_still_has_it(path: str, trainer: pl.Trainer):
    reduce(getattr, path.split("."), trainer)


def test_lightning_still_asks_by_that_method_whether_the_first_rank_got_sigterm():
    source = Path(pl.loops.training_epoch_loop.__file__).read_text()
    assert f"self.{'_broadcast_sigterm_tensor'}()" in source, LOOP


def test_a_logger_that_has_written_nothing_has_no_file(tmp_path: Path):
    assert TensorBoardLogger(str(tmp_path))._experiment is None
