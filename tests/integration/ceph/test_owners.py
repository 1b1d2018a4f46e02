"""A bucket's data set and run belong to one process at a time."""

import subprocess
import sys

from rsdl.storage.connect import connect
from rsdl.train.owner import own
from tests.unit.train.test_owner import HOLD, hear

FRACTIONS = (0.5, 0.25, 0.25)


def test_of_several_at_once_one_owns_a_run_and_is_followed_when_killed(bucket: str):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", HOLD, f"{bucket}/run"], stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    said = [hear(process) for process in processes]
    assert said.count("owns") == 1
    assert sum("is being trained by" in line for line in said) == 2
    for process in processes:
        process.kill()
        process.communicate()
    own(connect(f"{bucket}/run")).release()
