import io
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsdl.core.errors import DataError
from rsdl.data.tar import (
    Member,
    TarWriter,
    hash_file,
    make_header,
    scan_tar,
    tar_bytes,
)

CONTENTS = st.dictionaries(
    st.text(
        st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=150
    ).filter(lambda name: name.strip(".")),
    st.binary(max_size=1500),
    min_size=1,
    max_size=6,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tars")


@given(contents=CONTENTS)
def test_members_lie_where_the_writer_says(contents: dict[str, bytes], folder: Path):
    path = folder / "a.tar"
    with path.open("wb") as stream:
        writer = TarWriter(stream)
        members = [writer.add(name, content) for name, content in contents.items()]
        digest = writer.close()

    data = path.read_bytes()
    assert len(data) == writer.bytes
    assert digest == hash_file(path)
    for member in members:
        assert data[member.offset : member.offset + member.length] == contents[member.name]
    assert list(scan_tar(path, "a.tar")) == members
    with tarfile.open(path) as archive:
        assert {m.name: archive.extractfile(m).read() for m in archive} == contents  # type: ignore[union-attr]
    assert tar_bytes(contents) == data


def test_hashing_elsewhere_changes_neither_bytes_nor_digest(folder: Path):
    random = np.random.default_rng(0)
    contents = {f"{n:03d}.npy": random.bytes(n * 40_000) for n in range(60)}  # 71 MB, many parts
    found = []
    with ThreadPoolExecutor(2) as pool:
        for number, hashing in enumerate((None, pool)):
            path = folder / f"hashed-{number}.tar"
            with path.open("wb") as stream:
                writer = TarWriter(stream, hashing)
                for name, content in contents.items():
                    writer.add(name, content)
                digest = writer.close()
            assert digest == hash_file(path)
            found.append((digest, path.stat().st_size))
    assert found[0] == found[1]


def test_headers_tell_no_time_and_no_user(folder: Path):
    path = folder / "b.tar"
    path.write_bytes(tar_bytes({"x.jpg": b"x", "ü" * 80 + ".jpg": b"y"}))
    with tarfile.open(path) as archive:
        facts = {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in archive}
    assert facts == {(0, 0, 0, "", "", 0o644)}


@given(cut=st.integers(0, 4095))
def test_a_tar_cut_off_anywhere_is_refused(cut: int, folder: Path):
    whole = tar_bytes({"a.jpg": bytes(range(200)) * 3, "b.jpg": b"b"})
    assert len(whole) == 512 * 7
    path = folder / "c.tar"
    # The end mark is two blocks; one tells enough.
    cut = min(cut, len(whole) - 1024 + 511)
    path.write_bytes(whole[:cut])

    with pytest.raises(DataError) as caught:
        list(scan_tar(path, "c.tar"))

    assert str(caught.value).startswith("c.tar: ")
    assert "\n" not in str(caught.value)
    if cut >= 512:
        assert "truncated" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is not a readable tar"),
        (bytes(1024), "has no members"),
        (b"not a tar at all" * 100, "is not a readable tar"),
    ],
)
def test_what_is_no_tar_is_refused(content: bytes, problem: str, tmp_path: Path):
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(DataError, match=problem):
        list(scan_tar(tmp_path / "x.tar", "x.tar"))


def test_a_damaged_header_is_no_quiet_end(tmp_path: Path):
    data = bytearray(tar_bytes({"a.jpg": b"a", "b.jpg": b"b", "c.jpg": b"c"}))
    data[1024 + 3] ^= 0xFF  # in the name of the second member
    (tmp_path / "x.tar").write_bytes(data)

    with pytest.raises(DataError, match="is damaged at byte 1024"):
        list(scan_tar(tmp_path / "x.tar", "x.tar"))


def test_compressed_tars_are_refused_with_the_remedy(tmp_path: Path):
    with tarfile.open(tmp_path / "x.tar", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("a.jpg"), io.BytesIO())
    with pytest.raises(DataError, match="write it anew, uncompressed"):
        list(scan_tar(tmp_path / "x.tar", "x.tar"))


def test_folders_and_links_are_no_members(tmp_path: Path):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name, kind in (("d", tarfile.DIRTYPE), ("l.jpg", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type = kind
            archive.addfile(info)
        archive.addfile(tarfile.TarInfo("d/a.jpg"), io.BytesIO())
    assert [member.name for member in scan_tar(tmp_path / "x.tar", "x")] == ["d/a.jpg"]


@pytest.mark.parametrize(
    ("name", "key", "extension"),
    [
        ("a.jpg", "a", "jpg"),
        ("a.b.JPG", "a", "b.jpg"),
        ("d.x/a.jpg", "d.x/a", "jpg"),
        ("d/readme", "d/readme", ""),
        (".hidden.jpg", "", "hidden.jpg"),
    ],
)
def test_keys_end_at_the_first_dot_of_the_last_part(name: str, key: str, extension: str):
    member = Member(name, 0, 0)
    assert (member.key, member.extension) == (key, extension)


@given(
    name=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=120),
    size=st.integers(0, 8**11 + 8),
)
def test_a_header_is_the_one_that_tarfile_writes(name: str, size: int):
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    assert make_header(name, size) == info.tobuf(tarfile.PAX_FORMAT)


@pytest.mark.parametrize("num_bytes", [0, 1, 511, 512, 300_000])
def test_large_and_small_members_are_written_in_order(num_bytes: int):
    contents = {"a": b"a", "b": bytes(range(256)) * (num_bytes // 256) + b"b", "c": b"c"}
    with tarfile.open(fileobj=io.BytesIO(tar_bytes(contents))) as archive:
        assert {m.name: archive.extractfile(m).read() for m in archive} == contents  # type: ignore[union-attr]
