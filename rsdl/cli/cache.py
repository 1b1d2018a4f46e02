"""``rsdl data cache``: this node's copies of remote shards."""

from typing import Annotated

import typer

app = typer.Typer(
    help="Look after the copies of remote shards on this node.",
    no_args_is_help=True,
)

CacheFolder = Annotated[
    str | None,
    typer.Option("--folder", metavar="DIR", help="The cache; default: $RSDL_CACHE."),
]
CacheOf = Annotated[
    str | None,
    typer.Option("--config", metavar="CONFIG", help="YAML file: the cache of its data.cache."),
]


@app.command("show")
def data_cache_show(folder: CacheFolder = None, config: CacheOf = None) -> None:
    """Show where this node keeps copies of remote shards, and how much there is.

    What a running command reads now is in use. The copies used longest ago go first when room is
    needed, so there is nothing to tidy up; data.cache.size says how much room there is.
    """
    from rsdl.commands.cache import show

    raise typer.Exit(show(folder=folder, config=config))


@app.command("clear")
def data_cache_clear(
    folder: CacheFolder = None,
    config: CacheOf = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be removed.")
    ] = False,
) -> None:
    """Remove every copy that no running command uses.

    Training that runs is not disturbed; what it reads later is fetched again.
    """
    from rsdl.commands.cache import clear

    raise typer.Exit(clear(folder=folder, config=config, dry_run=dry_run))
