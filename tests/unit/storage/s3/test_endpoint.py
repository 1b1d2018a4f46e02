import pytest
from pydantic import ValidationError

from rsdl.core.errors import ConfigError
from rsdl.storage.s3.endpoint import StorageConfig


@pytest.mark.parametrize(
    "url", [None, "http://127.0.0.1:7480", "https://s3.example.org", "https://s3.example.org/ceph/"]
)
def test_a_url_of_a_service_is_taken(url: str | None):
    config = StorageConfig(endpoint=url)
    assert config.endpoint == url
    assert config.named == ("AWS_ENDPOINT_URL" if url is None else "storage.endpoint")


@pytest.mark.parametrize(
    "url", ["", "s3.example.org", "htp://host", "http:/host", "http://", "http://h:port", "s3://b",
            "http://ho st", "http://h:99999", "http://[::1"],
)  # fmt: skip
def test_what_is_no_url_is_refused(url: str):
    with pytest.raises(ValidationError, match="must be https://host or http://host:port"):
        StorageConfig(endpoint=url)


@pytest.mark.parametrize("url", ["https://me:secret@host", "https://host/?X-Amz-Signature=secret"])
def test_a_secret_is_refused_and_not_repeated(url: str):
    with pytest.raises(ConfigError, match=r"^storage\.endpoint: holds a password") as caught:
        StorageConfig(endpoint=url)
    assert "secret" not in str(caught.value)
