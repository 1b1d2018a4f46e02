"""``rsdl bench``: how fast it is here, beside what people use instead."""

from typing import Annotated, Literal

import typer

app = typer.Typer()


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def bench(
    context: typer.Context,
    name: Annotated[
        Literal[
            "loader",
            "store",
            "train",
            "feed",
            "evaluate",
            "gpu",
            "launching",
            "decode",
            "resume",
            "pack",
            "scale",
        ],
        typer.Argument(help="What to measure."),
    ],
    out: Annotated[
        str, typer.Option(metavar="DIR", help="Where NAME.json and NAME.png go.")
    ] = "bench",
) -> None:
    """Measure speed as ratios against a reference in the same run.

    loader: images/s beside ImageFolder, WebDataset, Streaming, LitData, DALI and FFCV. store: CPU a
    GB from a Ceph gateway beside other clients. train: steps/s beside a hand-written loop, and how
    long it takes to start. feed: images/s of training from shards beside one batch in memory, of
    each of the nine networks. evaluate: images/s and memory of validation, evaluation and TTA
    beside a bare inference loop. gpu: training steps of the nine on a GPU beside timm's script and
    Lightning. launching: what loading costs the thread that launches kernels. decode: images/s with
    JPEGs decoded by cores and by the GPU, for 1, 2, 4, ... cores per GPU. resume: start to first
    step, early and late in an epoch. pack: MB/s of packing beside MDSWriter, LitData and
    ShardWriter, and of cutting a scene. scale: bytes that a cluster draws, simulated.

    What follows NAME goes to the benchmark: "rsdl bench loader -- --help" shows its options. Peers
    come with the extra "bench"; one that is not installed is left out, and the table says so.
    """
    from rsdl.commands.bench import bench as command

    raise typer.Exit(command(name, context.args, out=out))
