"""``rsdl k8s image``: show, build and push the container image of a study's pods."""

import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rsdl.cluster.image import ENGINES, Checkout, Engine
from rsdl.cluster.settings import load_settings
from rsdl.core.errors import ConfigError, RsdlError

NAME = r"[a-z0-9][a-z0-9._:-]*(/[a-z0-9._-]+)*"
LOOK_S = 60  # timeout of a query to a registry or engine
WITHOUT = "install one of them, or let GitLab build: docs/nautilus.md, step 3"


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """What image, and what makes it.

    Attributes:
        out: Folder of the manifests and their settings.
        name: Registry and name of the image; ``None`` for those of the settings.
        engine: ``docker``, ``podman`` or ``buildah``; ``None`` for the first that works.
        extra: Build arguments of the Dockerfile to set.
    """

    out: str
    name: str | None
    engine: str | None
    extra: Mapping[str, str]


def show_image(options: ImageOptions) -> None:
    """Print the images of the settings and of this checkout, where they are, and the next step.

    Raises:
        InputError: If the settings are wrong, or this is no checkout of rsdl.
    """
    checkout, named, image = _names(options)
    found = find_engine(options.engine)
    pushed = _is_pushed(found, named)
    print(f"settings       {named}: {_where(found, named, pushed)}")
    if image == named:
        print("this checkout  the same")
    else:
        pushed = _is_pushed(found, image)
        print(f"this checkout  {image}: {_where(found, image, pushed)}")
    push = "git push, for GitLab to build it" if found is None else _push_command(options.name)
    print(f"next           {_next(checkout, named, image, pushed, push)}")


def _next(checkout: Checkout, named: str, image: str, pushed: bool | None, push: str) -> str:
    changed = checkout.changed()
    if changed:
        return f"git commit: {_uncommitted(changed)}"
    naming = "nothing: pods run this checkout"
    if image != named:
        naming = f"rsdl k8s render --set image={image}"
    if pushed:
        return naming
    if pushed is False:
        return push
    return f"{push}, unless the registry has it; then {naming}"


def print_commands(options: ImageOptions, *, push: bool) -> None:
    """Print the commands that would run, one per line; those of docker if no engine works here.

    Raises:
        InputError: If the settings are wrong, or the image may not be pushed.
    """
    checkout, _, image = _names(options)
    found = find_engine(options.engine) or ENGINES["docker"]
    if push:
        _require_commit(checkout)
    print(shlex.join(_build_command(found, image, checkout, options)))
    if push:
        print(shlex.join(found.push(image)))


def make_image(options: ImageOptions, *, push: bool) -> None:
    """Build the image unless it exists, push it if asked to, and print the next step.

    Raises:
        InputError: If settings, checkout or engine are not valid.
        RsdlError: If the engine fails.
    """
    checkout, named, image = _names(options)
    if push:
        _require_commit(checkout)
    found = find_engine(options.engine)
    if found is None:
        raise ConfigError("rsdl k8s image", f"none of {', '.join(ENGINES)} works here", WITHOUT)
    pushed = _is_pushed(found, image) is True
    if pushed:
        print(f"{image} is in the registry already: made of the same files")
    elif _succeeds(found.has(image)):
        print(f"{image} is here already: made of the same files")
    else:
        command = _build_command(found, image, checkout, options)
        _run(command, checkout.root, "its last lines say why")
    if push and not pushed:
        remedy = f"may you push there? {shlex.join(found.log_in(image))}"
        _run(found.push(image), checkout.root, remedy)
    if not push and not pushed:
        print(f"next: {_push_command(options.name)}")
    elif image != named:
        print(f"next: rsdl k8s render --set image={image}")
    else:
        print("next: nothing, the settings name it")


def find_engine(name: str | None = None) -> Engine | None:
    """Return the named engine, or the first that works here; ``None`` if none works.

    Raises:
        ConfigError: If the named engine is unknown or does not work.
    """
    if name is None:
        return next((each for each in ENGINES.values() if _succeeds(each.probe())), None)
    if name not in ENGINES:
        raise ConfigError("--engine", f"must be one of {', '.join(ENGINES)}, is {name!r}")
    if not _succeeds(ENGINES[name].probe()):
        probe = shlex.join(ENGINES[name].probe())
        raise ConfigError("--engine", f"{name} does not work here", f"see what {probe} says")
    return ENGINES[name]


def parse_build_arguments(pairs: Sequence[str]) -> dict[str, str]:
    """Return ``KEY=VALUE`` pairs as a mapping.

    Raises:
        ConfigError: If one is not ``KEY=VALUE``.
    """
    for pair in pairs:
        if not pair.partition("=")[0] or "=" not in pair:
            raise ConfigError(f"--build-arg {pair}", "is not KEY=VALUE", "write COMPILER=, say")
    return dict(pair.split("=", 1) for pair in pairs)


def _names(options: ImageOptions) -> tuple[Checkout, str, str]:
    """Return the checkout, the image of the settings and the image of the checkout."""
    settings, name = load_settings(Path(options.out)), options.name
    if name is not None and not re.fullmatch(NAME, name):
        raise ConfigError("--name", f"must be REGISTRY/IMAGE without a tag, is {name!r}")
    checkout = Checkout(Path.cwd(), settings.cuda)
    # A tag of its own for uncommitted changes: such an image belongs to no commit.
    tag = checkout.tag() + ("-dirty" if checkout.changed() else "")
    return checkout, settings.image, f"{name or settings.image_name}:{tag}"


def _build_command(
    engine: Engine, image: str, checkout: Checkout, options: ImageOptions
) -> list[str]:
    created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return engine.build(image, {**checkout.build_arguments(created), **options.extra})


def _push_command(name: str | None) -> str:
    return "rsdl k8s image --push" + (f" --name {name}" if name else "")


def _require_commit(checkout: Checkout) -> None:
    changed = checkout.changed()
    if changed:
        raise ConfigError("--push", f"{_uncommitted(changed)}",
                          "git commit first: an image says of which commit it is")  # fmt: skip


def _uncommitted(paths: Sequence[str]) -> str:
    if len(paths) == 1:
        return f"{paths[0]} goes into the image and is not committed"
    return f"{paths[0]} and {len(paths) - 1} more go into the image and are not committed"


def _where(engine: Engine | None, image: str, pushed: bool | None) -> str:
    if engine is None:
        return f"none of {', '.join(ENGINES)} works here, to look for it"
    here = "here" if _succeeds(engine.has(image)) else "not here"
    if pushed is None:
        return f"{here}; {engine.name} cannot look into the registry"
    return f"{here}, " + (
        "in the registry" if pushed else "not in the registry, or not shown to you"
    )


def _is_pushed(engine: Engine | None, image: str) -> bool | None:
    """Return whether a registry has an image; ``None`` without a way to ask it."""
    command = None if engine is None else engine.finds(image)
    return None if command is None else _succeeds(command)


def _succeeds(command: Sequence[str]) -> bool:
    try:
        done = subprocess.run(command, capture_output=True, timeout=LOOK_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _run(command: Sequence[str], folder: Path, remedy: str) -> None:
    """Run a command with its output on the terminal."""
    print(shlex.join(command))
    sys.stdout.flush()
    code = subprocess.run(command, cwd=folder, check=False).returncode
    if code:
        raise RsdlError(f"{command[0]} {command[1]}", f"ended with {code}", remedy)
