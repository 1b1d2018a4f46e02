"""The built image, as user 1000 on a read-only root, with no network and no capabilities."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rsdl import __version__
from rsdl.cluster.wheels import WHEELS

if TYPE_CHECKING:
    from tests.image.conftest import Begin, Image

ROOT = Path(__file__).parents[2]
PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*)==([^ ;\\]+)", re.MULTILINE)

pytestmark = [pytest.mark.image, pytest.mark.slow, pytest.mark.timeout(3600)]


def test_quickstart_trains_saves_when_stopped_and_goes_on(
    image: "Image", start: "Begin", cache: Path
) -> None:
    options = ("--network=none", f"--volume={cache}:/cache")
    scenes = ("data", "scenes", "/cache/scenes", "--num-scenes", 24)
    done = image.run(*scenes, options=options)
    assert done.returncode == 0, done.stderr
    tiles = ("--tile=64", "--split-by=scene", "--name=quickstart", "--out=/cache/tiles")
    labels = "--labels=/cache/scenes/labels.geojson"
    done = image.run("data", "pack", "geotiff", "/cache/scenes", labels, *tiles, options=options)
    assert done.returncode == 0, done.stderr

    command = ("train", "configs/quickstart.yaml", "data.url=/cache/tiles", "output=/cache/runs")
    record = cache / "runs" / "quickstart" / "run.json"
    container = start(image.name, *command, options=options)
    container.wait_for(
        lambda: record.exists() and json.loads(record.read_text())["epochs_completed"] > 0
    )
    assert container.stop() == 75, container.said
    assert json.loads(record.read_text())["status"] == "preempted"

    done = image.run(*command, options=options)
    assert done.returncode == 0, done.stderr
    found = json.loads(record.read_text())
    assert (found["status"], found["preemptions"], found["resumes"]) == ("completed", 1, 1)
    assert found["git_revision"] == (image.config["Labels"][label("revision")] or None)
    assert found["metrics"]["best"]["oa"] > 0.9
    assert all(entry["planned"] == entry["delivered"] for entry in found["ledger"])
    assert (record.parent / "report.html").stat().st_size > 10_000
    assert record.stat().st_uid == 1000


def test_wrong_input_ends_with_two(image: "Image") -> None:
    done = image.run("train", "configs/resnet50_ucm.yaml", "optim.lr=fast")
    assert done.returncode == 2
    assert "optim.lr" in done.stderr


def test_what_is_compiled_trains(image: "Image", cache: Path) -> None:
    # Podman's own /tmp takes no programs, which kernels are; a pod's emptyDir does.
    options = ("--network=none", f"--volume={cache}:/cache", "--env=TMPDIR=/cache")
    image.run("data", "scenes", "/cache/scenes", "--num-scenes", 6, "--size", 256, options=options)
    done = image.run("data", "pack", "geotiff", "/cache/scenes", "--tile=64", "--out=/cache/tiles",
                     "--labels=/cache/scenes/labels.geojson", options=options)  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = image.run("train", "configs/quickstart.yaml", "data.url=/cache/tiles",
                     "output=/cache/runs", "trainer.compile=true", options=options)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads((cache / "runs/quickstart/run.json").read_text())["status"] == "completed"


def test_a_command_that_asks_for_no_signal_is_ended_by_one(
    start: "Begin", image: "Image", cache: Path
) -> None:
    """As process 1 it would not be: the kernel gives those no default handling of SIGTERM."""
    options = ("--network=none", f"--volume={cache}:/cache")
    scenes = ("data", "scenes", "/cache/scenes", "--num-scenes", 100_000)
    container = start(image.name, *scenes, options=options)
    container.wait_for(lambda: any(cache.glob("scenes/*")))
    assert container.stop() == 128 + 15


def test_the_health_check_passes(image: "Image") -> None:
    kind, program, *arguments = image.config["Healthcheck"]["Test"]
    assert (kind, program) == ("CMD", "rsdl")
    done = image.run(*arguments)
    assert done.returncode == 0, done.stdout


def test_exactly_the_locked_packages_are_installed(image: "Image") -> None:
    code = """
import importlib.metadata, json
print(json.dumps({found.name: found.version for found in importlib.metadata.distributions()}))
"""
    found = {normal(name): version for name, version in json.loads(image.python(code)).items()}
    assert found.pop("rsdl-train") == __version__
    (wheel,) = (each for each in WHEELS.values() if each.torch == found["torch"].partition("+")[0])
    locked = PIN.findall((ROOT / "docker" / wheel.lock).read_text())
    assert found == {normal(name): version for name, version in locked}


def test_there_is_nothing_of_the_machine_that_built_it(image: "Image") -> None:
    code = """
import os, json
places = [os.path.join(folder, name) for folder in ('/etc', '/opt') for name in os.listdir(folder)]
print(json.dumps(places))
"""
    places = json.loads(image.python(code))
    assert "/etc/pip.conf" not in places
    assert [place for place in places if place.startswith("/opt")] == ["/opt/venv"]


def test_the_configs_are_those_of_the_checkout(image: "Image") -> None:
    code = """
import glob, json
names = glob.glob('configs/**', recursive=True)
print(json.dumps({n: open(n).read() for n in names if n.endswith(('.yaml', '.json'))}))
"""
    ours = {
        str(path.relative_to(ROOT)): path.read_text()
        for path in (ROOT / "configs").rglob("*")
        if path.suffix in (".yaml", ".json")
    }
    assert len(ours) > 27
    assert json.loads(image.python(code)) == ours


def test_its_user_may_write_to_cache_and_tmp_alone(image: "Image") -> None:
    """Without --read-only: what the owner of each file grants."""
    code = """
import os
for root, folders, files in os.walk('/'):
    folders[:] = [f for f in folders if root != '/' or f not in ('proc', 'sys', 'dev', 'run')]
    for path in (root, *(os.path.join(root, f) for f in files)):
        if not os.path.islink(path) and os.access(path, os.W_OK):
            print(path)
"""
    done = image.engine(
        "run", "--rm", "--no-healthcheck", "--network=none", "--entrypoint=python3", image.name,
        "-c", code,
    )  # fmt: skip
    assert set(done.stdout.split()) == {"/cache", "/tmp", "/var/tmp"}


def test_it_says_what_it_is(image: "Image") -> None:
    config = image.config
    assert config["User"] == "1000:1000"
    assert config["Config"]["Entrypoint"][-1] == "rsdl"
    labels = config["Labels"]
    assert labels[label("title")] == "rsdl"
    assert labels[label("version")] == __version__
    assert labels[label("licenses")] == "Apache-2.0 AND BSD-2-Clause"
    assert labels[label("created")].endswith("Z")
    assert labels[label("base.name")]
    assert f"RSDL_GIT_REVISION={labels[label('revision')]}" in config["Config"]["Env"]
    # It would show all GPUs of a node to a container that was given none.
    assert not any(line.startswith("NVIDIA_VISIBLE") for line in config["Config"]["Env"])


def label(name: str) -> str:
    return f"org.opencontainers.image.{name}"


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
