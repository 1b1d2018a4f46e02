"""``rsdl train``: train or resume the run of a config, evaluate it and write its report."""

import os
import sys
from collections.abc import Sequence

from rsdl.config.load import load_config
from rsdl.config.run import RunConfig
from rsdl.distributed.launch import Node, launch, plan_launch
from rsdl.distributed.rank import adopt_rank
from rsdl.storage.connect import connect, join
from rsdl.train.accelerator import check_accelerator
from rsdl.train.run_folder import RunFolder, check_same_run
from rsdl.train.signals import StopRequest


def train(
    config_path: str,
    overrides: Sequence[str] = (),
    *,
    restart: bool = False,
    node: Node | None = None,
    stop: StopRequest | None = None,
) -> int:
    """Train the run of a config; resume it if it exists.

    If several devices are to be used and no launcher has started a process for each, this process
    starts them.

    Args:
        config_path: YAML file.
        overrides: ``key=value`` pairs.
        restart: Whether to delete an existing run and begin again.
        node: This node among several; ``None`` for a single node.
        stop: Signal handler that is already installed; ``None`` installs a new one.

    Returns:
        0 when the run is completed, or the combined exit code of the processes started here.

    Raises:
        InputError: If config, data or the run's folder are wrong (exit code 2).
        PreemptedError: If the run was asked to stop and has saved (exit code 75).
        NoGpuError: If the config requires a GPU and none is usable here (exit code 69).
        PeerError: If another rank has failed; it has that rank's exit code.
    """
    if stop is None:
        stop = StopRequest()
        stop.install()
    config = load_config(config_path, overrides)
    check_accelerator(config.trainer.accelerator)
    # With --rdzv-endpoint and no LOCAL_RANK, this process is the launcher of its node.
    told = node is not None and node.endpoint is not None and "LOCAL_RANK" not in os.environ
    place = None if told else adopt_rank()
    if place is None and (plan := plan_launch(config.trainer, node or Node())) is not None:
        stop.check()
        stop.begin()
        if plan.most > 1 and not restart and is_completed(config):
            return 0
        return launch(plan, ["train", config_path, *overrides, *["--restart"] * restart])
    # A launcher does without all that takes seconds to import.
    from rsdl.commands.train_rank import train_rank

    return train_rank(config, place, stop, restart=restart)


def is_completed(config: RunConfig) -> bool:
    """Return whether a run is completed, and print a message if so.

    A restarted node checks this before the rendezvous, since the other nodes may have exited.

    Raises:
        ConfigError: If the run was completed with another config.
    """
    folder = RunFolder(connect(join(config.output, config.name), storage=config.storage))
    record = folder.read_record()
    if record is None or record.status != "completed":
        return False
    if check_same_run(config, record, folder):
        return False
    sys.stdout.write(f"{folder.store.url} is completed; --restart begins anew\n")
    return True
