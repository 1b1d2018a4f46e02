"""The published detection sets by their names on the command line.

Arrangements of files are those of their archives, of mmrotate (Apache-2.0) and of torchgeo (MIT);
classes and their order those of the sets' own tools where they have some.
"""

from dataclasses import replace

from rsdl.data.sources.annotations import AnnotationRules, plain_spelling
from rsdl.data.sources.detection_dataset import DetectionDataset, ObjectRule
from rsdl.data.sources.rareplanes import read_rareplanes
from rsdl.data.sources.segmentation_dataset import Other, split_of_folder
from rsdl.data.sources.text_annotations import VHR10_CLASSES, read_dota_file, read_vhr10_file
from rsdl.data.sources.voc import read_voc_file
from rsdl.data.sources.xview import read_xview

# The order of DOTA_devkit (https://github.com/CAPTAIN-WHU/DOTA_devkit) and of mmrotate.
DOTA_CLASSES = (
    "plane", "baseball-diamond", "bridge", "ground-track-field", "small-vehicle", "large-vehicle",
    "ship", "tennis-court", "basketball-court", "storage-tank", "soccer-ball-field", "roundabout",
    "harbor", "swimming-pool", "helicopter", "container-crane", "airport", "helipad",
)  # fmt: skip
# The order of the paper (Li et al. 2020, table 1), in the spelling of the annotations.
DIOR_CLASSES = (
    "airplane", "airport", "baseballfield", "basketballcourt", "bridge", "chimney", "dam",
    "Expressway-Service-area", "Expressway-toll-station", "golffield", "groundtrackfield", "harbor",
    "overpass", "ship", "stadium", "storagetank", "tenniscourt", "trainstation", "vehicle",
    "windmill",
)  # fmt: skip
# The order of torchgeo.
FAIR1M_CLASSES = (
    "Passenger Ship", "Motorboat", "Fishing Boat", "Tugboat", "other-ship", "Engineering Ship",
    "Liquid Cargo Ship", "Dry Cargo Ship", "Warship", "Small Car", "Bus", "Cargo Truck",
    "Dump Truck", "other-vehicle", "Van", "Trailer", "Tractor", "Excavator", "Truck Tractor",
    "Boeing737", "Boeing747", "Boeing777", "Boeing787", "ARJ21", "C919", "A220", "A321", "A330",
    "A350", "other-airplane", "Baseball Field", "Basketball Court", "Football Field",
    "Tennis Court", "Roundabout", "Intersection", "Bridge",
)  # fmt: skip


def _named(classes: tuple[str, ...], remedy: str) -> AnnotationRules:
    """Return rules that take these classes, however they are spelled."""
    spellings = {plain_spelling(name): name for name in classes}
    return AnnotationRules(classes=classes, spellings=spellings, remedy=remedy)


def _dota(version: str, num_classes: int, num_images: int) -> DetectionDataset:
    """Return a version of DOTA; all are published with the labels of the others beside."""
    dotted = version.replace(".", r"\.")
    image = r"(train|val|test)/images/(?:.+/)?([^/]+)\.(?:png|jpg)"
    own = (
        rf"(train|val)/(?:labelTxt-v{dotted}/(?:labelTxt/|DOTA-v{dotted}_(?:train|val)/)?"
        rf"|annotations/version{dotted}/)([^/]+)\.txt"
    )
    return DetectionDataset(
        name="dota" if version == "1.0" else f"dota{version}",
        title=f"DOTA-v{version} (Xia et al. 2018, Ding et al. 2021)",
        homepage="https://captain-whu.github.io/DOTA/dataset.html",
        objects=_named(
            DOTA_CLASSES[:num_classes],
            f"it is no label of DOTA-v{version}: prepare dota, dota1.5 or dota2.0 as it says",
        ),
        rules=tuple(
            ObjectRule(
                image=image,
                labels=labels,
                example="train/images/P0000.png",
                labels_example=f"train/{folder}/P0000.txt",
                read=read_dota_file,
                split=split_of_folder,  # the labels of test are not published
                tile=1024,
                overlap=200,
                num_images=num_images,
            )
            for labels, folder in (
                (own, f"labelTxt-v{version}"),
                (r"(train|val)/labelTxt/([^/]+)\.txt", "labelTxt"),
            )
        ),
    )


DOTA = _dota("1.0", 15, 1_869)
DOTA15 = _dota("1.5", 16, 1_869)
DOTA20 = _dota("2.0", 18, 2_423)
XVIEW = DetectionDataset(
    name="xview",
    title="xView (Lam et al. 2018)",
    homepage="https://xviewdataset.org",
    rules=(
        ObjectRule(  # 1395.tif has annotations, and is missing; the labels of val are not published
            image=r"train_images/(?:.+/)?([^/]+)\.tif",
            labels=r"xView_train\.geojson",
            example="train_images/1036.tif",
            labels_example="xView_train.geojson",
            read_all=read_xview,
            tile=512,
            overlap=128,
            num_images=846,
        ),
    ),
)


def _rareplanes(
    images: str, labels: str, example: str, labels_example: str, tile: int | None = None
) -> ObjectRule:
    return ObjectRule(
        image=images,
        labels=rf"metadata_annotations/{labels}",
        example=example,
        labels_example=f"metadata_annotations/{labels_example}",
        read_all=read_rareplanes,
        tile=tile,
        overlap=0 if tile is None else 128,
        group_by=r"[^/]+(?=_tile_\d+)|[^/]+$" if tile is None else None,
    )


REAL = r"(train|test)/PS-RGB_tiled/(?:.+/)?([^/]+)\.png", "train/PS-RGB_tiled/100_..._tile_319.png"
RAREPLANES = DetectionDataset(
    name="rareplanes",
    title="RarePlanes (Shermeyer et al. 2020)",
    homepage="https://www.cosmiqworks.org/rareplanes-public-user-guide",
    attributes=True,
    rules=(
        _rareplanes(
            REAL[0],
            r"RarePlanes_(train|test)_Coco_Annotations_tiled\.json",
            REAL[1],
            "RarePlanes_Train_Coco_Annotations_tiled.json",
        ),
        _rareplanes(
            REAL[0],
            r"instances_(train|test)_aircraft\.json",
            REAL[1],
            "instances_train_aircraft.json",
        ),
        _rareplanes(  # the synthetic ones
            r"(train|test)/images/([^/]+)\.png",
            r"instances_(train|test)_aircraft\.json",
            "train/images/Adelaide_Airport_0_0_101.png",
            "instances_train_aircraft.json",
            512,  # of 1,920 x 1,080; the real ones are tiles of 512 px
        ),
    ),
)


def _dior(name: str, title: str, *folders: str) -> DetectionDataset:
    """Return DIOR or DIOR-R, which have the same images, with annotations in these folders."""
    return DetectionDataset(
        name=name,
        title=title,
        homepage="https://gcheng-nwpu.github.io/#Datasets",
        objects=_named(DIOR_CLASSES, "it is no class of DIOR's"),
        rules=tuple(
            ObjectRule(
                image=r"JPEGImages(?:-trainval|-test)?/([^/]+)\.jpg",
                labels=rf"Annotations/{folder}([^/]+)\.xml",
                example="JPEGImages-trainval/00001.jpg",
                labels_example=f"Annotations/{folder}00001.xml",
                read=read_voc_file,
                lists=r"Main/(train|val|test)\.txt",
                lists_example="ImageSets/Main/train.txt",
                num_images=23_463,
            )
            for folder in folders
        ),
        others=(
            Other(
                "oriented bounding boxes/",
                'has the boxes at angles of DIOR-R: prepare "dior_r" for these',
            ),
        ),
    )


DIOR_R = _dior("dior_r", "DIOR-R (Cheng et al. 2022)", "Oriented Bounding Boxes/")
DIOR = _dior("dior", "DIOR (Li et al. 2020)", "Horizontal Bounding Boxes/", "")
DIOR = replace(
    DIOR,
    rules=(
        *DIOR.rules,
        ObjectRule(  # as torchgeo arranges it, without the annotations of test
            image=r"Images/(trainval|test)/([^/]+)\.jpg",
            labels=r"Annotations/(trainval|test)/([^/]+)\.xml",
            example="Images/trainval/00001.jpg",
            labels_example="Annotations/trainval/00001.xml",
            read=read_voc_file,
            lists=r"sample_df\.csv()",
            lists_example="sample_df.csv",
            num_images=11_725,
        ),
    ),
)
VHR10 = DetectionDataset(
    name="vhr10",
    title="NWPU VHR-10 (Cheng et al. 2014)",
    homepage="https://gcheng-nwpu.github.io/#Datasets",
    objects=AnnotationRules(classes=VHR10_CLASSES),
    rules=(
        ObjectRule(
            image=r"positive[ _]image[ _]set/([^/]+)\.jpg",
            labels=r"ground[ _]truth/([^/]+)\.txt",
            empty=r"negative[ _]image[ _]set/([^/]+)\.jpg",
            example="positive image set/001.jpg",
            labels_example="ground truth/001.txt",
            read=read_vhr10_file,
            num_images=800,
        ),
    ),
)
HRSC2016 = DetectionDataset(
    name="hrsc2016",
    title="HRSC2016 (Liu et al. 2017)",
    homepage="https://www.kaggle.com/datasets/guofeng/hrsc2016",
    # Of three levels of classes the first, as most papers and mmrotate.
    objects=AnnotationRules(single="ship"),
    rules=(
        ObjectRule(
            image=r"FullDataSet/AllImages/([^/]+)\.bmp",
            labels=r"FullDataSet/Annotations/([^/]+)\.xml",
            example="FullDataSet/AllImages/100000001.bmp",
            labels_example="FullDataSet/Annotations/100000001.xml",
            read=read_voc_file,
            lists=r"ImageSets/(train|val|test)\.txt",
            lists_example="ImageSets/train.txt",
        ),
        ObjectRule(
            image=r"(train|test)/AllImages/([^/]+)\.bmp",
            labels=r"(train|test)/Annotations/([^/]+)\.xml",
            example="Train/AllImages/100000001.bmp",
            labels_example="Train/Annotations/100000001.xml",
            read=read_voc_file,
            split=split_of_folder,
            num_images=1_061,
        ),
    ),
)
FAIR1M = DetectionDataset(
    name="fair1m",
    title="FAIR1M (Sun et al. 2022)",
    homepage="https://www.gaofen-challenge.com/benchmark",
    objects=_named(FAIR1M_CLASSES, "it is no class of FAIR1M's"),
    rules=(
        ObjectRule(  # the labels of test are not published
            image=r"(train|val|validation|test)/((?:part\d+/)?)images/([^/]+)\.tiff?",
            labels=r"(train|val|validation)/((?:part\d+/)?)labelXmls?/([^/]+)\.xml",
            example="train/part1/images/0.tif",
            labels_example="train/part1/labelXml/0.xml",
            read=read_voc_file,
            split=split_of_folder,
            tile=1024,
            overlap=200,
        ),
    ),
)
DETECTION_DATASETS: dict[str, DetectionDataset] = {
    dataset.name: dataset
    for dataset in (
        DOTA, DOTA15, DOTA20, XVIEW, RAREPLANES, DIOR, DIOR_R, VHR10, HRSC2016, FAIR1M,
    )
}  # fmt: skip
