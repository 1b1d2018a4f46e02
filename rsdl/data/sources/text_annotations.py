"""Annotations in one text file for each image: DOTA, NWPU VHR-10.

DOTA (Xia et al. 2018): lines ``x1 y1 x2 y2 x3 y3 x4 y4 class difficult`` below ``imagesource:`` and
``gsd:``. NWPU VHR-10 (Cheng et al. 2014): lines ``(x1,y1),(x2,y2),class`` with classes 1 to 10.
"""

import re
from pathlib import Path

from rsdl.core.errors import DataError
from rsdl.data.sources.annotation_files import pair_labels, read_labels, read_text
from rsdl.data.sources.annotations import (
    AnnotatedImages,
    AnnotationReader,
    AnnotationRules,
    box_outline,
)
from rsdl.data.targets.objects import DIFFICULT, IGNORED

HEADER = re.compile(r"(imagesource|gsd|acquisition dates?)\s*:", re.I)
NUMBER = r"\s*(\d+(?:\.\d*)?)\s*"
VHR10_LINE = re.compile(rf"\({NUMBER},{NUMBER}\)\s*,\s*\({NUMBER},{NUMBER}\)\s*,\s*(\d+)", re.ASCII)
VHR10_CLASSES = (
    "airplane", "ship", "storage tank", "baseball diamond", "tennis court", "basketball court",
    "ground track field", "harbor", "bridge", "vehicle",
)  # fmt: skip
FLAGS = (0, DIFFICULT, IGNORED)  # of difficult 0, 1, 2
NEGATIVE = "negative image set"


def read_dota(root: Path, rules: AnnotationRules, labels: tuple[str, ...] = ()) -> AnnotatedImages:
    """Return DOTA's images and objects; see :func:`rsdl.data.sources.annotation_files.pair_labels`.

    Raises:
        DataError: If a line is not eight numbers, a class and difficulty.
    """
    pairs = pair_labels(root, (".txt",), labels)
    return read_labels(
        pairs, AnnotationReader(rules, rules.choose_classes(None)), read_dota_file, "dota"
    )


def read_vhr10(root: Path, rules: AnnotationRules, labels: tuple[str, ...] = ()) -> AnnotatedImages:
    """Return NWPU VHR-10's images and objects; its negative images have none.

    Raises:
        DataError: If a line is not two points and the number of a class.
    """
    pairs = pair_labels(root, (".txt",), labels, NEGATIVE)
    reader = AnnotationReader(rules, rules.choose_classes(VHR10_CLASSES), VHR10_CLASSES)
    return read_labels(pairs, reader, read_vhr10_file, "vhr10", empty=NEGATIVE)


def read_dota_file(path: Path, image: Path, reader: AnnotationReader) -> None:
    """Add the objects of a file of DOTA's to a reader; see :func:`read_dota`."""
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip() or HEADER.match(line.strip()):
            continue
        where, columns = f"{path}:{number}", line.split()
        difficult = 0
        if len(columns) == 10 and columns[9] in ("0", "1", "2"):
            difficult = int(columns[9])
        elif len(columns) not in (8, 9):
            raise _refuse_dota(where, line)
        try:
            outline = [float(text) for text in columns[:8]]
        except ValueError as error:
            raise _refuse_dota(where, line) from error
        if len(columns) == 8 and reader.rules.single is None:
            problem = "has eight numbers and no class"
            raise DataError(where, problem, "add the class, or pass --single-class NAME")
        if len(columns) == 9 and reader.classes is None and _is_number(columns[8]):
            problem = f'"{line.strip()[:80]}" has a number for its class'
            raise DataError(where, problem, f"name the class, or pass --classes {columns[8]},...")
        # The devkit writes 2 where it has cut an object at the edge of a tile.
        name = columns[8] if len(columns) > 8 else ""
        reader.add(outline, name, where, FLAGS[difficult])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _refuse_dota(where: str, line: str) -> DataError:
    problem = f'"{line.strip()[:80]}" is not x1 y1 x2 y2 x3 y3 x4 y4 class difficult (0, 1 or 2)'
    return DataError(where, problem, "correct the line")


def read_vhr10_file(path: Path, image: Path, reader: AnnotationReader) -> None:
    """Add the objects of a file of NWPU VHR-10's to a reader; see :func:`read_vhr10`."""
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        found = VHR10_LINE.fullmatch(line.strip())
        if found is None or not 1 <= int(found[5]) <= len(VHR10_CLASSES):
            problem = f'"{line.strip()[:80]}" is not (x1,y1),(x2,y2),class with a class of 1 to 10'
            raise DataError(f"{path}:{number}", problem, "correct the line")
        left, top, right, bottom = map(float, found.groups()[:4])
        outline = box_outline(left, top, right, bottom)
        reader.add(outline, VHR10_CLASSES[int(found[5]) - 1], f"{path}:{number}")
