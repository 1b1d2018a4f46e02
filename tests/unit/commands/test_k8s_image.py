"""What rsdl k8s image says and refuses; what it builds is in tests/integration."""

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rsdl.cli import main
from rsdl.cluster.image import Checkout
from tests.unit.cluster.checkout import git, make_checkout

Call = Callable[..., tuple[int, list[str], str]]
NAME = "registry.example.org/me/rsdl"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a checkout that is the working directory, where no engine is on PATH, but git."""
    root = make_checkout(tmp_path / "rsdl")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "git").symlink_to(str(shutil.which("git")))
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.chdir(root)
    return root


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, list[str], str]:
    """Return exit code, lines and complaint of ``rsdl k8s image ARGUMENTS``."""
    monkeypatch.setattr("sys.argv", ["rsdl", "k8s", "image", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    said = capsys.readouterr()
    return int(caught.value.code or 0), said.out.splitlines(), said.err


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    return lambda *arguments: run(monkeypatch, capsys, *arguments)


def test_commands_are_printed_for_docker_where_there_is_no_engine(root: Path, call: Call) -> None:
    code, lines, _ = call("--print")
    build, push = map(shlex.split, lines)
    image = f"{NAME}:{Checkout(root).tag()}"
    assert code == 0 and push == ["docker", "push", image]
    assert build[:2] == ["docker", "build"] and build[-1] == "."
    told = dict(each.removeprefix("--build-arg=").split("=", 1) for each in build
                if each.startswith("--build-arg="))  # fmt: skip
    assert told.pop("CREATED").endswith("Z")
    assert told == {
        "LOCK": "requirements.lock",
        "VERSION": "1.2.3",
        "REVISION": git(root, "rev-parse", "HEAD"),
    }
    assert {f"--tag={image}", "--file=docker/Dockerfile", "--platform=linux/amd64"} <= {*build}


def test_one_of_the_commands_alone_and_arguments_of_the_dockerfile(root: Path, call: Call) -> None:
    _, lines, _ = call("--print", "--build", "--build-arg", "COMPILER=", "--build-arg=BASE=a=b")
    (line,) = lines
    assert {"--build-arg=COMPILER=", "--build-arg=BASE=a=b"} <= {*shlex.split(line)}
    code, _, said = call("--print", "--build-arg", "COMPILER")
    assert code == 2 and "--build-arg COMPILER: is not KEY=VALUE" in said


def test_cuda_of_the_settings_chooses_lock_and_tag(root: Path, call: Call) -> None:
    (root / "k8s" / "settings.yaml").write_text(f"image: {NAME}:x\ncuda: 12\n")
    _, (build, push), _ = call("--print")
    assert "--build-arg=LOCK=requirements-cuda12.lock" in shlex.split(build)
    assert push.endswith(f"{NAME}:{Checkout(root, '12').tag()}")


def test_another_name(root: Path, call: Call) -> None:
    _, (_, push), _ = call("--print", "--name", "localhost:5000/you/rsdl")
    assert push == f"docker push localhost:5000/you/rsdl:{Checkout(root).tag()}"
    for name in ("you/rsdl:1.0", "You/rsdl", "a b", ""):
        code, _, said = call("--name", name)
        assert code == 2 and said.startswith("--name: must be REGISTRY/IMAGE without a tag, is")


@pytest.mark.parametrize("option", [["--push"], ["--push", "--print"], ["--print"]])
def test_what_is_not_committed_is_not_pushed(option: list[str], root: Path, call: Call) -> None:
    (root / "rsdl" / "data" / "plan.py").write_text("x = 2\n")
    code, lines, said = call(*option)
    assert (code, lines) == (2, [])
    assert said.startswith(
        "--push: rsdl/data/plan.py goes into the image and is not committed; git"
    )
    assert said.count("\n") == 1
    (root / "configs" / "new.yaml").write_text("seed: 3\n")
    assert "rsdl/data/plan.py and 1 more go into the image and are not" in call(*option)[2]
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message=second")
    assert "not committed" not in call(*option)[2]


def test_settings_need_not_be_committed(root: Path, call: Call) -> None:
    (root / "k8s" / "settings.yaml").write_text(f"image: {NAME}:y\n")
    assert call("--push", "--print")[0] == 0


def test_what_is_not_committed_may_be_built_and_says_so(root: Path, call: Call) -> None:
    (root / "README.md").write_text("changed\n")
    code, (line,), _ = call("--build", "--print")
    revision = git(root, "rev-parse", "HEAD")
    assert code == 0 and f"--build-arg=REVISION={revision}+" in shlex.split(line)
    # Not by the name that it has once it is committed: that one says its commit.
    assert f"--tag={NAME}:{Checkout(root).tag()}-dirty" in shlex.split(line)
    git(root, "commit", "--quiet", "--all", "--message=second")
    assert f"--tag={NAME}:{Checkout(root).tag()}" in shlex.split(call("--build", "--print")[1][0])


def test_without_an_engine_it_is_said_what_to_do(root: Path, call: Call) -> None:
    for option in ("--build", "--push"):
        code, _, said = call(option)
        assert code == 2
        assert said.startswith(
            "rsdl k8s image: none of docker, podman, buildah works here; install"
        )
    code, _, said = call("--build", "--engine", "podman")
    assert code == 2 and "--engine: podman does not work here; see what podman info says" in said


def test_it_says_where_the_image_stands(root: Path, call: Call) -> None:
    code, lines, _ = call()
    assert code == 0 and len(lines) == 3
    assert lines[0].startswith(f"settings       {NAME}:old: none of docker")
    assert lines[1].startswith(f"this checkout  {NAME}:{Checkout(root).tag()}: ")
    render = "rsdl k8s render --set image="
    push = "git push, for GitLab to build it, unless the registry has it; then"
    assert lines[2] == f"next           {push} {render}{NAME}:{Checkout(root).tag()}"
    (root / "k8s" / "settings.yaml").write_text(f"image: {NAME}:{Checkout(root).tag()}\n")
    _, lines, _ = call()
    assert lines[1] == "this checkout  the same"
    assert lines[2] == f"next           {push} nothing: pods run this checkout"
    (root / "LICENSE").write_text("freer\n")
    assert "next           git commit: LICENSE goes into the image" in call()[1][2]


def test_elsewhere_than_in_a_checkout_it_is_refused(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, said = call()
    assert code == 2 and "is no checkout of rsdl" in said
