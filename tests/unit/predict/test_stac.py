"""The scene of a STAC item is its imagery, or the asset that is named."""

import json
from pathlib import Path
from typing import Any

import pytest

from rsdl.core.errors import ConfigError, DataError
from rsdl.predict.find import find_files
from rsdl.predict.stac import find_assets, resolve
from rsdl.raster.remote import RasterFile, RemoteFile
from tests.unit.predict.scenes import draw_scene

COG = "image/tiff; application=geotiff; profile=cloud-optimized"
ITEM = Path("/in/item.json")


def item(**assets: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Feature", "stac_version": "1.0.0", "id": "one", "assets": assets}


def tif(href: str, *roles: str) -> dict[str, Any]:
    return {"href": href, "type": COG} | ({"roles": list(roles)} if roles else {})


def chosen(document: Any, asset: str | None = None, where: RasterFile = ITEM) -> list[str]:  # noqa: ANN401
    return [str(file) for file in find_assets(document, where, asset)]


def test_the_only_imagery_is_taken():
    document = item(
        thumbnail={"href": "a.png", "type": "image/png", "roles": ["thumbnail"]},
        small=tif("small.tif", "overview"),
        mask=tif("cloud.tif", "cloud"),
        meta={"href": "a.xml", "type": "application/xml", "roles": ["metadata"]},
        image=tif("a.tif", "data"),
    )
    assert chosen(document) == ["/in/a.tif"]
    assert chosen(item(image=tif("a.tif"))) == ["/in/a.tif"]  # without roles


def test_of_several_one_must_be_named():
    document = item(red=tif("red.tif", "data"), visual=tif("rgb.tif", "visual"), scl=tif("s.tif"))
    with pytest.raises(ConfigError, match=r"--asset: .*has 2 assets of imagery; .*red, visual"):
        chosen(document)
    assert chosen(document, "visual") == ["/in/rgb.tif"]
    assert chosen(document, "scl") == ["/in/s.tif"]
    with pytest.raises(ConfigError, match='no asset "nir"; use one of red, visual, scl'):
        chosen(document, "nir")


def test_a_saved_search_gives_each_item():
    items = [item(image=tif(f"{name}.tif", "data")) for name in "ab"]
    assert chosen({"type": "FeatureCollection", "features": items}) == ["/in/a.tif", "/in/b.tif"]


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ([1], "no STAC item"),
        ({"type": "FeatureCollection", "features": [{"geometry": None}]}, "no STAC item"),
        (item(meta={"href": "a.xml", "type": "text/xml"}), r"no asset of imagery \(meta\)"),
        (item(), "no asset of imagery"),
        (item(image={"type": COG, "roles": ["data"]}), "an asset has no href"),
        (item(image={"type": COG, "roles": 5, "href": "a.tif"}), "no STAC item"),
        (item(image={"type": COG, "roles": [{}], "href": "a.tif"}), "no STAC item"),
        (item(image=tif("gs://bucket/a.tif")), "has an asset at gs://bucket/a.tif"),
    ],
)
def test_what_is_no_item_with_imagery_is_refused(document: Any, problem: str):  # noqa: ANN401
    with pytest.raises(DataError, match=problem):
        chosen(document)


@pytest.mark.parametrize(
    ("where", "href", "found"),
    [
        ("https://host/items/one.json", "../cogs/a%20b.tif", "https://host/cogs/a%20b.tif"),
        ("https://host/items/one.json?token=x", "a.tif?sig=y", "https://host/items/a.tif?sig=y"),
        ("https://host/items/one.json", "/cogs/a.tif", "https://host/cogs/a.tif"),
        ("https://host/items/one.json", "s3://bucket/a.tif", "s3://bucket/a.tif"),
        ("s3://bucket/items/one.json", "./a.tif", "s3://bucket/items/a.tif"),
        ("s3://bucket/items/one.json", "../a.tif", "s3://bucket/a.tif"),
    ],
)
def test_addresses_are_relative_to_the_item(where: str, href: str, found: str):
    assert resolve(href, RemoteFile(where)) == RemoteFile(found)


def test_a_remote_item_names_no_file_of_this_machine():
    for href in ("file:///etc/a.tif", "ftp://host/a.tif"):
        with pytest.raises(DataError, match="has an asset at"):
            resolve(href, RemoteFile("https://host/one.json"))
    assert resolve("file:///data/a%20b.tif", ITEM) == Path("/data/a b.tif")


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("", "SCENES: one is empty"),
        ("ftp://host/a.tif", "ftp://host/a.tif: is no address"),
        ("/vsicurl/https://host/a.tif", "/vsicurl/https://host/a.tif: is no address"),
    ],
)
def test_what_names_no_scene_is_refused_as_it_was_typed(path: str, problem: str):
    with pytest.raises(DataError, match=problem):
        find_files([path])


def test_an_item_on_disk_leads_to_its_scene_once(tmp_path: Path):
    draw_scene(tmp_path / "a.tif")
    (tmp_path / "item.json").write_text(json.dumps(item(image=tif("./a.tif", "data"))))
    found = find_files([str(tmp_path / "item.json"), str(tmp_path / "a.tif")])
    assert found == [tmp_path / "a.tif"]
    draw_scene(tmp_path / "b c.tif")
    (tmp_path / "quoted.json").write_text(json.dumps(item(image=tif("b%20c.tif", "data"))))
    assert find_files([str(tmp_path / "quoted.json")]) == [tmp_path / "b c.tif"]
    (tmp_path / "bad.json").write_text("{not json")
    with pytest.raises(DataError, match=r"bad\.json: is not JSON"):
        find_files([str(tmp_path / "bad.json")])
