"""Feed damaged files to rsdl's readers; a value or an RsdlError is right, all else a finding.

Each target runs in a process of its own with 1 GB of memory. Where a native library crashes or
hangs, that process is gone or is killed, the input is kept, and another goes on behind it.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.worker import targets_of

MOST_DEATHS = 5  # of one target, then the next one has its turn
POLL_S = 0.05
START_S = 60  # to load the libraries and make the seeds


def watch(process: subprocess.Popen[bytes], current: Path, limit_s: float) -> str | None:
    """Wait for a worker, and return how it died; ``None`` where it came to its end.

    Args:
        process: The worker.
        current: The file that it writes before each input.
        limit_s: Time for one input; one that takes longer is killed.
    """
    last, since = 0, time.monotonic()
    while process.poll() is None:
        time.sleep(POLL_S)
        try:
            now = current.stat().st_mtime_ns
        except FileNotFoundError:  # it makes its seeds, or is about to end
            now = last
        if now != last:
            last, since = now, time.monotonic()
        if time.monotonic() - since > (limit_s if last else START_S):
            process.kill()
            process.wait()
            return "hung"
    code = process.returncode
    if code in (0, 1) and not current.exists():
        return None
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def run(name: str, options: argparse.Namespace, seconds: float) -> bool:
    """Run one target for some seconds and return whether it found anything."""
    out: Path = options.out
    current, counter, log = out / f"{name}.current", out / f"{name}.number", out / f"{name}.stderr"
    first, deaths, failed, end = 0, 0, False, time.monotonic() + seconds
    while deaths < MOST_DEATHS:
        for file in (current, counter):
            file.unlink(missing_ok=True)
        left = max(end - time.monotonic(), 0)
        command = [sys.executable, "-m", "tests.fuzz.worker", options.targets, name]
        command += [str(options.seed), str(first), str(left), str(out)]
        scratch = tempfile.mkdtemp(prefix="rsdl-fuzz-")  # a worker that is killed leaves its files
        with log.open("ab") as stream:  # native libraries say a lot
            environment = os.environ | {"TMPDIR": scratch}
            process = subprocess.Popen(command, stderr=stream, env=environment)
            died = watch(process, current, options.limit_s)
        shutil.rmtree(scratch)
        failed |= died is not None or process.returncode != 0
        if counter.exists():
            first = int(counter.read_text() or first)
        if died is None:
            break
        deaths += 1
        if not current.exists():
            print(f"{name}: {died} before its first input; see {log}", flush=True)
            break
        kept = current.rename(out / f"{name}-{options.seed}-{first}-{died.replace(' ', '-')}")
        print(f"{name}: {died}\n  scripts/fuzz --rerun {kept}", flush=True)
        first += 1
    counter.unlink(missing_ok=True)
    print(f"{name}: {first} inputs", flush=True)
    return failed


def rerun(kept: Path, options: argparse.Namespace) -> int:
    """Read one finding again, and return the exit code."""
    name = kept.name.partition("-")[0].partition(".")[0]
    code = f"""
import pathlib, sys
from tests.fuzz.worker import attempt, limit_memory, targets_of
target = targets_of({options.targets!r})[{name!r}]
limit_memory()
wrong = attempt(target, pathlib.Path({str(kept)!r}).read_bytes())
print(wrong or "ends in a value or an RsdlError")
sys.exit(wrong is not None)
"""
    try:
        found = subprocess.run([sys.executable, "-c", code], check=False, timeout=START_S)
    except subprocess.TimeoutExpired:
        print("hangs")
        return 1
    if found.returncode < 0:
        print(f"dies of {signal.Signals(-found.returncode).name}")
    return int(found.returncode != 0)


def main() -> int:
    """Run every target, one after another, and return the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="for all targets together")
    parser.add_argument("--target", help="only this one")
    parser.add_argument("--seed", type=int, default=0, help="equal seeds give equal inputs")
    parser.add_argument("--out", type=Path, default=Path("fuzz-findings"), help="for findings")
    parser.add_argument("--rerun", type=Path, help="read one finding again")
    parser.add_argument("--limit-s", type=float, default=5, help="time for one input")
    parser.add_argument("--targets", default="tests.fuzz.targets", help="module that names them")
    options = parser.parse_args()
    if options.rerun:
        return rerun(options.rerun, options)
    names = list(targets_of(options.targets))
    if options.target and options.target not in names:
        parser.error(f"--target: there is no {options.target}; choose from {', '.join(names)}")
    options.out.mkdir(parents=True, exist_ok=True)
    chosen = [options.target] if options.target else names
    found = [name for name in chosen if run(name, options, options.seconds / len(chosen))]
    if found:
        print(f"findings in {', '.join(found)}: {options.out}")
    return int(bool(found))


sys.exit(main())
