"""Which asset of a STAC item is the scene (https://stacspec.org, versions 1.0 and 1.1).

An item is GeoJSON, and only its assets matter here: pystac would add a dependency to read a
dictionary. Items that pystac-client has saved, one or a collection of them, are read the same way.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from rsdl.core.errors import ConfigError, DataError
from rsdl.raster.remote import RasterFile, RemoteFile, is_remote, parse_remote
from rsdl.storage.http import hide_query

# "image/tiff; application=geotiff; profile=cloud-optimized", and what items before STAC 1.0 have.
MEDIA = ("image/tiff", "image/vnd.stac.geotiff", "image/jp2")
ROLES = frozenset({"data", "visual"})


def find_assets(document: Any, where: RasterFile, asset: str | None) -> Iterator[RasterFile]:  # noqa: ANN401 - a JSON value
    """Yield the imagery of an item, or of each item of a collection.

    Args:
        document: Content of the JSON file.
        where: The file; addresses in it are relative to it.
        asset: Name of the asset; ``None``: the only one that is imagery.

    Raises:
        DataError: If it is no item, or has no imagery.
        ConfigError: If there is no asset of that name, or several are imagery and none is named.
    """
    items = document.get("features") if isinstance(document, dict) else None
    for item in items if isinstance(items, list) else [document]:
        assets = item.get("assets") if isinstance(item, dict) else None
        if not isinstance(assets, dict) or not all(map(_is_asset, assets.values())):
            problem, remedy = "is JSON, but no STAC item with assets", "give a raster or an item"
            raise DataError(str(where), problem, remedy)
        name = f"{where}, item {item.get('id')}" if items else str(where)
        chosen = assets[_choose(assets, asset, name)]
        if not isinstance(href := chosen.get("href"), str) or not href:
            raise DataError(name, "an asset has no href", "mend the item")
        yield resolve(href, where)


def _choose(assets: dict[str, dict[str, Any]], asset: str | None, where: str) -> str:
    """Return the name of the asset that is the scene."""
    images = [name for name, each in assets.items() if _is_image(each)]
    # Many catalogues give no roles.
    marked = [name for name in images if ROLES & set(assets[name].get("roles") or ())] or images
    if asset is not None:
        if asset in assets:
            return asset
        listed = ", ".join(images or assets)
        raise ConfigError("--asset", f'{where} has no asset "{asset}"', f"use one of {listed}")
    if not marked:
        problem = f"has no asset of imagery ({', '.join(assets) or 'none at all'})"
        raise DataError(where, problem, "name one with --asset, if it is a raster")
    if len(marked) > 1:
        problem = f"{where} has {len(marked)} assets of imagery"
        remedy = f"name one: {', '.join(marked)} (join bands in files of their own by gdalbuildvrt)"
        raise ConfigError("--asset", problem, remedy)
    return marked[0]


def _is_asset(value: object) -> bool:
    roles = value.get("roles") or [] if isinstance(value, dict) else None
    return isinstance(roles, list) and all(isinstance(role, str) for role in roles)


def _is_image(asset: dict[str, Any]) -> bool:
    media = str(asset.get("type", "")).partition(";")[0].strip().lower()
    return media in MEDIA and not {"thumbnail", "overview"} & set(asset.get("roles") or ())


def resolve(href: str, where: RasterFile) -> RasterFile:
    """Return the file at an address that a file has, which may be relative to that file.

    Raises:
        DataError: If a remote file names a local one.
    """
    if is_remote(href):
        return parse_remote(href)
    if isinstance(where, RemoteFile):
        if urlsplit(href).scheme or (href.startswith("/") and where.scheme == "s3"):
            raise _wrong_address(href, where)
        # urljoin knows no s3://.
        joined = urljoin(where.url.replace("s3://", "http://", 1), href)
        if where.scheme == "s3":
            return RemoteFile(unquote(joined.replace("http://", "s3://", 1)))
        return RemoteFile(joined)
    parts = urlsplit(href)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    if parts.scheme:
        raise _wrong_address(href, where)
    plain = where.parent / href
    return plain if plain.exists() else where.parent / unquote(href)


def _wrong_address(href: str, where: RasterFile) -> DataError:
    problem = f"has an asset at {hide_query(href)}"
    return DataError(str(where), problem, "write https://, s3:// or a path from the item on")
