"""The callback that samples GPU statistics and names the bottleneck if GPU use is low."""

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import pytorch_lightning as pl
import torch

from rsdl.core.resources import usable_cores
from rsdl.records.run_record import RunRecord
from rsdl.train.bottleneck import LOW_USE, StepCosts, find_bottleneck
from rsdl.train.device_stats import DeviceMeter, MeterPoller

logger = logging.getLogger(__name__)

# Ignored: the first seconds fetch shards, select kernels and fill caches.
WARM_UP_S = 60.0
WINDOW_S = 180.0
SECONDS_BETWEEN_LOOKS = 5.0
SECONDS_BETWEEN_READINGS = 1.0


class DeviceStatsCallback(pl.Callback):
    """Adds GPU statistics to the run record and warns if GPU utilization is low.

    It warns once during training, and once at the end if the mean over the whole run is low.

    It must precede the recorder in the list of callbacks, so that a written record includes the
    statistics.

    Args:
        open_meters: Opens the meters of this node's devices, given this process's device.
        record: The run's record.
        processes: Processes that share the cores of this node.
        warm_up_s: Seconds at the start of training that are ignored.
        window_s: Length of the window, in seconds of training, over which utilization is averaged.
    """

    def __init__(
        self,
        open_meters: Callable[[torch.device], Sequence[DeviceMeter]],
        record: RunRecord,
        *,
        processes: int = 1,
        warm_up_s: float = WARM_UP_S,
        window_s: float = WINDOW_S,
    ) -> None:
        self._open_meters = open_meters
        self._poller = MeterPoller(())
        self._record = record
        self._cores = max(1, usable_cores() // processes)
        self._warm_up_s = warm_up_s
        self._window_s = window_s
        self._warmed_s = 0.0
        self._recent: deque[StepCosts] = deque()
        self._whole = StepCosts()
        self._has_warned = False
        self._mark = self._now()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start sampling; the first rank samples for its node."""
        if trainer.is_global_zero:
            meters = self._open_meters(trainer.strategy.root_device)
            self._poller = MeterPoller(meters, SECONDS_BETWEEN_READINGS)
            self._poller.start()
        self._mark = self._now()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's signature
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Check utilization every ``SECONDS_BETWEEN_LOOKS``."""
        if time.monotonic() - self._mark[0] > SECONDS_BETWEEN_LOOKS:
            self._look()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the interval of training: validation reads data differently."""
        self._look()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the readings of validation, but leave them out of the warning."""
        self._record.add_readings(self._poller.take())
        self._mark = self._now()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop sampling, and warn if utilization over the whole training was low."""
        self._poller.stop()
        self._look()
        if self._whole.is_low and self._whole.seconds >= self._window_s:
            self._say(self._whole, "over the whole training")

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Stop sampling and record the readings so far."""
        self._poller.stop()
        self._look()

    def _look(self) -> None:
        """Record the readings since the last call, and warn if the last minutes were low."""
        sums = self._poller.take()
        self._record.add_readings(sums)
        before, self._mark = self._mark, self._now()
        seconds, waited_s, cpu_s, encoded = (
            now - then for now, then in zip(self._mark, before, strict=True)
        )
        if self._warmed_s < self._warm_up_s:
            self._warmed_s += seconds
            return
        costs = StepCosts(
            seconds, sums.readings, sums.utilization_sum, waited_s, cpu_s, int(encoded)
        )
        self._whole += costs
        self._recent.append(costs)
        window = sum(self._recent, StepCosts())
        while len(self._recent) > 1 and window.seconds - self._recent[0].seconds >= self._window_s:
            self._recent.popleft()
            window = sum(self._recent, StepCosts())
        if not self._has_warned and window.seconds >= self._window_s and window.is_low:
            self._has_warned = True
            self._say(window, f"over the last {window.seconds / 60:.0f} min")

    def _say(self, costs: StepCosts, when: str) -> None:
        bottleneck = find_bottleneck(costs, self._cores)
        logger.warning(
            "GPU use is %.0f%% %s, less than %.0f%%: %s",
            100 * (costs.utilization or 0.0), when, 100 * LOW_USE, bottleneck.text,
        )  # fmt: skip

    def _now(self) -> tuple[float, float, float, float]:
        """Return time, seconds waited for data, CPU seconds and bytes decoded so far."""
        record = self._record
        times = (time.monotonic(), record.data_wait_s, time.process_time())
        return (*times, float(record.bytes_encoded))
