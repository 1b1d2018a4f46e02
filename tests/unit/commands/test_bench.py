import json
from pathlib import Path

import pytest

import rsdl.commands.bench as command
from rsdl.core.errors import ConfigError, InputError

ROOT = Path(__file__).parents[3]


def test_a_benchmark_leaves_its_figures_and_a_picture(tmp_path: Path):
    code = command.bench("scale", ["--quick", "--rounds", "1"], out=str(tmp_path / "new"))
    assert code == 0
    result = json.loads((tmp_path / "new" / "scale.json").read_text())
    assert result["benchmark"] == "scale" and result["machine"]["cores"]
    assert (tmp_path / "new" / "scale.png").read_bytes().startswith(b"\x89PNG")


def test_every_benchmark_is_there():
    for file in command.BENCHMARKS.values():
        assert (ROOT / "benchmarks" / f"{file}.py").is_file()


def test_what_is_unknown_is_refused_and_so_is_an_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(ConfigError, match=r"take loader, store, train, feed, .* pack or scale"):
        command.bench("speed")
    monkeypatch.setattr(command, "__file__", str(tmp_path / "a" / "b" / "c.py"))
    with pytest.raises(InputError, match="clone the repository"):
        command.bench("scale", out=str(tmp_path))
