"""Where an S3 service is, as a run's config may say it."""

from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from rsdl.core.errors import ConfigError

FIELD = "storage.endpoint"
VARIABLE = "AWS_ENDPOINT_URL"
KEYS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"


class StorageConfig(BaseModel):
    """How s3:// is reached; keys come from the AWS chain alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint: str | None = Field(
        None, description="URL of the S3 service; null: AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL."
    )

    @field_validator("endpoint")
    @classmethod
    def _is_a_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if has_secret(value):
            # Raised past pydantic, which would show the value.
            raise ConfigError(FIELD, "holds a password or a signature", KEYS)
        if not is_service(value):
            raise ValueError("must be https://host or http://host:port")
        return value

    @property
    def named(self) -> str:
        """What the user has set the endpoint with."""
        return VARIABLE if self.endpoint is None else FIELD


def has_secret(url: str) -> bool:
    """Return whether a URL carries what must not be repeated."""
    return "@" in url or "?" in url or "#" in url


def is_service(url: str) -> bool:
    """Return whether a URL can be that of a service."""
    try:
        parts = urlsplit(url)
        port = parts.port  # raises where it is no number
    except ValueError:
        return False
    named = bool(parts.hostname) and not any(c.isspace() for c in url)
    return parts.scheme in ("http", "https") and named and port != 0


AWS = StorageConfig()
