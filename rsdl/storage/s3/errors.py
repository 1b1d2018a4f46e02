"""S3 errors: which are worth a retry, and what to tell the user about the others.

Messages of the service are never repeated, since they may quote a request with its signature; the
S3 error codes are enough.
"""

from botocore import exceptions as botocore_errors
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from rsdl.core.errors import DeniedError, FullDiskError, StorageError, UnreachableError
from rsdl.core.http_status import is_temporary
from rsdl.storage.s3.endpoint import KEYS, VARIABLE

MEANINGS: dict[str, tuple[str, str | None]] = {
    "NoSuchBucket": ("no such bucket", "check its name and AWS_ENDPOINT_URL, or create it"),
    "NoSuchKey": ("no such object", None),
    "404": ("no such object", None),
    "AccessDenied": ("access denied", "ask for access, or use other keys (AWS_PROFILE)"),
    "403": ("access denied", "ask for access, or use other keys (AWS_PROFILE)"),
    "InvalidAccessKeyId": ("the access key is unknown there", KEYS),
    "SignatureDoesNotMatch": ("the secret key does not fit the access key", KEYS),
    "UserSuspended": ("the account is suspended", "ask those who run the service"),
    "ExpiredToken": ("the credentials have expired", "renew them and run the command again"),
    "InvalidToken": ("the session token is not valid", "renew the credentials"),
    "RequestTimeTooSkewed": (
        "this machine's clock is wrong by more than 15 minutes",
        "set the clock (timedatectl set-ntp true)",
    ),
    "PreconditionFailed": (
        "was replaced while it was being read",
        "nothing may write there during a run; run the command again to use the new one",
    ),
    "412": (
        "was replaced while it was being read",
        "nothing may write there during a run; run the command again to use the new one",
    ),
    "QuotaExceeded": ("the storage quota is used up", "delete something or ask for more"),
    "EntityTooLarge": ("is larger than the service takes", None),
    "InvalidBucketName": ("is no valid bucket name", "write s3://bucket/prefix"),
    "PermanentRedirect": ("the bucket lies in another region", "set AWS_DEFAULT_REGION"),
    "AuthorizationHeaderMalformed": ("the region is wrong", "set AWS_DEFAULT_REGION"),
    "MethodNotAllowed": ("the endpoint is no S3 service", "check AWS_ENDPOINT_URL"),
}
DENIED = ("AccessDenied", "403")
FULL = ("QuotaExceeded",)
PASSING_CODES = {
    "SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded",
    "BandwidthLimitExceeded", "InternalError", "ServiceUnavailable", "RequestTimeout",
    "RequestTimeoutException", "IncompleteBody", "BadDigest",
    "OperationAborted", "ConcurrentModification", "ConditionalRequestConflict",
}  # fmt: skip
BROKEN_TLS = ("CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER", "RECORD_LAYER", "HANDSHAKE")


class ShortBodyError(Exception):
    """A response ended before its announced length."""


FOREIGN = (BotoCoreError, ClientError, ResponseParserError, ShortBodyError)
PASSING = (
    botocore_errors.ConnectionError,
    botocore_errors.HTTPClientError,
    botocore_errors.IncompleteReadError,
    ResponseParserError,
    ShortBodyError,
)


def code_of(error: Exception) -> str:
    """Return the S3 error code; empty for any other error."""
    if not isinstance(error, ClientError):
        return ""
    return str(error.response.get("Error", {}).get("Code", ""))


def may_pass(error: Exception) -> bool:
    """Return whether a retry may succeed."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return code_of(error) in PASSING_CODES or is_temporary(status)
    if isinstance(error, botocore_errors.SSLError):
        return not _is_tls_refused(error)
    return isinstance(error, PASSING)


def is_doubtful(error: Exception) -> bool:
    """Return whether a mistyped endpoint is likely: unknown host, or no S3 service there."""
    return _is_nameless(error) or isinstance(error, ResponseParserError)


def describe(error: Exception) -> str:
    """Return a short description of the error without secrets."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", "?")
        return f"the service answers {status} {code_of(error)}"
    if isinstance(error, botocore_errors.EndpointConnectionError):
        if _is_nameless(error):
            return "no such host"
        refused = "refused" in str(error.kwargs.get("error")).lower()
        return "connection refused" if refused else "cannot be reached"
    if isinstance(error, (botocore_errors.ConnectTimeoutError, botocore_errors.ReadTimeoutError)):
        return "does not answer in time"
    if isinstance(error, botocore_errors.ProxyConnectionError):
        return "the proxy cannot be reached"
    if isinstance(error, ShortBodyError):
        return str(error)
    return "the connection broke" if may_pass(error) else f"failed ({type(error).__name__})"


def translate_refusal(
    error: Exception, url: str, endpoint: str, named: str = VARIABLE
) -> StorageError:
    """Return a ``StorageError`` for an error of botocore or the service.

    Args:
        error: The error.
        url: Subject of the request.
        endpoint: Endpoint of the service.
        named: Variable or field that names the endpoint, for the remedy.
    """
    told = _translate(error, url, endpoint)
    remedy = told.remedy.replace(VARIABLE, named) if told.remedy else None
    return type(told)(told.where, told.problem, remedy)


def translate_unsigned(error: Exception, url: str, *, wanted: bool) -> StorageError | None:
    """Return the error for a rejected unsigned request; ``None`` for any other error.

    Args:
        error: The error.
        url: Subject of the request.
        wanted: Whether the user asked for unsigned requests; if not, no keys were found.
    """
    if code_of(error) not in DENIED:
        return None
    if wanted:
        remedy = f"unset storage.anonymous and AWS_NO_SIGN_REQUEST, and {KEYS}"
        return DeniedError(url, "access denied without keys", remedy)
    return DeniedError(url, "is not public, and no credentials found", KEYS)


def _translate(error: Exception, url: str, endpoint: str) -> StorageError:
    if isinstance(error, (botocore_errors.NoCredentialsError,
                          botocore_errors.PartialCredentialsError)):  # fmt: skip
        return StorageError(url, "no credentials found", KEYS)
    if isinstance(error, botocore_errors.ProfileNotFound):
        return StorageError(url, "AWS_PROFILE names no profile", "check ~/.aws/config")
    if isinstance(error, botocore_errors.SSLError) and _is_tls_refused(error):
        remedy = "name its certificate authority in AWS_CA_BUNDLE"
        if "CERTIFICATE_VERIFY_FAILED" not in str(error):
            remedy = "check http or https in AWS_ENDPOINT_URL"
        return StorageError(url, f"{endpoint} is not trusted over TLS", remedy)
    if isinstance(error, botocore_errors.ParamValidationError):
        return StorageError(url, "is no valid bucket or name", "write s3://bucket/prefix")
    if may_pass(error):
        remedy = "check AWS_ENDPOINT_URL and the network, then run the command again"
        return UnreachableError(url, f"{endpoint}: {describe(error)}", remedy)
    if isinstance(error, ClientError) and _is_foreign_answer(error):
        return StorageError(
            url, f"{endpoint} is no S3 service", "check AWS_ENDPOINT_URL, its port too"
        )
    code = code_of(error)
    if code in ("NoSuchKey", "404") and _is_of_a_write(error):
        code = "NoSuchBucket"  # Ceph's code for a bucket that is just being removed
    meaning = MEANINGS.get(code)
    if meaning is not None:
        kinds = dict.fromkeys(DENIED, DeniedError) | dict.fromkeys(FULL, FullDiskError)
        return kinds.get(code, StorageError)(url, *meaning)
    return StorageError(url, f"{endpoint}: {describe(error)}", "check AWS_ENDPOINT_URL")


def _is_nameless(error: Exception) -> bool:
    if not isinstance(error, botocore_errors.EndpointConnectionError):
        return False
    reason = str(error.kwargs.get("error")).lower()
    return any(mark in reason for mark in ("resolve", "getaddrinfo", "name or service"))


def _is_foreign_answer(error: ClientError) -> bool:
    """Return whether the response has neither S3's error codes nor its headers."""
    metadata = error.response.get("ResponseMetadata", {})
    headers = metadata.get("HTTPHeaders")
    code = code_of(error)
    return (
        headers is not None
        and not any(name.startswith("x-amz-") for name in headers)
        and (not code or code.isdigit() or code.startswith("Unknown"))
    )


def _is_of_a_write(error: Exception) -> bool:
    return isinstance(error, ClientError) and error.operation_name == "PutObject"


def _is_tls_refused(error: Exception) -> bool:
    return any(mark in str(error).upper() for mark in BROKEN_TLS)
