"""The published segmentation sets by their names on the command line.

Paths, classes and archives are those of torchgeo (MIT) where it has the set.
"""

from rsdl.data.sources.isprs import POTSDAM, VAIHINGEN
from rsdl.data.sources.segmentation_dataset import (
    Archive,
    Groups,
    MaskClasses,
    PairRule,
    SegmentationDataset,
    split_of_folder,
)
from rsdl.data.sources.spacenet import SPACENET
from rsdl.raster.picture import PictureRules

LANDCOVERAI_CLASSES = MaskClasses(("background", "building", "woodland", "water", "road"))
ROADS = MaskClasses(("0=background", "1=road", "255=road"))
DEEPGLOBE_COLOURS = MaskClasses(colours="deepglobe", nearest_colour=True)


def split_of_number(groups: Groups) -> str:
    """Return val for the first five tiles of a city, as the authors of Inria advise."""
    return "val" if int(groups[-1]) <= 5 else "train"


LOVEDA = SegmentationDataset(
    name="loveda",
    title="LoveDA (Wang et al. 2021)",
    homepage="https://github.com/Junjue-Wang/LoveDA",
    # Its test split has no masks.
    archives=(
        Archive(
            "https://zenodo.org/records/5706578/files/Train.zip?download=1",
            "de2b196043ed9b4af1690b3f9a7d558f",
        ),
        Archive(
            "https://zenodo.org/records/5706578/files/Val.zip?download=1",
            "84cae2577468ff0b5386758bb386d31d",
        ),
    ),
    rules=(
        PairRule(
            image=r"(train|val|test)/(rural|urban)/images_png/(\d+)\.png",
            mask=r"(train|val|test)/(rural|urban)/masks_png/(\d+)\.png",
            example="Train/Rural/images_png/0.png",
            masks=MaskClasses(
                (
                    "1=background", "2=building", "3=road", "4=water", "5=barren", "6=forest",
                    "7=agriculture",
                ),
                ignore=("0",),
            ),
            split=split_of_folder,
            num_pairs=4_191,
        ),
    ),
)  # fmt: skip
LANDCOVERAI = SegmentationDataset(
    name="landcoverai",
    title="LandCover.ai v1 (Boguszewski et al. 2021)",
    homepage="https://landcover.ai.linuxpolska.com/",
    archives=(
        Archive(
            "https://landcover.ai.linuxpolska.com/download/landcover.ai.v1.zip",
            "3268c89070e8734b4e91d531c0617e03",
        ),
    ),
    rules=(
        PairRule(
            image=r"images/([^/]+)\.tif",
            mask=r"masks/([^/]+)\.tif",
            example="images/M-33-20-D-c-4-2.tif",
            masks=LANDCOVERAI_CLASSES,
            listed="tiles",
            num_pairs=41,
        ),
        PairRule(  # what its script split.py leaves
            image=r"output/([^/]+_\d+)\.jpg",
            mask=r"output/([^/]+_\d+)_m\.png",
            example="output/M-33-20-D-c-4-2_0.jpg",
            masks=LANDCOVERAI_CLASSES,
            tile=None,
            listed="images",
            group_by=r"([^/]+)_\d+\.jpg$",
            num_pairs=10_674,
        ),
    ),
)
INRIA = SegmentationDataset(
    name="inria",
    title="Inria Aerial Image Labeling (Maggiori et al. 2017)",
    homepage="https://project.inria.fr/aerialimagelabeling/",
    rules=(
        PairRule(  # the images of test have no masks
            image=r"(train|test)/images/([a-z-]+)(\d+)\.tif",
            mask=r"(train|test)/gt/([a-z-]+)(\d+)\.tif",
            example="train/images/austin1.tif",
            masks=MaskClasses(("0=background", "1=building", "255=building")),
            split=split_of_number,
            num_pairs=180,
        ),
    ),
)
MASSACHUSETTS_ROADS = SegmentationDataset(
    name="massachusetts_roads",
    title="Massachusetts Roads (Mnih 2013)",
    homepage="https://www.cs.toronto.edu/~vmnih/data/",
    # Areas without imagery are white in images, and have labels all the same.
    pictures=PictureRules(nodata=255),
    rules=(
        PairRule(
            image=r"(train|valid|test)/sat/([^/]+)\.tiff?",
            mask=r"(train|valid|test)/map/([^/]+)\.tiff?",
            example="train/sat/10078660_15.tiff",
            masks=ROADS,
            split=split_of_folder,
            num_pairs=1_171,
        ),
        PairRule(  # the copy at Kaggle
            image=r"(train|val|test)/([^/]+)\.(?:tiff?|png)",
            mask=r"(train|val|test)_labels/([^/]+)\.(?:tiff?|png)",
            example="tiff/train/10078660_15.tiff",
            masks=ROADS,
            split=split_of_folder,
            num_pairs=1_171,
        ),
        PairRule(
            image=r"images/([^/]+)\.(?:tiff?|png)",
            mask=r"masks/([^/]+)\.(?:tiff?|png)",
            example="images/10078660_15.png",
            masks=ROADS,
            num_pairs=1_171,
        ),
    ),
)
DEEPGLOBE = SegmentationDataset(
    name="deepglobe",
    title="DeepGlobe Land Cover Classification (Demir et al. 2018)",
    homepage="https://www.kaggle.com/datasets/balraj98/deepglobe-land-cover-classification-dataset",
    rules=(
        PairRule(  # the split of torchgeo, and of a copy at Kaggle
            image=r"(training|test)_data/images/(\d+)_sat\.jpg",
            mask=r"(training|test)_data/masks/(\d+)_mask\.png",
            example="training_data/images/1_sat.jpg",
            masks=DEEPGLOBE_COLOURS,
            split=split_of_folder,
            num_pairs=803,
        ),
        PairRule(  # the challenge's: masks of train alone are published, so that splits are drawn
            image=r"(?:land-)?(train|valid|test)/(\d+)_sat\.jpg",
            mask=r"(?:land-)?(train|valid|test)/(\d+)_mask\.png",
            example="train/119_sat.jpg",
            masks=DEEPGLOBE_COLOURS,
            num_pairs=803,
        ),
    ),
)
BURNED = SegmentationDataset(
    name="burned",
    title="Burned areas, Sentinel-2 after the fire (Duan 2025)",
    homepage="https://github.com/Runan-Duan/Wildfire_Detection",
    pictures=PictureRules(narrow=True),
    rules=(
        PairRule(
            image=r"post_fire/([^/]+)\.tif",
            mask=r"masks/([^/]+)\.tif",
            example="post_fire/LISA_20240616.tif",
            masks=MaskClasses(("unburned", "burned")),
            # True colour of 0 to 255 as red, green and blue, reflectance of 0 to 10,000 as B8, B12.
            bands=("red", "green", "blue", "nir", "swir"),
            tile=225,  # the side of most images, the least of all
        ),
    ),
)
SEGMENTATION_DATASETS: dict[str, SegmentationDataset] = {
    dataset.name: dataset
    for dataset in (
        LOVEDA, POTSDAM, VAIHINGEN, LANDCOVERAI, INRIA, MASSACHUSETTS_ROADS, DEEPGLOBE, SPACENET,
        BURNED,
    )
}  # fmt: skip
