"""The annotation formats that can be packed, by name."""

from collections.abc import Callable
from pathlib import Path

from rsdl.core.errors import ConfigError
from rsdl.data.sources.annotations import AnnotatedImages, AnnotationRules
from rsdl.data.sources.coco import read_coco
from rsdl.data.sources.rareplanes import read_rareplanes
from rsdl.data.sources.text_annotations import read_dota, read_vhr10
from rsdl.data.sources.voc import read_voc
from rsdl.data.sources.xview import read_xview
from rsdl.data.sources.yolo import read_yolo

Reader = Callable[[Path, AnnotationRules, tuple[str, ...]], AnnotatedImages]

READERS: dict[str, Reader] = {
    "dota": read_dota,
    "coco": read_coco,
    "yolo": read_yolo,
    "voc": read_voc,
    "xview": read_xview,
    "rareplanes": read_rareplanes,
    "vhr10": read_vhr10,
}

# Which options go with which formats, by the field of the rules.
ONLY = {
    "class_from": ("coco", "rareplanes"),
    "outline": ("coco", "voc"),
    "one_based": ("voc",),
}


def read_annotations(
    layout: str, root: Path, rules: AnnotationRules, labels: tuple[str, ...] = ()
) -> AnnotatedImages:
    """Return the images and objects of a data set.

    Args:
        layout: Name of the format.
        root: Folder of the images, or of the data set.
        rules: Which objects are taken.
        labels: Where the annotations are, as ``--labels`` names them.

    Raises:
        ConfigError: If a rule does not go with the format.
        DataError: If images or annotations are missing or wrong.
    """
    for field, layouts in ONLY.items():
        if layout not in layouts and getattr(rules, field) != getattr(AnnotationRules(), field):
            option = f"--{field.replace('_', '-')}"
            raise ConfigError(option, f"goes with {' and '.join(layouts)}", "leave it out")
    return READERS[layout](root, rules, labels)
