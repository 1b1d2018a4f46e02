from pathlib import Path

import pytest

from rsdl.core.errors import ConfigError
from rsdl.train.compile import require_compiler


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only folder on PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_compiling_without_a_compiler_names_the_field(programs: Path):
    with pytest.raises(ConfigError) as caught:
        require_compiler()
    assert caught.value.where == "trainer.compile"
    assert "trainer.compile=off" in str(caught.value)


@pytest.mark.parametrize("name", ["g++", "gcc", "clang"])
def test_any_usual_compiler_will_do(name: str, programs: Path):
    (programs / name).touch(mode=0o755)
    require_compiler()


@pytest.mark.parametrize("variable", ["CC", "CXX"])
def test_a_compiler_may_have_another_name(
    variable: str, programs: Path, monkeypatch: pytest.MonkeyPatch
):
    (programs / "icpx").touch(mode=0o755)
    monkeypatch.setenv(variable, "icpx")
    require_compiler()
    monkeypatch.setenv(variable, "another")
    with pytest.raises(ConfigError):
        require_compiler()


def test_a_compiler_without_python_s_headers_is_not_enough(
    programs: Path, monkeypatch: pytest.MonkeyPatch
):
    (programs / "g++").touch(mode=0o755)
    assert require_compiler() == "g++"
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(programs / name))
    with pytest.raises(ConfigError, match=f"{programs}/include/Python.h is not there"):
        require_compiler()
