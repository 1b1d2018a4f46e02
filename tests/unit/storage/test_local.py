import errno
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsdl.core.errors import FullDiskError, StorageError, UnreachableError
from rsdl.storage.local import PART_MARK, LocalBlob, LocalStore, explain_error

NAMES = st.lists(
    st.text("abcxyz0.-_", min_size=1, max_size=8).filter(lambda part: part.strip(".") != ""),
    min_size=1,
    max_size=3,
).map("/".join)

WRITE_AND_WAIT = """
import sys, time
from pathlib import Path
from rsdl.storage.local import LocalStore

with LocalStore(Path(sys.argv[1])).create(sys.argv[2]) as path:
    path.write_bytes(b"half of it")
    print("writing", flush=True)
    time.sleep(60)
"""

FILL = """
import resource, sys
from pathlib import Path
from rsdl.core.errors import StorageError
from rsdl.storage.local import LocalStore

resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
try:
    LocalStore(Path(sys.argv[1])).write("big.bin", bytes(1 << 20))
except StorageError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def files(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))


@given(contents=st.dictionaries(st.sampled_from(["a", "b.tar", "c/d", "c/e/f"]), st.binary()))
def test_a_store_is_a_mapping_from_names_to_bytes(
    contents: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
):
    store = LocalStore(tmp_path_factory.mktemp("store"))
    for name, data in contents.items():
        store.write(name, data)

    assert {entry.name: entry.size for entry in store.list()} == {
        name: len(data) for name, data in contents.items()
    }
    assert [entry.name for entry in store.list()] == sorted(contents)
    assert all(store.read(name) == data for name, data in contents.items())
    assert all(store.local(name).read_bytes() == data for name, data in contents.items())


def test_a_folder_is_listed_where_its_files_belong_by_their_whole_names(tmp_path: Path):
    store = LocalStore(tmp_path)
    names = ["a!", "a.tar", "a/b/1", "a/b0", "a/c", "a0", "b"]
    for name in reversed(names):
        store.write(name, b"x")
    assert [entry.name for entry in store.list()] == names == sorted(names)
    assert [entry.name for entry in store.list("a/b")] == ["a/b/1", "a/b0"]
    assert [entry.name for entry in store.list("a/b/")] == ["a/b/1"]


def test_a_listing_reads_a_folder_only_when_it_comes_to_it(tmp_path: Path):
    store = LocalStore(tmp_path)
    for name in ("a/1", "b/1", "c/1"):
        store.write(name, b"x")
    found = store.list()
    assert next(found).name == "a/1"
    store.write("c/2", b"x")
    assert [entry.name for entry in found] == ["b/1", "c/1", "c/2"]


def test_listing_knows_prefixes_not_folders(tmp_path: Path):
    store = LocalStore(tmp_path)
    for name in ("ab/1", "ab/2", "abc", "b"):
        store.write(name, b"x")

    assert [entry.name for entry in store.list("ab")] == ["ab/1", "ab/2", "abc"]
    assert store.size("ab") is None
    with pytest.raises(StorageError, match="no such file"):
        store.local("ab")


def test_a_failing_block_leaves_what_was_there(tmp_path: Path):
    store = LocalStore(tmp_path)
    store.write("name", b"old")

    with pytest.raises(ZeroDivisionError), store.create("name") as path:
        path.write_bytes(b"new")
        raise ZeroDivisionError

    assert store.read("name") == b"old"
    assert files(tmp_path) == ["name"]


def test_a_failing_block_leaves_nothing_where_nothing_was(tmp_path: Path):
    store = LocalStore(tmp_path)

    with pytest.raises(KeyboardInterrupt), store.create("folder/name") as path:
        path.write_bytes(b"new")
        raise KeyboardInterrupt

    assert not list(store.list())
    assert not list((tmp_path / "folder").iterdir())


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path):
    with pytest.raises(StorageError, match="no such file"), LocalStore(tmp_path).create("name"):
        pass

    assert files(tmp_path) == []


def test_an_error_about_another_file_keeps_that_files_name(tmp_path: Path):
    with pytest.raises(StorageError, match="elsewhere: no such file"):  # noqa: SIM117
        with LocalStore(tmp_path / "store").create("name"):
            (tmp_path / "elsewhere").read_bytes()


def test_readers_see_the_old_bytes_until_all_new_ones_are_there(tmp_path: Path):
    store = LocalStore(tmp_path)
    store.write("name", b"old")

    with store.create("name") as path:
        path.write_bytes(b"half")
        assert store.read("name") == b"old"
        assert [entry.name for entry in store.list()] == ["name"]
        path.write_bytes(b"whole")

    assert store.read("name") == b"whole"


def test_writers_of_one_name_do_not_disturb_each_other(tmp_path: Path):
    store = LocalStore(tmp_path)
    contents = [bytes([number]) * 50_000 for number in range(8)]
    threads = [threading.Thread(target=store.write, args=("name", data)) for data in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert store.read("name") in contents
    assert files(tmp_path) == ["name"]


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd", "", ".", "a\0b"])
def test_names_that_escape_are_refused(name: str, tmp_path: Path):
    store = LocalStore(tmp_path / "root")
    for act in (store.read, store.local, store.size, store.delete):
        with pytest.raises(StorageError, match="must stay below"):
            act(name)
    with pytest.raises(StorageError, match="must stay below"):
        store.write(name, b"x")


@given(name=NAMES)
def test_every_plain_name_can_be_written_and_deleted(
    name: str, tmp_path_factory: pytest.TempPathFactory
):
    root = tmp_path_factory.mktemp("store")
    store = LocalStore(root)
    store.write(name, b"x")
    assert [entry.name for entry in store.list()] == [name]

    store.delete(name)
    store.delete(name)

    assert files(root) == []


def test_deleting_keeps_folders_that_hold_something_else(tmp_path: Path):
    store = LocalStore(tmp_path / "root")
    store.write("a/b/c", b"x")
    store.write("a/d", b"x")

    store.delete("a/b/c")

    assert files(tmp_path) == ["root", "root/a", "root/a/d"]


@pytest.mark.parametrize("name", ["file/name", "file/folder/name"])
def test_a_file_in_the_place_of_a_folder_is_one_line(name: str, tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    store = LocalStore(tmp_path)

    with pytest.raises(StorageError, match="is a file, not a folder; choose another") as caught:
        store.write(name, b"x")

    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert store.size(name) is None
    store.delete(name)


def test_a_folder_in_the_place_of_a_file_is_one_line(tmp_path: Path):
    (tmp_path / "name").mkdir()
    store = LocalStore(tmp_path)

    with pytest.raises(StorageError, match="is a folder"):
        store.read("name")
    with pytest.raises(StorageError, match="is a folder"):
        store.write("name", b"x")

    assert files(tmp_path) == ["name"]


@pytest.fixture
def nobody() -> Iterator[None]:
    """Be a user whom permissions bind; root they do not."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_folder_that_may_not_be_written_is_one_line(nobody: None):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        with pytest.raises(StorageError, match="permission denied; choose a place that you may"):
            LocalStore(Path(folder)).write("name", b"x")


def test_a_place_where_nobody_may_write_is_one_line():
    if not Path("/proc/self").is_dir():
        pytest.skip("needs Linux's /proc")
    with pytest.raises(StorageError) as caught:
        LocalStore(Path("/proc/self")).write("name", b"x")
    assert str(caught.value).startswith("/proc/self/name: ")


def test_what_does_not_fit_leaves_nothing(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-c", FILL, str(tmp_path)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert done.stdout.count("\n") == 1 and "File too large" in done.stdout
    assert not done.stderr
    assert files(tmp_path) == []


def test_a_disk_that_fails_may_be_well_later():
    # Linux answers EIO for the first page of a process's own memory, as for a sector that is gone.
    blob = LocalBlob(Path("/proc/self/mem"))
    with pytest.raises(UnreachableError, match="the file system fails") as caught:
        blob.read(0, 16)
    blob.close()
    assert caught.value.exit_code == 69 and caught.value.where == "/proc/self/mem"


def fill_the_disk() -> None:
    with open("/dev/full", "w") as file:
        file.write("a library's file")


def test_a_library_that_finds_the_disk_full_is_understood():
    with pytest.raises(OSError) as caught:
        fill_the_disk()
    told = explain_error(caught.value)
    assert isinstance(told, FullDiskError) and told.exit_code == 69
    wrapped = RuntimeError("writer failed")
    wrapped.__cause__ = caught.value
    assert isinstance(explain_error(wrapped), FullDiskError)
    # What was handled before a bug is not what the bug is about.
    bug = KeyError("bug")
    bug.__context__ = caught.value
    assert explain_error(bug) is None


def test_a_terminal_or_a_socket_that_is_gone_is_no_disk():
    assert explain_error(OSError(errno.EIO, "Input/output error")) is None
    assert explain_error(TimeoutError(errno.ETIMEDOUT, "timed out")) is None
    stale = OSError(errno.ESTALE, "Stale file handle", "/data/shard.tar")
    assert str(explain_error(stale)).startswith("/data/shard.tar: the file system fails")


def test_a_full_disk_is_one_line_and_leaves_nothing(small_disk: Path):
    store = LocalStore(small_disk)
    store.write("fits", bytes(100_000))

    with pytest.raises(StorageError, match="the disk is full; free some space"):
        store.write("does_not", bytes(3 << 20))

    assert files(small_disk) == ["fits"]


def test_the_part_of_a_killed_writer_is_swept_by_the_next_one_in_the_folder(tmp_path: Path):
    code = [sys.executable, "-c", WRITE_AND_WAIT, str(tmp_path), "folder/name"]
    with subprocess.Popen(code, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == b"writing\n"
        LocalStore(tmp_path).write("folder/name", b"while the other one lives")
        assert len(files(tmp_path)) == 3, "a living writer's part must stay"
        writer.send_signal(signal.SIGKILL)
    assert len(files(tmp_path)) == 3

    LocalStore(tmp_path).write("elsewhere/name", b"another folder")
    assert len(files(tmp_path)) == 5
    LocalStore(tmp_path).write("folder/other", b"another name, which may be all that ever comes")

    assert files(tmp_path) == [
        "elsewhere", "elsewhere/name", "folder", "folder/name", "folder/other",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("host", "pid", "age_s", "stays"),
    [
        ("another-host", 1, 60, True),
        ("another-host", 1, 25 * 3600, False),
        (socket.gethostname(), os.getpid(), 60, False),  # an earlier process of our number
        (socket.gethostname(), os.getppid(), 60, True),
    ],
    ids=["another host, fresh", "another host, a day old", "this process", "alive"],
)
def test_parts_of_other_writers_stay_while_they_may_be_alive(
    host: str, pid: int, age_s: int, stays: bool, tmp_path: Path
):
    part = tmp_path / f".name{PART_MARK}{host}-{pid}-0123456789abcdef"
    part.write_bytes(b"half")
    then = time.time() - age_s
    os.utime(part, (then, then))

    LocalStore(tmp_path).write("name", b"whole")

    assert part.exists() == stays


def test_a_file_that_only_looks_like_a_part_is_listed(tmp_path: Path):
    store = LocalStore(tmp_path)
    store.write(f"x{PART_MARK}1.tar", b"x")
    assert [entry.name for entry in store.list()] == [f"x{PART_MARK}1.tar"]


def test_of_several_who_write_once_one_succeeds_and_whoever_writes_the_same(tmp_path: Path):
    store = LocalStore(tmp_path)
    told: dict[int, bool] = {}
    threads = [
        threading.Thread(
            target=lambda n=n: told.update({n: store.write_once("m", b"%d" % (n % 3))})
        )
        for n in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    winner = int(store.read("m"))
    assert sorted(n for n in told if told[n]) == list(range(winner, 12, 3))
    assert files(tmp_path) == ["m"]
