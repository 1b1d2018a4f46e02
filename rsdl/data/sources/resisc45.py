"""NWPU-RESISC45: 45 classes x 700 RGB JPEGs of 256x256, 0.2 to 30 m, from Google Earth."""

from rsdl.data.sources.published import PublishedDataset

FILES = "https://hf.co/datasets/torchgeo/resisc45/resolve/a826b44d938a883185f11ebe3d512d38b464312f"

RESISC45 = PublishedDataset(
    name="resisc45",
    title="NWPU-RESISC45 (Cheng et al. 2017)",
    archive="NWPU-RESISC45.zip",
    url="https://hf.co/datasets/isaaccorley/resisc45/resolve/883edc0eee77b2c84225472f10f126e3ed83fa6e/NWPU-RESISC45.zip",
    md5="75206b2e16446591afa88e2628744886",
    homepage="https://gcheng-nwpu.github.io/#Datasets",
    classes=(
        "airplane", "airport", "baseball_diamond", "basketball_court", "beach", "bridge",
        "chaparral", "church", "circular_farmland", "cloud", "commercial_area",
        "dense_residential", "desert", "forest", "freeway", "golf_course", "ground_track_field",
        "harbor", "industrial_area", "intersection", "island", "lake", "meadow",
        "medium_residential", "mobile_home_park", "mountain", "overpass", "palace", "parking_lot",
        "railway", "railway_station", "rectangular_farmland", "river", "roundabout", "runway",
        "sea_ice", "ship", "snowberg", "sparse_residential", "stadium", "storage_tank",
        "tennis_court", "terrace", "thermal_power_station", "wetland",
    ),
    num_images=31_500,
    # Neumann et al. 2019 (arXiv 1911.06721), as torchgeo uses them.
    lists={
        "torchgeo": (
            (f"{FILES}/resisc45-train.txt", "b5a4c05a37de15e4ca886696a85c403e"),
            (f"{FILES}/resisc45-val.txt", "a0770cee4c5ca20b8c32bbd61e114805"),
            (f"{FILES}/resisc45-test.txt", "3dda9e4988b47eb1de9f07993653eb08"),
        ),
    },
)  # fmt: skip
