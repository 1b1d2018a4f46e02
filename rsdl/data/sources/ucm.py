"""UC Merced Land Use: 21 classes x 100 RGB TIFFs of 256x256 (some a little smaller), 0.3 m."""

from rsdl.data.sources.published import PublishedDataset

FILES = "https://hf.co/datasets/torchgeo/ucmerced/resolve/7c5ef3454d9b1cccfa7ccde0c01fc8f00a45909a"

UCM = PublishedDataset(
    name="ucm",
    title="UC Merced Land Use (Yang and Newsam 2010)",
    archive="UCMerced_LandUse.zip",
    url=f"{FILES}/UCMerced_LandUse.zip",
    md5="5b7ec56793786b6dc8a908e8854ac0e4",
    homepage="http://weegee.vision.ucmerced.edu/datasets/landuse.html",
    classes=(
        "agricultural", "airplane", "baseballdiamond", "beach", "buildings", "chaparral",
        "denseresidential", "forest", "freeway", "golfcourse", "harbor", "intersection",
        "mediumresidential", "mobilehomepark", "overpass", "parkinglot", "river", "runway",
        "sparseresidential", "storagetanks", "tenniscourt",
    ),
    num_images=2_100,
    # Neumann et al. 2019 (arXiv 1911.06721), as torchgeo uses them.
    lists={
        "torchgeo": (
            (f"{FILES}/uc_merced-train.txt", "f2fb12eb2210cfb53f93f063a35ff374"),
            (f"{FILES}/uc_merced-val.txt", "11ecabfc52782e5ea6a9c7c0d263aca0"),
            (f"{FILES}/uc_merced-test.txt", "046aff88472d8fc07c4678d03749e28d"),
        ),
    },
)  # fmt: skip
