"""What every test gets: a clean environment and tiny imagery that is made here."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from hypothesis import settings

from rsdl.data.packing.pack import PackOptions, pack
from rsdl.data.sources.folder import FolderSource
from rsdl.storage.connect import connect

# Timing never decides a test, nor does chance: everyone tries the same examples. A search for new
# ones is asked for, with RSDL_TEST_EXPLORE=1.
settings.register_profile(
    "rsdl", deadline=None, derandomize=not os.environ.get("RSDL_TEST_EXPLORE")
)
settings.load_profile("rsdl")

CLASSES = {
    "field": (60, 150, 50), "harbor": (30, 70, 160), "roofs": (180, 90, 70),
    "beach": (210, 200, 150), "forest": (40, 60, 40),
}  # fmt: skip
PER_CLASS = 12

# Parts of a machine that some tests need, and how to get them.
PARTS = {
    "apiserver": "apt-get install etcd-server openssl curl; scripts/kube_apiserver build; "
    "and ask for it: -m apiserver",
    "cc": "apt-get install gcc libc6-dev",
    "ceph": "apt-get install ceph-mon ceph-osd radosgw curl openssl",
    "checkov": "python -m venv ~/.cache/rsdl/checkov, and its bin/pip install checkov",
    "chromium": "apt-get install chromium",
    "detr": 'pip install "rsdl-train[detr]"',
    "hatchling": "pip install hatchling, which the extra dev has",
    "image": "scripts/build_image (minutes, 30 GB), then set RSDL_TEST_IMAGE=localhost/rsdl",
    "kubectl": "install kubectl 1.30 or newer",
    "onnx": 'pip install "rsdl-train[export]"',
    "prometheus": "apt-get install prometheus",
    "netns": "run as root with iproute2, where network namespaces are allowed",
    "registry": "run as root, apt-get install buildah podman runc docker-registry",
    "smp": 'pip install "rsdl-train[smp]"',
    "tmpfs": "run as root where mounting is allowed",
    "patience": "set RSDL_TEST_PATIENCE=1",
}


# What takes its time: widely searched, trained, or measured with real processes.
THOROUGH = (
    "benchmarks/", "cluster/policy/", "data/test_any_mixture", "data/test_decoded_damage",
    "data/packing/test_pack", "data/test_stock_pipeline", "distributed/test_heartbeat", "fuzz/",
    "models/", "raster/test_tile_labels", "test_cli",
)  # fmt: skip
# One way through the whole.
TELLING = (
    "tests/integration/test_run.py::test_a_run_writes_the_files_of_its_contract_and_nothing_else",
)


def pytest_configure(config: pytest.Config) -> None:
    """Compute in one thread in each of several processes: more wait for each other by spinning."""
    if hasattr(config, "workerinput"):
        import torch

        torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="what is fast and telling, in 2 minutes")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With ``--quick`` do not even import what is thorough."""
    if not config.getoption("--quick"):
        return None
    here = Path(__file__).parent
    wanted = [here / "unit", here / "architecture"]
    wanted += [here.parent / name.partition("::")[0] for name in TELLING]
    if not any(collection_path in (path, *path.parents) or path in collection_path.parents
               for path in wanted):  # fmt: skip
        return True
    room = collection_path.as_posix().removeprefix(f"{wanted[0].as_posix()}/")
    return f"{room}/".startswith(THOROUGH) or None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With ``--quick`` keep unit tests that are fast, the rules of the house, and one whole run."""
    if not config.getoption("--quick"):
        return
    left = [item for item in items if not is_quick(item)]
    config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if is_quick(item)]


def is_quick(item: pytest.Item) -> bool:
    if item.nodeid in TELLING:
        return True
    room = item.nodeid.removeprefix("tests/unit/")
    inside = room != item.nodeid or item.nodeid.startswith("tests/architecture/")
    return inside and not room.startswith(THOROUGH) and item.get_closest_marker("slow") is None


@pytest.fixture(autouse=True)
def clean_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Take away what the developer's shell would say to rsdl; what it says to the tests stays.

    Each test has a cache of its own: none reads the pixels that another one kept.
    """
    for name in list(os.environ):
        ours = name.startswith("RSDL_") and not name.startswith("RSDL_TEST_")
        if (
            ours
            or name.startswith("AWS_")
            or name.lower() in ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
        ):
            monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("RSDL_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def image_tree(tmp_path: Path) -> Path:
    """Return a folder of 3 class folders with 12 JPEGs each, 40 x 48 pixels, told by colour."""
    return draw_tree(tmp_path / "images")


@pytest.fixture
def packed(packed_once: Path, tmp_path: Path) -> str:
    """Return the URL of ``image_tree`` packed: 18, 9 and 9 samples, several shards a split.

    It is the test's own copy, to be damaged at will.
    """
    return str(shutil.copytree(packed_once, tmp_path / "packed"))


@pytest.fixture(scope="session")
def packed_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a packed data set that nobody may write to."""
    root = tmp_path_factory.mktemp("shared") / "packed"
    source = FolderSource(draw_tree(root.with_name("images")), fractions=(0.5, 0.25, 0.25))
    pack(source, connect(str(root)), PackOptions(shard_bytes=14000, num_workers=1))
    return root


def draw_tree(root: Path, num_classes: int = 3, per_class: int = PER_CLASS) -> Path:
    """Draw the images of ``image_tree`` below ``root``."""
    random = np.random.default_rng(7)
    for name, colour in list(CLASSES.items())[:num_classes]:
        (root / name).mkdir(parents=True)
        for number in range(per_class):
            shade = random.integers(-25, 25, (5, 6, 1)).repeat(8, axis=0).repeat(8, axis=1)
            pixels = np.clip(np.array(colour) + shade, 0, 255).astype(np.uint8)
            image = simplejpeg.encode_jpeg(pixels, quality=90, colorspace="RGB")
            (root / name / f"{name}_{number:02d}.jpg").write_bytes(image)
    return root


@pytest.fixture
def mount_disk(require: Callable[[str, bool], None]) -> Iterator[Callable[[Path, str], Path]]:
    """Return what mounts a real file system of a given size on a folder; only root may."""
    mounted: list[Path] = []

    def mount(folder: Path, size: str) -> Path:
        folder.mkdir(exist_ok=True)
        option = f"remount,size={size}" if folder in mounted else f"size={size}"
        command = ["mount", "-t", "tmpfs", "-o", option, "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, check=False)
        require("tmpfs", done.returncode == 0)
        mounted.append(folder)
        return folder

    yield mount
    for folder in dict.fromkeys(mounted):
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path, mount_disk: Callable[[Path, str], Path]) -> Path:
    """Return a real file system of 1 MiB."""
    return mount_disk(tmp_path / "disk", "1m")


@pytest.fixture
def require() -> Callable[[str, bool], None]:
    """Return what a test asks for a part with: absent, it skips, or fails where it is demanded."""

    def ask(part: str, present: bool) -> None:
        if present:
            return
        demanded = os.environ.get("RSDL_TEST_REQUIRE", "").split(",")
        if part in demanded:
            pytest.fail(f"RSDL_TEST_REQUIRE names {part}, which is not here")
        pytest.skip(f"needs {part}: {PARTS[part]}")

    return ask
