"""Configs by name: ./configs first, then those that come with rsdl."""

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

import pytest

from rsdl.config.load import load_config
from rsdl.config.names import find_config, list_configs
from rsdl.core.errors import ConfigError

ROOT = Path(__file__).parents[3]
PACKAGED = ROOT / "configs"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder without configs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_name_is_a_config_of_rsdl_unless_there_is_one_here(elsewhere: Path):
    assert find_config("resnet50_ucm") == PACKAGED / "resnet50_ucm.yaml"
    assert load_config("resnet50_ucm").name == "resnet50_ucm"
    (elsewhere / "configs").mkdir()
    mine = elsewhere / "configs" / "resnet50_ucm.yaml"
    mine.write_text("data: {url: here}\nmodel: {name: vit_base}\n")
    assert load_config("resnet50_ucm").model.name == "vit_base"
    assert list_configs()["resnet50_ucm"].resolve() == mine
    assert list_configs()["quickstart"] == PACKAGED / "quickstart.yaml"
    assert find_config("segmentation/quickstart") == PACKAGED / "segmentation/quickstart.yaml"
    assert "schema" not in list_configs() and "base" not in list_configs()


def test_a_file_and_a_path_are_what_they_say(elsewhere: Path):
    for path in ("quickstart.yaml", "configs/quickstart.yaml", "./quickstart", "/quickstart"):
        assert find_config(path) == Path(path)
    (elsewhere / "quickstart").write_text("data: {url: here}\nmodel: {name: vit_base}\n")
    assert load_config("quickstart").model.name == "vit_base"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet50_umc", "resnet50_umc: no such file; did you mean resnet50_ucm?"),
        ("nothing-like-it", 'no such file; see "rsdl config --list"'),
        ("configs/resnet50_ucm.yaml", "no such file; resnet50_ucm alone names one that comes with"),
    ],
)
def test_a_config_that_is_not_there_is_refused_with_the_one_that_is_meant(name: str, words: str):
    with pytest.raises(ConfigError) as told:
        load_config(name)
    assert words in str(told.value)


@pytest.mark.slow
def test_a_wheel_has_the_configs(elsewhere: Path, require: Callable[[str, bool], None]):
    require("hatchling", find_spec("hatchling") is not None)
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run([*build, "--directory", elsewhere], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = elsewhere.glob("*.whl")
    ZipFile(wheel).extractall(installed := elsewhere / "installed")
    # What pages of maps are made of, and its licence.
    here, there = ROOT / "rsdl/predict", installed / "rsdl/predict"
    for file in (*here.glob("leaflet/*"), *here.glob("templates/*")):
        assert (there / file.relative_to(here)).read_bytes() == file.read_bytes()
    assert (there / "leaflet/LICENSE").is_file()
    path = os.pathsep.join([str(installed), *filter(None, sys.path[1:])])

    def rsdl(*arguments: str) -> str:
        command = [sys.executable, "-P", "-m", "rsdl", *arguments]
        environment = os.environ | {"PYTHONPATH": path}
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        return done.stdout

    names = {
        line.split()[0]: Path(line.split()[1]) for line in rsdl("config", "--list").splitlines()
    }
    tasks = ("segmentation", "detection")
    assert set(names) == {file.stem for file in PACKAGED.glob("*.yaml")} | {
        f"{task}/{file.stem}" for task in tasks for file in PACKAGED.glob(f"{task}/*.yaml")
    }
    assert names["quickstart"] == installed / "rsdl" / "_configs" / "quickstart.yaml"
    assert "name: resnet50_ucm\n" in rsdl("config", "resnet50_ucm")  # with what it extends
