"""Records of runs that never were."""

from typing import Any

from rsdl.records.run_record import RunRecord


def make_record(**fields: Any) -> RunRecord:  # noqa: ANN401
    """Return the record of a run that has just begun, but for what is given."""
    values: dict[str, Any] = {
        "name": "cnn_ucm", "config_digest": "c", "manifest_digest": "m", "seed": 0,
        "architecture": "cnn", "timm_model": "cnn", "parameters": 7, "dataset": "ucm",
        "num_classes": 3, "bands": 3, "image_size": 32, "global_batch": 10, "epochs_planned": 10,
    }  # fmt: skip
    return RunRecord(**(values | fields))
