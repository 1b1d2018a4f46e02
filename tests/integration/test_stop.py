"""Asked to stop, a run finishes its step, saves and says so; started again, it goes on."""

import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.integration.conftest import Compare, Find, Rsdl, Write

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_in_training_a_run_exits_75_and_resumes_bit_equal(
    number: signal.Signals,
    rsdl: "Rsdl",
    write_config: "Write",
    run_at: "Find",
    compare_runs: "Compare",
):
    fields = {"trainer__max_epochs": 40, "optim__ema_decay": 0.9, "data__num_workers": 1}
    whole, stopped = write_config("whole", **fields), write_config("stopped", **fields)
    assert rsdl("train", whole).returncode == 0
    run, stops = run_at("stopped"), 0
    while stops < 3:
        command = rsdl.start("train", stopped)
        command.wait_for(lambda command=command: "epoch" in command.stdout)
        command.send(number)
        ended = command.wait()
        assert ended.returncode == 75, ended
        stops += 1
        assert run.record["status"] == "preempted"
        assert run.record["preemptions"] == stops
        assert signal.Signals(number).name in run.record["reason"]
        assert signal.Signals(number).name in ended.stderr
        assert "Traceback" not in ended.stderr
    assert rsdl("train", stopped).returncode == 0
    compare_runs(run_at("whole"), run)
    assert run.record["resumes"] == 3


def test_stopped_before_and_in_validation_a_run_resumes_bit_equal(
    rsdl: "Rsdl", write_config: "Write", run_at: "Find", compare_runs: "Compare"
):
    # Validation row by row: most of the time is spent there.
    fields = {"data__eval_batch_size": 1, "trainer__max_epochs": 20, "data__batch_size": 18}
    whole, stopped = write_config("whole", **fields), write_config("stopped", **fields)
    assert rsdl("train", whole).returncode == 0
    run = run_at("stopped")
    last = run.folder / "checkpoints/last.ckpt"
    stops = 0
    for _ in range(4):
        age = last.stat().st_mtime_ns if last.exists() else None
        command = rsdl.start("train", stopped)
        # The state is saved at the end of an epoch; what follows is validation.
        command.wait_for(lambda age=age: last.exists() and last.stat().st_mtime_ns != age)
        command.send(signal.SIGTERM)
        ended = command.wait()
        if ended.returncode == 0:
            break
        assert ended.returncode == 75, ended
        stops += 1
    assert stops
    assert rsdl("train", stopped).returncode == 0
    compare_runs(run_at("whole"), run)


@pytest.mark.parametrize("stage", ["beginning", "training"])
def test_a_second_ctrl_c_quits(stage: str, rsdl: "Rsdl", write_config: "Write", run_at: "Find"):
    config = write_config("run", trainer__max_epochs=500, data__batch_size=18)
    command = rsdl.start("train", config)
    run = run_at("run")
    command.wait_for(lambda: (run.folder / "run.json").exists())
    if stage == "training":
        command.wait_for(lambda: "epoch" in command.stdout)
    command.send(signal.SIGINT)
    command.send(signal.SIGINT)
    ended = command.wait()
    # It may have saved between the two.
    assert ended.returncode in (130, 75)
    assert run.record["status"] == {130: "failed", 75: "preempted"}[ended.returncode]
    assert "Traceback" not in ended.stderr
    if ended.returncode == 130:
        assert ended.stderr.splitlines()[-1] == "interrupted"
