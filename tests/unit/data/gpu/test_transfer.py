"""Batches reach a GPU whole, whatever the streams do meanwhile."""

from dataclasses import replace

import pytest
import torch

from rsdl.core.batch import TENSORS, Batch
from rsdl.core.sample_counts import SampleCounts
from rsdl.data.gpu.transfer import Transfer


def make_batch(number: int, size: int = 64) -> Batch:
    return Batch(
        images=torch.full((size, 64, 64, 3), number, dtype=torch.uint8),
        targets=torch.full((size,), number),
        valid=torch.ones(size, dtype=torch.bool),
        samples=torch.arange(size),
        uniforms=torch.full((size, 12), float(number)),
        windows=torch.zeros(size, 4, dtype=torch.int32),
        sizes=torch.zeros(size, 2, dtype=torch.int32),
        num_planned=size,
        counts=SampleCounts(planned=size),
    )


def test_on_the_cpu_a_batch_stays_where_it_is():
    batch = make_batch(1)
    same = batch.to(torch.device("cpu"))
    assert all(getattr(same, name) is getattr(batch, name) for name in TENSORS)
    tensors = {name for name in Batch.__slots__ if isinstance(getattr(batch, name), torch.Tensor)}
    assert {*TENSORS, "windows", "sizes"} == tensors  # those two stay on the host


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("pinned", [False, True])
def test_batches_arrive_whole_while_the_device_is_busy(pinned: bool):
    device = torch.device("cuda", torch.cuda.current_device())
    transfer, weight = Transfer(device), torch.randn(4096, 4096, device=device)
    sums = []
    for number in range(40):
        batch = make_batch(number)
        if pinned:
            batch = replace(batch, images=batch.images.pin_memory())
        sent = transfer.send(batch)
        for _ in range(5):  # so that copies run far ahead of their use
            weight = weight @ weight / weight.norm()
        sums.append(torch.stack([sent.images.double().mean(), sent.targets.double().mean()]))
        del sent, batch
    assert torch.stack(sums).cpu().tolist() == [[float(n), float(n)] for n in range(40)]
    resident = make_batch(3).to(device)
    assert transfer.send(resident).images is resident.images
