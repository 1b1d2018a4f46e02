"""``rsdl k8s check``: manifests against the rules of a cluster."""

from typing import Annotated, Literal

import typer

from rsdl.core.errors import ConfigError


def check(
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
        bool, typer.Option("--all", help="Show what several objects share for each of them.")
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
    """Check manifests, without a cluster: what would be refused, forbidden or regretted there.

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
