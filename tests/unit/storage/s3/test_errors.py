import pytest
from botocore import exceptions as botocore_errors
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from rsdl.core.errors import DeniedError, FullDiskError, StorageError, UnreachableError
from rsdl.storage.s3.errors import (
    DENIED,
    FULL,
    MEANINGS,
    ShortBodyError,
    code_of,
    describe,
    may_pass,
    translate_refusal,
)

URL, ENDPOINT = "s3://bucket/x", "https://s3.example"
SECRET = "X-Amz-Signature=01234567"


def refusal(code: str, status: int) -> ClientError:
    answer = {
        "Error": {"Code": code, "Message": SECRET, "AWSAccessKeyId": SECRET},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(answer, "GetObject")


PASSING = [
    refusal("SlowDown", 503),
    refusal("InternalError", 500),
    refusal("", 502),
    refusal("Whatever", 429),
    refusal("RequestTimeout", 400),
    refusal("BadDigest", 400),
    botocore_errors.EndpointConnectionError(endpoint_url=SECRET, error="refused"),
    botocore_errors.ConnectTimeoutError(endpoint_url=SECRET),
    botocore_errors.ReadTimeoutError(endpoint_url=SECRET),
    botocore_errors.ConnectionClosedError(endpoint_url=SECRET),
    botocore_errors.ProxyConnectionError(proxy_url=SECRET),
    botocore_errors.ResponseStreamingError(error=SECRET),
    botocore_errors.IncompleteReadError(actual_bytes=1, expected_bytes=2),
    botocore_errors.SSLError(endpoint_url=SECRET, error="EOF occurred"),
    ResponseParserError(SECRET),
    ShortBodyError("a response ended 5 bytes early"),
]
FINAL = [
    *(refusal(code, 403) for code in MEANINGS),
    refusal("SomethingNew", 403),
    botocore_errors.NoCredentialsError(),
    botocore_errors.PartialCredentialsError(provider="env", cred_var=SECRET),
    botocore_errors.ProfileNotFound(profile=SECRET),
    botocore_errors.SSLError(endpoint_url=SECRET, error="CERTIFICATE_VERIFY_FAILED"),
    botocore_errors.SSLError(endpoint_url=SECRET, error="[SSL: WRONG_VERSION_NUMBER]"),
    botocore_errors.ParamValidationError(report=SECRET),
    botocore_errors.InvalidRegionError(region_name=SECRET),
]


@pytest.mark.parametrize("error", PASSING, ids=describe)
def test_what_may_pass_is_tried_again_and_no_fault_of_the_user(error: Exception):
    assert may_pass(error)
    told = translate_refusal(error, URL, ENDPOINT)
    assert isinstance(told, UnreachableError) and ENDPOINT in told.problem


@pytest.mark.parametrize("error", FINAL, ids=str)
def test_what_cannot_pass_is_not_tried_again(error: Exception):
    assert not may_pass(error)
    told = translate_refusal(error, URL, ENDPOINT)
    code = code_of(error)
    kind = DeniedError if code in DENIED else FullDiskError if code in FULL else StorageError
    # Somebody may delete something, or give more room, before the cluster tries again.
    assert type(told) is kind and told.exit_code == (69 if code == "QuotaExceeded" else 2)


@pytest.mark.parametrize("error", PASSING + FINAL, ids=str)
def test_a_message_is_one_line_with_a_place_and_no_secret(error: Exception):
    told = str(translate_refusal(error, URL, ENDPOINT))
    assert told.startswith(f"{URL}: ") and "\n" not in told
    for text in (told, describe(error)):
        assert SECRET not in text and "01234567" not in text


def test_a_write_misses_the_bucket_and_a_read_the_object():
    def told(operation: str) -> str:
        error = ClientError({"Error": {"Code": "NoSuchKey"}}, operation)
        return str(translate_refusal(error, "s3://bucket/name", "http://x"))

    assert "no such object" in told("GetObject")
    assert "no such bucket; check its name" in told("PutObject")
