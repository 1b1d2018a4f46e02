"""Readings add up in the record, over resumes and types of device."""

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsdl.records.device_use import (
    DeviceReading,
    DeviceReadingSums,
    DeviceUse,
    energy_between,
    mean_utilization,
)
from rsdl.train.device_stats import MeterPoller

shares = st.lists(st.floats(0, 1), min_size=1, max_size=20)


def sums_of(values: list[float]) -> DeviceReadingSums:
    sums = DeviceReadingSums()
    for value in values:
        sums.add(None, DeviceReading(utilization=value), 1.0)
    return sums


@given(st.lists(shares, min_size=1, max_size=4))
def test_the_mean_over_resumes_is_the_mean_of_all_readings(sessions: list[list[float]]):
    use = DeviceUse()
    for session in sessions:
        # As between two processes: through the record's text.
        use = DeviceUse.model_validate_json(use.model_dump_json())
        use.add(sums_of(session))
    values = [value for session in sessions for value in session]
    assert use.readings == len(values)
    assert use.utilization == pytest.approx(sum(values) / len(values))


@given(shares, shares)
def test_the_mean_over_types_weighs_readings(here: list[float], there: list[float]):
    uses = [DeviceUse(), DeviceUse(), DeviceUse()]
    uses[0].add(sums_of(here))
    uses[1].add(sums_of(there))
    values = here + there
    assert mean_utilization(uses) == pytest.approx(sum(values) / len(values))


def test_without_readings_there_is_no_mean():
    use = DeviceUse()
    use.add(DeviceReadingSums())
    assert use == DeviceUse()
    assert mean_utilization([use]) is None


@pytest.mark.parametrize(
    ("before", "now", "joules"),
    [
        (DeviceReading(energy_j=10, power_w=1), DeviceReading(energy_j=610, power_w=1), 600),
        (DeviceReading(power_w=200), DeviceReading(power_w=300), 500),
        # The counter began anew with the driver.
        (DeviceReading(energy_j=900, power_w=100), DeviceReading(energy_j=5, power_w=100), 200),
        (DeviceReading(power_w=200), DeviceReading(), None),
        (DeviceReading(), DeviceReading(), None),
    ],
)
def test_energy_goes_by_the_counter_else_by_power(
    before: DeviceReading, now: DeviceReading, joules: float | None
):
    assert energy_between(before, now, 2.0) == joules


def test_the_peak_of_memory_is_kept():
    use = DeviceUse()
    for peaks in ([3, 9], [5, 1]):
        sums = DeviceReadingSums()
        for peak in peaks:
            sums.add(None, DeviceReading(memory_bytes=peak), 1.0)
        use.add(sums)
    assert use.memory_bytes == 9


class Meter:
    """A meter that counts its readings, and knows which thread asked."""

    def __init__(self) -> None:
        self.num_readings = 0
        self.closed = 0
        self.threads: set[str] = set()
        self.wanted = threading.Event()

    def read(self) -> DeviceReading:
        self.num_readings += 1
        self.threads.add(threading.current_thread().name)
        if self.num_readings >= 10:
            self.wanted.set()
        return DeviceReading(0.5, 7, energy_j=2.0 * self.num_readings)

    def close(self) -> None:
        self.closed += 1


def test_a_sampler_reads_until_it_is_stopped_and_nothing_is_lost_or_counted_twice():
    meters = [Meter(), Meter()]
    poller = MeterPoller(meters, every_s=0.001)
    poller.start()
    poller.start()
    taken = []
    while not all(meter.wanted.is_set() for meter in meters):
        taken.append(poller.take())
        time.sleep(0.001)
    poller.stop()
    poller.stop()
    taken.append(poller.take())
    assert poller.take() == DeviceReadingSums()
    counts = [meter.num_readings for meter in meters]
    assert sum(sums.readings for sums in taken) == sum(counts)
    assert sum(sums.utilization_sum for sums in taken) == sum(counts) / 2
    assert sum(sums.energy_j for sums in taken) == 2.0 * sum(count - 1 for count in counts)
    assert [meter.closed for meter in meters] == [1, 1]
    assert meters[0].threads == {"meters"}


def test_a_sampler_without_gauges_starts_no_thread():
    poller = MeterPoller(())
    before = threading.active_count()
    poller.start()
    assert threading.active_count() == before
    poller.stop()
