"""A run on one, two and three processes: the same samples, and the same scores of its weights."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.integration.conftest import Find, Rsdl, Write


def assert_worlds_agree(
    rsdl: "Rsdl", write_config: "Write", run_at: "Find", fields: Mapping[str, Any]
) -> None:
    for count in (1, 2, 3):
        config = write_config(f"on{count}", **fields)
        ended = rsdl("train", config, f"trainer.devices={count}")
        assert ended.returncode == 0, ended
        run = run_at(f"on{count}")
        assert run.record["device_count"] == count
        assert run.record["ledger"] == run_at("on1").record["ledger"]
        # Dropout is drawn by step and process: losses differ, samples and rates do not.
        for name in ("step", "samples", "lr"):
            assert [row[name] for row in run.rows] == [row[name] for row in run_at("on1").rows]
        if count > 1:  # the same weights, scored by one process: all counts are whole numbers
            together = json.loads((run.folder / "report.json").read_text())
            assert rsdl("evaluate", run.folder).returncode == 0
            alone = json.loads((run.folder / "report.json").read_text())
            alone["metrics"].pop("loss"), together["metrics"].pop("loss")
            assert alone == together and together["num_samples"] > 0
