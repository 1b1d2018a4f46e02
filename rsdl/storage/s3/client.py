"""One S3 client per process: endpoint configuration and retried requests.

The usual AWS chain decides endpoint, credentials, profile, proxies and certificate authority. The
settings here are those that real services need, Ceph's gateway first. boto3's own retries are off,
so that one rule (``retry.py``) decides how long to wait.
"""

import os
import re
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from rsdl.core.errors import StorageError
from rsdl.core.resources import usable_cores
from rsdl.storage.s3.endpoint import (
    AWS,
    KEYS,
    NO_SIGN,
    PAYER,
    StorageConfig,
    has_secret,
    is_service,
)
from rsdl.storage.s3.errors import (
    FOREIGN,
    describe,
    is_doubtful,
    may_pass,
    translate_refusal,
    translate_unsigned,
)
from rsdl.storage.s3.retry import RetryRule, RetryState

T = TypeVar("T")
CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 20
DOUBT_S = 10.0
TRANSFERS = 8
MD5_ETAG = re.compile(r'"([0-9a-f]{32})"')
STYLES = ("auto", "path", "virtual")
DEFAULT_REGION = "us-east-1"
DEADLINE_VARIABLE = "RSDL_STORE_DEADLINE_S"


@dataclass(frozen=True, slots=True)
class Remote:
    """One version of an object.

    Attributes:
        bucket: Its bucket.
        key: Its key.
        size: Bytes.
        etag: Identifies the version; quoted, as the service returned it.
        sha256: Of its bytes, if its writer stored it.
        md5: Of its bytes, if the ETag is an MD5.
    """

    bucket: str
    key: str
    size: int
    etag: str
    sha256: str | None = None
    md5: str | None = None

    @property
    def url(self) -> str:
        """The object as ``s3://bucket/key``."""
        return f"s3://{self.bucket}/{self.key}"


class S3Client:
    """boto3 client with our retry policy and error messages; thread-safe.

    Args:
        rule: How long to retry when the service fails.
        storage: How to reach the service.
    """

    def __init__(self, rule: RetryRule, storage: StorageConfig = AWS) -> None:
        self.rule = rule
        self.named = storage.named
        self.reached = False
        self.boto = make_client(storage)
        self._unsigned = self.boto.meta.config.signature_version is UNSIGNED
        self._without_keys = bool(storage.unsigned)
        self.endpoint: str = self.boto.meta.endpoint_url
        self.is_custom = _is_custom(self.endpoint)
        self.pays = storage.pays

    def find_keys(self) -> Any:  # noqa: ANN401 - boto3 has no types
        """Return the keys that requests are signed with now, for GDAL; ``None`` for unsigned ones.

        They have ``access_key``, ``secret_key`` and ``token``.
        """
        return None if self._credentials is None else self._credentials.get_frozen_credentials()

    @cached_property
    def _credentials(self) -> Any:  # noqa: ANN401 - boto3 has no types
        return None if self._unsigned else boto3.session.Session().get_credentials()

    @cached_property
    def pool(self) -> ThreadPoolExecutor:
        """Thread pool for the parts of large objects."""
        return ThreadPoolExecutor(TRANSFERS, thread_name_prefix="s3")

    def call(self, url: str, operation: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401
        """Send a request and retry it until it succeeds.

        Args:
            url: What the request is about, for messages.
            operation: Method of the boto3 client.
            arguments: Its arguments.

        Raises:
            StorageError: If the service refuses the request.
            UnreachableError: If it did not answer before the deadline.
        """
        return self.retry(url, lambda: getattr(self.boto, operation)(**arguments))

    def retry(self, url: str, ask: Callable[[], T]) -> T:
        """Call ``ask`` until it succeeds; :meth:`wait_or_raise` decides when to give up."""
        retry_state = self.retry_state(url)
        while True:
            try:
                answer = ask()
            except FOREIGN as error:
                self.wait_or_raise(retry_state, error, url)
            else:
                self.reached = True
                return answer

    def retry_state(self, url: str, sleep: Callable[[float], object] = time.sleep) -> RetryState:
        """Return the failure counter of one operation."""
        return RetryState(self.rule, url, sleep=sleep)

    def wait_or_raise(self, retry_state: RetryState, error: Exception, url: str) -> None:
        """Wait before the next attempt, or raise the translated error."""
        self.reached = self.reached or isinstance(error, ClientError)
        # If this endpoint has never answered as S3, a typo is likelier than an outage.
        doubtful = not self.reached and is_doubtful(error)
        patience_s = DOUBT_S if doubtful else None
        problem = f"{self.endpoint}: {describe(error)}"
        if self._unsigned:
            told = translate_unsigned(error, url, wanted=self._without_keys)
            if told is not None:
                raise told from error
        if not may_pass(error) or not retry_state.wait(problem, patience_s):
            raise translate_refusal(error, url, self.endpoint, self.named) from error


def plain_md5(found: dict[str, Any]) -> str | None:
    """Return the MD5 in an ETag; ``None`` for multipart uploads and encrypted objects."""
    match = MD5_ETAG.fullmatch(found.get("ETag", ""))
    encrypted = found.get("SSECustomerAlgorithm") or found.get("SSEKMSKeyId")
    return match.group(1) if match and not encrypted else None


def make_client(storage: StorageConfig = AWS) -> Any:  # noqa: ANN401 - boto3 has no types
    """Return a boto3 client for a service.

    Raises:
        StorageError: If the settings of the AWS chain are invalid.
    """
    try:
        with warnings.catch_warnings():
            # Warns of Python versions that future releases need; our users cannot act on it.
            warnings.filterwarnings("ignore", category=DeprecationWarning, module="boto3")
            session = boto3.session.Session()
            region = session.region_name or DEFAULT_REGION
            make = partial(session.client, "s3", region_name=region, endpoint_url=storage.endpoint)
            unsigned = _is_unsigned(storage, session)
            style = _addressing_style(session)
            client = make(config=_settings(None, unsigned=unsigned))
            if has_secret(client.meta.endpoint_url):
                # Every error message would show it.
                raise StorageError(storage.named, "holds a password", KEYS)
            if not is_service(client.meta.endpoint_url):
                raise ValueError("no URL of a service")
            if style is None and _is_custom(client.meta.endpoint_url):
                # Few self-hosted services have a DNS name for every bucket.
                client = make(config=_settings("path", unsigned=unsigned))
    except ValueError as error:
        raise StorageError(
            storage.named, "is no URL", "write https://host or http://host:port"
        ) from error
    except BotoCoreError as error:
        raise translate_refusal(error, "s3", "the AWS settings", storage.named) from error
    if storage.pays:
        client.meta.events.register("before-parameter-build.s3", _agree_to_pay)
    return client


def _agree_to_pay(params: dict[str, Any], model: Any, **_: Any) -> None:  # noqa: ANN401
    if "RequestPayer" in model.input_shape.members:
        params["RequestPayer"] = "requester"


def shared_client(storage: StorageConfig = AWS) -> S3Client:
    """Return this process's client for a service with the credentials of the environment now."""
    names = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE", "AWS_ACCESS_KEY_ID",
             "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CA_BUNDLE",
             "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", NO_SIGN, PAYER,
             "AWS_DEFAULT_REGION", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy",
             "NO_PROXY", "no_proxy", DEADLINE_VARIABLE)  # fmt: skip
    # A forked child must not use its parent's connections.
    key = (os.getpid(), storage, *(os.environ.get(name) for name in names))
    with _lock:
        if key not in _clients:
            _clients[key] = S3Client(_rule(), storage)
        return _clients[key]


_clients: dict[tuple[Any, ...], S3Client] = {}
_lock = threading.Lock()


def _rule() -> RetryRule:
    text = os.environ.get(DEADLINE_VARIABLE)
    try:
        return RetryRule(float(text)) if text else RetryRule()
    except ValueError as error:
        raise StorageError(DEADLINE_VARIABLE, f'"{text}" is no number', "give seconds") from error


def _settings(addressing: str | None, *, unsigned: bool) -> Config:
    return Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        max_pool_connections=TRANSFERS + 4 * usable_cores(),
        retries={"mode": "standard", "total_max_attempts": 1},
        signature_version=UNSIGNED if unsigned else None,
        s3={"addressing_style": addressing} if addressing else None,
        # Ceph rejects trailing checksums over https, and ignores them over http.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )


def _is_unsigned(storage: StorageConfig, session: boto3.session.Session) -> bool:
    """Return whether requests are unsigned: the user asked for that, or there are no keys."""
    if storage.unsigned is not None:
        return storage.unsigned
    try:
        return session.get_credentials() is None
    except BotoCoreError:
        return False  # keys are configured but invalid: the first request reports it with its URL


def _addressing_style(session: boto3.session.Session) -> str | None:
    """Return the addressing style of the user's AWS config; ``None`` where it sets none."""
    # boto3 has no public API for this; it merges the setting itself only where we pass none.
    section = session._session.get_scoped_config().get("s3")
    style = section.get("addressing_style") if isinstance(section, dict) else None
    if style is not None and style not in STYLES:
        where = "s3.addressing_style in the AWS config file"
        raise StorageError(where, f'"{style}" is unknown', f"write {', '.join(STYLES)}")
    return style


def _is_custom(endpoint: str) -> bool:
    host = urlsplit(endpoint).hostname or ""
    return not host.endswith((".amazonaws.com", ".amazonaws.com.cn"))
