"""The S3 endpoint settings of a run's config."""

import os
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from rsdl.core.errors import ConfigError, StorageError

FIELD = "storage.endpoint"
VARIABLE = "AWS_ENDPOINT_URL"
NO_SIGN = "AWS_NO_SIGN_REQUEST"
PAYER = "AWS_REQUEST_PAYER"
KEYS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"


class StorageConfig(BaseModel):
    """How s3:// is reached; keys come from the AWS chain alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint: str | None = Field(
        None, description="URL of the S3 service; null: AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL."
    )
    anonymous: bool | None = Field(
        None,
        description="Whether to ask without keys; null: AWS_NO_SIGN_REQUEST, else where none are "
        "found.",
    )

    requester_pays: bool | None = Field(
        None,
        description="Whether reading is paid by us, as some buckets demand; null: as "
        "AWS_REQUEST_PAYER=requester says.",
    )

    @field_validator("endpoint")
    @classmethod
    def _is_a_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if has_secret(value):
            # Not a ValueError: pydantic's message would show the value.
            raise ConfigError(FIELD, "holds a password or a signature", KEYS)
        if not is_service(value):
            raise ValueError("must be https://host or http://host:port")
        return value

    @property
    def unsigned(self) -> bool | None:
        """Whether the user wants unsigned requests; ``None`` where nothing is set."""
        return self.anonymous if self.anonymous is not None else _switch(NO_SIGN)

    @property
    def pays(self) -> bool:
        """Whether the user has agreed to pay for requests."""
        if self.requester_pays is not None:
            return self.requester_pays
        payer = os.environ.get(PAYER)
        if payer and payer != "requester":
            raise StorageError(PAYER, f'"{payer}" is unknown', "write requester, or unset it")
        return bool(payer)

    @property
    def named(self) -> str:
        """Name of the setting that gave the endpoint, for error messages."""
        return VARIABLE if self.endpoint is None else FIELD


def _switch(variable: str) -> bool | None:
    """Return a boolean environment variable, in the spellings that GDAL accepts."""
    text = os.environ.get(variable)
    if not text:
        return None
    if text.upper() in ("YES", "TRUE", "ON", "1"):
        return True
    if text.upper() in ("NO", "FALSE", "OFF", "0"):
        return False
    raise StorageError(variable, f'"{text}" is neither YES nor NO', "write one of them")


def has_secret(url: str) -> bool:
    """Return whether a URL has parts that may hold a secret."""
    return "@" in url or "?" in url or "#" in url


def is_service(url: str) -> bool:
    """Return whether a URL can be a service endpoint."""
    try:
        parts = urlsplit(url)
        port = parts.port  # raises where it is not a number
    except ValueError:
        return False
    named = bool(parts.hostname) and not any(c.isspace() for c in url)
    return parts.scheme in ("http", "https") and named and port != 0


AWS = StorageConfig()
