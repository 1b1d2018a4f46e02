"""docs/nautilus.md, followed to the letter from step 2 to 9: a real API server, a real gateway."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from rsdl.data.sources.catalog import DATASETS
from tests.integration.apiserver.machines import Machines, at_work
from tests.integration.apiserver.plane import Space, wait_for
from tests.integration.ceph.conftest import ACCESS_KEY, SECRET_KEY, Gateway
from tests.integration.ceph.test_pods import SMALL
from tests.integration.metrics import is_here, serve

pytestmark = [
    pytest.mark.apiserver, pytest.mark.ceph, pytest.mark.slow, pytest.mark.timeout(3600)
]  # fmt: skip

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "nautilus.md"
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What stands in capitals is the user's.
WORDS = {
    "BUCKET": "page-of-nautilus", "STUDY": "hrrsi", "GROUP": "group", "PROJECT": "rsdl",
    "TAG": "0" * 40, "TOKEN_NAME": "reader", "TOKEN": "secret",
}  # fmt: skip
RUNS = "s3://page-of-nautilus/runs/hrrsi"


def commands() -> list[str]:
    """Return the commands of steps 2 to 9, in their order."""
    text = PAGE.read_text()
    steps = text[text.index("\n## 2. ") : text.index("\n## When something is wrong")]
    found: list[str] = []
    for block in BLOCK.findall(steps):
        for line in block.replace("\\\n", " ").splitlines():
            command = re.sub(r"\s+#.*", "", line).strip()
            found += [command] * bool(command)
    return found


class Shell:
    """A user's shell, whose exports last from one command to the next.

    Args:
        folder: The checkout.
        words: What stands in capitals.
    """

    def __init__(self, folder: Path, words: dict[str, str]) -> None:
        self.folder = folder
        self.words = words
        self.exports = folder.parent / "exports"
        self.exports.touch()

    def fill(self, command: str) -> str:
        words = "|".join(self.words)
        return re.sub(rf"\b({words})\b", lambda match: self.words[match[1]], command)

    def __call__(self, command: str, *, fails: bool = False) -> str:
        script = f". {self.exports}\n{self.fill(command)}\nexport -p > {self.exports}"
        done = subprocess.run(
            ["bash", "-ec", script], cwd=self.folder, capture_output=True, text=True, timeout=1200
        )
        assert bool(done.returncode) == fails, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr


@pytest.fixture
def shell(space: Space, gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Return the shell of somebody who has a checkout, an account and a namespace."""
    checkout = tmp_path / "checkout"
    for name in ("configs", "k8s"):
        shutil.copytree(ROOT / name, checkout / name)
    programs = tmp_path / "bin"
    programs.mkdir()
    real = shutil.which("kubectl")
    scripts = {
        # Kubernetes 1.20 knows no podFailurePolicy, and kubectl asks it.
        "kubectl": f'[ "$1 $2" = "apply -k" ] && set -- "$@" --validate=ignore\nexec {real} "$@"',
        "rsdl": f'exec {sys.executable} -m rsdl "$@"',
    }
    for name, text in scripts.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "somebody")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "somebody@example.org")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name)
    space("DELETE", "v1/secrets/rsdl-s3")  # step 2 makes it
    found = Shell(checkout, WORDS | {"NAMESPACE": space.name})
    found("git init -q && git add . && git commit -qm start")
    return found


def make_archive(name: str, path: Path) -> None:
    """Write an archive with the classes of a published data set, ten small images each."""
    draw = np.random.default_rng(7)
    with zipfile.ZipFile(path, "w") as archive:
        for label, kind in enumerate(DATASETS[name].classes):
            for number in range(10):
                noise = draw.integers(0, 40, (40, 40, 3))
                pixels = np.clip(noise + 4 * label, 0, 255).astype(np.uint8)
                image = simplejpeg.encode_jpeg(pixels)
                archive.writestr(f"{name}/{kind}/{kind}{number}.jpg", image)


@pytest.fixture
def machines(space: Space, gateway: Gateway, tmp_path: Path, shell: Shell) -> Iterator[Machines]:
    """Return what runs pods: they find archives where others find the internet."""
    folder = tmp_path / "pods"
    (folder / "bin").mkdir(parents=True)
    for name in ("ucm", "resisc45"):
        make_archive(name, folder / f"{name}.zip")
    rsdl = folder / "bin" / "rsdl"
    rsdl.write_text(
        f'#!/bin/sh\n[ "$1 $2" = "data prepare" ] && set -- "$@" --from {folder}/$3.zip\n'
        f'exec {sys.executable} -m rsdl "$@"\n'
    )
    rsdl.chmod(0o755)
    for name in ("cache", "tmp"):
        (folder / name).mkdir()
    places = {
        "AWS_ENDPOINT_URL_S3": gateway.url, "RSDL_CACHE": str(folder / "cache"),
        "TMPDIR": str(folder / "tmp"), "HOME": str(folder / "tmp"), "PYTHONPATH": str(ROOT),
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    with at_work(Machines(space, folder, places, (*SMALL, "trainer.max_epochs=1"))) as found:
        yield found


@pytest.fixture
def metrics(space: Space, require: Callable[[str, bool], None], tmp_path: Path) -> Iterator[str]:
    """Return the address of the cluster's Prometheus, which has seen one pod of the study."""
    require("prometheus", is_here())
    (tmp_path / "metrics").mkdir()
    pod = (space.name, "hrrsi-resnet50-ucm-x7k2p", [30] * 10)
    with serve(tmp_path / "metrics", [pod]) as address:
        yield address


def test_from_a_bucket_to_27_models(
    shell: Shell, machines: Machines, gateway: Gateway, metrics: str
):
    said: dict[str, str] = {}
    make_archive("aid", shell.folder / "AID.zip")
    for command in commands():
        if "--indexed" in command:  # Kubernetes 1.20 has no indexes
            continue
        if command == "kubectl apply -k k8s/":  # the other way to do it comes next
            continue
        if command.startswith(("docker login", "rsdl k8s image")):  # see test_k8s_image.py
            continue
        line = re.sub(r"=https://s3-west\S*", f"={gateway.url}", command)
        line = line.replace("https://prometheus.nrp-nautilus.io", metrics)
        keys = f"AWS_ACCESS_KEY_ID={ACCESS_KEY} AWS_SECRET_ACCESS_KEY={SECRET_KEY}"
        line = line.replace("AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=...", keys)
        # It has nothing there yet that pods run as, and no indexes.
        said[command] = shell(line, fails=command.endswith("--server"))
        if "sweep status" in command:
            # "The first command may be given again at any time, and does no harm."
            shell("kubectl apply -k k8s/")
            models = shell(f"rsdl sweep status {RUNS}")
            assert "28 runs: 28 completed" in models, models
    check_words(said)
    assert {codes[-1] for codes in machines.codes.values()} == {0}, machines.codes
    # Step 9 leaves the bucket as it is, and nothing of the study in the namespace.
    left = machines.space.names("batch/jobs"), machines.space.names("v1/configmaps")
    assert left == (set(), {"kube-root-ca.crt"})
    with (shell.folder / "models" / "models.csv").open() as stream:
        assert len(stream.readlines()) == 1 + 28
    assert "convnext_base" in (shell.folder / "study.html").read_text()
    wait_for(lambda: not machines.space.list("v1/pods"))


def check_words(said: dict[str, str]) -> None:
    """Check that each command says what the page says that it does."""
    found = {key: text for key, text in said.items() if key.startswith("rsdl k8s check")}
    assert " 0 errors" in found["rsdl k8s check k8s/"]
    assert "apply k8s/base first" in found["rsdl k8s check k8s/ --server"]
    assert "210" in said["rsdl data info s3://BUCKET/data/ucm"]
    assert "1/1" in said["kubectl get job STUDY-quickstart"]
    assert "epoch" in said["kubectl logs --follow job/STUDY-quickstart"]
    assert "27 Jobs: 27 submitted" in said["rsdl sweep submit k8s/ --max-running 9"]
    busy = next(text for command, text in said.items() if "--prometheus" in command)
    assert "(30%)" in busy and "resnet50_ucm: 40% or less busy by the cluster" in busy
    assert said["kubectl logs job/STUDY-resnet50-ucm --tail 5"].strip()
