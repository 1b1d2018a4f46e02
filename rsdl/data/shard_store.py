"""Locate the shards of a dataset: beside its manifest, or in another store.

The index of shards in a read-only store is written to another one, and ``shards_url`` in the
manifest's provenance points to the shards. All code that reads shards opens them through this
module.
"""

import os

from rsdl.core.errors import DataError, DeniedError, StorageError
from rsdl.data.manifest import MANIFEST, Manifest, Split
from rsdl.storage.cache.config import CacheConfig
from rsdl.storage.connect import DEFAULT_CACHE, connect, join
from rsdl.storage.local import LocalStore
from rsdl.storage.s3.endpoint import AWS, StorageConfig
from rsdl.storage.store import Store

SHARDS_URL = "shards_url"


def open_shards(
    store: Store,
    manifest: Manifest,
    cache: CacheConfig | None = DEFAULT_CACHE,
    storage: StorageConfig = AWS,
) -> Store:
    """Return the store of a dataset's shards: its own, or the one named in its manifest.

    Args:
        store: The store of the manifest and the indexes.
        manifest: The manifest.
        cache: Cache for copies of remote shards; ``None`` disables it.
        storage: The S3 endpoint, if the shards are in a bucket.

    Raises:
        DataError: If the manifest's ``shards_url`` is neither an absolute path nor ``s3://``.
    """
    url = manifest.provenance.get(SHARDS_URL)
    if url is None:
        return store
    if (
        not isinstance(url, str)
        or "\0" in url
        or len(url) > 4000
        or not url.startswith(("/", "s3://"))
    ):
        raise DataError(
            join(store.url, MANIFEST),
            f"provenance.{SHARDS_URL} must be an absolute path or s3://, is {url!r}",
            "index the shards again",
        )
    return connect(url, cache, storage)


def check_shards(shards: Store, split: Split, dataset: str) -> None:
    """Reject a split whose shards in another store are missing or have changed in size.

    This takes one listing, or one size request for the first shard if listing is denied. Checksums
    are verified as usual: of cached copies when they are fetched, of all shards by ``rsdl data
    verify``.

    Args:
        shards: The store of the shards.
        split: The split's manifest entry.
        dataset: URL of the manifest's folder.

    Raises:
        DataError: If a shard is missing or has another size.
        StorageError: If the store cannot be reached.
    """
    wanted = split.shards
    names = [shard.name for shard in wanted]
    try:
        try:
            prefix = os.path.commonprefix(names)  # noqa: RUF071 - a prefix of characters, as for listings
            sizes = {each.name: each.size for each in shards.list(prefix)}
        except DeniedError:
            wanted = wanted[:1]
            size = shards.size(wanted[0].name)
            sizes = {} if size is None else {wanted[0].name: size}
    except StorageError as error:
        error.problem += f" (the shards of {dataset})"
        raise
    for shard in wanted:
        found = sizes.get(shard.name)
        if found == shard.bytes:
            continue
        what = "is missing" if found is None else f"has {found} bytes, not {shard.bytes} as indexed"
        raise DataError(
            join(shards.url, shard.name), f"{what} (a shard of {dataset})", again(shards, dataset)
        )


def again(shards: Store, dataset: str) -> str:
    """Return the remedy for shards that differ from those indexed."""
    return f'restore it, or run "rsdl data index {shards.url} --out {dataset} --overwrite"'


def absolute_url(store: Store) -> str:
    """Return the URL of a store as an absolute one, valid from every working directory."""
    if not isinstance(store, LocalStore):
        return store.url
    path = os.path.abspath(store.url)
    # Keep the path as typed, unless ".." goes through a symbolic link.
    real = os.path.realpath(store.url)
    return path if os.path.realpath(path) == real else real


def is_same_place(one: Store, other: Store) -> bool:
    """Return whether two stores have the same root."""
    if isinstance(one, LocalStore) and isinstance(other, LocalStore):
        return os.path.realpath(one.url) == os.path.realpath(other.url)
    return one.url == other.url
