"""Cost of checkpoints for the training: none, uploaded in the background, or waited for.

One network is trained with AdamW on random images. Blocks of steps alternate between three kinds:
``none`` saves nothing; ``background`` saves at the block's start, as rsdl does into a bucket;
``waits`` saves there and waits for the upload. A block lasts about two uploads, so a save every ten
minutes costs less than shown here.

    python -m benchmarks.trainer.checkpoint [--url s3://bucket/prefix] [--model NAME] [--json FILE]

Without ``--url`` it starts its own Ceph gateway (scripts/ceph_rgw). A folder as URL shows the
effect of a background thread there, where rsdl uses none.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import timm
import torch
import torch.nn.functional as F

from rsdl.records.run_record import LAST
from rsdl.storage.connect import connect
from rsdl.train.checkpoint import StoreCheckpointIO
from rsdl.train.staging import stage_to_cpu
from rsdl.train.upload_queue import UploadQueue

SCRIPT = Path(__file__).parents[2] / "scripts" / "ceph_rgw"
KINDS = ("none", "background", "waits")
PORT = 27480


class Training:
    """Steps of a network, timed.

    Args:
        model: Its name in timm.
        batch_size: Images a step.
        image_size: Side of the images in pixels.
    """

    def __init__(self, model: str, batch_size: int, image_size: int) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = timm.create_model(model, num_classes=30).to(self.device).train()
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-4)
        self.images = torch.randn(batch_size, 3, image_size, image_size, device=self.device)
        self.labels = torch.randint(30, (batch_size,), device=self.device)

    def step(self) -> float:
        """Run one step; return its seconds."""
        begin = time.perf_counter()
        loss = F.cross_entropy(self.network(self.images), self.labels)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        loss.item()
        return time.perf_counter() - begin

    def state(self) -> dict[str, Any]:
        """Return the content of a checkpoint."""
        optimizers = [self.optimizer.state_dict()]
        return {"state_dict": self.network.state_dict(), "optimizer_states": optimizers}


@contextmanager
def own_gateway() -> Iterator[str]:
    """Start a gateway and yield the URL of a bucket there."""
    with tempfile.TemporaryDirectory(prefix="c-", dir="/tmp") as folder:
        try:
            subprocess.run([SCRIPT, "start", folder, str(PORT)], check=True, capture_output=True)
            os.environ |= {
                "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{PORT}",
                "AWS_ACCESS_KEY_ID": "testaccesskey",
                "AWS_SECRET_ACCESS_KEY": "testsecretkey",
            }
            boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="bench")
            yield "s3://bench"
        finally:
            subprocess.run([SCRIPT, "stop", folder], check=False, capture_output=True)


def measure(training: Training, url: str, rounds: int) -> dict[str, Any]:
    """Return the measurements, in seconds and ratios."""
    uploads = UploadQueue(connect(url), background=True)
    checkpoints = StoreCheckpointIO(uploads)
    for _ in range(3):
        training.step()
    begin = time.perf_counter()
    stage_to_cpu(training.state())
    snapshot_s = time.perf_counter() - begin
    begin = time.perf_counter()
    checkpoints.save_checkpoint(training.state(), LAST)
    uploads.drain()
    upload_s = time.perf_counter() - begin
    steps = max(4, round(2 * upload_s / training.step()))
    blocks: dict[str, list[float]] = {kind: [] for kind in KINDS}
    largest: dict[str, list[float]] = {kind: [] for kind in KINDS}
    meanwhile = []
    for number in range(rounds):
        for kind in KINDS[number % 3 :] + KINDS[: number % 3]:
            begin = time.perf_counter()
            if kind != "none":
                checkpoints.save_checkpoint(training.state(), LAST)
            if kind == "waits":
                uploads.drain()
            saved = time.perf_counter() - begin
            times, during = [], 0
            for _ in range(steps):
                times.append(training.step())
                during += uploads.is_busy
            times[0] += saved
            uploads.drain()
            blocks[kind].append(time.perf_counter() - begin)
            largest[kind].append(max(times))
            if kind == "background":
                meanwhile.append(during)
    base = blocks["none"]
    return {
        "device": str(training.device),
        "parameters": sum(p.numel() for p in training.network.parameters()),
        "checkpoint_bytes": uploads.store.size(LAST),
        "steps_in_block": steps,
        "step_s": statistics.median(base) / steps,
        "snapshot_s": snapshot_s,
        "save_and_upload_s": upload_s,
        "steps_during_upload": statistics.median(meanwhile),
        "block_over_none": {
            kind: statistics.median(a / b for a, b in zip(blocks[kind], base, strict=True))
            for kind in KINDS
        },
        "largest_step_s": {kind: statistics.median(largest[kind]) for kind in KINDS},
    }


def main() -> None:
    """Measure, print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url")
    parser.add_argument("--model", default="resnext101_32x8d")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    training = Training(options.model, options.batch_size, options.image_size)
    if options.url:
        found = measure(training, options.url, options.rounds)
    else:
        with own_gateway() as url:
            found = measure(training, url, options.rounds)
    found |= {"model": options.model, "rounds": options.rounds}
    print(f"{options.model}: {found['parameters'] / 1e6:.1f} M parameters, "
          f"{found['checkpoint_bytes'] / 1e6:.0f} MB, on {found['device']}; blocks of "
          f"{found['steps_in_block']} steps of {found['step_s']:.3f} s, "
          f"medians of {options.rounds}")  # fmt: skip
    print(f"copying the state {found['snapshot_s']:.2f} s, to the store and back on "
          f"{found['save_and_upload_s']:.2f} s; {found['steps_during_upload']:.0f} steps were made "
          "while an upload was under way")  # fmt: skip
    for kind in KINDS:
        print(f"{kind:10s}  block / none {found['block_over_none'][kind]:6.3f}   "
              f"largest step {found['largest_step_s'][kind]:7.3f} s")  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
