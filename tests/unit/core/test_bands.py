import pytest

from rsdl.core.bands import find_rgb, match_bands

SENTINEL2 = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11"]


@pytest.mark.parametrize(
    ("bands", "expected"),
    [
        (["red", "green", "blue", "nir"], (3, 2, 1, 7)),
        (["b4", "B03", "Blue", "b08"], (3, 2, 1, 7)),
        (["B8A", "nir08", "b8", "swir16", "B10"], (8, 8, 7, 11, 10)),
        (["thermal", "B12", "rededge"], (None, None, None)),
        ([], ()),
    ],
)
def test_bands_are_matched_by_any_of_their_names(bands: list[str], expected: tuple[int, ...]):
    assert match_bands(bands, SENTINEL2) == expected


def test_red_green_and_blue_are_found_only_where_all_are_named():
    assert find_rgb(SENTINEL2) == (3, 2, 1)
    assert find_rgb(["nir", "Red", "green", "BLUE"]) == (1, 2, 3)
    assert find_rgb(["red", "green", "nir"]) is None
