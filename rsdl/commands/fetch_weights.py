"""``rsdl models fetch``: mirror pretrained weights, for many jobs that then ask no hub."""

from collections.abc import Sequence

from rsdl.commands.bars import download_bar
from rsdl.models.catalog import ARCHITECTURES
from rsdl.models.fetch import Published, fetch, find_published, find_whole
from rsdl.storage.connect import connect
from rsdl.storage.store import Store


def fetch_weights(
    names: Sequence[str], *, out: str, overwrite: bool = False, dry_run: bool = False
) -> None:
    """Mirror published weights to a folder or bucket; what is there and whole is left alone.

    Args:
        names: Models of timm, or names of remote-sensing weights; empty for the nine.
        out: The mirror, a folder or ``s3://``.
        overwrite: Whether to replace what is there.
        dry_run: Whether to only say what would be done.

    Raises:
        ConfigError: If there are no such weights.
        UnreachableError: If the hub or the mirror cannot be reached.
        StorageError: If the mirror cannot be read or written.
    """
    # All names first: a wrong one is told before anything is downloaded.
    wanted = {one.name: one for one in map(find_published, names or ARCHITECTURES)}
    store = connect(out, None)
    fetched = 0
    for found in wanted.values():
        fetched += _fetch_one(found, store, overwrite=overwrite, dry_run=dry_run)
    done = "would be fetched" if dry_run else "fetched"
    print(f"{store.url}: {fetched} {done}, {len(wanted) - fetched} there already")


def _fetch_one(found: Published, store: Store, *, overwrite: bool, dry_run: bool) -> bool:
    """Fetch weights that are not there, print what was done, and return whether they were not."""
    there = None if overwrite else find_whole(store, found.name)
    if there is not None:
        differs = there.source != found.source
        other = f"; {found.source} is the one now, --overwrite takes it" if differs else ""
        print(f"{found.name}: there already, of {there.source}{other}", flush=True)
        return False
    if dry_run:
        print(f"{found.name}: would be fetched from {found.source}, {found.license}")
        return True
    with download_bar(found.name) as progress:
        card = fetch(found, store, progress)
    size = f"{card.num_bytes / 1e6:.1f} MB"
    print(f"{found.name}: {size} from {card.source}, {card.license}", flush=True)
    return True
