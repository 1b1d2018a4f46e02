"""Readings add up in the record, over resumes and types of device."""

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsdl.train.sampler import Sampler
from rsdl.train.usage import DeviceUse, Reading, ReadingSums, energy_between, mean_utilization

shares = st.lists(st.floats(0, 1), min_size=1, max_size=20)


def sums_of(values: list[float]) -> ReadingSums:
    sums = ReadingSums()
    for value in values:
        sums.add(None, Reading(utilization=value), 1.0)
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
    use.add(ReadingSums())
    assert use == DeviceUse()
    assert mean_utilization([use]) is None


@pytest.mark.parametrize(
    ("before", "now", "joules"),
    [
        (Reading(energy_j=10, power_w=1), Reading(energy_j=610, power_w=1), 600),
        (Reading(power_w=200), Reading(power_w=300), 500),
        # The counter began anew with the driver.
        (Reading(energy_j=900, power_w=100), Reading(energy_j=5, power_w=100), 200),
        (Reading(power_w=200), Reading(), None),
        (Reading(), Reading(), None),
    ],
)
def test_energy_goes_by_the_counter_else_by_power(
    before: Reading, now: Reading, joules: float | None
):
    assert energy_between(before, now, 2.0) == joules


def test_the_peak_of_memory_is_kept():
    use = DeviceUse()
    for peaks in ([3, 9], [5, 1]):
        sums = ReadingSums()
        for peak in peaks:
            sums.add(None, Reading(memory_bytes=peak), 1.0)
        use.add(sums)
    assert use.memory_bytes == 9


class Meter:
    """A gauge that counts its readings, and knows which thread asked."""

    def __init__(self) -> None:
        self.num_readings = 0
        self.closed = 0
        self.threads: set[str] = set()
        self.wanted = threading.Event()

    def read(self) -> Reading:
        self.num_readings += 1
        self.threads.add(threading.current_thread().name)
        if self.num_readings >= 10:
            self.wanted.set()
        return Reading(0.5, 7, energy_j=2.0 * self.num_readings)

    def close(self) -> None:
        self.closed += 1


def test_a_sampler_reads_until_it_is_stopped_and_nothing_is_lost_or_counted_twice():
    meters = [Meter(), Meter()]
    sampler = Sampler(meters, every_s=0.001)
    sampler.start()
    sampler.start()
    taken = []
    while not all(meter.wanted.is_set() for meter in meters):
        taken.append(sampler.take())
        time.sleep(0.001)
    sampler.stop()
    sampler.stop()
    taken.append(sampler.take())
    assert sampler.take() == ReadingSums()
    counts = [meter.num_readings for meter in meters]
    assert sum(sums.readings for sums in taken) == sum(counts)
    assert sum(sums.utilization_sum for sums in taken) == sum(counts) / 2
    assert sum(sums.energy_j for sums in taken) == 2.0 * sum(count - 1 for count in counts)
    assert [meter.closed for meter in meters] == [1, 1]
    assert meters[0].threads == {"gauges"}


def test_a_sampler_without_gauges_starts_no_thread():
    sampler = Sampler(())
    before = threading.active_count()
    sampler.start()
    assert threading.active_count() == before
    sampler.stop()
