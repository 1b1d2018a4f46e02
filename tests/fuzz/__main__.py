"""Feed damaged files to rsdl's readers; a value or an RsdlError is right, all else a finding.

Each target runs in a process of its own with 1 GB of memory, so that a crash or a hang of a native
library is seen too, and the run goes on.
"""

import argparse
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from rsdl.core.errors import RsdlError
from tests.fuzz.targets import TARGETS, mutate

LIMIT_S, LIMIT_BYTES = 5, 1 << 30


def limit_memory() -> None:
    """Let this process take 1 GB more than it has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + LIMIT_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def attempt(target: str, data: bytes) -> str | None:
    """Read one input and return what went wrong, ``None`` where nothing did."""
    signal.alarm(LIMIT_S)
    try:
        TARGETS[target][1](data)
    except RsdlError as error:
        # A reader that asks for more than the limit only ends well because of the limit.
        greedy = any(words in str(error) for words in ("Insufficient memory", "Unable to allocate"))
        return f"over 1 GB: {str(error)[:200]}" if greedy else None
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    finally:
        signal.alarm(0)
    return None


def work(target: str, seed: int, seconds: float, out: Path) -> None:
    """Read inputs until the time is over; the one being read lies in ``out``."""
    origin, rng, count = TARGETS[target][0](), np.random.default_rng(seed), 0
    TARGETS[target][1](origin)  # a seed that is refused would test little
    limit_memory()
    seen: set[str] = set()
    end, current = time.monotonic() + seconds, out / f"{target}.current"
    while time.monotonic() < end:
        data = mutate(origin, rng)
        current.write_bytes(data)
        wrong, count = attempt(target, data), count + 1
        if wrong is not None and wrong[:60] not in seen:
            seen.add(wrong[:60])
            (out / f"{target}-{seed}-{count}").write_bytes(data)
            print(f"{target}: {wrong}\n  scripts/fuzz --rerun {out}/{target}-{seed}-{count}")
    current.unlink()
    print(f"{target}: {count} inputs")
    sys.exit(1 if seen else 0)


def main() -> int:
    """Run every target, one after another, and return the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="for all targets together")
    parser.add_argument("--target", choices=TARGETS, help="only this one")
    parser.add_argument("--seed", type=int, default=0, help="equal seeds give equal inputs")
    parser.add_argument("--out", type=Path, default=Path("fuzz-findings"), help="for findings")
    parser.add_argument("--rerun", type=Path, help="read one finding again")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rerun:
        target = options.rerun.name.partition("-")[0].partition(".")[0]
        limit_memory()
        wrong = attempt(target, options.rerun.read_bytes())
        print(wrong or "ends in a value or an RsdlError")
        return int(wrong is not None)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.worker:
        work(options.target, options.seed, options.seconds, options.out)
    names, failed = [options.target] if options.target else list(TARGETS), False
    for name in names:
        share = options.seconds / len(names)
        command = [sys.executable, "-m", "tests.fuzz", "--worker", "--target", name]
        command += [f"--seed={options.seed}", f"--seconds={share}", f"--out={options.out}"]
        with (options.out / f"{name}.stderr").open("wb") as log:  # native libraries say a lot
            code = subprocess.run(command, check=False, stderr=log).returncode
        current = options.out / f"{name}.current"
        if current.exists():  # the process died of this input: a crash, or SIGALRM
            kept = current.rename(options.out / f"{name}-{options.seed}-died")
            print(f"{name}: died with {code}\n  scripts/fuzz --rerun {kept}")
        failed |= code != 0
    return int(failed)


sys.exit(main())
