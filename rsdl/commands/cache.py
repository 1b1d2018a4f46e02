"""``rsdl data cache``: show or clear the copies of remote shards on this node."""

import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from rsdl.core.errors import ConfigError
from rsdl.storage.cache.config import CacheConfig
from rsdl.storage.cache.entries import CacheEntry, list_entries
from rsdl.storage.cache.node_cache import clear_cache
from rsdl.storage.local import translate


def show(*, folder: str | None = None, config: str | None = None) -> int:
    """Print the cache folder, the size of its copies, and which of them are in use."""
    place = find_cache(folder, config)
    entries = _list(place)
    used = sum(entry.size for entry in entries)
    print(
        f"{place.root}: {len(entries):,} copies, {used / 1e6:,.1f} MB of "
        f"{int(place.size) / 1e6:,.0f} MB"
    )
    if entries:
        Console(file=sys.stdout, soft_wrap=True).print(_tabulate(entries))
    return 0


def clear(*, folder: str | None = None, config: str | None = None, dry_run: bool = False) -> int:
    """Delete every copy that is not in use; with ``dry_run``, print what that would free."""
    place = find_cache(folder, config)
    entries = _list(place)
    if dry_run:
        idle = [entry for entry in entries if not entry.is_in_use()]
        freed = sum(entry.size for entry in idle)
        print(
            f"{place.root}: {freed / 1e6:,.1f} MB in {len(idle):,} copies would be freed, "
            f"{len(entries) - len(idle):,} are in use and stay"
        )
        return 0
    freed = clear_cache(place.root) if entries else 0
    left = len(_list(place))
    print(f"{place.root}: {freed / 1e6:,.1f} MB freed, {left:,} copies are in use and stay")
    return 0


def find_cache(folder: str | None, config: str | None) -> CacheConfig:
    """Return the cache that the command's options select.

    Args:
        folder: Folder of the cache.
        config: YAML file whose ``data.cache`` to take.

    Raises:
        ConfigError: If both are given, or the config has no cache.
    """
    if config is None:
        return CacheConfig(folder=folder)
    if folder is not None:
        raise ConfigError("--folder", "and --config are both given", "pass one of them")
    # Imported only here, since it imports all of training.
    from rsdl.config.load import load_config

    cache = load_config(config, ()).data.cache
    if cache == "none":
        raise ConfigError("data.cache", f"is none in {config}", "there is nothing to look after")
    return cache


def _list(place: CacheConfig) -> list[CacheEntry]:
    try:
        return list_entries(place.root)
    except OSError as error:
        raise translate(error, place.root) from error


def _tabulate(entries: Sequence[CacheEntry]) -> Table:
    """Return a table of number, size and last use of copies, by kind and state."""
    groups: dict[tuple[str, str], list[CacheEntry]] = {}
    for entry in entries:
        groups.setdefault((_kind(entry), _state(entry)), []).append(entry)
    table = Table("copies of", "state")
    for title in ("number", "MB", "last used"):
        table.add_column(title, justify="right")
    for (kind, state), members in sorted(groups.items()):
        size = sum(entry.size for entry in members) / 1e6
        last = max(entry.used_at for entry in members)
        table.add_row(kind, state, f"{len(members):,}", f"{size:,.1f}", _ago(last))
    return table


def _kind(entry: CacheEntry) -> str:
    suffix = (entry.path if entry.is_whole else entry.path.with_suffix("")).suffix
    return {".tar": "shards", ".npy": "indexes", "": "decoded pixels"}.get(suffix, f"*{suffix}")


def _state(entry: CacheEntry) -> str:
    busy = entry.is_in_use()
    if entry.is_whole:
        return "in use" if busy else "not in use"
    return "being fetched" if busy else "left by a killed run"


def _ago(when: float) -> str:
    seconds = max(time.time() - when, 0)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:,.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
