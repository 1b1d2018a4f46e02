"""Arguments and options that several commands share."""

from typing import Annotated, Literal

import typer

from rsdl.core.errors import ConfigError

Url = Annotated[str, typer.Argument(metavar="URL", help="Root of the data set: a folder or s3://.")]
Out = Annotated[
    str, typer.Option("--out", metavar="URL", help="Where the data set goes: a folder or s3://.")
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the split and the order.")]
ShardMb = Annotated[float, typer.Option("--shard-mb", min=0.001, help="Size of a shard in MB.")]
Corrupt = Annotated[
    Literal["error", "skip"],
    typer.Option("--on-corrupt", help="A sample that cannot be decoded: stop, or leave it out."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing data set.")]
Workers = Annotated[
    int | None, typer.Option("--num-workers", min=1, help="Threads; default: one a core.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Overrides, such as optim.lr=1e-4."),
]
SplitShares = Annotated[
    str, typer.Option("--split", metavar="A,B,C", help="Shares of train, val and test.")
]
SplitFiles = Annotated[
    tuple[str, str, str] | None,
    typer.Option(
        "--split-files",
        metavar="TRAIN VAL TEST",
        help="Lists of the images of train, val and test, a name a line, or none; others are out.",
    ),
]


def parse_shares(text: str) -> tuple[float, float, float]:
    """Return the shares of train, val and test that ``--split`` names."""
    try:
        train, val, test = (float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError("--split", f"{text!r} is not A,B,C", "write 0.8,0.1,0.1") from error
    return train, val, test
