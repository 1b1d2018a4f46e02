"""Commands about one run: train, evaluate, report, and what they build upon."""

from typing import Annotated, Literal

import typer

from rsdl.cli.options import Overrides
from rsdl.core.errors import ConfigError

app = typer.Typer()


@app.command()
def train(
    config: Annotated[
        str, typer.Argument(help="YAML file, or a name of `rsdl config --list`: resnet50_ucm.")
    ],
    overrides: Overrides = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Discard the existing run and start again.")
    ] = False,
    fold: Annotated[
        str | None,
        typer.Option(metavar="K/N", help="Fold of a cross-validation; the same as data.fold=K/N."),
    ] = None,
    nnodes: Annotated[
        str | None,
        typer.Option(
            metavar="N|MIN:MAX",
            help="Nodes; the same as trainer.num_nodes=N. With MIN:MAX they may come and go.",
        ),
    ] = None,
    nproc_per_node: Annotated[
        int | None, typer.Option(min=1, help="Devices on each; the same as trainer.devices=N.")
    ] = None,
    node_rank: Annotated[
        int | None,
        typer.Option(
            min=0, envvar=["NODE_RANK", "JOB_COMPLETION_INDEX"], help="Rank of this node."
        ),
    ] = None,
    rdzv_endpoint: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="Address of the first node, or of a `rsdl rendezvous`."
        ),
    ] = None,
    rdzv_id: Annotated[
        str,
        typer.Option(metavar="ID", help="Rendezvous id, the same on all nodes of one start."),
    ] = "rsdl",
) -> None:
    """Train a network; the same command again resumes a run that is not completed.

    A completed run goes on if trainer.max_epochs or trainer.max_steps is raised.

    --fold pools the train and val splits, validates on the K-th of N parts and trains on the
    others; scenes are not divided. The run is called NAME-foldKofN.

    Everything goes to OUTPUT/NAME: config.yaml, run.json, metrics.csv, TensorBoard events,
    checkpoints and report.html. Exit codes: 0 done, 2 wrong input, 69 no
    storage, room or GPU for now, 75 preempted after saving.

    It starts a process for each device. On several nodes, start it once on each, with --nnodes,
    --node-rank and --rdzv-endpoint; torchrun does as well, but reports every failure as 1.

    With --nnodes MIN:MAX nodes may come and go while the run goes on, in the same order and with
    the same global batch: start it on any node, at any time, with the endpoint of one
    `rsdl rendezvous`.
    """
    from rsdl.train.signals import StopRequest

    stop = StopRequest()  # before all that takes seconds to import
    stop.install()
    stop.guard_setup()
    from rsdl.commands.train import train as command
    from rsdl.config.load import write_override
    from rsdl.distributed.launch import Node

    fields = list(overrides or [])
    if nnodes is not None:
        fields.append(write_override("trainer.num_nodes", nnodes))
    if fold is not None:
        fields.append(f"data.fold={fold}")
    if nproc_per_node is not None:
        fields.append(f"trainer.devices={nproc_per_node}")
    node = Node(node_rank, rdzv_endpoint, rdzv_id)
    raise typer.Exit(command(config, fields, restart=restart, node=node, stop=stop))


@app.command()
def rendezvous(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on all interfaces.")] = 29500,
    rdzv_id: Annotated[
        str | None,
        typer.Option(metavar="ID", help="End with the run of this --rdzv-id; default: serve on."),
    ] = None,
) -> None:
    """Serve the meeting point of runs whose nodes come and go (train --nnodes MIN:MAX).

    It needs no GPU, and keeps nothing: if it is lost, start it again at the same address, and the
    nodes meet there and go on from their last checkpoint.
    """
    from rsdl.commands.rendezvous import rendezvous as command

    raise typer.Exit(command(port, run_id=rdzv_id))


@app.command()
def evaluate(
    target: Annotated[str, typer.Argument(help="A run's folder, or one of its checkpoints.")],
    split: Annotated[str | None, typer.Option(help="Split; default: test, else val.")] = None,
    tta: Annotated[
        bool,
        typer.Option(
            "--tta", help="Average over 8 flips and quarter turns (4 flips if not square)."
        ),
    ] = False,
    windows: Annotated[
        bool,
        typer.Option(
            "--windows",
            help="Segmentation: whole images, by overlapping windows as in predict; default: "
            "images as packed, cropped and resized by data.eval_crop.",
        ),
    ] = False,
    data: Annotated[
        str | None, typer.Option(metavar="URL", help="URL of the data set, if it has moved.")
    ] = None,
    export: Annotated[
        Literal["coco", "dota"] | None,
        typer.Option(
            help="Detection: write the detections into the run's folder, too. coco: results JSON "
            "of the samples, with the numbers of data convert --to coco; dota: a file of each "
            "class, with the tiles of an image merged."
        ),
    ] = None,
) -> None:
    """Evaluate a trained network and write its report anew."""
    from rsdl.commands.evaluate import evaluate as command

    code = command(target, split=split, tta=tta, windows=windows, data_url=data, export=export)
    raise typer.Exit(code)


@app.command()
def export(
    target: Annotated[str, typer.Argument(help="A run's folder, or one of its checkpoints.")],
    to: Annotated[
        Literal["safetensors", "onnx", "torch", "hf"],
        typer.Option(
            help="safetensors: for timm (hf is the same), or rsdl.load; torch: torch.export."
        ),
    ],
    out: Annotated[str, typer.Option(metavar="URL", help="Folder or s3:// to write to.")],
    data: Annotated[
        str | None, typer.Option(metavar="URL", help="URL of the data set, if it has moved.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Test images to compare on.")] = 32,
    tolerance: Annotated[
        float, typer.Option(min=0, help="Largest difference of a logit; above it: exit code 1.")
    ] = 1e-3,
    license: Annotated[
        str | None, typer.Option(metavar="SPDX", help="Licence for the model card.")
    ] = None,
) -> None:
    """Write a trained network for others to use, checked against the run on real images.

    OUT gets the model, preprocessing included, model.json, labels.json and a model card
    (README.md). ONNX needs the extra "export".
    """
    from rsdl.commands.export import export as command

    code = command(
        target, to=to, out=out, data_url=data, samples=samples, tolerance=tolerance, licence=license
    )
    raise typer.Exit(code)


@app.command()
def report(
    runs: Annotated[list[str], typer.Argument(help="Runs, or folders that hold runs.")],
    out: Annotated[
        str | None, typer.Option(help="File; default: comparison.html for several runs.")
    ] = None,
) -> None:
    """Write a run's report anew, or compare several runs in one page."""
    from rsdl.commands.report import report as command

    raise typer.Exit(command(runs, out=out))


@app.command()
def config(
    path: Annotated[
        str | None, typer.Argument(metavar="[CONFIG]", help="YAML file, or a name of --list.")
    ] = None,
    overrides: Overrides = None,
    list_names: Annotated[
        bool, typer.Option("--list", help="Print the configs that can be given by name.")
    ] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of a config, for editors.")
    ] = False,
) -> None:
    """Print the resolved config, the names of configs, or the schema of all configs.

    A name is looked up in ./configs first, then among the configs that come with rsdl.
    """
    from rsdl.commands.config import show_config, show_list, show_schema

    if list_names:
        show_list()
    elif schema:
        show_schema()
    elif path is None:
        raise ConfigError("CONFIG", "is required", "name a YAML file, or pass --list or --schema")
    else:
        show_config(path, overrides or [])


@app.command()
def doctor(
    urls: Annotated[
        list[str] | None, typer.Argument(metavar="[URL]...", help="Data sets to try to reach.")
    ] = None,
    output: Annotated[str, typer.Option(help="Folder that runs will be written to.")] = ".",
) -> None:
    """Check this machine: each line is ok, or says what to do."""
    from rsdl.commands.doctor import run_doctor

    raise typer.Exit(run_doctor(urls or (), output=output))
