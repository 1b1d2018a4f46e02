"""What earlier revisions have written goes on working: see make.py."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import rsdl as api
from rsdl.commands import data
from rsdl.commands.evaluate import evaluate
from rsdl.commands.report import read_entry, report
from rsdl.config.data import DataConfig
from rsdl.config.load import load_config
from rsdl.config.run import flatten
from rsdl.core.errors import ConfigError, DataError
from rsdl.data.dataset import DataSet
from rsdl.data.manifest import load_manifest
from rsdl.records.evaluation import parse_evaluation
from rsdl.records.run_record import LAST
from rsdl.storage.connect import connect
from rsdl.storage.local import LocalStore
from rsdl.train.checkpoint import read_checkpoint, state_of
from rsdl.train.run_folder import RunFolder, check_same_run

MADE = Path(__file__).with_name("0.1.0-06cea31")
FORMATS = {"0.1.0-06cea31": 1, "0.1.0-4b0a3aa": 2}  # of manifests
DIGESTS = {
    "0.1.0-06cea31": {
        "folder": "0765d143060310f153f542298fbf9a1943502ab11c8744cf9b86064e2637860a",
        "geotiff": "29c71341afa17aefe13d0f2b3b8d1f439a6896dc30ec962495ab97d86b664f0c",
        "foreign": "f6d0b55090d8f7f59f9177827820a9d04768c66eccd1c95b9d75bb28903666fa",
    },
    "0.1.0-4b0a3aa": {
        "folder": "610113997c41343c878bd519a7edc67bfd980c581771f9ac9cc4820bd2b24cbb",
        "geotiff": "a5332840bdaa7026f72c7c5a0a886db382a83627127be81d88059dc3ae198e21",
        "foreign": "c91f2bac8d7c4aaee259644e2a176978ca62eacfe31b56f06f216723f6de9e60",
    },
}
MEANS = {
    "folder": [90.92195767195767, 103.58862433862433, 94.255291005291],
    "geotiff": [129.2880010190217, 114.01350203804348, 81.22074558423914],
    "foreign": [91.31349206349206, 103.98015873015873, 94.64682539682538],
}
# The first batches of epoch 1 for seed 3.
PLANS = {
    "folder": ["roofs_roofs_07", "field_field_04", "harbor_harbor_00", "roofs_roofs_01"],
    "geotiff": ["r00128_c00128", "r00128_c00000", "r00224_c00224", "r00000_c00224"],
    "foreign": ["harbor_07", "harbor_06", "roofs_06", "field_04", "roofs_03", "harbor_01"],
}


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of all that the oldest revision has left, as the folder that we are in."""
    return enter_copy(MADE, tmp_path, monkeypatch)


@pytest.fixture(params=list(FORMATS))
def each(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return such a copy for each revision."""
    return enter_copy(MADE.with_name(request.param), tmp_path, monkeypatch)


def enter_copy(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = shutil.copytree(made, tmp_path / made.name)
    monkeypatch.chdir(root)
    return root


@pytest.mark.parametrize("name", list(MEANS))
def test_an_old_data_set_loads_and_verifies(name: str, each: Path):
    manifest = load_manifest(connect(name))
    assert json.loads((each / name / "manifest.json").read_text())["format"] == FORMATS[each.name]
    assert manifest.target == "class_index"
    assert manifest.digest == DIGESTS[each.name][name]
    assert list(manifest.mean) == pytest.approx(MEANS[name], rel=1e-6)
    assert data.verify(name) == 0


@pytest.mark.parametrize(("name", "batch"), [("folder", 4), ("geotiff", 8), ("foreign", 8)])
def test_an_old_data_set_is_read_in_the_same_order(
    name: str, batch: int, each: Path, capsys: pytest.CaptureFixture[str]
):
    config = DataConfig(url=name, batch_size=batch)
    data.show_plan(config, seed=3, epoch=1, world_size=1, rank=None, num_workers=1)
    keys = [line.split()[3] for line in capsys.readouterr().out.splitlines()]
    wanted = PLANS[name]
    assert [key.removeprefix("scene_000_") for key in keys[: len(wanted)]] == wanted


def test_an_index_with_groups_is_read_and_gives_the_same_folds():
    # Of this revision only the geotiff set of make.py: nothing else has changed.
    url = str(MADE.with_name("0.1.0-68e3092") / "geotiff")
    assert data.verify(url) == 0
    held = []
    for number in (1, 2):
        split = DataSet(DataConfig(url=url, fold=f"{number}/2"), seed=3).split("val", "")
        scenes = {key[:9] for key in split.index.keys(np.arange(len(split.index)))}
        held.append((sorted(scenes), len(split.index)))
    assert held == [(["scene_000"], 23), (["scene_001"], 21)]


def test_masks_without_counts_in_their_index_are_read_and_verify():
    # Of this revision only the masks of make.py: nothing else has changed.
    url = str(MADE.with_name("0.1.0-91d5aca") / "masks")
    assert data.verify(url) == 0
    dataset = DataSet(DataConfig(url=url, batch_size=4, fold="1/3"), seed=3)
    index = dataset.split("train", "").index
    assert (len(index), index.class_counts) == (6, None)
    assert dataset.manifest.splits["train"].class_counts == (1340, 556)


def rsdl(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "rsdl", *arguments], capture_output=True, text=True, check=False
    )


def test_packing_the_same_images_again_leaves_the_old_data_set_as_it_is(old: Path):
    stored = {path.name: path.read_bytes() for path in (old / "folder").iterdir()}
    done = rsdl("data", "pack", "folder", "images", "--out", "folder", "--split", "0.5,0.25,0.25",
                "--shard-mb", "0.016")  # fmt: skip
    assert done.returncode in (0, 2) and "Traceback" not in done.stderr
    assert done.returncode == 0 or "--overwrite" in done.stderr
    assert {path.name: path.read_bytes() for path in (old / "folder").iterdir()} == stored


def test_an_old_run_resumes_to_the_weights_that_its_own_release_would_have_reached(
    each: Path, tmp_path: Path
):
    moved = shutil.move(each / "folder", tmp_path / "moved")
    output = shutil.move(each / "runs", tmp_path / "elsewhere")
    done = rsdl("train", "preempted.yaml", f"data.url={moved}", f"output={output}")
    assert (done.returncode, done.stderr) == (0, "")
    expected = json.loads((each / "resumed.json").read_text())
    record = json.loads((Path(output) / "preempted/run.json").read_text())
    assert record["status"] == "completed" and record["resumes"] == 1
    assert record["ledger"] == expected["ledger"]
    assert record["metrics"]["test"]["oa"] == expected["metrics"]["test"]["oa"]
    state = torch.load(Path(output) / "preempted" / LAST, weights_only=True)["state_dict"]
    assert state.keys() == expected["weights"].keys()
    for name, (mean, std) in expected["weights"].items():
        value = state[name].double()
        # Another release of PyTorch may add up in another order.
        assert float(value.mean()) == pytest.approx(mean, rel=1e-3, abs=1e-4), name
        assert float(value.std(correction=0)) == pytest.approx(std, rel=1e-3, abs=1e-4), name


def test_an_old_run_is_evaluated_to_its_old_numbers_and_reported(each: Path):
    before = parse_evaluation((each / "runs/completed/report.json").read_bytes(), "report.json")
    assert before.metrics["oa"] == pytest.approx(7 / 9)
    assert report(["runs/completed"]) == 0
    page = (each / "runs/completed/report.html").read_text()
    assert "77.8%" in page
    assert evaluate("runs/completed") == 0
    after = parse_evaluation((each / "runs/completed/report.json").read_bytes(), "report.json")
    assert after.metrics["oa"] == before.metrics["oa"]
    assert after.confusion == before.confusion


def test_an_old_run_is_loaded_with_the_classes_and_bands_of_its_data_set(each: Path):
    model = api.load("runs/completed")
    assert model.classes == ("field", "harbor", "roofs") and model.bands == ("red", "green", "blue")
    split = DataSet(DataConfig(url="folder")).split("test", "data.test_split")
    reader = split.open_reader()
    images = [reader.pixels(reader.locate(sample)) for sample in range(len(split.index))]
    labels = [model.classes[label] for label in split.index.labels.tolist()]
    found = model.predict(images).labels
    assert sum(one == other for one, other in zip(found, labels, strict=True)) == 7
    shutil.move(each / "folder", each / "moved")
    with pytest.raises(DataError, match=r"kept no model\.json, and its data set is not at folder"):
        api.load("runs/completed")
    assert api.load("runs/completed", data_url="moved").predict(images).labels == found


def test_test_time_augmentation_is_kept_beside_the_plain_result(old: Path):
    run = old / "runs/completed"
    before = (run / "report.json").read_bytes()
    assert evaluate("runs/completed", tta=True) == 0
    assert (run / "report.json").read_bytes() == before
    turned = parse_evaluation((run / "report-tta.json").read_bytes(), "report-tta.json")
    assert turned.tta and turned.num_samples == 9
    page = (run / "report.html").read_text()
    assert "Overall accuracy (test)" in page and "; 66.7% with TTA (test)" in page
    entry = read_entry(RunFolder(connect("runs/completed")))
    assert entry.evaluation is not None and not entry.evaluation.tta
    assert entry.tta == turned
    # Before, --tta took the place of the plain result: it is known by what it says of itself.
    (run / "report.json").write_bytes((run / "report-tta.json").read_bytes())
    (run / "report-tta.json").unlink()
    entry = read_entry(RunFolder(connect("runs/completed")))
    assert entry.evaluation is None and entry.tta == turned


def test_an_old_completed_run_is_known_to_be_completed(old: Path):
    done = rsdl("train", "completed.yaml")
    assert done.returncode == 0 and "is completed" in done.stdout


def forget(run: Path, field: str) -> None:
    """Make a run one of a release that had no field ``optim.FIELD``."""
    tree = yaml.safe_load((run / "config.yaml").read_text())
    del tree["optim"][field]
    (run / "config.yaml").write_text(yaml.safe_dump(tree))
    page = json.loads((run / "run.json").read_text())
    leaves = json.dumps(flatten(tree), sort_keys=True)
    page["config_digest"] = hashlib.sha256(leaves.encode()).hexdigest()
    (run / "run.json").write_text(json.dumps(page))


def check(*overrides: str) -> None:
    folder = RunFolder(connect("runs/preempted"))
    record = folder.read_record()
    assert record is not None
    check_same_run(load_config("preempted.yaml", overrides), record, folder)


def test_a_key_that_a_run_does_not_have_counts_only_where_it_is_not_the_default(old: Path):
    forget(old / "runs/preempted", "ema_decay")
    check()
    with pytest.raises(ConfigError, match=r"another config: optim\.ema_decay None -> 0\.9; "):
        check("optim.ema_decay=0.9")
    with pytest.raises(ConfigError, match=r"another config: optim\.lr 0\.02 -> 0\.5; "):
        check("optim.lr=0.5")


def test_a_run_that_used_a_field_that_is_gone_is_refused_with_what_to_do(old: Path):
    check()  # The run has data.scaled_decode: false.
    path = old / "runs/preempted/config.yaml"
    path.write_text(path.read_text().replace("scaled_decode: false", "scaled_decode: true"))
    with pytest.raises(DataError, match=r"data\.scaled_decode is gone: .*; remove it: .*; or"):
        check()


def test_a_run_with_a_key_of_a_newer_release_is_refused(old: Path):
    path = old / "runs/preempted/config.yaml"
    path.write_text(path.read_text() + "mood: good\n")
    record = json.loads((old / "runs/preempted/run.json").read_text())
    record["config_digest"] = load_config("preempted.yaml").digest
    (old / "runs/preempted/run.json").write_text(json.dumps(record))
    check()  # The digest says that it is the same.
    with pytest.raises(DataError, match=r"config\.yaml: made by a newer rsdl: unknown field m"):
        check("optim.lr=0.5")


@pytest.mark.parametrize(
    "name", ["folder/manifest.json", "runs/completed/run.json", "runs/completed/report.json"]
)
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"format": 3}, "made by a newer rsdl: format 3, this one reads {reads}; update rsdl"),
        ({"mood": "good"}, "made by a newer rsdl: unknown field mood; update rsdl"),
    ],
)
def test_what_a_newer_release_wrote_is_refused(
    name: str, change: dict[str, Any], problem: str, old: Path
):
    path = old / name
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError) as caught:
        if path.name == "manifest.json":
            load_manifest(connect("folder"))
        else:
            report(["runs/completed"])
    problem = problem.format(reads=2 if path.name == "manifest.json" else 1)
    assert str(caught.value).endswith(f"{path.name}: {problem}")


def test_provenance_takes_any_key(old: Path):
    path = old / "folder/manifest.json"
    page = json.loads(path.read_text())
    page["provenance"]["mood"] = "good"
    path.write_text(json.dumps(page))
    manifest = load_manifest(connect("folder"))
    assert manifest.provenance["mood"] == "good"
    assert manifest.digest == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"format": 3}, "format 3, this one reads 2"),
        ({"mood": 1}, "unknown field mood"),
        ({"tally": {"planned": 1, "mood": 1}}, r"unknown field tally\.mood"),
        ({"position": {"epoch": 1, "mood": 1}}, r"unknown field position\.mood"),
    ],
)
def test_a_newer_checkpoint_is_refused(change: dict[str, Any], problem: str):
    content = read_checkpoint(LocalStore(MADE / "runs/preempted"), LAST)
    assert state_of(content, "last.ckpt")["position"]["step"] == 5
    content["rsdl"] = content["rsdl"] | change
    with pytest.raises(DataError, match=f"^last.ckpt: made by a newer rsdl: {problem}; update"):
        state_of(content, "last.ckpt")
