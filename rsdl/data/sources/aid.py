"""AID: 30 classes of 220 to 420 RGB JPEGs of 600x600, 0.5 to 8 m, from Google Earth."""

from rsdl.data.sources.published import PublishedDataset

AID = PublishedDataset(
    name="aid",
    title="AID: Aerial Image Data set (Xia et al. 2017)",
    archive="AID.zip",
    url=None,
    md5=None,
    homepage="https://captain-whu.github.io/AID/",
    classes=(
        "Airport", "BareLand", "BaseballField", "Beach", "Bridge", "Center", "Church", "Commercial",
        "DenseResidential", "Desert", "Farmland", "Forest", "Industrial", "Meadow",
        "MediumResidential", "Mountain", "Park", "Parking", "Playground", "Pond", "Port",
        "RailwayStation", "Resort", "River", "School", "SparseResidential", "Square", "Stadium",
        "StorageTanks", "Viaduct",
    ),
    num_images=10_000,
)  # fmt: skip
