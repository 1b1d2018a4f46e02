"""``rsdl data cache``, on a folder that has copies in every state."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rsdl import cli
from rsdl.core.errors import ConfigError
from rsdl.storage.cache.node_cache import NodeCache
from rsdl.storage.locks import lock_file


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Yield a cache with one shard in use, one not, one being fetched and one half-way."""
    root = tmp_path / "cache"
    cache = NodeCache(root, 10**8)
    held = cache.hold("a", 1_000_000, lambda fd: None, ".tar")
    other = cache.hold("b", 2_000_000, lambda fd: None, ".tar")
    assert held is not None and other is not None
    other.close()
    (root / "copies" / "c.tar.part").write_bytes(bytes(3_000_000))
    fetched = lock_file(root / "copies" / "c.tar.part", create=False, wait=False)
    (root / "copies" / "d.npy.part").write_bytes(bytes(4_000_000))
    assert fetched is not None
    yield root
    os.close(fetched)
    held.close()


def run(*arguments: str) -> str:
    result = CliRunner().invoke(cli.app, ["data", "cache", *arguments], env={"COLUMNS": "120"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout


def test_each_state_is_told(folder: Path):
    text = run("show", "--folder", str(folder))
    assert f"{folder}: 4 copies, 10.0 MB of 50,000 MB" in text
    rows = {line.split("│")[2].strip(): line for line in text.splitlines() if line.count("│") == 6}
    assert " 1.0 " in rows["in use"] and " 2.0 " in rows["not in use"]
    assert " 3.0 " in rows["being fetched"] and " 4.0 " in rows["left by a killed run"]
    assert "ago" in rows["in use"]


def test_a_dry_run_removes_nothing_and_says_what_a_real_one_then_frees(folder: Path):
    before = sorted((folder / "copies").iterdir())
    said = run("clear", "--dry-run", "--folder", str(folder))
    assert "6.0 MB in 2 copies would be freed, 2 are in use and stay" in said
    assert sorted((folder / "copies").iterdir()) == before


def test_clearing_spares_what_is_in_use(folder: Path):
    said = run("clear", "--folder", str(folder))
    assert "6.0 MB freed, 2 copies are in use and stay" in said
    assert sorted(path.stat().st_size for path in (folder / "copies").iterdir()) == [
        1_000_000,
        3_000_000,
    ]


def test_looking_at_a_cache_that_is_not_there_makes_none(tmp_path: Path):
    for words in (["show"], ["clear"], ["clear", "--dry-run"]):
        run(*words, "--folder", str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_the_cache_of_a_config_is_meant(folder: Path, tmp_path: Path):
    page = tmp_path / "run.yaml"
    page.write_text(
        f"name: x\ndata: {{url: s3://b/d, cache: {{folder: {folder}, size: 7MB}}}}\n"
        "model: {name: test_resnet}\n"
    )
    assert f"{folder}: 4 copies, 10.0 MB of 7 MB" in run("show", "--config", str(page))
    with pytest.raises(ConfigError, match="both given; pass one of them"):
        run("show", "--config", str(page), "--folder", "x")
    page.write_text("name: x\ndata: {url: s3://b/d, cache: none}\nmodel: {name: test_resnet}\n")
    with pytest.raises(ConfigError, match=r"data\.cache: is none in"):
        run("clear", "--config", str(page))


def test_the_environment_s_cache_is_meant_otherwise(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RSDL_CACHE", str(folder))
    assert f"{folder}: 4 copies" in run("show")
