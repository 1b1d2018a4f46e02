"""The callback that has GPUs sampled and warns where they idle, in a real training loop."""

import logging
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from rsdl.records.device_use import DeviceReading
from rsdl.records.run_record import RunRecord
from rsdl.train import device_stats_callback
from rsdl.train.device_stats import DeviceMeter
from rsdl.train.device_stats_callback import DeviceStatsCallback
from tests.run_records import make_record


class Meter:
    """A meter with one reading for ever, which counts how often it was asked."""

    def __init__(self, utilization: float) -> None:
        self.utilization = utilization
        self.num_readings = 0
        self.closed = False

    def read(self) -> DeviceReading:
        self.num_readings += 1
        return DeviceReading(self.utilization, 1 << 30, power_w=100.0)

    def close(self) -> None:
        self.closed = True


class Net(pl.LightningModule):
    """A network that trains until its meter was read often enough."""

    def __init__(self, meter: Meter, fails: bool = False) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)
        self.meter = meter
        self.fails = fails

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        if self.meter.num_readings >= 5:
            if self.fails:
                raise RuntimeError("out of memory")
            self.trainer.should_stop = True
        return self.layer(batch).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-3)


def record() -> RunRecord:
    return make_record(device_name="NVIDIA A40")


def train(
    meter: Meter, kept: RunRecord, folder: Path, *, fails: bool = False, judge: bool = True
) -> None:
    """Train for as long as the meter needs, with every second judged."""

    def open_meters(device: torch.device) -> list[DeviceMeter]:
        assert device.type == "cpu"
        return [meter]

    watch = DeviceStatsCallback(open_meters, kept, warm_up_s=0, window_s=0 if judge else 1e9)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=10_000,
        callbacks=[watch],
        default_root_dir=str(folder),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        reload_dataloaders_every_n_epochs=0,
    )
    data = torch.utils.data.DataLoader(torch.ones(8, 2), batch_size=1)  # type: ignore[arg-type]
    trainer.fit(Net(meter, fails), data)


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sample and look all the time, rather than every few seconds."""
    monkeypatch.setattr(device_stats_callback, "SECONDS_BETWEEN_LOOKS", 0.0)
    monkeypatch.setattr(device_stats_callback, "SECONDS_BETWEEN_READINGS", 0.001)
    for name in ("lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setattr(logging.getLogger(name), "level", logging.ERROR)


pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*", "ignore:.*LeafSpec.*is deprecated.*"
)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


def test_low_use_is_told_once_on_the_way_and_once_in_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    meter, kept = Meter(0.25), record()
    with caplog.at_level(logging.WARNING, "rsdl.train.device_stats_callback"):
        train(meter, kept, tmp_path)
    said = warnings_of(caplog)
    assert len(said) == 2
    assert all("GPU use is 25%" in line and "the model is the bottleneck" in line for line in said)
    assert "over the last" in said[0] and "over the whole training" in said[1]
    assert meter.closed
    assert kept.gpu_utilization == 0.25
    use = kept.devices["NVIDIA A40"]
    assert use.readings == meter.num_readings
    assert use.memory_bytes == 1 << 30
    assert use.energy_j == pytest.approx(100.0 * use.metered_s)


def test_a_busy_gpu_is_not_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    kept = record()
    with caplog.at_level(logging.WARNING, "rsdl.train.device_stats_callback"):
        train(Meter(0.9), kept, tmp_path)
    assert warnings_of(caplog) == []
    assert kept.gpu_utilization == pytest.approx(0.9)


def test_a_short_run_is_not_judged(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, "rsdl.train.device_stats_callback"):
        train(Meter(0.1), record(), tmp_path, judge=False)
    assert warnings_of(caplog) == []


def test_what_was_sampled_until_a_crash_is_kept_and_the_next_goes_on_averaging(tmp_path: Path):
    first, second, kept = Meter(0.2), Meter(0.8), record()
    with pytest.raises(RuntimeError, match="out of memory"):
        train(first, kept, tmp_path, fails=True)
    assert first.closed
    assert kept.gpu_utilization == pytest.approx(0.2)
    kept = RunRecord.model_validate_json(kept.model_dump_json())
    train(second, kept, tmp_path)
    readings = first.num_readings + second.num_readings
    expected = (0.2 * first.num_readings + 0.8 * second.num_readings) / readings
    assert kept.gpu_utilization == pytest.approx(expected)
    assert kept.devices["NVIDIA A40"].readings == readings
