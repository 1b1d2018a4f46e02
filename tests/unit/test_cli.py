"""Arguments -> one command; errors -> exit codes."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import click
import pytest
import typer
from typer.testing import CliRunner

from rsdl import __version__, cli
from rsdl.core.errors import ConfigError, DataError, PreemptedError, RsdlError


def commands(group: click.Command, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command with the words that call it."""
    found = getattr(group, "commands", None)
    if found is None:
        yield path, group
    else:
        for name, command in found.items():
            yield from commands(command, *path, name)


COMMANDS = dict(commands(cast(click.Command, typer.main.get_command(cli.app))))


def test_the_version_is_said():
    result = CliRunner().invoke(cli.app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"rsdl {__version__}\n")


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_names_every_option_and_says_what_it_is(path: tuple[str, ...]):
    result = CliRunner().invoke(cli.app, [*path, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    for parameter in COMMANDS[path].params:
        if isinstance(parameter, click.Option) or parameter.param_type_name == "option":
            for option in parameter.opts:
                assert option in result.stdout
        assert getattr(parameter, "help", None), parameter.name


def test_help_and_config_know_no_torch():
    code = (
        "import sys; sys.argv = ['rsdl', '--help']\n"
        "from rsdl.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "heavy = {'torch', 'timm', 'pytorch_lightning', 'rasterio', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("error", "line"),
    [(DataError("x", "is odd", "mend it"), "x: is odd; mend it"), (ZeroDivisionError(), "Zero")],
)
def test_torchrun_is_told_of_the_error(
    error: Exception, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "error.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(path))
    assert run_main(monkeypatch, "train", error=error) in (1, 2)
    told = json.loads(path.read_text())["message"]["extraInfo"]["py_callstack"]
    assert line in told and ("Traceback" in told) == isinstance(error, ZeroDivisionError)


def test_what_starts_ranks_does_not_wait_for_what_only_ranks_need():
    code = (
        "import sys, rsdl.commands.train\n"
        "heavy = {'pytorch_lightning', 'timm', 'torchvision', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def run_main(
    monkeypatch: pytest.MonkeyPatch, *arguments: str, error: BaseException | None = None
) -> int:
    """Run the command line as if ``rsdl ARGUMENTS`` ended with an error; return its exit code."""

    def app() -> None:
        if error is not None:
            raise error

    monkeypatch.setattr(sys, "argv", ["rsdl", *arguments])
    if error is not None:
        monkeypatch.setattr(cli, "app", app)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    code = ended.value.code
    return code if isinstance(code, int) else 0 if code is None else 1


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ConfigError("optim.lr", "is wrong", "mend it"), 2, "optim.lr: is wrong; mend it"),
        (PreemptedError("run", "stopped by SIGTERM"), 75, "run: stopped by SIGTERM"),
        (RsdlError("ledger", "does not balance"), 1, "ledger: does not balance"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_an_error_is_a_line_and_an_exit_code(
    error: BaseException,
    code: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    assert run_main(monkeypatch, error=error) == code
    assert capsys.readouterr().err == f"{line}\n"


@pytest.mark.parametrize("command", ["models", "--help", "--version", "config --list"])
def test_no_room_for_the_output_is_one_line_and_may_be_there_later(command: str):
    with open("/dev/full", "w") as full:
        words = [sys.executable, "-m", "rsdl", *command.split()]
        ended = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 69
    assert ended.stderr.count("\n") == 1 and "the disk is full" in ended.stderr


def test_a_crash_says_how_to_see_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert run_main(monkeypatch, error=ValueError("two\nlines")) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first == "crash: ValueError: two lines" and "--debug" in second


def test_debug_shows_tracebacks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    error = ConfigError("optim.lr", "is wrong")
    assert run_main(monkeypatch, "--debug", error=error) == 2
    said = capsys.readouterr().err
    assert said.startswith("Traceback") and said.endswith("optim.lr: is wrong\n")
    monkeypatch.setenv("RSDL_DEBUG", "1")
    assert run_main(monkeypatch, error=error) == 2
    assert capsys.readouterr().err.startswith("Traceback")
    with pytest.raises(ValueError, match="bug"):
        run_main(monkeypatch, error=ValueError("bug"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian"], "No such command"),
        (["train"], "Missing argument"),
        (["train", "x.yaml", "--nope"], "No such option"),
        (["config"], "CONFIG: is required"),
        (["config", "nowhere.yaml"], "nowhere.yaml: no such file"),
        (["data", "plan", "x", "--global-batch", "0"], "Invalid value"),
        (["data", "plan", "x", "--global-batch", "4", "--rank", "1"], "--rank: is 1, there are 1"),
        (["data", "pack", "folder", "x", "--out", "y", "--split", "1,2"], "--split: '1,2' is not"),
        (["data", "pack", "folder", "x", "--out", "y", "--on-corrupt", "hm"], "Invalid value"),
        (["models", "resnet5"], "resnet5"),
    ],
)
def test_wrong_arguments_exit_2(
    arguments: list[str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    assert run_main(monkeypatch, *arguments) == 2
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said
