"""``rsdl k8s image``: the image of a study."""

from typing import Annotated, Literal

import typer


def image(
    build: Annotated[bool, typer.Option("--build", help="Build it, unless it is there.")] = False,
    push: Annotated[
        bool, typer.Option("--push", help="Build it, unless it is there, and push it.")
    ] = False,
    print_: Annotated[
        bool, typer.Option("--print", help="Run nothing: print the commands.")
    ] = False,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="REGISTRY/IMAGE",
            help="What to call it, without a tag; default: as settings do.",
        ),
    ] = None,
    engine: Annotated[
        Literal["docker", "podman", "buildah"] | None,
        typer.Option(help="What builds and pushes; default: the first that works."),
    ] = None,
    build_arg: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Argument of docker/Dockerfile: BASE, COMPILER."),
    ] = None,
    out: Annotated[
        str, typer.Option(metavar="DIR", help="Folder of the manifests and settings.yaml.")
    ] = "k8s",
) -> None:
    """Build and push the image that pods run, from this checkout; alone, say where it stands.

    Its tag is the version and 12 digits that follow from the files that go into it: rsdl/,
    configs/, docker/Dockerfile, the locks, pyproject.toml, README.md, LICENSE. A commit of other
    files, such as k8s/, names the same image. --push wants those files committed.
    """
    from rsdl.commands.k8s_image import (
        make_image,
        parse_build_arguments,
        print_commands,
        show_image,
    )

    extra = parse_build_arguments(build_arg or ())
    if print_:
        both = build == push
        print_commands(out, build=True, push=push or both, name=name, engine=engine, extra=extra)
    elif build or push:
        make_image(out, push=push, name=name, engine=engine, extra=extra)
    else:
        show_image(out, name=name, engine=engine)
