"""The script of PyTorch's tutorial on fault-tolerant training, for the CPU.

Follows https://pytorch.org/tutorials/beginner/ddp_series_fault_tolerance.html: a snapshot at the
end of an epoch, loaded at the start. Changed in its favour: the snapshot has the optimizer's state,
is written by rank 0 alone, and counts the epoch that it ends as done.

    torchrun ... benchmarks/trainer/peers/fault_tolerant_ddp.py DATA SNAPSHOT BATCH_SIZE
"""

import io
import os
import sys
import tarfile
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.distributed import destroy_process_group, init_process_group
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler
from torchvision.transforms.functional import pil_to_tensor

from benchmarks.trainer.first_step import MODEL

NUM_CLASSES, SIDE_PX, MAX_EPOCHS = 10, 32, 10_000


class TarDataset(Dataset[tuple[Tensor, int]]):
    """PNGs with their classes, from the tars of a folder."""

    def __init__(self, folder: Path) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        for path in sorted(folder.glob("train-*.tar")):
            with tarfile.open(path) as archive:
                for member in archive:
                    key, _, kind = member.name.partition(".")
                    stream = archive.extractfile(member)
                    assert stream is not None
                    self.files.setdefault(key, {})[kind] = stream.read()
        self.keys = list(self.files)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        files = self.files[self.keys[number]]
        image = Image.open(io.BytesIO(files["png"])).convert("RGB").resize((SIDE_PX, SIDE_PX))
        return pil_to_tensor(image).float() / 255, int(files["cls"])


class Trainer:
    """The tutorial's trainer."""

    def __init__(
        self,
        model: torch.nn.Module,
        train_data: DataLoader[Any],
        optimizer: torch.optim.Optimizer,
        snapshot_path: Path,
    ) -> None:
        self.model, self.train_data, self.optimizer = model, train_data, optimizer
        self.global_rank = int(os.environ["RANK"])
        self.epochs_run = 0
        self.snapshot_path = snapshot_path
        if snapshot_path.exists():
            self._load_snapshot()
        self.model = DDP(self.model)

    def _load_snapshot(self) -> None:
        snapshot = torch.load(self.snapshot_path, weights_only=True)
        self.model.load_state_dict(snapshot["MODEL_STATE"])
        self.optimizer.load_state_dict(snapshot["OPTIMIZER_STATE"])
        self.epochs_run = snapshot["EPOCHS_RUN"]

    def _save_snapshot(self, epoch: int) -> None:
        snapshot = {
            "MODEL_STATE": self.model.module.state_dict(),  # type: ignore[union-attr]
            "OPTIMIZER_STATE": self.optimizer.state_dict(),
            "EPOCHS_RUN": epoch + 1,
        }
        torch.save(snapshot, self.snapshot_path)

    def _run_epoch(self, epoch: int) -> None:
        self.train_data.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        for source, targets in self.train_data:
            self.optimizer.zero_grad()
            F.cross_entropy(self.model(source), targets).backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()

    def train(self, max_epochs: int) -> None:
        """Train."""
        for epoch in range(self.epochs_run, max_epochs):
            self._run_epoch(epoch)
            if self.global_rank == 0:
                self._save_snapshot(epoch)


def main() -> None:
    """Train on the data in the arguments."""
    folder, snapshot_path, batch_size = sys.argv[1:]
    init_process_group("gloo")
    dataset = TarDataset(Path(folder))
    sampler: DistributedSampler[Any] = DistributedSampler(dataset)
    loader = DataLoader(dataset, int(batch_size), shuffle=False, sampler=sampler)
    model = timm.create_model(MODEL, num_classes=NUM_CLASSES)
    optimizer = torch.optim.AdamW(model.parameters())
    Trainer(model, loader, optimizer, Path(snapshot_path)).train(MAX_EPOCHS)
    destroy_process_group()


if __name__ == "__main__":
    main()
