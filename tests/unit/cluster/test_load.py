import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from rsdl.cluster.labels import job_name
from rsdl.cluster.load import entry_points, load_manifests, parse
from rsdl.core.errors import ConfigError


def job(name: str) -> dict[str, object]:
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}}


def test_a_file_may_hold_several_objects_and_lists(tmp_path: Path):
    path = tmp_path / "jobs.yaml"
    rest = {"apiVersion": "v1", "kind": "List", "items": [job("b"), job("c")]}
    path.write_text("---\n" + yaml.safe_dump_all([job("a"), rest]) + "---\n")
    found = load_manifests(str(path))
    assert [m.title for m in found] == ["Job/a", "Job/b", "Job/c"]
    assert {m.source for m in found} == {str(path)}


def test_a_plain_folder_is_all_files_below_it(tmp_path: Path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "b.yml").write_text(yaml.safe_dump(job("b")))
    (tmp_path / "a.json").write_text('{"kind": "Job", "metadata": {"name": "a"}}')
    (tmp_path / "README.md").write_text("no manifest")
    assert [m.name for m in load_manifests(str(tmp_path))] == ["a", "b"]


def test_a_kustomize_folder_is_built(tmp_path: Path, require: Callable[[str, bool], None]):
    require("kubectl", bool(shutil.which("kubectl") or shutil.which("kustomize")))
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job("a")))
    (tmp_path / "kustomization.yaml").write_text("resources: [job.yaml]\nnamePrefix: my-\n")
    (found,) = load_manifests(str(tmp_path))
    assert (found.title, found.source) == ("Job/my-a", str(tmp_path))
    (tmp_path / "kustomization.yaml").write_text("resources: [absent.yaml]\n")
    with pytest.raises(ConfigError, match=r"refuses it: .*absent\.yaml"):
        load_manifests(str(tmp_path))


def test_without_kubectl_and_kustomize_plain_files_are_read_and_folders_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PATH", os.devnull)
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job("a")))
    (tmp_path / "kustomization.yaml").write_text("resources: [job.yaml]\n")
    assert load_manifests(str(tmp_path / "job.yaml"))[0].name == "a"
    with pytest.raises(ConfigError, match="kubectl: neither it nor kustomize is on PATH; install"):
        load_manifests(str(tmp_path))


@pytest.mark.parametrize("text", ["a: [", "- 1", "just words"])
def test_what_is_no_object_is_refused_by_name(text: str):
    with pytest.raises(ConfigError, match=r"some\.yaml: "):
        list(parse(text, "some.yaml"))


def test_nothing_there_is_refused(tmp_path: Path):
    for target in (tmp_path, tmp_path / "absent.yaml"):
        with pytest.raises(ConfigError, match=str(target)):
            load_manifests(str(target))


def test_what_an_object_lacks_is_empty():
    (found,) = parse("metadata: 3", "x")
    assert (found.kind, found.name, found.namespace, found.labels) == ("", "", None, {})


def test_job_names_are_those_of_kubernetes():
    assert job_name("hrrsi", "vit_base_ucm") == "hrrsi-vit-base-ucm"


def test_what_is_applied_by_itself_is_what_nothing_else_is_made_of():
    root = Path(__file__).parents[3] / "k8s"
    names = {str(Path(path).relative_to(root)) for path in entry_points(str(root))}
    studies = {"studies/segmentation", "studies/detection"}
    assert names == {".", "base/volumes", "data", "dev", "jobs/quickstart", "predict"} | studies
    # What lies above a folder counts: the Job in base/job is a part of others.
    base = {str(Path(path).relative_to(root)) for path in entry_points(f"{root}/base")}
    assert base == {"base", "base/volumes"}
    (alone,) = entry_points(f"{root}/components/gpu-a40")
    assert alone == f"{root}/components/gpu-a40"
