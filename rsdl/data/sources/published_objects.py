"""Published detection sets: how images and annotations are found and split.

As of segmentation sets, files are recognized by their paths; see
:mod:`rsdl.data.sources.published_masks`.
"""

import csv
import hashlib
import logging
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

from rsdl.core.errors import ConfigError, DataError
from rsdl.data.kinds import READABLE
from rsdl.data.sources.annotation_files import LabelledImages, read_labels, read_text
from rsdl.data.sources.annotations import AnnotatedImages, AnnotationReader, AnnotationRules
from rsdl.data.sources.detection_dataset import DetectionDataset, ObjectRule
from rsdl.data.sources.folder import FRACTIONS
from rsdl.data.sources.image_layout import RGB
from rsdl.data.sources.listing import SPLIT_NAMES, ImageFile, Tree, unique_keys, walk_images
from rsdl.data.sources.object_options import ObjectOptions
from rsdl.data.sources.object_source import ObjectSource
from rsdl.data.sources.path_rules import Match, match_paths
from rsdl.data.sources.published import PublishedChoice, by_hand, unpack_origin
from rsdl.data.sources.split_files import SplitFile, read_split_files

SUFFIXES = (".txt", ".xml", ".json", ".geojson", ".csv")

log = logging.getLogger(__name__)

Files = list[tuple[str, int, int]]
Matches = dict[tuple[str, ...], Match]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectChoice(PublishedChoice):
    """The user's choice of splits, tiles and classes.

    Attributes:
        overlap: Pixels two neighbouring tiles share, instead of the rule's.
        class_from: Attribute of an object that is its class.
    """

    overlap: int | None = None
    class_from: str | None = None


def prepare_objects(
    dataset: DetectionDataset, choice: ObjectChoice, *, origin: Path | None, work: Path
) -> ObjectSource:
    """Return a detection set as a source, after unpacking it if needed.

    Args:
        dataset: The set to prepare.
        choice: The user's choice of splits, tiles and classes.
        origin: A folder that holds the files, or an archive.
        work: Folder for the unpacked files of an archive; the next run reuses it.

    Raises:
        ConfigError: If tiles are out of their range, or the objects have no attributes to choose.
        DataError: If the data are not given, cannot be unpacked, or parts are missing or wrong.
    """
    if choice.class_from is not None and not dataset.attributes:
        problem = f"the objects of {dataset.name} have a class each, and no attributes"
        raise ConfigError("--class-from", problem, "leave it out")
    if origin is None:
        raise by_hand(dataset.name, dataset.homepage)
    folder, unpacked = unpack_origin(dataset.name, origin, work, ())
    folder = folder.absolute()
    left_out: Counter[str] = Counter()
    files = sorted(walk_images(folder, (), left_out, SUFFIXES))
    rule, images_found, labels_found = find_rule(folder, dataset, files)
    rules = replace(dataset.objects, class_from=choice.class_from)
    if rule.read is not None:
        reader = AnnotationReader(rules, rules.choose_classes(None))
        images = _read_each(folder, rule, files, (images_found, labels_found), reader)
        left_out.update(images.tree.left_out)
    else:
        images = _read_all(folder, rule, images_found, labels_found, rules)
        left_out = Counter(images.tree.left_out)
        for suffix in SUFFIXES:
            del left_out[f"*{suffix}"]
    images = images._replace(layout=dataset.name)
    if rule.num_images not in (None, len(images.objects)):
        counts = len(images.objects), rule.num_images
        log.warning("%s: %d images with annotations; the publication has %d", dataset.name, *counts)
    is_published = choice.is_published
    provenance: dict[str, object] = {"title": dataset.title, "homepage": dataset.homepage}
    if is_published and images.tree.has_splits:
        _check_train(folder, rule, images)
        provenance["split_rule"] = "published"
    if not is_published or not images.tree.has_splits:
        plain = tuple(file._replace(split=None) for file in images.tree.files)
        images = images._replace(tree=images.tree._replace(files=plain, has_splits=False))
    lists = choice.lists
    if is_published and rule.lists is not None:
        lists = _read_lists(folder, rule, files, images)
    tree = images.tree._replace(left_out=dict(left_out))
    options = _options(rule, choice, lists, dataset.name, has_splits=tree.has_splits)
    return ObjectSource(images._replace(tree=tree), options, provenance | unpacked)


def _options(
    rule: ObjectRule,
    choice: ObjectChoice,
    lists: Mapping[str, SplitFile] | None,
    name: str,
    *,
    has_splits: bool,
) -> ObjectOptions:
    is_drawn = lists is None and not has_splits
    return ObjectOptions(
        tile=(rule.tile if choice.tile is None else choice.tile) or None,
        overlap=rule.overlap if choice.overlap is None else choice.overlap,
        fractions=choice.fractions or FRACTIONS,
        seed=choice.seed,
        group_by=rule.group_by if is_drawn else None,
        lists=lists,
        name=name,
        bands=RGB,
    )


def find_rule(
    folder: Path, dataset: DetectionDataset, files: Files
) -> tuple[ObjectRule, Matches, Matches]:
    """Return the first rule that finds images and annotations, and both by their groups.

    Raises:
        DataError: If there is none; says which part is missing.
    """
    partial: list[str] = []
    for rule in dataset.rules:
        images = match_paths(rule.image, files, folder)
        labels = match_paths(rule.labels, files, folder)
        if rule.read_all is not None:
            if images and labels:
                return rule, images, labels
        elif images.keys() & labels.keys():
            return rule, images, labels
        if images:
            path = next(iter(images.values())).path
            partial.append(f'has images such as "{path}", and no {rule.labels_example} to go with')
        elif labels:
            path = next(iter(labels.values())).path
            partial.append(f'has annotations such as "{path}", and no {rule.example} to go with')
    remedy = 'name the folder above with --from, or use "rsdl data pack" for other files'
    for pattern, problem in dataset.others:
        if any(re.search(pattern, path, re.IGNORECASE) for path, *_ in files):
            raise DataError(str(folder), problem, remedy)
    if partial:
        raise DataError(str(folder), partial[0], f"put it there, or {remedy}")
    first = dataset.rules[0]
    problem = f"holds no image of {dataset.name} with annotations"
    problem += f", such as {first.example} with {first.labels_example}"
    raise DataError(str(folder), problem, remedy)


def _read_each(
    folder: Path,
    rule: ObjectRule,
    files: Files,
    found: tuple[Matches, Matches],
    reader: AnnotationReader,
) -> AnnotatedImages:
    """Return the images of a rule with their own files of annotations."""
    assert rule.read is not None
    images, labels = found
    empty = match_paths(rule.empty, files, folder) if rule.empty is not None else {}
    rows = [(each, each.groups, _split(rule, each)) for each in images.values()]
    rows += [(each, ("empty", *each.groups), None) for each in empty.values()]
    keys = unique_keys(
        [
            "/".join(filter(None, (name.strip("/") for name in groups))) + ".x"
            for _, groups, _ in rows
        ],
        has_splits=False,
    )
    listed = sorted(
        ImageFile(each.path, each.size, 0, key, split, each.modified_ns)
        for (each, _, split), key in zip(rows, keys, strict=True)
    )
    paired = {each.path: folder / labels[key].path for key, each in images.items() if key in labels}
    left_out: Counter[str] = Counter()
    if lost := len(labels) - len(paired):
        left_out["annotations without an image"] = lost
    if others := sum(Path(path).suffix.lower() in READABLE for path, *_ in files) - len(rows):
        left_out["images of other kinds"] = others
    tree = Tree(folder, ("",), tuple(listed), rule.split is not None, {})
    folder_of_empty = next((Path(each.path).parent.name for each in empty.values()), None)
    pairs = LabelledImages(tree, paired, left_out)
    return read_labels(pairs, reader, rule.read, "published", folder_of_empty)


def _split(rule: ObjectRule, image: Match) -> str | None:
    return rule.split(image.groups) if rule.split is not None else None


def _read_all(
    folder: Path, rule: ObjectRule, images: Matches, labels: Matches, rules: AnnotationRules
) -> AnnotatedImages:
    """Return the images of a rule with the annotations of all of them, or of a split of them."""
    assert rule.read_all is not None
    root = folder / next(iter(images.values())).top
    paths = []
    for each in labels.values():
        split = "".join(f"{SPLIT_NAMES[name.casefold()]}=" for name in each.groups)
        paths.append(f"{split}{folder / each.path}")
    return rule.read_all(root, rules, tuple(paths))


def _check_train(folder: Path, rule: ObjectRule, images: AnnotatedImages) -> None:
    if all(file.split != "train" for file in images.tree.files):
        problem = f"has no images of train with annotations, such as {rule.example} with"
        remedy = "put them there, or draw the splits with --split 0.8,0.1,0.1"
        raise DataError(str(folder), f"{problem} {rule.labels_example}", remedy)


def _read_lists(
    folder: Path, rule: ObjectRule, files: Files, images: AnnotatedImages
) -> dict[str, SplitFile]:
    """Return the published lists of the images of each split.

    Raises:
        DataError: If one is missing.
    """
    assert rule.lists is not None
    found = match_paths(rule.lists, files, folder)
    first = next(iter(found.values()), None)
    if first is not None and len(found) == 1 and first.path.endswith(".csv"):
        return _read_table(folder, first, images)
    paths = {SPLIT_NAMES[name]: folder / each.path for (name,), each in found.items()}
    missing = [split for split in ("train", "val", "test") if split not in paths]
    if missing:
        path = rule.lists_example.replace("train", missing[0])
        problem = f"has no {path}, which lists the published split"
        remedy = "put it there, or draw the splits with --split 0.8,0.1,0.1"
        raise DataError(str(folder), problem, remedy)
    return read_split_files([str(paths[split]) for split in ("train", "val", "test")])


def _read_table(folder: Path, table: Match, images: AnnotatedImages) -> dict[str, SplitFile]:
    """Return the splits of torchgeo's table of images, of those that have annotations."""
    path = folder / table.path
    text = read_text(path)
    digest = hashlib.sha256(text.encode()).hexdigest()
    names: dict[str, list[str]] = {}
    try:
        for row in csv.DictReader(StringIO(text)):
            if (name := f"{table.top}{row['image_path']}") in images.objects:
                names.setdefault(SPLIT_NAMES[row["split"]], []).append(name)
    except KeyError as error:
        problem = f"is no table of images with image_path and split: {error}"
        raise DataError(str(path), problem, "download it again") from error
    return {split: SplitFile(path, digest, tuple(rows)) for split, rows in names.items()}
