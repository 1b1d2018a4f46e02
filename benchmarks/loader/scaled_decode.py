"""Effect on accuracy of decoding JPEGs at a reduced DCT scale: the same runs with and without it.

A crop that is much larger than the network's input need not be decoded in full
(``data.scaled_decode``). The runs of a pair differ in nothing else: same seed, order, crops and
augmentation. Reported are the test OA of each run, and the mean difference of the pairs with its
standard error: without an effect it stays within two standard errors.

    python -m benchmarks.loader.scaled_decode DATASET_URL --image-size 56

DATASET_URL is packed class folders of JPEGs at least twice as large as the input.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.harness.measure import Aim, Row, Table, build_result, run_benchmark
from benchmarks.harness.worker_process import ROOT

WHOLE, SCALED = "decoded whole", "data.scaled_decode"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's own options."""
    add = parser.add_argument
    add("url", help="data set of JPEGs")
    add("--image-size", type=int, default=56, help="px (%(default)s)")
    add("--epochs", type=int, default=12, help="of training (%(default)s; quick: 2)")
    add("--model", default="test_resnet", help="network (%(default)s)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Train the pairs; return the result."""
    epochs = 2 if options.quick else options.epochs
    scores: dict[str, list[float]] = {WHOLE: [], SCALED: []}
    waits: dict[str, list[float]] = {WHOLE: [], SCALED: []}
    with tempfile.TemporaryDirectory() as output:
        for seed in range(options.rounds):
            for name in (WHOLE, SCALED) if seed % 2 else (SCALED, WHOLE):
                record = train(options, Path(output), seed, epochs, scaled=name == SCALED)
                scores[name].append(100 * record["metrics"]["test"]["oa"])
                waits[name].append(1e3 * record["wall_s"] / record["samples_read"])
    rows = [
        Row(name, values, "", {"ms/image": statistics.median(waits[name])})
        for name, values in scores.items()
    ]
    pairs = [ours - theirs for ours, theirs in zip(scores[SCALED], scores[WHOLE], strict=True)]
    error = statistics.stdev(pairs) / math.sqrt(len(pairs)) if len(pairs) > 1 else math.inf
    mean = statistics.mean(pairs)
    title = (
        f"Test OA after {epochs} epochs, {options.model} at {options.image_size} px; "
        f"difference of pairs {mean:+.2f} points, standard error {error:.2f}"
    )
    aims = [Aim("difference in standard errors", abs(mean) / error, 2.0, at_least=False)]
    table = Table(title, "OA in %", WHOLE, rows, aims)
    return build_result(
        "scaled_decode", "Accuracy with decoding at a reduced scale", [table], options=vars(options)
    )


def train(
    options: argparse.Namespace, output: Path, seed: int, epochs: int, *, scaled: bool
) -> dict[str, Any]:
    """Run ``rsdl train`` and return its record."""
    name = f"{'scaled' if scaled else 'whole'}-{seed}"
    config = output / f"{name}.yaml"
    fields = {
        "name": name, "output": str(output), "seed": seed,
        "data": {"url": options.url, "image_size": options.image_size, "batch_size": 64,
                 "scaled_decode": scaled, "decoded_cache": "off"},
        "model": {"name": options.model},
        "optim": {"lr": 4e-3, "warmup_epochs": 1},
        "trainer": {"max_epochs": epochs, "accelerator": "cpu"},
    }  # fmt: skip
    config.write_text(json.dumps(fields))
    command = [sys.executable, "-m", "rsdl", "train", str(config)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    record: dict[str, Any] = json.loads((output / name / "run.json").read_text())
    return record


def main() -> None:
    """Run the benchmark."""
    run_benchmark(__doc__, add_arguments, run)


if __name__ == "__main__":
    main()
