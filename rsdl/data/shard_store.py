"""Where the shards of a data set lie: beside its manifest, or elsewhere.

An index of shards in a place that is read-only is written to another one, and the manifest's
provenance says in ``shards_url`` where the shards are. All that reads shards asks here.
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
    """Return the store that a data set's shards lie in: its own, or the one its manifest names.

    Args:
        store: Where the manifest and the indexes lie.
        manifest: The manifest.
        cache: Where copies of remote shards lie; ``None`` keeps none.
        storage: Where the service is, if the shards lie in a bucket.

    Raises:
        DataError: If the manifest names no place that could be one on every machine.
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
    """Refuse a split whose shards, lying elsewhere, are gone or have another size by now.

    One listing, or a look at the first where nobody may list. Their bytes are checked as ever:
    copies when they are fetched, all of them by ``rsdl data verify``.

    Args:
        shards: Where they lie.
        split: What the manifest says of them.
        dataset: URL of the manifest's folder.

    Raises:
        DataError: If a shard is missing or of another size.
        StorageError: If the place cannot be asked.
    """
    wanted = split.shards
    names = [shard.name for shard in wanted]
    try:
        try:
            prefix = os.path.commonprefix(names)  # noqa: RUF071 - of letters, as listings want it
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
    """Return the remedy for shards that are not what was indexed."""
    return f'restore it, or run "rsdl data index {shards.url} --out {dataset} --overwrite"'


def absolute_url(store: Store) -> str:
    """Return the URL of a store that means the same from every folder."""
    if not isinstance(store, LocalStore):
        return store.url
    path = os.path.abspath(store.url)
    # As it was typed, but where ".." goes through a link.
    real = os.path.realpath(store.url)
    return path if os.path.realpath(path) == real else real


def is_same_place(one: Store, other: Store) -> bool:
    """Return whether two stores have one root."""
    if isinstance(one, LocalStore) and isinstance(other, LocalStore):
        return os.path.realpath(one.url) == os.path.realpath(other.url)
    return one.url == other.url
