"""Location and size limit of a node's shard cache."""

import os
from pathlib import Path

from pydantic import BaseModel, ByteSize, ConfigDict, Field

FOLDER_VARIABLE = "RSDL_CACHE"


class CacheConfig(BaseModel):
    """Where copies of remote shards lie on this node, and how much room they get."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: str | None = Field(
        None, description="Folder on a local disk; null: $RSDL_CACHE, else ~/.cache/rsdl/store."
    )
    size: ByteSize = Field(
        ByteSize(50 * 10**9), description='At most so many bytes in it, such as "200GB".'
    )

    @property
    def root(self) -> Path:
        """The cache folder: the configured one, else $RSDL_CACHE, else below the XDG cache."""
        folder = self.folder or os.environ.get(FOLDER_VARIABLE)
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        return Path(folder or f"{base}/rsdl/store").expanduser()
