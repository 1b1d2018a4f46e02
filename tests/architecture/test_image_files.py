"""Files around the image: the lock, Dockerfiles, compose, GitLab CI, shell scripts."""

import json
import os
import re
import subprocess
import sysconfig
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from rsdl.cluster.image import Checkout
from rsdl.cluster.wheels import WHEELS
from rsdl.config.task import DETR_LEVELS
from tests.quickstart_script import read_commands

ROOT = Path(__file__).parents[2]
PROJECT = ("project", "dependencies")
LOCKS = {wheel.lock: PROJECT for wheel in WHEELS.values()} | {
    "build.lock": ("build-system", "requires")
}
FOLDERS = (".ci", "docker", "scripts")
SHELL = re.compile(r"\A#!.*\b(ba)?sh$|^# shellcheck shell=", re.MULTILINE)
PROGRAMS = Path(sysconfig.get_path("scripts"))
DIGEST = f"sha256:{'0123456789abcdef' * 4}"


def run(program: str, *arguments: object) -> None:
    """Run a linter from this environment; it must have nothing to say."""
    command = [str(PROGRAMS / program), *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def shell_scripts() -> list[Path]:
    files = [file for folder in FOLDERS for file in (ROOT / folder).rglob("*") if file.is_file()]
    return [file for file in files if SHELL.search(file.read_text())]


def read_lock(name: str) -> dict[str, tuple[str, int]]:
    """Return version and number of hashes of each package."""
    text = (ROOT / "docker" / name).read_text()
    found = {}
    for block in re.split(r"\n(?=\S)", re.sub(r"(?m)^ *#.*\n", "", text)):
        pin = re.match(r"([A-Za-z0-9._-]+)==([^\s;]+)", block)
        assert pin, f"not a pin: {block[:80]!r}"
        hashes = re.findall(r"--hash=sha256:[0-9a-f]{64}\b", block)
        found[str(canonicalize_name(pin[1]))] = (pin[2], len(hashes))
    return found


@pytest.mark.parametrize(("lock", "path"), LOCKS.items())
def test_the_lock_is_what_pyproject_asks_for(lock: str, path: tuple[str, str]) -> None:
    """Otherwise run scripts/lock."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pins = read_lock(lock)
    for requirement in map(Requirement, project[path[0]][path[1]]):
        assert canonicalize_name(requirement.name) in pins, f"{requirement}: run scripts/lock"
        version, _ = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), (
            f"{requirement}, not {version}: scripts/lock"
        )


@pytest.mark.parametrize("cuda", WHEELS)
def test_an_image_holds_what_the_heads_of_the_configs_need(cuda: str) -> None:
    heads = {
        yaml.safe_load(path.read_text()).get("task", {}).get("head")
        for path in (ROOT / "configs").rglob("*.yaml")
    }
    assert heads & DETR_LEVELS.keys()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    pins = read_lock(WHEELS[cuda].lock)
    for requirement in map(Requirement, extras["detr"]):
        version, _ = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement}: run scripts/lock"
    assert not [head for head in heads if head and head.startswith("smp/")], "lock the extra smp"


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_its_hashes(lock: str) -> None:
    pins = read_lock(lock)
    assert len(pins) > 4
    assert [name for name, (_, num_hashes) in pins.items() if not num_hashes] == []


@pytest.mark.parametrize("cuda", WHEELS)
def test_a_lock_holds_the_pytorch_of_the_table_and_one_cuda(cuda: str) -> None:
    """After scripts/lock --upgrade read the architectures anew, as rsdl/cluster/wheels.py says."""
    pins, wheel = read_lock(WHEELS[cuda].lock), WHEELS[cuda]
    assert pins["torch"][0] == wheel.torch
    named = {name.rpartition("-cu")[2] for name in pins if re.search(r"-cu\d+$", name)}
    assert named == {cuda}
    (runtime,) = {"nvidia-cuda-runtime", f"nvidia-cuda-runtime-cu{cuda}"} & pins.keys()
    assert pins[runtime][0].startswith(f"{wheel.cuda}.")


def test_locks_differ_in_what_cuda_takes_alone() -> None:
    one, other = (read_lock(wheel.lock) for wheel in WHEELS.values())
    differing = {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}
    own = re.compile(r"(nvidia|cuda)-.*|torch|torchvision|triton")
    assert [name for name in differing if not own.fullmatch(name)] == []


@pytest.mark.parametrize("file", ["docker/Dockerfile", "docker/ceph/Dockerfile"])
def test_hadolint_finds_nothing(file: str) -> None:
    run("hadolint", file)


def test_shellcheck_finds_nothing() -> None:
    scripts = shell_scripts()
    assert {"build_image", "lock", "image", "run", "serve"} <= {path.name for path in scripts}
    run("shellcheck", *scripts)


def test_every_file_that_dockerfiles_copy_reaches_the_build() -> None:
    """A name that .dockerignore keeps out fails only in the build."""
    let_in = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    for file in (ROOT / "docker").rglob("Dockerfile"):
        for line in file.read_text().splitlines():
            if not line.startswith("COPY") or "--from" in line:
                continue
            line = line.replace("${LOCK}", "requirements.lock")
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), f"{file.name}: {source}"
                assert source.split("/")[0] in let_in, f".dockerignore keeps {source} out"


def test_compose_is_valid() -> None:
    run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker/compose.yaml")
    run("docker-compose", "--file", "docker/compose.yaml", "config", "--quiet")
    run("yamllint", "--strict", "docker/compose.yaml")


def test_compose_does_what_scripts_quickstart_does() -> None:
    """Apart from where things lie."""
    services = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]
    ours = {word for service in services.values() for word in service.get("command", [])}
    ours |= {part for word in ours for part in word.split("=", 1)}
    lines = read_commands("classification")
    assert len(lines) == 3
    for line in lines:
        words = {word for word in line if not word.startswith("quickstart/")}
        missing = words - {"--task", "classification"} - ours
        assert not missing, f"rsdl {' '.join(line)}: compose.yaml lacks {missing}"


def test_gitlab_ci_is_valid() -> None:
    run("check-jsonschema", "--builtin-schema", "vendor.gitlab-ci",
        "--data-transform", "gitlab-ci", ".gitlab-ci.yml")  # fmt: skip
    run("yamllint", "--strict", ".gitlab-ci.yml")


def build_in_ci(folder: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run .ci/image with a kaniko that only writes down how it was called."""
    kaniko = folder / "kaniko"
    kaniko.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{folder}/called\n')
    kaniko.chmod(0o755)
    given = {
        "CI_REGISTRY": "registry.example.org",
        "CI_REGISTRY_IMAGE": "registry.example.org/group/rsdl",
        "CI_REGISTRY_USER": "ci",
        "CI_REGISTRY_PASSWORD": "a secret",
        "CI_COMMIT_SHA": "c0ffee",
        "CI_JOB_STARTED_AT": "2026-01-01T00:00:00Z",
        "CI_PROJECT_URL": "https://example.org/group/rsdl",
        "DOCKER_CONFIG": str(folder / "docker"),
        "KANIKO": str(kaniko),
        "PATH": os.environ["PATH"],
        **variables,
    }
    return subprocess.run(
        ["sh", ".ci/image"], cwd=ROOT, env=given, capture_output=True, text=True, check=False
    )


def test_an_image_is_pushed_by_commit_and_tag(tmp_path: Path) -> None:
    done = build_in_ci(tmp_path, PYTHON_DIGEST=DIGEST, CI_COMMIT_TAG="v0.1.0")
    assert done.returncode == 0, done.stderr
    assert "a secret" not in done.stdout + done.stderr
    called = (tmp_path / "called").read_text().splitlines()
    targets = [called[n + 1] for n, word in enumerate(called) if word == "--destination"]
    tag = Checkout(ROOT).tag()
    assert targets == [f"registry.example.org/group/rsdl:{each}" for each in (tag, "v0.1.0")]
    assert {"--push-retry=10", "--digest-file", "image.digest"} <= {*called}
    given = dict(called[n + 1].split("=", 1) for n, w in enumerate(called) if w == "--build-arg")
    assert given["BASE"] == f"docker.io/library/python:3.11-slim-bookworm@{DIGEST}"
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text()
    assert {*given, "COMPILER"} == {*re.findall(r"(?m)^ARG (\w+)", dockerfile)}
    assert given["LOCK"] == "requirements.lock"
    login = json.loads((tmp_path / "docker" / "config.json").read_text())
    assert login["auths"]["registry.example.org"]["auth"] == "Y2k6YSBzZWNyZXQ="


def test_a_commit_without_a_tag_is_pushed_once(tmp_path: Path) -> None:
    assert build_in_ci(tmp_path, PYTHON_DIGEST=DIGEST).returncode == 0
    assert (tmp_path / "called").read_text().splitlines().count("--destination") == 1


def test_a_base_that_is_not_pinned_is_said(tmp_path: Path) -> None:
    done = build_in_ci(tmp_path)
    assert done.returncode == 0 and "PYTHON_DIGEST is not set" in done.stderr
    called = (tmp_path / "called").read_text().splitlines()
    assert "BASE=docker.io/library/python:3.11-slim-bookworm" in called


def test_ci_names_an_image_with_cuda_12_as_rsdl_does(tmp_path: Path) -> None:
    assert build_in_ci(tmp_path, PYTHON_DIGEST=DIGEST, CUDA="12").returncode == 0
    called = (tmp_path / "called").read_text().splitlines()
    assert "LOCK=requirements-cuda12.lock" in called
    assert f"registry.example.org/group/rsdl:{Checkout(ROOT, '12').tag()}" in called
    done = build_in_ci(tmp_path, CUDA="11")
    assert done.returncode == 2 and "CUDA is '11', not 13 or 12" in done.stderr


def test_what_ci_watches_is_what_the_tag_follows_from() -> None:
    jobs = yaml.safe_load((ROOT / ".gitlab-ci.yml").read_text())
    (watched,) = (rule["changes"] for rule in jobs[".release-rules"]["rules"] if "changes" in rule)
    for cuda in WHEELS:
        for source in Checkout(ROOT, cuda).sources:
            patterns = (source, f"{source}/**/*", source.replace(Path(source).stem, "*"))
            assert {*patterns} & {*watched}, f".gitlab-ci.yml does not watch {source}"


@pytest.mark.parametrize("digest", ["latest", "sha256:", DIGEST[:-1], f"{DIGEST}0"])
def test_a_base_without_a_digest_is_refused(tmp_path: Path, digest: str) -> None:
    done = build_in_ci(tmp_path, PYTHON_DIGEST=digest)
    assert done.returncode == 2
    assert "PYTHON_DIGEST" in done.stderr
    assert not (tmp_path / "called").exists()
