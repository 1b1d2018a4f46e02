"""``rsdl data cache``: the copies of remote shards on this node."""

import sys

from rich.console import Console

from rsdl.storage.cache import CacheConfig, NodeCache, open_cache


def show() -> int:
    """Say where the copies lie and how much there is."""
    cache = open_cache(CacheConfig())
    _say(cache)
    return 0


def clear() -> int:
    """Remove every copy that is not in use."""
    cache = open_cache(CacheConfig())
    freed = cache.clear()
    Console(soft_wrap=True).print(f"{freed / 1e6:,.1f} MB freed", highlight=False)
    _say(cache)
    return 0


def _say(cache: NodeCache) -> None:
    count, size = cache.usage()
    Console(file=sys.stdout, soft_wrap=True).print(
        f"{cache.root}: {count:,} copies, {size / 1e6:,.1f} MB of {cache.size / 1e6:,.0f} MB",
        highlight=False,
    )
