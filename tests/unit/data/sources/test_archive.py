import errno
import io
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from rsdl.core.errors import DataError, FullDiskError, StorageError
from rsdl.data.sources import archive
from rsdl.data.sources.archive import unpack

FILES = {"set/beach/a.jpg": b"aaa" * 1000, "set/forest/b.jpg": b"b", "set/forest/empty.txt": b""}


def make_zip(path: Path, files: dict[str, bytes], **changes: int) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as pack:
        for name, data in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            for attribute, value in changes.items():
                setattr(info, attribute, value)
            pack.writestr(info, data)
    return path


def make_tar(path: Path, files: dict[str, bytes], mode: str = "w:gz", **changes: object) -> Path:
    with tarfile.open(path, cast(Any, mode)) as pack:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for attribute, value in changes.items():
                setattr(info, attribute, value)
            pack.addfile(info, io.BytesIO(data))
    return path


def tree_of(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def refuse(path: Path, folder: Path, problem: str) -> None:
    target = folder / "out" / "set"
    with pytest.raises(DataError, match=problem) as caught:
        unpack(path, target)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert not target.exists()
    assert not target.parent.exists() or list(target.parent.iterdir()) == []


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.xz"])
def test_every_kind_of_archive_unpacks_without_its_litter(tmp_path: Path, kind: str):
    path = tmp_path / f"a.{kind}"
    files = {**FILES, "__MACOSX/set/._a.jpg": b"x", "set/.DS_Store": b"x"}
    if kind == "zip":
        make_zip(path, files)
    else:
        make_tar(path, files, f"w:{kind.partition('.')[2]}")
    assert tree_of(unpack(path, tmp_path / "out")) == FILES


def test_an_unpacked_archive_is_left_alone(tmp_path: Path):
    path = make_zip(tmp_path / "a.zip", FILES)
    unpack(path, tmp_path / "out")
    path.unlink()
    assert tree_of(unpack(path, tmp_path / "out")) == FILES


def test_what_a_killed_run_left_is_not_taken_for_data(tmp_path: Path):
    path = make_zip(tmp_path / "a.zip", FILES)
    left = tmp_path / ".out.part" / "set" / "beach"
    left.mkdir(parents=True)
    (left / "a.jpg").write_bytes(b"half")
    (left / "z.jpg").write_bytes(b"half")
    assert tree_of(unpack(path, tmp_path / "out")) == FILES
    assert not (tmp_path / ".out.part").exists()


ESCAPES = ["/etc/evil.jpg", "../evil.jpg", "set/../../evil.jpg", "C:/evil.jpg", "set\\..\\evil.jpg"]


@pytest.mark.parametrize("name", ESCAPES)
def test_a_zip_path_that_escapes_is_refused(tmp_path: Path, name: str):
    path = make_zip(tmp_path / "a.zip", {**FILES, "x" * len(name): b"evil"})
    # zipfile tidies names as it writes them, so the evil one is put in afterwards.
    path.write_bytes(path.read_bytes().replace(b"x" * len(name), name.encode()))
    refuse(path, tmp_path, "leads out of the folder")
    assert not (tmp_path / "evil.jpg").exists()


@pytest.mark.parametrize("name", ESCAPES)
def test_a_tar_path_that_escapes_is_refused(tmp_path: Path, name: str):
    path = make_tar(tmp_path / "a.tar.gz", {**FILES, name: b"evil"})
    refuse(path, tmp_path, "leads out of the folder")
    assert not (tmp_path / "evil.jpg").exists()


def test_a_folder_that_escapes_is_refused(tmp_path: Path):
    path = make_tar(tmp_path / "a.tar", {"../evil": b""}, "w", type=tarfile.DIRTYPE)
    refuse(path, tmp_path, "leads out of the folder")


def test_a_link_in_a_zip_is_refused(tmp_path: Path):
    link = {"external_attr": (stat.S_IFLNK | 0o777) << 16, "create_system": 3}
    path = make_zip(tmp_path / "a.zip", {"set/link": b"/etc/passwd"}, **link)
    refuse(path, tmp_path, "neither file nor folder")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes):
    path = make_tar(tmp_path / "a.tar", {"set/x": b""}, "w", type=kind, linkname="/etc/passwd")
    refuse(path, tmp_path, "neither file nor folder")


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_a_bomb_is_refused_before_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: object
):
    monkeypatch.setattr(archive, "SMALL_BYTES", 1 << 20)
    path = make(tmp_path / "a", {f"{n}.jpg": bytes(3 << 20) for n in range(2)})
    assert path.stat().st_size < 20_000
    refuse(path, tmp_path, "unpacks to more than 1 MiB from 0 MiB")


def test_a_file_that_is_larger_than_declared_is_refused(tmp_path: Path):
    path = make_zip(tmp_path / "a.zip", {"a.jpg": b"a" * 5000})
    data = path.read_bytes()
    declared, lie = (5000).to_bytes(4, "little"), (50).to_bytes(4, "little")
    checksums = (zlib.crc32(b"a" * 5000), zlib.crc32(b"a" * 50))
    # The checksum lies along with the size, or it would give the bomb away by itself.
    old, new = (value.to_bytes(4, "little") for value in checksums)
    path.write_bytes(data.replace(declared, lie).replace(old, new))
    target = tmp_path / "out"
    try:
        unpack(path, target)
    except DataError:
        assert not target.exists()
    else:
        assert (target / "a.jpg").stat().st_size == 50


def test_a_file_that_is_smaller_than_declared_is_refused(tmp_path: Path):
    path = make_zip(tmp_path / "a.zip", {"a.jpg": b"a" * 50})
    data = path.read_bytes()
    path.write_bytes(data.replace(b"\x32\x00\x00\x00", b"\x39\x00\x00\x00"))
    refuse(path, tmp_path, 'a.jpg" is not of its declared 57 bytes|damaged')


def test_a_name_that_comes_twice_is_refused(tmp_path: Path):
    path = make_tar(tmp_path / "a.tar", {"a.jpg": b"1", "./a.jpg": b"2"}, "w")
    refuse(path, tmp_path, "twice")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
@pytest.mark.parametrize("kept", [0.3, 0.5, 0.999])
def test_a_cut_archive_is_refused(tmp_path: Path, mode: str, kept: float):
    rng = np.random.default_rng(0)
    files = {f"{n}.jpg": rng.bytes(20_000) for n in range(5)}
    path = make_tar(tmp_path / "a.tar", files, mode)
    data = path.read_bytes()
    if mode == "w":
        data = data.rstrip(b"\0")
    path.write_bytes(data[: int(len(data) * kept)])
    refuse(path, tmp_path, "damaged|no zip or tar")


def test_a_tar_cut_between_two_files_is_refused(tmp_path: Path):
    path = make_tar(tmp_path / "a.tar", {"a.jpg": b"a" * 512, "b.jpg": b"b" * 512}, "w")
    path.write_bytes(path.read_bytes()[:1024])
    refuse(path, tmp_path, "is damaged: it has no end mark")


def test_a_flipped_byte_is_noticed(tmp_path: Path):
    path = make_zip(tmp_path / "a.zip", {"a.jpg": bytes(range(256)) * 4})
    data = bytearray(path.read_bytes())
    data[60] ^= 0xFF
    path.write_bytes(bytes(data))
    refuse(path, tmp_path, "damaged")


def test_an_encrypted_zip_says_what_to_do(tmp_path: Path):
    path = make_zip(tmp_path / "a.zip", {"a.jpg": b"aaaa"})
    data = path.read_bytes()
    local, central = data.index(b"PK\x03\x04") + 6, data.index(b"PK\x01\x02") + 8
    marked = bytearray(data)
    marked[local] |= 1
    marked[central] |= 1
    path.write_bytes(bytes(marked))
    refuse(path, tmp_path, "is encrypted; unpack it by hand")


def test_what_is_no_archive_is_refused(tmp_path: Path):
    (tmp_path / "a.zip").write_bytes(b"<html>not found</html>")
    refuse(tmp_path / "a.zip", tmp_path, "no zip or tar archive")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="a part of the path is a file"):
        unpack(make_zip(tmp_path / "a.zip", FILES), tmp_path / "file" / "out")


def test_a_disk_that_fills_up_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("rsdl.data.sources.archive.shutil.copyfileobj", fail)
    with pytest.raises(FullDiskError, match="the disk is full") as caught:
        unpack(make_zip(tmp_path / "a.zip", FILES), tmp_path / "out")
    assert caught.value.exit_code == 69 and "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]
