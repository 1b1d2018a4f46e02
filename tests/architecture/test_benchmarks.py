"""Benchmarks: each can be asked what it does, and the page of results is what the files give."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.harness.results import FOLDER, PAGE, read_results, render
from benchmarks.loader.catalog import LOADERS
from benchmarks.packing.catalog import PACKERS, TILERS
from benchmarks.scaling import page as scaling

ROOT = Path(__file__).parents[2]
ROOMS = ("harness", "loader", "packing", "predict", "scaling", "store", "trainer")
PARTS = ("first_step", "s3_client", "serve")  # processes of a benchmark
PEERS = {**LOADERS, **PACKERS, **TILERS}
BENCHMARKS = [
    f"{room}.{path.stem}"
    for room in ROOMS
    for path in sorted((ROOT / "benchmarks" / room).glob("*.py"))
    if "\nif __name__ ==" in path.read_text() and path.stem not in PARTS
]
ASK = """
import importlib, sys
for name in sys.argv[1:]:
    sys.argv = [name, "--help"]
    try:
        importlib.import_module(f"benchmarks.{name}").main()
    except SystemExit as end:
        assert not end.code, name
    else:
        raise AssertionError(name)
"""


@pytest.mark.parametrize("name", BENCHMARKS)
def test_it_says_how_it_is_run(name: str) -> None:
    tree = ast.parse((ROOT / "benchmarks" / f"{name.replace('.', '/')}.py").read_text())
    assert f"python -m benchmarks.{name}" in (ast.get_docstring(tree) or "")


def test_all_can_be_asked_what_they_do() -> None:
    # One process for all: most of the time is the import of torch.
    command = [sys.executable, "-c", ASK, *BENCHMARKS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage:") == len(BENCHMARKS)


def test_the_guide_knows_every_benchmark_and_every_peer() -> None:
    guide = (ROOT / "benchmarks" / "README.md").read_text()
    for name in BENCHMARKS:
        assert f"python -m benchmarks.{name}" in guide
    for name, peer in PEERS.items():
        assert name in guide
        assert peer.docs in guide


def test_every_peer_has_its_file_and_is_in_the_extra_or_says_how_it_is_built() -> None:
    extra = re.search(r"\nbench = \[(.*?)\n\]", (ROOT / "pyproject.toml").read_text(), re.DOTALL)
    assert extra is not None
    for peer in PEERS.values():
        assert (ROOT / f"{peer.module.replace('.', '/')}.py").exists()
        wheel = peer.packages[0]
        ours = peer.ours or wheel in ("torchvision", "webdataset")
        assert ours or f'"{wheel}' in extra[1] or f"pip install {wheel}" in peer.install


def test_the_page_of_results_is_what_the_files_give() -> None:
    results = read_results(FOLDER)
    assert PAGE.exists() == bool(results)
    if results:
        assert PAGE.read_text() == render(results)


@pytest.mark.slow
def test_the_page_on_scaling_is_what_the_code_and_the_results_give() -> None:
    assert scaling.PAGE.read_text() == scaling.render()
