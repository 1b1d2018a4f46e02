"""What a user is told when the service says no."""

import http.server
import json
import logging
import os
import threading
from datetime import timedelta
from functools import partial
from pathlib import Path

import botocore.auth
import pytest

from rsdl.core.errors import StorageError, UnreachableError
from rsdl.storage.connect import connect
from rsdl.storage.s3 import client
from rsdl.storage.s3.endpoint import StorageConfig
from rsdl.storage.store import Store

from ..conftest import Rsdl
from .conftest import ACCESS_KEY, SECRET_KEY, Gateway, free_ports
from .meddler import Meddler

pytestmark = pytest.mark.ceph


def refused(store: Store) -> str:
    """Return what every way of asking says; it is the same for all."""
    told = set()
    for act in (store.read, store.local, store.size, store.open):
        with pytest.raises(StorageError) as caught:
            act("x")
        told.add(str(caught.value))
    with pytest.raises(StorageError) as caught:
        store.write("x", b"1")
    told.add(str(caught.value))
    with pytest.raises(StorageError) as caught:
        list(store.list())
    assert len(told) == 1 and "\n" not in str(caught.value)
    return told.pop()


def test_a_bucket_that_is_not_there(gateway: Gateway):
    assert "no such bucket; check its name and AWS_ENDPOINT_URL" in refused(connect("s3://nowhere"))


def test_an_object_that_is_not_there(store: Store):
    for act in (store.read, store.local, store.open):
        with pytest.raises(StorageError, match=r"^s3://b-\w+/some/prefix/x: no such object$"):
            act("x")


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("AWS_ACCESS_KEY_ID", "the access key is unknown there; set AWS_ACCESS_KEY_ID"),
        ("AWS_SECRET_ACCESS_KEY", "the secret key does not fit the access key; set AWS_"),
    ],
)
def test_wrong_keys(
    variable: str, message: str, bucket: str, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):  # fmt: skip
    monkeypatch.setenv(variable, "wrongandsecret")
    with caplog.at_level(logging.DEBUG, "rsdl"):
        told = refused(connect(bucket))
    assert message in told
    for secret in ("wrongandsecret", ACCESS_KEY, SECRET_KEY, "Signature="):
        assert secret not in told + caplog.text


def test_no_keys_at_all(bucket: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "no credentials found; set AWS_ACCESS_KEY_ID" in refused(connect(bucket))


def test_a_public_bucket_is_read_without_keys(
    gateway: Gateway, bucket: str, monkeypatch: pytest.MonkeyPatch
):
    connect(bucket).write("x", b"public")
    name = bucket.removeprefix("s3://")
    rule = {
        "Effect": "Allow", "Principal": "*", "Action": ["s3:GetObject", "s3:ListBucket"],
        "Resource": [f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/*"],
    }  # fmt: skip
    policy = json.dumps({"Version": "2012-10-17", "Statement": [rule]})
    gateway.boto().put_bucket_policy(Bucket=name, Policy=policy)
    wanted = connect(bucket, storage=StorageConfig(anonymous=True))
    assert wanted.read("x") == b"public" and wanted.size("y") is None
    with pytest.raises(StorageError, match=r"access denied without keys; unset storage\.anonymous"):
        wanted.write("x", b"1")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    store = connect(bucket)
    assert store.read("x") == store.local("x").read_bytes() == b"public"
    assert [entry.name for entry in store.list()] == ["x"]


def test_a_user_of_one_prefix_is_told_what_is_not_there(
    gateway: Gateway, bucket: str, monkeypatch: pytest.MonkeyPatch
):
    name = bucket.removeprefix("s3://")
    connect(bucket).write("mine/x", b"1")
    gateway.administer(
        "user", "create", "--uid", name, "--display-name", name,
        "--access-key", name, "--secret-key", SECRET_KEY,
    )  # fmt: skip
    user = {"AWS": [f"arn:aws:iam:::user/{name}"]}
    rules = [
        {"Effect": "Allow", "Principal": user, "Action": "s3:GetObject",
         "Resource": f"arn:aws:s3:::{name}/mine/*"},
        {"Effect": "Allow", "Principal": user, "Action": "s3:ListBucket",
         "Resource": f"arn:aws:s3:::{name}",
         "Condition": {"StringLike": {"s3:prefix": "mine/*"}}},
    ]  # fmt: skip
    policy = json.dumps({"Version": "2012-10-17", "Statement": rules})
    gateway.boto().put_bucket_policy(Bucket=name, Policy=policy)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", name)
    store = connect(f"{bucket}/mine")
    assert store.size("x") == 1 and store.size("manifest.json") is None
    assert [entry.name for entry in store.list()] == ["x"]
    with pytest.raises(StorageError, match="access denied"):
        connect(f"{bucket}/other").size("manifest.json")


def test_a_clock_that_is_wrong(bucket: str, monkeypatch: pytest.MonkeyPatch):
    real = botocore.auth.get_current_datetime
    monkeypatch.setattr(
        botocore.auth, "get_current_datetime", lambda *a, **k: real(*a, **k) - timedelta(hours=2)
    )
    assert "clock is wrong by more than 15 minutes; set the clock" in refused(connect(bucket))


def test_a_policy_that_forbids(gateway: Gateway, bucket: str):
    name = bucket.removeprefix("s3://")
    connect(bucket).write("x", b"1")
    rule = {
        "Effect": "Deny", "Principal": "*", "Action": ["s3:GetObject", "s3:PutObject"],
        "Resource": f"arn:aws:s3:::{name}/*",
    }  # fmt: skip
    policy = json.dumps({"Version": "2012-10-17", "Statement": [rule]})
    gateway.boto().put_bucket_policy(Bucket=name, Policy=policy)
    store = connect(bucket)
    for act in (lambda: store.read("x"), lambda: store.write("x", b"2")):
        with pytest.raises(StorageError, match="access denied; ask for access, or use other keys"):
            act()


def test_a_certificate_that_nobody_vouches_for(
    gateway: Gateway, bucket: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", gateway.tls_url)
    assert "is not trusted over TLS; name its certificate authority in AWS_CA_BUNDLE" in refused(
        connect(bucket)
    )


def test_https_spoken_to_http(gateway: Gateway, bucket: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", gateway.url.replace("http", "https"))
    assert "check http or https in AWS_ENDPOINT_URL" in refused(connect(bucket))


def test_nobody_at_the_endpoint(bucket: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free_ports(1)}")
    monkeypatch.setenv("RSDL_STORE_DEADLINE_S", "0.3")
    with pytest.raises(UnreachableError, match=r": connection refused; check AWS_END") as caught:
        connect(bucket).read("x")
    assert caught.value.exit_code == 69  # not the user's fault, and trying later may help


def test_a_name_that_means_no_host_is_not_waited_for_long(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(client, "DOUBT_S", 0.5)  # the deadline is a minute
    config = StorageConfig(endpoint="http://no-such-host.invalid:7480")
    with pytest.raises(UnreachableError, match=r"no such host; check storage\.endpoint and the"):
        connect("s3://bucket", storage=config).read("x")


def test_a_server_that_speaks_no_s3(gateway: Gateway):
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404 if self.command == "HEAD" else self.server.status)  # type: ignore[attr-defined]
            page = b"<html><body>Hello</body></html>"
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(page)

        do_HEAD = do_PUT = do_GET

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        config = StorageConfig(endpoint=f"http://127.0.0.1:{server.server_address[1]}")
        for server.status in (404, 403):  # type: ignore[attr-defined]
            store = connect("s3://bucket", storage=config)
            for act in (store.read, store.size, partial(store.write, data=b"1")):
                with pytest.raises(StorageError, match=r"is no S3 service; check storage\.end"):
                    act("x")
        server.shutdown()


def test_credentials_that_have_expired(meddler: Meddler, store: Store):
    """Ceph here has no tokens: the answer is the one that Amazon documents."""
    page = b"<Error><Code>ExpiredToken</Code><Message>It has expired.</Message></Error>"
    head = b"HTTP/1.1 400 Bad Request\r\nx-amz-request-id: 1\r\nContent-Length: %d\r\n\r\n"
    meddler.edit = lambda _: head % len(page) + page
    with pytest.raises(StorageError, match="the credentials have expired; renew them and run"):
        store.read("x")


def test_an_endpoint_with_a_password_is_not_repeated(bucket: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://user:password@127.0.0.1:9")
    assert refused(connect(bucket)).startswith("AWS_ENDPOINT_URL: holds a password; set AWS_ACC")


def test_the_command_line_says_it_in_one_line_without_a_secret(
    rsdl: Rsdl, bucket: str, tmp_path: Path
):
    env = {
        "AWS_ENDPOINT_URL_S3": os.environ["AWS_ENDPOINT_URL_S3"], "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": "wrongandsecret", "RSDL_CACHE": str(tmp_path / "cache"),
    }  # fmt: skip
    for flags in ((), ("--debug",)):
        ended = rsdl(*flags, "data", "info", bucket, env=env)
        assert ended.returncode == 2
        assert ended.stderr.splitlines()[-1].startswith(f"{bucket}/manifest.json: the secret key")
        assert "wrongandsecret" not in ended.stderr and ACCESS_KEY not in ended.stderr
    assert len(rsdl("data", "info", bucket, env=env).stderr.splitlines()) == 1
