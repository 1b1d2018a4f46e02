"""A small repository that is built like this one."""

import subprocess
from pathlib import Path

FILES = {
    ".gitignore": "__pycache__/\n",
    "LICENSE": "free\n",
    "README.md": "# rsdl\n",
    "configs/one.yaml": "seed: 1\n",
    "docker/Dockerfile": "FROM scratch\nARG LOCK=requirements.lock\nCOPY configs configs\n",
    "docker/build.lock": "hatchling==1\n",
    "docker/requirements-cuda12.lock": "torch==1\n",
    "docker/requirements.lock": "torch==2\n",
    "k8s/settings.yaml": "image: registry.example.org/me/rsdl:old\n",
    "pyproject.toml": "[project]\n",
    "rsdl/__init__.py": '__version__ = "1.2.3"\n',
    "rsdl/data/plan.py": "x = 1\n",
}


def git(folder: Path, *arguments: str) -> str:
    """Run git, whoever's machine this is."""
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *who, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def make_checkout(folder: Path) -> Path:
    """Write the repository with one commit and return its folder."""
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=first")
    return folder
