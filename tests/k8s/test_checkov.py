"""Security checks of checkov: what fails is listed with a reason, and nothing else is."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.k8s.conftest import K8S, Build

FOLDERS = ("", "data", "dev", "base/volumes", "jobs/quickstart")


def find_checkov() -> str | None:
    """Return the program: on PATH, or in an environment of its own, for its pins are many."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return shutil.which("checkov") or shutil.which(
        Path(f"{cache}/rsdl/checkov/bin/checkov").expanduser()
    )


@pytest.mark.slow
def test_checkov_finds_nothing_that_is_not_explained(
    build: Build, tmp_path: Path, require: Callable[[str, bool], None]
):
    program = find_checkov()
    require("checkov", program is not None)
    objects = [dict(each.body) for path in FOLDERS for each in build(path)]
    rendered = tmp_path / "rendered.yaml"
    rendered.write_text(yaml.safe_dump_all(objects))
    command = [str(program), "-f", str(rendered), "--framework", "kubernetes", "--compact",
               "--quiet", "--skip-download", "-o", "json"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    report = json.loads(done.stdout)
    assert report["summary"]["resource_count"] >= len(objects)
    assert report["summary"]["passed"] > 1000 and not report["summary"]["parsing_errors"]
    failed = {check["check_id"] for check in report["results"]["failed_checks"]}
    reasons = yaml.safe_load((K8S / "checkov.yaml").read_text())
    assert failed == set(reasons)
    assert all(len(reason) > 30 for reason in reasons.values())
