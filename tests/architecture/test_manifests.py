"""Every committed manifest is what ``rsdl k8s render`` gives."""

from pathlib import Path

from rsdl.cluster.settings import load_settings
from rsdl.commands.k8s import render_files

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
BY_HAND = {"checkov.yaml"}


def test_the_manifests_are_what_the_configs_give():
    files = render_files((), load_settings(K8S), str(ROOT / "configs"))
    found = {path.relative_to(K8S).as_posix() for path in K8S.rglob("*") if path.is_file()}
    assert found - set(files) == BY_HAND, "remove what nothing writes"
    stale = [path for path, text in files.items() if (K8S / path).read_text() != text]
    assert not stale, 'run "rsdl k8s render"'


def test_the_published_study_of_detectors_fits_its_pods():
    names = [path.stem for path in (ROOT / "configs/detection/study").glob("*.yaml")]
    files = render_files(names, load_settings(K8S), str(ROOT / "configs"))
    jobs = [path for path in files if path.endswith("/kustomization.yaml")]
    assert len(jobs) == len(names) == 30
