"""ISPRS Potsdam and Vaihingen: aerial imagery of 5 and 9 cm with masks of six colours.

Paths and splits are those of torchgeo (MIT); ``img_dir`` and ``ann_dir`` are what the
converters of MMSegmentation write: tiles of 512 px, 0 for no label, then the classes from 1.
"""

from rsdl.data.sources.segmentation_dataset import (
    MaskClasses,
    PairRule,
    SegmentationDataset,
    split_of_tile,
)
from rsdl.raster.picture import PictureRules

ISPRS = "https://www.isprs.org/education/benchmarks/UrbanSemLab/"
# Potsdam's tile 6_7 has cars in (252, 255, 0), and 4_12 was once compressed with loss.
ISPRS_COLOURS = MaskClasses(colours="isprs", nearest_colour=True)
ISPRS_NUMBERS = MaskClasses(
    ("1=impervious", "2=building", "3=low_vegetation", "4=tree", "5=car", "6=clutter"),
    ignore=("0",),
)
# Not the labels of train alone that participants once got, in folders beside the complete ones.
COMPLETE = "(?<!for_participants/)"
POTSDAM_SPLIT = split_of_tile(
    train="2_10 2_11 2_12 3_10 3_11 3_12 4_10 4_11 4_12 5_10 5_11 5_12 6_7 6_8 6_9 6_10 6_11 6_12 "
    "7_7 7_8 7_9 7_10 7_11 7_12",
    test="2_13 2_14 3_13 3_14 4_13 4_14 4_15 5_13 5_14 5_15 6_13 6_14 6_15 7_13",
)
VAIHINGEN_SPLIT = split_of_tile(
    train="1 3 5 7 11 13 15 17 21 23 26 28 30 32 34 37",
    test="2 4 6 8 10 12 14 16 20 22 24 27 29 31 33 35 38",
)


def _potsdam(bands: tuple[str, ...], folder: str, suffix: str) -> PairRule:
    return PairRule(
        image=rf"top_potsdam_(\d+_\d+)_{suffix}\.tif",
        mask=rf"{COMPLETE}top_potsdam_(\d+_\d+)_label\.tif",
        example=f"{folder}/top_potsdam_2_10_{suffix}.tif",
        masks=ISPRS_COLOURS,
        bands=bands,
        split=POTSDAM_SPLIT,
        num_pairs=38,
    )


POTSDAM = SegmentationDataset(
    name="potsdam",
    title="ISPRS 2D Semantic Labeling, Potsdam (Rottensteiner et al. 2012)",
    homepage=ISPRS,
    pictures=PictureRules(alpha="band"),  # near infrared may be tagged as alpha
    rules=(
        _potsdam(("red", "green", "blue", "nir"), "4_Ortho_RGBIR", "RGBIR"),
        _potsdam(("red", "green", "blue"), "2_Ortho_RGB", "RGB"),
        _potsdam(("nir", "red", "green"), "3_Ortho_IRRG", "IRRG"),
        PairRule(
            image=r"img_dir/(?:\w+/)?(\d+_\d+)((?:_\d+){4})\.png",
            mask=r"ann_dir/(?:\w+/)?(\d+_\d+)((?:_\d+){4})\.png",
            example="img_dir/train/2_10_0_0_512_512.png",
            masks=ISPRS_NUMBERS,
            tile=None,
            split=POTSDAM_SPLIT,
            group_by=r"(\d+_\d+)(?:_\d+){4}\.png$",
        ),
    ),
)
VAIHINGEN = SegmentationDataset(
    name="vaihingen",
    title="ISPRS 2D Semantic Labeling, Vaihingen (Rottensteiner et al. 2012)",
    homepage=ISPRS,
    rules=(
        PairRule(
            image=r"top/top_mosaic_09cm_area(\d+)\.tif",
            mask=rf"{COMPLETE}top_mosaic_09cm_area(\d+)\.tif",
            example="top/top_mosaic_09cm_area1.tif",
            masks=ISPRS_COLOURS,
            bands=("nir", "red", "green"),
            split=VAIHINGEN_SPLIT,
            num_pairs=33,
        ),
        PairRule(
            image=r"img_dir/(?:\w+/)?area(\d+)((?:_\d+){4})\.png",
            mask=r"ann_dir/(?:\w+/)?area(\d+)((?:_\d+){4})\.png",
            example="img_dir/train/area1_0_0_512_512.png",
            masks=ISPRS_NUMBERS,
            bands=("nir", "red", "green"),
            tile=None,
            split=VAIHINGEN_SPLIT,
            group_by=r"(area\d+)(?:_\d+){4}\.png$",
        ),
    ),
)
