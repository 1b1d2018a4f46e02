"""Two commands do not train in one folder."""

import json
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


def test_a_run_that_was_suspended_while_another_took_its_folder_ends_and_writes_no_more(
    rsdl: "Rsdl", write_config: "Write", run_at: "Find"
):
    first = rsdl.start("train", write_config("run", trainer__max_epochs=500, data__batch_size=18))
    first.wait_for(lambda: "epoch" in first.stdout)
    first.send(signal.SIGSTOP)
    folder = run_at("run").folder
    (owner,) = (folder / ".owner").iterdir()
    # What another host writes when it has seen no beat for long enough.
    page = json.loads(owner.read_text()) | {"host": "node-7", "pid": 12, "place": "node-7 x y"}
    (folder / ".owner" / f"{int(owner.name) + 1:08d}").write_text(json.dumps(page))
    (folder / "checkpoints" / "last.ckpt").write_bytes(b"node-7's")
    first.send(signal.SIGCONT)
    assert first.wait().returncode == 2
    assert "was taken over by node-7:12; leave it to that one" in first.stderr
    assert (folder / "checkpoints" / "last.ckpt").read_bytes() == b"node-7's"
