"""``rsdl k8s``: manifests for a cluster."""

from typing import Annotated

import typer

from rsdl.cli.k8s_check import check
from rsdl.cli.k8s_image import image

app = typer.Typer(
    help="Manifests for a Kubernetes cluster, and the image that they name.", no_args_is_help=True
)


@app.command("render")
def k8s_render(
    configs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CONFIG]...",
            help="Files or names, such as resnet50_ucm; default: the whole study.",
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
            help="Also DIR/indexed: the whole study as one Job, of which the cluster itself runs "
            "no more than the setting parallelism at a time.",
        ),
    ] = False,
    folder: Annotated[
        str, typer.Option("--configs", metavar="DIR", help="Folder of the configs.")
    ] = "configs",
) -> None:
    """Write Kustomize files from configs and DIR/settings.yaml, ready for kubectl apply -k DIR.

    Settings are bucket, image, namespace, region, gpu and others that settings.yaml explains; what
    --set says is written there. Other files in DIR stay as they are.
    """
    from rsdl.commands.k8s import render

    code = render(
        configs or (), out=out, changes=set_ or (), check=check, folder=folder, indexed=indexed
    )
    raise typer.Exit(code)


app.command("check")(check)
app.command("image")(image)
