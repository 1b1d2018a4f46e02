"""EuroSAT: 10 classes of 2,000 to 3,000 Sentinel-2 tiles of 64x64, 13 bands of uint16, 10 m."""

from rsdl.data.sources.published import PublishedDataset

EUROSAT = PublishedDataset(
    name="eurosat",
    title="EuroSAT, all bands (Helber et al. 2019)",
    archive="EuroSATallBands.zip",
    url="https://hf.co/datasets/torchgeo/eurosat/resolve/1ce6f1bfb56db63fd91b6ecc466ea67f2509774c/EuroSATallBands.zip",
    md5="5ac12b3b2557aa56e1826e981e8e200e",
    homepage="https://github.com/phelber/EuroSAT",
    classes=(
        "AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial", "Pasture",
        "PermanentCrop", "Residential", "River", "SeaLake",
    ),
    num_images=27_000,
    # The order in the files; B8A is indeed last.
    bands=(
        "B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B09", "B10", "B11", "B12", "B8A",
    ),
)  # fmt: skip
