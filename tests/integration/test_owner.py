"""Two commands do not train in one folder."""

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.integration.conftest import Find, Rsdl, Write

pytestmark = pytest.mark.slow


def test_a_second_train_is_refused_while_the_first_lives_and_goes_on_when_it_is_killed(
    rsdl: "Rsdl", write_config: "Write", run_at: "Find"
):
    config = write_config("run", trainer__max_epochs=500, data__batch_size=18)
    first = rsdl.start("train", config)
    first.wait_for(lambda: "epoch" in first.stdout)
    for options in ([], ["--restart"]):
        second = subprocess.run(
            [sys.executable, "-m", "rsdl", "train", str(config), *options],
            capture_output=True, text=True, check=False, cwd=config.parent,
        )  # fmt: skip
        assert second.returncode == 2, second
        assert f":{first.pid} since" in second.stderr
        assert len(second.stderr.splitlines()) == 1
    assert first.runs()
    first.kill()
    first.wait()
    third = rsdl.start("train", config)
    third.wait_for(lambda: "epoch" in third.stdout)
    third.send(signal.SIGTERM)
    assert third.wait().returncode == 75
    assert run_at("run").record["status"] == "preempted"
