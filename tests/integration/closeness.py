"""Runs that differ in nothing but the order in which floats are added."""

import pytest


def assert_close(left: list[dict[str, str]], right: list[dict[str, str]]) -> None:
    """Check log rows of two runs: the same steps, samples and rates, and losses alike."""
    assert [row["step"] for row in left] == [row["step"] for row in right]
    for one, two in zip(left, right, strict=True):
        assert one["samples"] == two["samples"] and one["lr"] == two["lr"]
        for name in ("train_loss", "val_loss"):
            if one[name]:
                assert float(two[name]) == pytest.approx(float(one[name]), rel=2e-3), (one, two)
