"""Seeds of PyTorch's own random numbers in a step, such as dropout's."""

import torch


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed the generators of the host and of one device, as ``torch.manual_seed`` would.

    ``torch.manual_seed`` checks every type of device, and formats a stack trace for those not in
    use: 0.3 ms a step.

    Args:
        seed: At least 0, below 2^63.
        device: Device of this process.
    """
    if device.type not in ("cpu", "cuda"):
        torch.manual_seed(seed)
        return
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
