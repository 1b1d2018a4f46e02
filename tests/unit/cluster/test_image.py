import shutil
from pathlib import Path

import pytest

from rsdl.cluster.image import Checkout
from rsdl.cluster.wheels import WHEELS
from rsdl.core.errors import ConfigError
from tests.unit.cluster.checkout import FILES, git, make_checkout


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_checkout(tmp_path / "rsdl")


def test_the_tag_is_version_and_digits_and_cuda_if_it_is_not_the_usual(root: Path) -> None:
    version, digits = Checkout(root).tag().split("-")
    assert version == "1.2.3" and len(digits) == 12 and int(digits, 16)
    assert Checkout(root, "12").tag().endswith("-cuda12")


def test_a_commit_of_what_does_not_enter_names_the_same_image(root: Path) -> None:
    before = Checkout(root).tag()
    (root / "k8s" / "settings.yaml").write_text("image: a/b:c\n")
    (root / "docs").mkdir()
    (root / "docs" / "new.md").write_text("new\n")
    cache = root / "rsdl" / "data" / "__pycache__"
    cache.mkdir()
    (cache / "plan.pyc").write_bytes(b"\0")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message=second")
    assert Checkout(root).tag() == before and Checkout(root).changed() == []
    git(root, "commit", "--quiet", "--allow-empty", "--message=third")
    assert Checkout(root).tag() == before
    copy = shutil.copytree(root, root.parent / "elsewhere", ignore=lambda *_: [".git"])
    assert Checkout(copy).tag() == before


ENTERS = [name for name in FILES if not name.startswith((".git", "k8s"))]


@pytest.mark.parametrize("name", ENTERS)
def test_each_file_that_enters_changes_the_tag(name: str, root: Path) -> None:
    tags = {cuda: Checkout(root, cuda).tag() for cuda in WHEELS}
    with (root / name).open("a") as stream:
        stream.write("# more\n")
    for cuda, before in tags.items():
        of_another = "requirements" in name and not name.endswith(WHEELS[cuda].lock)
        assert (Checkout(root, cuda).tag() == before) == of_another
        assert Checkout(root, cuda).changed() == ([] if of_another else [name])


def test_a_file_that_moves_or_comes_changes_the_tag(root: Path) -> None:
    tags = [Checkout(root).tag()]
    (root / "rsdl" / "data" / "plan.py").rename(root / "rsdl" / "data" / "order.py")
    tags.append(Checkout(root).tag())
    # Docker copies what is in the folder, whether git knows it or not.
    (root / "configs" / "mine.yaml").write_text("seed: 2\n")
    tags.append(Checkout(root).tag())
    assert len({*tags}) == 3
    assert {*Checkout(root).changed()} == {
        "configs/mine.yaml", "rsdl/data/order.py", "rsdl/data/plan.py",
    }  # fmt: skip


def test_the_image_says_its_commit_and_whether_it_is_that(root: Path) -> None:
    commit = git(root, "rev-parse", "HEAD")
    arguments = Checkout(root, "12").build_arguments("2026-01-01T00:00:00Z")
    assert arguments == {
        "LOCK": "requirements-cuda12.lock",
        "VERSION": "1.2.3",
        "REVISION": commit,
        "CREATED": "2026-01-01T00:00:00Z",
    }
    (root / "k8s" / "settings.yaml").write_text("image: a/b:c\n")
    assert Checkout(root).revision() == commit
    (root / "README.md").write_text("changed\n")
    assert Checkout(root).revision() == f"{commit}+"


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no checkout of rsdl; go to the folder"):
        Checkout(tmp_path).tag()


def test_a_folder_without_git_has_a_tag_and_no_revision(tmp_path: Path) -> None:
    root = make_checkout(tmp_path / "rsdl")
    shutil.rmtree(root / ".git")
    (tmp_path / ".git").write_text("gitdir: nowhere\n")  # should a folder above be a clone
    assert Checkout(root).tag()
    with pytest.raises(ConfigError, match=r"git: .*; go to a clone with at least one commit"):
        Checkout(root).revision()
