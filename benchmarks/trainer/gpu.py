"""Training steps of the nine networks on one GPU, compared with timm's script and Lightning.

For each network: images/s, MFU (the share of the GPU's bf16 peak) and peak memory of
``rsdl train`` (plain and compiled), of timm's training script (plain and with ``--torchcompile``)
and of a plain LightningModule. All train on the same images, which lie on the device; the batch is
the largest that still gains speed. Weights are random: nothing is downloaded.

    python -m benchmarks.trainer.gpu [--models resnet50 vit_base] [--batch-size 256]

All nine take about half an hour, mostly for compiling; TORCHINDUCTOR_CACHE_DIR keeps the compiled
code. Without a GPU it trains on the CPU in fp32, which only shows that it works:
--models test_resnet --image-size 64 --batch-size 8 --quick
"""

import argparse
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from benchmarks.harness.machine import describe_versions
from benchmarks.harness.measure import Row, Table, build_result, run_benchmark
from benchmarks.trainer.mfu import count_flops, find_peak, share_of_peak
from benchmarks.trainer.step_runner import (
    GRAPHS,
    TIMM,
    TRAINERS,
    Record,
    choose_steps,
    find_batch_size,
    measure,
    say,
)
from benchmarks.trainer.step_task import NUM_CLASSES, StepTask
from rsdl.models.catalog import ARCHITECTURES, find_timm_name

FIRST_BATCH, SEARCH_STEPS = 32, 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's own options."""
    add = parser.add_argument
    usual = [name for name in TRAINERS if name != GRAPHS]
    add("--models", nargs="+", default=list(ARCHITECTURES), metavar="NAME", help="(the nine)")
    add("--image-size", type=int, default=224, help="px (%(default)s)")
    add("--batch-size", type=int, help="images (default: the largest that pays)")
    add("--trainers", nargs="+", default=usual, choices=list(TRAINERS), metavar="NAME",
        help=f"of {', '.join(TRAINERS)} (all but {GRAPHS})")  # fmt: skip


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure; return the result."""
    warnings.filterwarnings("ignore")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tables = [measure_model(name, options, device) for name in options.models]
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU, in fp32"
    title = f"Training steps at {options.image_size} px on {where}"
    versions = describe_versions(("rsdl-train", "torch", "pytorch-lightning", "timm"))
    return build_result("gpu", title, tables, options=vars(options), versions=versions)


def measure_model(model: str, options: argparse.Namespace, device: torch.device) -> Table:
    """Return the table of one network."""
    say(model)
    first = options.batch_size or FIRST_BATCH
    task = StepTask(find_timm_name(model), options.image_size, first, SEARCH_STEPS, device)
    if options.batch_size is None:
        size, rate = find_batch_size(task)
        task = replace(task, batch_size=size, steps=choose_steps(size, rate))
    if options.quick:
        task = replace(task, steps=SEARCH_STEPS)
    records = measure(task, options.trainers, options.rounds)
    flops = count_flops(model, options.image_size, NUM_CLASSES)
    peak = find_peak(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
    return make_table(model, task, records, flops, peak)


def make_table(
    model: str, task: StepTask, records: Mapping[str, Record], flops: float, peak: float | None
) -> Table:
    """Return the table of one network.

    Args:
        model: Its name in configs.
        task: The task.
        records: Measurements of each trainer.
        flops: Operations of one image, forward and backward.
        peak: The device's bf16 peak in TFLOP/s; ``None`` if unknown.
    """
    rows = [make_row(name, record, task, flops, peak) for name, record in records.items()]
    reference = TIMM if TIMM in records else rows[0].name
    share = "" if peak is not None else ", peak of this device not known"
    title = f"{model}, batches of {task.batch_size}: {flops / 1e9:.1f} GFLOP an image{share}"
    return Table(title, "images/s", reference, rows)


def make_row(name: str, record: Record, task: StepTask, flops: float, peak: float | None) -> Row:
    """Return the row of one trainer."""
    if not record.turns:
        return Row(name, note=record.note)
    size, last = task.batch_size, record.turns[-1]
    rates = [size * turn.steps / turn.seconds for turn in record.turns]
    middle = sorted(rates)[len(rates) // 2]
    facts = {"ms/step": 1e3 * size / middle}
    share = share_of_peak(middle, flops, peak)
    if share is not None:
        facts["% of bf16 peak"] = 100 * share
    if record.peak_bytes:
        facts["peak GB"] = record.peak_bytes / 1e9
        facts["launching %"] = 100 * last.launch_s / last.seconds
    return Row(name, rates, facts=facts)


def main() -> None:
    """Run the benchmark."""
    run_benchmark(__doc__, add_arguments, run)


if __name__ == "__main__":
    main()
