"""Colours of the classes in published masks."""

Colour = tuple[int, int, int]
# Published colours; those of ISPRS are Potsdam's and Vaihingen's.
PALETTES: dict[str, dict[Colour, str | None]] = {
    "isprs": {
        (255, 255, 255): "impervious", (0, 0, 255): "building", (0, 255, 255): "low_vegetation",
        (0, 255, 0): "tree", (255, 255, 0): "car", (255, 0, 0): "clutter", (0, 0, 0): None,
    },
    "deepglobe": {
        (0, 255, 255): "urban", (255, 255, 0): "agriculture", (255, 0, 255): "rangeland",
        (0, 255, 0): "forest", (0, 0, 255): "water", (255, 255, 255): "barren", (0, 0, 0): None,
    },
}  # fmt: skip
