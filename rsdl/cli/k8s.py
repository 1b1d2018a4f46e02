"""``rsdl k8s``: manifests for a cluster."""

from typing import Annotated, Literal

import typer

from rsdl.core.errors import ConfigError

app = typer.Typer(
    help="Manifests for a Kubernetes cluster, and the image that they name.", no_args_is_help=True
)


@app.command("render")
def k8s_render(
    configs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CONFIG]...",
            help="Files or names, such as resnet50_ucm; default: the three studies.",
        ),
    ] = None,
    out: Annotated[str, typer.Option(metavar="DIR", help="Folder of the manifests.")] = "k8s",
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change a setting first: for all, or for the configs that are named.",
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; 1 if a file is not what it should be.")
    ] = False,
    indexed: Annotated[
        bool,
        typer.Option(
            "--indexed",
            help="Also DIR/indexed: the study of classification as one Job, of which the cluster "
            "itself runs no more than the setting parallelism at a time.",
        ),
    ] = False,
    folder: Annotated[
        str, typer.Option("--configs", metavar="DIR", help="Folder of the configs.")
    ] = "configs",
) -> None:
    """Write Kustomize files from configs and DIR/settings.yaml, ready for kubectl apply -k DIR.

    DIR is the study of classification; DIR/studies/segmentation and DIR/studies/detection are those
    of configs/segmentation and configs/detection, with the same base and components.
    Settings are bucket, image, namespace, region, gpu and others that settings.yaml explains; what
    --set says is written there. Other files in DIR stay as they are.

    nodes=MIN:MAX makes three Jobs of a config, of nodes that come and go while it trains.
    """
    from rsdl.commands.k8s import render

    code = render(
        configs or (), out=out, changes=set_ or (), check=check, folder=folder, indexed=indexed
    )
    raise typer.Exit(code)


@app.command("check")
def k8s_check(
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DIR|FILE...", help="Kustomize folder, folder of YAML, YAML file, - for a pipe."
        ),
    ] = None,
    profile: Annotated[
        Literal["nautilus", "none"],
        typer.Option(help="Whose policies; none: schema and API server alone, for any cluster."),
    ] = "nautilus",
    configs: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="The configs/ of the image; default: ./configs."),
    ] = None,
    benchmark: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Run or folder of runs: how busy were their GPUs?"),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail too.")] = False,
    every: Annotated[
        bool,
        typer.Option("--all", help="Print what several objects share for each of them."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    server: Annotated[
        bool,
        typer.Option(
            "--server",
            help="Ask the cluster, too, by a dry run of all that lies there to be applied; "
            "exit code 69 if it does not answer.",
        ),
    ] = False,
    rules: Annotated[bool, typer.Option("--rules", help="List all rules, a line each.")] = False,
) -> None:
    """Check manifests offline: the schema, the API server's rules and the cluster's policies.

    Each line is severity, rule, field, what is wrong and what to do. Folders of Kustomize are built
    with kubectl or kustomize; plain YAML needs neither. Exit code 1 if there is an error.

    An **error** is refused by the API server or forbidden by the cluster; a **warning** may be
    meant; a **note** is no fault, such as an object that must be in the cluster already.

    With --server the cluster says itself what it would refuse now, from you: quotas, policies and
    rights included. Nothing is changed there.

    Examples: `rsdl k8s check k8s/` · `rsdl k8s check job.yaml --profile none` ·
    `kubectl kustomize k8s/ | rsdl k8s check -` · `rsdl k8s check k8s/ --server` ·
    `rsdl k8s check k8s/ --benchmark runs`
    """
    from rsdl.commands import k8s_check

    if rules:
        k8s_check.list_rules()
        return
    if not targets:
        raise ConfigError("DIR|FILE", "is required", "name manifests, or pass --rules")
    code = k8s_check.check(
        targets,
        profile=profile,
        configs=configs,
        benchmark=benchmark,
        strict=strict,
        every=every,
        as_json=as_json,
        server=server,
    )
    raise typer.Exit(code)


@app.command("image")
def k8s_image(
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
            help="Name of the image, without a tag; default: that of the settings.",
        ),
    ] = None,
    engine: Annotated[
        Literal["docker", "podman", "buildah"] | None,
        typer.Option(help="Program that builds and pushes; default: the first that works."),
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
        ImageOptions,
        make_image,
        parse_build_arguments,
        print_commands,
        show_image,
    )

    options = ImageOptions(out, name, engine, parse_build_arguments(build_arg or ()))
    if print_:
        print_commands(options, push=push or not build)
    elif build or push:
        make_image(options, push=push)
    else:
        show_image(options)
