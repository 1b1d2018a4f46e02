"""What scripts/quickstart runs."""

import shlex
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Not run: they make the environment, and what follows the commands reads what these have written.
SETUP = ("cd ", ". ", "make_environment", "rm ")


def read_commands(task: str) -> list[list[str]]:
    """Return the arguments of each rsdl command that the script runs for a task."""
    script = (ROOT / "scripts" / "quickstart").read_text().partition("\nrun=")[0]
    lines = [line for line in script.splitlines() if not line.startswith(SETUP)]
    told = "\n".join(["rsdl() { printf '%q ' \"$@\"; echo; }", *lines])
    ended = subprocess.run(
        ["bash", "-c", told, "quickstart", task], capture_output=True, text=True, check=True
    )
    return [shlex.split(line) for line in ended.stdout.splitlines()]
