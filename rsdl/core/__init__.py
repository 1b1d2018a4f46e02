"""Code that every package may import: errors, machine resources, random numbers, the batch."""
