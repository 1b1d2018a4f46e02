import subprocess
import sys
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
        ("s3://", "is no bucket name; write s3://bucket/prefix"),
        ("s3:///prefix", "is no bucket name"),
        ("s3://Not_A_Bucket/x", "is no bucket name"),
        ("s3://key:secret@bucket/x", "s3://bucket: has keys before @"),
        ("s3://bucket/x?X-Amz-Signature=secret", "s3://bucket: has a part behind ?"),
    ],
)
def test_a_url_that_means_no_store_is_one_line(url: str, problem: str):
    with pytest.raises(StorageError) as caught:
        connect(url)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


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


@pytest.mark.parametrize(
    ("url", "plain"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("s3://a.bucket/some/prefix/", "s3://a.bucket/some/prefix"),
    ],
)
def test_a_bucket_and_its_prefix_are_a_store(url: str, plain: str):
    assert connect(url).url == plain


def test_local_work_does_not_wait_for_boto3():
    code = "import sys, rsdl.storage.connect as c; c.connect('x'); print('boto3' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
