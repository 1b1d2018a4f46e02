"""Arguments -> one command; errors -> exit codes.

0 done, 1 a crash or a failed check, 2 the user's input is wrong and trying again cannot help, 69
storage, room on the disk or a GPU is not there: later or elsewhere it may be, 75 preempted after
saving: start it again. Commands are imported when they are called, so that
``rsdl --help`` is quick.
"""

import json
import logging
import os
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from rsdl import __version__
from rsdl.cli import data, k8s, models, predict, run, sweep
from rsdl.core.errors import PeerError, RsdlError
from rsdl.storage.local import explain_error

__all__ = ["app", "main"]

app = typer.Typer(
    name="rsdl",
    help="Train deep networks on high-resolution remote-sensing imagery.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(run.app)
app.add_typer(predict.app)
app.add_typer(models.app, name="models")
app.add_typer(data.app, name="data")
app.add_typer(k8s.app, name="k8s")
app.add_typer(sweep.app, name="sweep")


def main() -> None:
    """Run the command line and exit with its code."""
    debug = "--debug" in sys.argv or os.environ.get("RSDL_DEBUG", "") not in ("", "0")
    # Before torch is loaded: what goes wrong in it is told in our words.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")
    _show_log()
    try:
        _run()
    except RsdlError as error:
        _leave_with(error, debug=debug)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        _leave(130)
    except BrokenPipeError:
        _leave(1)
    except Exception as error:
        known = explain_error(error)
        if known is not None:
            _leave_with(known, debug=debug)
        _record(error)
        if debug:
            raise
        sys.stderr.write(
            f"crash: {type(error).__name__}: {' '.join(str(error).split())}\n"
            "run it again with --debug for the traceback\n"
        )
        _leave(1)


def _record(error: Exception) -> None:
    """Write the error to the file from which torchrun shows that of the first failed rank.

    The file is that of ``torch.distributed.elastic.multiprocessing.errors.record``, whose trace of
    an error that has a line for the user is that line.
    """
    if (path := os.environ.get("TORCHELASTIC_ERROR_FILE")) is None:
        return
    line = str(error) if isinstance(error, RsdlError) else traceback.format_exc()
    extra = {"py_callstack": line, "timestamp": str(int(time.time()))}
    with suppress(OSError):
        Path(path).write_text(json.dumps({"message": {"message": line, "extraInfo": extra}}))


def _leave_with(error: RsdlError, *, debug: bool) -> NoReturn:
    _record(error)
    if debug:
        traceback.print_exc()
    with suppress(OSError):
        _flush_output()
    if not (isinstance(error, PeerError) and error.quiet):
        sys.stderr.write(f"{error}\n")
    _leave(error.exit_code)


def _run() -> None:
    try:
        app()
    except SystemExit:  # The end of a command that did not fail.
        _flush_output()
        raise


def _flush_output() -> None:
    """Flush stdout; what cannot be written is dropped, or the exit would fail on it once more.

    Raises:
        OSError: If it cannot be written.
    """
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def _leave(code: int) -> NoReturn:
    with suppress(OSError):
        _flush_output()
    sys.exit(code)


def _show_log() -> None:
    """Show what rsdl has to say besides results, such as a head that was left out."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log = logging.getLogger("rsdl")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    if version:
        typer.echo(f"rsdl {__version__}")
        raise typer.Exit
