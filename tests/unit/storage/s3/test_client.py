import io
from pathlib import Path

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse

from rsdl.core.errors import StorageError
from rsdl.storage.s3.client import make_client, shared_client
from rsdl.storage.s3.endpoint import StorageConfig

ELSEWHERE = StorageConfig(endpoint="http://s3.example.org:7480")


@pytest.fixture(autouse=True)
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give keys, and return the AWS config file to be written."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return tmp_path / "config"


def address(storage: StorageConfig) -> str:
    """Return the URL of an object as it goes over the wire."""
    client = make_client(storage)
    params = {"Bucket": "imagery", "Key": "x"}
    url: str = client.generate_presigned_url("get_object", Params=params).split("?")[0]
    return url


@pytest.mark.parametrize(
    ("config", "url"),
    [
        ("", "http://s3.example.org:7480/imagery/x"),
        ("[default]\nregion = here\n", "http://s3.example.org:7480/imagery/x"),
        ("[default]\ns3 =\n  addressing_style = path\n", "http://s3.example.org:7480/imagery/x"),
        ("[default]\ns3 =\n  addressing_style = virtual\n", "http://imagery.s3.example.org:7480/x"),
    ],
)
def test_the_addressing_style_of_the_user_is_respected(aws: Path, config: str, url: str):
    aws.write_text(config)
    assert address(ELSEWHERE) == url


def test_an_addressing_style_that_there_is_not_is_refused(aws: Path):
    aws.write_text("[default]\ns3 =\n  addressing_style = host\n")
    with pytest.raises(StorageError, match=r'"host" is unknown; write auto, path, virtual$'):
        make_client(ELSEWHERE)


def test_another_config_file_is_another_client(aws: Path, monkeypatch: pytest.MonkeyPatch):
    first = shared_client(ELSEWHERE)
    assert shared_client(ELSEWHERE) is first
    monkeypatch.setenv("AWS_CONFIG_FILE", str(aws.with_name("other")))
    second = shared_client(ELSEWHERE)
    assert second is not first
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(aws.with_name("others")))
    assert shared_client(ELSEWHERE) is not second


def is_signed(storage: StorageConfig = ELSEWHERE) -> bool:
    client = make_client(storage)
    params = {"Bucket": "imagery", "Key": "x"}
    return "Signature" in client.generate_presigned_url("get_object", Params=params)


def test_requests_go_without_keys_where_there_are_none(monkeypatch: pytest.MonkeyPatch):
    assert is_signed()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert not is_signed()


def test_keys_stay_unused_where_the_user_wants_none(monkeypatch: pytest.MonkeyPatch):
    assert not is_signed(StorageConfig(endpoint=ELSEWHERE.endpoint, anonymous=True))
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "YES")
    assert not is_signed()
    assert is_signed(StorageConfig(endpoint=ELSEWHERE.endpoint, anonymous=False))
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "no")
    assert is_signed()
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "perhaps")
    with pytest.raises(StorageError, match='"perhaps" is neither YES nor NO; write one of them'):
        is_signed()


def payers(storage: StorageConfig) -> list[str | None]:
    """Return the header that says who pays, of each kind of reading request."""
    client, sent = make_client(storage), []

    def answer(request: AWSPreparedRequest, **_: object) -> AWSResponse:
        payer = request.headers.get("x-amz-request-payer")
        sent.append(payer.decode() if isinstance(payer, bytes) else payer)
        response = AWSResponse(request.url, 200, {}, io.BytesIO())
        response._content = b""
        return response

    client.meta.events.register("before-send.s3", answer)
    client.get_object(Bucket="imagery", Key="x")
    client.head_object(Bucket="imagery", Key="x")
    client.list_objects_v2(Bucket="imagery")
    return sent


def test_who_pays_is_said_with_every_reading_request(monkeypatch: pytest.MonkeyPatch):
    assert payers(ELSEWHERE) == [None] * 3
    agreed = StorageConfig(endpoint=ELSEWHERE.endpoint, requester_pays=True)
    assert payers(agreed) == ["requester"] * 3
    monkeypatch.setenv("AWS_REQUEST_PAYER", "requester")
    assert payers(ELSEWHERE) == ["requester"] * 3
    monkeypatch.setenv("AWS_REQUEST_PAYER", "me")
    with pytest.raises(StorageError, match='"me" is unknown; write requester, or unset it'):
        make_client(ELSEWHERE)
