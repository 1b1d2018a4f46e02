"""The Python API, as a script or a notebook uses it: README, docstrings, errors, signals."""

import doctest
import inspect
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import rsdl
from rsdl.commands import api
from rsdl.core.errors import ConfigError, ConfigErrors, DataError, InputError
from rsdl.data import standalone

pytestmark = [
    pytest.mark.slow,
    # Of Lightning and torch, as in any notebook.
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning"),
]
README = Path(__file__).parents[2] / "README.md"
# What makes the README's sizes fit for 18 images.
SMALL = {
    "image_size=224, batch_size=64": "image_size=16, batch_size=6",
    '"resnet50", ': '"test_resnet", ',
    "trainer__max_epochs=30": "trainer__max_epochs=1, data__batch_size=6, data__image_size=32, "
    'model__name="test_resnet", model__weights="none"',
    "range(30)": "range(2)",
}
FIELDS: dict[str, Any] = {
    "output": "runs",
    "trainer__max_epochs": 1,
    "data__batch_size": 6,
    "data__image_size": 32,
}


@pytest.fixture
def work(packed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with a data set as the examples name it."""
    for name in ("mine", "ucm"):
        shutil.copytree(packed, tmp_path / "data" / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_importing_rsdl_imports_nothing_that_takes_time_and_has_its_names():
    code = (
        "import sys, rsdl\n"
        "heavy = {'torch', 'pytorch_lightning', 'numpy', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert {'DataModule', 'train', 'evaluate'} <= set(dir(rsdl))\n"
        "import rsdl.train.build, rsdl.evaluate.evaluator\n"  # packages of the functions' names
        "assert callable(rsdl.train) and callable(rsdl.evaluate)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_functions_have_their_own_signatures():
    for name in ("train", "evaluate"):
        assert inspect.signature(getattr(rsdl, name)) == inspect.signature(getattr(api, name))
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        rsdl.trian  # type: ignore[attr-defined]  # noqa: B018


def test_the_python_of_the_readme_runs(work: Path, capsys: pytest.CaptureFixture[str]):
    text = README.read_text()
    for before, after in SMALL.items():
        assert before in text
        text = text.replace(before, after)
    cells = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(cells) == 4
    notebook: dict[str, Any] = {}
    for cell in cells:
        if "rsdl.load(" in cell:  # of raw pixels; before, images were what a network takes
            notebook["images"] = notebook["batch"] = torch.randint(256, (2, 40, 50, 3)).byte()
        exec(compile(cell, "README.md", "exec"), notebook)
    assert notebook["found"].probabilities.shape == notebook["logits"].shape == (2, 3)
    assert re.search(r"epoch 1: val accuracy \d+\.\d%", capsys.readouterr().out)
    assert notebook["run"].record.status == "completed"
    assert Path(notebook["run"].url, "report-tta.json").is_file()


def test_the_examples_of_the_docstrings_are_true(work: Path):
    fields = "data__batch_size=6, data__image_size=32, trainer__max_epochs=1"
    for thing, module in ((rsdl.DataModule, standalone), (api.train, api), (api.evaluate, api)):
        (test,) = [t for t in doctest.DocTestFinder(recurse=False).find(thing, globs=vars(module))]
        for example in test.examples:
            example.source = example.source.replace("trainer__max_epochs=1", fields)
            example.want = example.want.replace(
                "'beach', 'field', 'forest'", "'field', 'harbor', 'roofs'"
            )
        result = doctest.DocTestRunner().run(test)
        assert result.attempted and not result.failed


def test_what_ends_a_command_is_an_exception_and_signals_are_the_callers_again(work: Path):
    def mine(*_: object) -> None:
        pass

    dotted: dict[str, Any] = {"data.url": work / "nowhere"}
    before = signal.signal(signal.SIGTERM, mine)
    try:
        with pytest.raises(ConfigErrors) as told:
            rsdl.train("quickstart", data__url="data/mine", optim__lrr=1, trainer__max_epochs="x")
        assert 'optim.lrr: unknown field; did you mean "lr"?' in str(told.value)
        assert "trainer.max_epochs" in str(told.value)
        with pytest.raises(DataError, match=r"data\.url: no manifest"):
            rsdl.train("quickstart", **dotted)
        with pytest.raises(ConfigError, match=r"optim\.lr: is of type object"):
            rsdl.train("quickstart", optim__lr=object())
        with pytest.raises(InputError, match="is no run"):
            rsdl.evaluate("data/mine")
        rsdl.train("quickstart", data__url="data/mine", **FIELDS)
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)


def test_processes_that_it_starts_end_as_an_exception(work: Path):
    # 5 images cannot be shared by two devices: each process says so and exits with code 2.
    with pytest.raises(InputError, match="exit code 2"):
        rsdl.train(
            "quickstart",
            data__url="data/mine",
            trainer__devices=2,
            **FIELDS | {"data__batch_size": 5},
        )
