"""Datasets: packing, manifest, sampling plan, loading of batches, augmentation."""

from typing import Any

__all__ = ["as_webdataset"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module's attribute
    # The webdataset library takes seconds to import.
    if name == "as_webdataset":
        from rsdl.data.stock_pipeline import as_webdataset

        return as_webdataset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
