"""SpaceNet's footprints of buildings: one satellite image and one GeoJSON file a tile.

Of SpaceNet 1, 2, 6 and 7 the pansharpened red, green and blue are taken, by the paths of the
published archives (as torchgeo, MIT, unpacks them) or of the bucket. Labels of the test tiles are
not published, and authors give no split of the others: it is drawn by blocks of ground, since
tiles adjoin, overlap (SpaceNet 6) or show one place each month (SpaceNet 7).
"""

from rsdl.data.sources.footprints import SUFFIX
from rsdl.data.sources.segmentation_dataset import (
    MaskClasses,
    Other,
    PairRule,
    SegmentationDataset,
)
from rsdl.raster.picture import PictureRules

BUILDINGS = MaskClasses(("background", "building"))
BLOCK_M = 2000.0


def _rule(image: str, mask: str, example: str, num_pairs: int | None = None) -> PairRule:
    return PairRule(
        image=image,
        mask=mask,
        example=example,
        masks=BUILDINGS,
        tile=None,
        block_m=BLOCK_M,
        num_pairs=num_pairs,
    )


SPACENET = SegmentationDataset(
    name="spacenet",
    title="SpaceNet buildings (Van Etten et al. 2018; 6: Shermeyer et al. 2020; 7: Van Etten 2021)",
    homepage="https://spacenet.ai/datasets/",
    # Tiles at the border of the imagery are black outside of it.
    pictures=PictureRules(nodata=0),
    mask_suffixes=(SUFFIX,),
    rules=(
        _rule(  # SpaceNet 1: Rio
            r"(?<!test/)3band/3band_AOI_(\d+)_(\w+?)_img(\d+)\.tif",
            r"geojson/Geo_AOI_(\d+)_(\w+?)_img(\d+)\.geojson",
            "3band/3band_AOI_1_RIO_img1.tif",
            6_940,
        ),
        _rule(  # SpaceNet 2, as archives of Vegas, Paris, Shanghai and Khartoum, or some of them
            r"(?<!test_public/)RGB-PanSharpen/RGB-PanSharpen_AOI_(\d+)_(\w+?)_img(\d+)\.tif",
            r"buildings/buildings_AOI_(\d+)_(\w+?)_img(\d+)\.geojson",
            "AOI_2_Vegas_Train/RGB-PanSharpen/RGB-PanSharpen_AOI_2_Vegas_img1.tif",
        ),
        _rule(  # SpaceNet 2, as in the bucket
            r"SN2_buildings_train_AOI_(\d+)_(\w+?)_PS-RGB_img(\d+)\.tif",
            r"SN2_buildings_train_AOI_(\d+)_(\w+?)_geojson_buildings_img(\d+)\.geojson",
            "PS-RGB/SN2_buildings_train_AOI_2_Vegas_PS-RGB_img1.tif",
        ),
        _rule(  # SpaceNet 6: Rotterdam
            r"SN6_Train_AOI_(\d+)_(\w+?)_PS-RGB_(\d+_\d+)_tile_(\d+)\.tif",
            r"SN6_Train_AOI_(\d+)_(\w+?)_Buildings_(\d+_\d+)_tile_(\d+)\.geojson",
            "PS-RGB/SN6_Train_AOI_11_Rotterdam_PS-RGB_20190804111224_20190804111453_tile_1.tif",
            3_401,
        ),
        _rule(  # SpaceNet 7: a mosaic a month of each place
            r"images_masked/global_monthly_(\d+_\d+)_mosaic_([^/]+)\.tif",
            r"labels/global_monthly_(\d+_\d+)_mosaic_([^/]+)_Buildings\.geojson",
            "images_masked/global_monthly_2018_01_mosaic_L15-0331E-1257N_1327_3160_13.tif",
            1_423,
        ),
    ),
    others=(
        Other(
            r"spacenetroads|geojson_roads|SN[35]_roads",
            "holds roads of SpaceNet 3 or 5, which are lines and no areas",
        ),
        Other(
            r"SN4_buildings|spacenet-buildings|Pan-Sharpen_Atlanta",
            "holds SpaceNet 4, where 27 oblique images share a footprint",
        ),
        Other(r"SN8_", "holds SpaceNet 8, whose labels are floods between two dates"),
    ),
)  # fmt: skip
