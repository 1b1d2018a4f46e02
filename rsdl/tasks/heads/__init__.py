"""What the outputs of each head of detection mean; the heads are in ``rsdl/models/heads``."""
