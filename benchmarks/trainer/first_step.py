"""A training process that reports its first optimizer step and ends there.

    python -m benchmarks.trainer.first_step rsdl CONFIG
    python -m benchmarks.trainer.first_step webdataset SHARDS SKIP BATCH_SIZE

The first is ``rsdl train`` with a PyTorch hook after the optimizer step. The second is a typical
script with stock WebDataset: the same network, and a stream of samples in which those of the
previous training are skipped before they are decoded.
"""

import os
import sys
from pathlib import Path
from typing import Any

MARK = "first optimizer step"
MODEL = "test_resnet"


def leave_at_first_step() -> None:
    """End this process after the first step of any optimizer, as abruptly as a kill."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    def leave(*_: object) -> None:
        os.write(1, f"\n{MARK}\n".encode())
        os._exit(0)

    register_optimizer_step_post_hook(leave)


def train_rsdl(config: str) -> None:
    """Run ``rsdl train CONFIG``."""
    from rsdl.cli import main

    sys.argv = ["rsdl", "train", config]
    main()


def train_webdataset(shards: Path, skip: int, batch_size: int) -> None:
    """Train on the shards, starting at sample ``skip``."""
    import timm
    import torch
    import webdataset as wds
    from torchvision.transforms import v2

    transform = v2.Compose([v2.Resize(32), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    urls = sorted(str(path) for path in shards.glob("train-*.tar"))

    def pick(sample: dict[str, Any]) -> tuple[Any, int]:
        return transform(sample["png"]), int(sample["cls"])

    dataset = (
        wds.WebDataset(urls, shardshuffle=len(urls), seed=0)
        .shuffle(1000)
        .slice(skip, None)
        .decode("pil")
        .map(pick)
        .batched(batch_size, partial=False)
    )
    network = timm.create_model(MODEL, num_classes=10).train()
    optimizer = torch.optim.AdamW(network.parameters())
    for images, labels in wds.WebLoader(dataset, batch_size=None, num_workers=1):
        torch.nn.functional.cross_entropy(network(images), torch.as_tensor(labels)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def main() -> None:
    """Run the command in the arguments."""
    kind, *arguments = sys.argv[1:]
    leave_at_first_step()
    if kind == "rsdl":
        train_rsdl(arguments[0])
    else:
        train_webdataset(Path(arguments[0]), int(arguments[1]), int(arguments[2]))


if __name__ == "__main__":
    main()
