"""EuroSAT: 10 classes of 2,000 to 3,000 Sentinel-2 tiles of 64x64, 13 bands of uint16, 10 m."""

from rsdl.data.sources.published import PublishedDataset

FILES = "https://hf.co/datasets/torchgeo/eurosat/resolve/1ce6f1bfb56db63fd91b6ecc466ea67f2509774c"

EUROSAT = PublishedDataset(
    name="eurosat",
    title="EuroSAT, all bands (Helber et al. 2019)",
    archive="EuroSATallBands.zip",
    url=f"{FILES}/EuroSATallBands.zip",
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
    # Neumann et al. 2019 (arXiv 1911.06721), as torchgeo uses them; the spatial one by longitude.
    lists={
        "torchgeo": (
            (f"{FILES}/eurosat-train.txt", "033d0c23e3a75e3fa79618b0e35fe1c7"),
            (f"{FILES}/eurosat-val.txt", "3e3f8b3c344182b8d126c4cc88f3f215"),
            (f"{FILES}/eurosat-test.txt", "f908f151b950f270ad18e61153579794"),
        ),
        "torchgeo-spatial": (
            (f"{FILES}/eurosat-spatial-train.txt", "7be3254be39f23ce4d4d144290c93292"),
            (f"{FILES}/eurosat-spatial-val.txt", "acf392290050bb3df790dc8fc0ebf193"),
            (f"{FILES}/eurosat-spatial-test.txt", "5ec1733f9c16116bf0aa2d921fc613ef"),
        ),
    },
)  # fmt: skip
