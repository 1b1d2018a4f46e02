import hashlib
import os
import sys
from pathlib import Path

import pytest
import torch

from rsdl.commands import doctor
from rsdl.commands.doctor import (
    check_compiler,
    check_data,
    check_disk,
    check_gpu,
    check_jpegs,
    check_packages,
    check_python,
    check_shared_memory,
    check_torch,
    run_doctor,
)
from rsdl.core.resources import usable_cores
from rsdl.data.manifest import MANIFEST, File, Manifest, Shard, Split
from rsdl.storage.local import LocalStore

ON_GPU = ["JPEGs"] if torch.cuda.is_available() else []
CHECKS = ["Python", "Cores", "Memory", "Disk", "PyTorch", "GPU", *ON_GPU, "Compiler"]
CHECKS += ["/dev/shm", "Packages"]


@pytest.fixture
def dataset(tmp_path: Path) -> str:
    """Write a data set whose files are as its manifest says, though no real tars."""
    store = LocalStore(tmp_path / "set")

    def put(name: str, data: bytes) -> File:
        store.write(name, data)
        return File(name=name, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())

    shard = put("train/0.tar", b"shard" * 100)
    split = Split(
        samples=1234,
        shards=(Shard(**shard.model_dump(), samples=1234),),
        index=put("train/index", b"index"),
        class_counts=(1000, 234),
    )
    manifest = Manifest(
        dataset="fields",
        classes=("wheat", "maize"),
        bands=("red",),
        dtype="uint8",
        mean=(1.0,),
        std=(1.0,),
        provenance={},
        splits={"train": split},
    )
    store.write(MANIFEST, manifest.to_json())
    return store.url


def test_every_check_is_one_line_and_this_machine_passes(
    dataset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert run_doctor([dataset], output=str(tmp_path)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == [*CHECKS, "Data"]
    assert {line.split()[0] for line in lines} <= {"ok", "warn"}
    assert "\x1b" not in "".join(lines)


def test_one_failed_check_is_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    missing = str(tmp_path / "nothing")
    assert run_doctor([missing], output=str(tmp_path)) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("fail ")
    assert f"no manifest at {missing}; make one" in last


def test_a_data_set_is_reported_with_its_counts(dataset: str):
    check = check_data(dataset)
    assert check.status == "ok"
    assert check.text == f"{dataset}: fields, 2 classes, 1,234 train"


@pytest.mark.parametrize("name", ["train/0.tar", "train/index"])
def test_a_missing_or_short_file_of_a_data_set_is_named(name: str, dataset: str):
    path = Path(dataset) / name
    path.write_bytes(b"x")
    assert f"{name} of split train has 1 bytes" in check_data(dataset).text
    path.unlink()
    check = check_data(dataset)
    assert check.status == "fail"
    assert f"{name} of split train is missing" in check.text
    assert check.remedy is not None


def test_an_old_python_is_refused():
    assert check_python((3, 10, 4)).status == "fail"
    assert check_python((3, 11, 0)).status == "ok"


def test_the_disk_is_looked_at_where_the_output_folder_will_be_made(tmp_path: Path):
    check = check_disk(str(tmp_path / "runs" / "later"))
    assert str(tmp_path) in check.text
    assert "later" not in check.text
    assert not (tmp_path / "runs").exists()


def test_an_output_folder_that_is_a_file_fails(tmp_path: Path):
    (tmp_path / "runs").write_text("")
    assert check_disk(str(tmp_path / "runs")).status == "fail"


def test_more_threads_than_cores_are_warned_of_with_the_remedy():
    before, cores = torch.get_num_threads(), usable_cores()
    try:
        torch.set_num_threads(cores + 1)
        check = check_torch()
    finally:
        torch.set_num_threads(before)
    assert (check.status, check.remedy) == ("warn", f"export OMP_NUM_THREADS={cores}")


def test_little_shared_memory_matters_only_to_several_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(doctor, "MIN_SHM", sys.maxsize)
    assert check_shared_memory(1, tmp_path).status == "ok"
    assert check_shared_memory(2, tmp_path).status == "warn"
    assert check_shared_memory(2, tmp_path / "none").status == "ok"


def test_a_package_that_does_not_import_is_named_beside_those_that_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "broken_package.py").write_text("raise OSError('libfoo.so: cannot open')")
    (tmp_path / "sound_package.py").write_text("__version__ = '1.2'")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(doctor, "PACKAGES", {"broken_package": "broken", "sound_package": "sound"})
    sound, broken = check_packages()
    assert (sound.status, sound.text) == ("ok", "sound 1.2")
    assert (broken.status, broken.remedy) == ("fail", "pip install broken")
    assert "libfoo.so" in broken.text


def program(folder: Path, answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put an nvidia-smi that gives this answer first on the path."""
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{answer}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU that works")
def test_a_driver_without_a_gpu_that_torch_sees_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    program(tmp_path, "echo 470.57.02", monkeypatch)
    check = check_gpu()
    assert check.status == "fail"
    assert "driver 470.57.02" in check.text


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU that works")
def test_no_gpu_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    program(tmp_path, "exit 9", monkeypatch)
    check = check_gpu()
    assert (check.status, check.text) == ("warn", "no GPU: training runs on the CPU")


def test_a_device_that_decodes_no_jpegs_is_a_warning():
    assert check_jpegs("cpu").text == "can be decoded on cpu (data.decode=device)"
    check = check_jpegs("meta")
    assert (check.status, check.remedy) == ("warn", "keep data.decode=host")
    assert check.text.startswith("data.decode is device, but JPEGs cannot be decoded on meta")


def test_no_compiler_is_a_warning_for_who_would_compile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    check = check_compiler()
    assert (check.status, check.remedy) == ("warn", "keep trainer.compile=off")
    assert check.text.startswith("trainer.compile needs a C++ compiler, and none of g++")
    (tmp_path / "gcc").touch(mode=0o755)
    check = check_compiler()
    assert check.status == "ok" and check.text.startswith("gcc and Python's headers")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_named_with_its_memory():
    check = check_gpu()
    assert check.status == "ok"
    assert torch.cuda.get_device_name(0) in check.text
    assert "GiB" in check.text
