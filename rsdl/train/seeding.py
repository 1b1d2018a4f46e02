"""Seeds of the random numbers that PyTorch itself draws in a step, such as dropout's."""

import torch


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed the generators of the host and of one device, as ``torch.manual_seed`` would.

    That one asks for every kind of device that there may be, and where one is not in use it formats
    a stack trace: 0.3 ms a step.

    Args:
        seed: At least 0, below 2^63.
        device: What this process trains on.
    """
    if device.type not in ("cpu", "cuda"):
        torch.manual_seed(seed)
        return
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
