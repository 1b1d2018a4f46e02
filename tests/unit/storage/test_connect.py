from pathlib import Path

import pytest

from rsdl.core.errors import StorageError
from rsdl.storage.connect import connect, join


def test_a_folder_may_be_written_in_several_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "da ta"
    connect(str(folder)).write("name", b"x")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))

    for url in ("da ta", "./da ta", "~/da ta", f"file://{tmp_path}/da%20ta", folder.as_uri()):
        assert connect(url).read("name") == b"x", url


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "is empty"),
        ("ftp://host/data", 'no store for "ftp://"'),
        ("file://data/ucm", "names a host, not a folder; write file:///folder"),
        ("file://", "names a host"),
        ("~no-such-user-here/data", "no such home folder"),
    ],
)
def test_a_url_that_means_no_store_is_one_line(url: str, problem: str):
    with pytest.raises(StorageError) as caught:
        connect(url)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "joined"),
    [
        ("data", "data/a/b"),
        ("data/", "data/a/b"),
        ("/", "/a/b"),
        ("file:///", "file:///a/b"),
        ("file:///data", "file:///data/a/b"),
        ("s3://bucket/", "s3://bucket/a/b"),
    ],
)
def test_parts_are_joined_with_one_slash(url: str, joined: str):
    assert join(url, "a", "b") == joined
