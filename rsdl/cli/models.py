"""Commands about networks and their weights."""

from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup


class _ListByDefault(TyperGroup):
    """``rsdl models NAME`` is ``rsdl models list NAME``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - click's Context
        if not args or args[0] not in (*self.commands, "-h", "--help"):
            args = ["list", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=_ListByDefault, help="List networks and weights, and mirror weights.")


@app.command("list")
def list_(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Models of timm; default: the nine."),
    ] = None,
    num_classes: Annotated[int, typer.Option(min=1, help="Classes of the head.")] = 21,
    image_size: Annotated[
        int | None,
        typer.Option(
            min=1, help="Input size in px; default: as published; of other tasks, as in configs."
        ),
    ] = None,
    task: Annotated[
        Literal["classification", "segmentation", "detection"],
        typer.Option(help="Task whose head they get."),
    ] = "classification",
    head: Annotated[
        str | None, typer.Option(help="Value of task.head; default: that of the task.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    weights: Annotated[
        bool, typer.Option("--weights", help="List the remote-sensing weights instead.")
    ] = False,
    heads: Annotated[
        bool, typer.Option("--heads", help="List the heads of segmentation that fit instead.")
    ] = False,
) -> None:
    """List the nine architectures, or any of timm's: parameters, GFLOPs, weights, heads."""
    from rsdl.commands.models import list_models, list_weights

    if heads:
        from rsdl.commands.heads import list_heads

        list_heads(names or (), as_json=as_json)
    elif weights:
        list_weights(names or (), as_json=as_json)
    else:
        list_models(
            names or (), task=task, head=head, num_classes=num_classes, image_size=image_size,
            as_json=as_json,
        )  # fmt: skip


@app.command()
def fetch(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="Models of timm, or remote-sensing weights; default: the nine.",
        ),
    ] = None,
    *,
    out: Annotated[
        str, typer.Option("--out", metavar="URL", help="The mirror: a folder or s3://.")
    ],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be fetched.")
    ] = False,
) -> None:
    """Mirror pretrained weights, for `model.weights=URL`: tensors, config and licence."""
    from rsdl.commands.fetch_weights import fetch_weights

    fetch_weights(names or (), out=out, overwrite=overwrite, dry_run=dry_run)
