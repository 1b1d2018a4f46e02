import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rsdl.core.errors import DataError
from rsdl.data.index import Row, open_index, pack_rows, record_type, rows_to_bytes
from rsdl.data.manifest import MANIFEST, load_manifest, parse_manifest
from rsdl.storage.connect import connect


def page_of(packed: str) -> dict[str, Any]:
    page: dict[str, Any] = json.loads((Path(packed) / MANIFEST).read_text())
    return page


def test_what_is_written_is_read_and_written_alike(packed: str):
    stored = (Path(packed) / MANIFEST).read_bytes()
    manifest = load_manifest(connect(packed))
    assert manifest.to_json() == stored
    assert manifest.digest == hashlib.sha256(stored).hexdigest()
    assert parse_manifest(manifest.to_json(), "x") == manifest


def test_the_digest_tells_any_change(packed: str):
    manifest = load_manifest(connect(packed))
    others = [
        manifest.model_copy(update={"dataset": "other"}),
        manifest.model_copy(update={"mean": (0.0, 0.0, 0.0)}),
        manifest.model_copy(update={"splits": {"train": manifest.splits["train"]}}),
    ]
    assert len({manifest.digest, *(other.digest for other in others)}) == 4


@pytest.mark.parametrize(
    ("change", "problem"),
    [({"mood": "good"}, "unknown field mood"), ({"format": 3}, "format 3, this one reads 2")],
)
def test_what_a_newer_release_wrote_is_refused(change: dict[str, Any], problem: str, packed: str):
    page = page_of(packed) | change
    with pytest.raises(DataError) as caught:
        parse_manifest(json.dumps(page).encode(), "x")
    assert str(caught.value) == f"x: made by a newer rsdl: {problem}; update rsdl"


def test_the_digest_is_that_of_the_stored_bytes_however_they_are_laid_out(packed: str):
    stored = json.dumps(page_of(packed)).encode()
    assert parse_manifest(stored, "x").digest == hashlib.sha256(stored).hexdigest()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"format": 0}, "format: "),
        ({"dtype": "int8"}, "dtype: "),
        ({"target": "mood"}, "target: "),
        ({"classes": []}, "classes: "),
        ({"mean": [1.0]}, "mean, std and bands differ in length"),
        ({"classes": ["a"]}, "class_counts and classes differ in length"),
        ({"splits": None}, "splits: "),
    ],
)
def test_a_broken_manifest_is_one_line(change: dict[str, Any], problem: str, packed: str):
    data = json.dumps(page_of(packed) | change).encode()
    with pytest.raises(DataError, match=r"x/manifest.json: not a manifest of format 2") as caught:
        parse_manifest(data, "x/manifest.json")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_what_is_no_manifest_at_all_is_one_line(data: bytes, packed: str):
    (Path(packed) / MANIFEST).write_bytes(data)
    with pytest.raises(DataError, match=r"not a manifest of format 2: JSON: .*; pack again") as err:
        load_manifest(connect(packed))
    assert "\n" not in str(err.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [("samples", 17), ("samples", -1), ("shards", []), ("index", None)],
)
def test_a_split_whose_numbers_disagree_is_refused(key: str, value: object, packed: str):
    page = page_of(packed)
    page["splits"]["train"][key] = value
    with pytest.raises(DataError, match=r"splits\.train"):
        parse_manifest(json.dumps(page).encode(), "x")


def test_a_missing_manifest_says_how_to_make_one(tmp_path: Path):
    with pytest.raises(DataError) as caught:
        load_manifest(connect(str(tmp_path)), where="data.url")
    assert str(caught.value).startswith(f"data.url: no manifest at {tmp_path}; make one with")
    assert "rsdl data prepare" in str(caught.value)


def test_an_unknown_split_names_the_known_ones(packed: str):
    manifest = load_manifest(connect(packed))
    with pytest.raises(DataError, match=r'data\.val_split: .* no split "dev"; use train, val, tes'):
        manifest.split("dev", where="data.val_split")


ROWS = [
    Row("a", "jpg", 512, 100, 2048, 10, 0),
    Row("a_much_longer_key", "npy", 2**40, 2**31, 0, 0, 7),
]


def test_rows_come_back_as_they_were(packed: str, tmp_path: Path):
    split = load_manifest(connect(packed)).splits["train"]
    two = split.model_copy(
        update={"samples": 2, "shards": (split.shards[0].model_copy(update={"samples": 2}),)}
    )
    (tmp_path / "index.npy").write_bytes(rows_to_bytes(pack_rows(ROWS)))
    index = open_index(tmp_path / "index.npy", two, "index")
    assert index.keys(np.array([1, 0])) == ["a_much_longer_key", "a"]
    assert index.labels.tolist() == [0, 7]
    assert index.rows[1].tolist()[1:] == (3, 2**40, 2**31, 0, 0, 7)
    assert index.name(1) == f"{split.shards[0].name}:a_much_longer_key"


def npy(array: np.ndarray) -> bytes:
    return rows_to_bytes(array)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is not a readable index"),
        (b"nonsense", "is not a readable index"),
        (npy(np.zeros(18)), "is not an index of samples"),
        (npy(np.zeros(())), "is not an index of samples"),
        (
            npy(np.zeros(18, [*record_type(4).descr, ("score", "f4"), ("box", "f4")])),
            "made by a newer rsdl: unknown column score, box; update rsdl",
        ),
        (npy(np.zeros(18, [("key", "S4"), ("label", "i4")])), "is not an index of samples"),
        (npy(pack_rows(ROWS)), "does not fit the manifest: 2 rows for 18 samples"),
        (npy(pack_rows(ROWS * 9))[:-20], "is not a readable index"),
    ],
)
def test_a_broken_index_is_one_line(data: bytes, problem: str, packed: str):
    split = load_manifest(connect(packed)).splits["train"]
    path = Path(packed) / split.index.name
    path.write_bytes(data)
    with pytest.raises(DataError, match=f"where: {problem}") as caught:
        open_index(path, split, "where")
    assert "\n" not in str(caught.value)


def test_format_1_is_read_as_class_indices(packed: str):
    page = {key: value for key, value in page_of(packed).items() if key != "target"}
    stored = json.dumps(page | {"format": 1, "task": "classification"}).encode()
    manifest = parse_manifest(stored, "x")
    assert (manifest.format, manifest.target) == (2, "class_index")
    assert manifest.digest == hashlib.sha256(stored).hexdigest()


def test_format_1_of_another_task_is_refused(packed: str):
    page = {key: value for key, value in page_of(packed).items() if key != "target"}
    with pytest.raises(DataError, match="x: "):
        parse_manifest(json.dumps(page | {"format": 1, "task": "detection"}).encode(), "x")
