"""Notes when a rank starts, begins to build its network, makes optimizer steps and ends.

Python imports this by itself where its folder is on the PYTHONPATH. Each process writes to a file
of its own below $STEP_LOG: its world size, then lines of JSON (what, seconds since the epoch,
number). With $STEP_PAUSE a step takes so many seconds more.
"""

import atexit
import json
import os
import time
from pathlib import Path
from typing import Any


def install(folder: Path) -> None:
    """Note from now on."""
    begun = time.time()
    stream = (folder / f"{time.time_ns()}-{os.getpid()}").open("w", buffering=1)

    def note(what: str, at: float | None = None, number: int = 0) -> None:
        stream.write(json.dumps([what, at or time.time(), number]) + "\n")

    note("begun", begun, int(os.environ["WORLD_SIZE"]))
    atexit.register(note, "ended")  # not called where a signal ends the process

    from torch.nn.modules.module import register_module_parameter_registration_hook
    from torch.optim.optimizer import register_optimizer_step_post_hook

    pause_s = float(os.environ.get("STEP_PAUSE", "0"))

    def note_network(*_: object) -> None:
        note("building")
        hook.remove()

    def note_step(optimizer: Any, *_: object) -> None:  # noqa: ANN401
        note("step", number=int(next(iter(optimizer.state.values()))["step"]))
        time.sleep(pause_s)

    hook = register_module_parameter_registration_hook(note_network)
    register_optimizer_step_post_hook(note_step)


if "STEP_LOG" in os.environ and "WORLD_SIZE" in os.environ:
    install(Path(os.environ["STEP_LOG"]))
