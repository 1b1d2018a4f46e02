"""HTTP status codes of failed requests, for every client: S3, downloads, weights and Prometheus."""

# Request Timeout, Too Early, Too Many Requests.
TEMPORARY = (408, 425, 429)


def is_temporary(status: int) -> bool:
    """Return whether a retry may succeed: a fault of the server, or a busy one."""
    return status >= 500 or status in TEMPORARY
