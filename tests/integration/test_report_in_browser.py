"""The report in a real browser: nothing sticks out, at desktop and at phone width."""

from pathlib import Path

import pytest

from rsdl.evaluate.compared_run import ComparedRun
from rsdl.evaluate.report import render_report
from rsdl.evaluate.study import render_study, study_of
from rsdl.records.evaluation import ClassificationEvaluation, Picture, RunnerUp
from tests.integration.browser import look_at
from tests.run_records import make_record
from tests.unit.evaluate.class_scores import scores_of

CLASSES = tuple(f"very_long_land_use_class_name_number_{number}" for number in range(45))
RUN = make_record(name="a_run_with_quite_a_long_name_" * 3, num_classes=45)


def evaluation() -> ClassificationEvaluation:
    """Return an evaluation of many classes with long names, mistakes and pictures."""
    import numpy as np

    confusion = np.random.default_rng(0).integers(0, 3, (45, 45)) + 60 * np.eye(45, dtype=int)
    scores = scores_of(confusion, CLASSES)
    picture = Picture(
        key="k" * 80,
        source="/a/very/long/path/without/any/break/" + "x" * 80,
        label=CLASSES[0],
        predicted=CLASSES[1],
        confidence=0.9,
        runner_up=RunnerUp(name=CLASSES[2], probability=0.05),
    )
    return ClassificationEvaluation(
        run="run",
        split="test",
        checkpoint="checkpoints/best.ckpt",
        classes=CLASSES,
        num_samples=int(confusion.sum()),
        metrics={**scores.metrics, "top5": 0.9, "ece": 0.1, "loss": 1.0},
        per_class=scores.per_class,
        confusion=tuple(map(tuple, confusion.tolist())),
        mistakes=(picture,) * 5,
        uncertain=(picture,) * 5,
    )


def history() -> list[dict[str, float | None]]:
    """Return the rows of a short run."""
    return [
        {"epoch": epoch, "step": 10 * epoch + 10, "val_oa": 0.1 * epoch, "val_loss": 3 - epoch / 5}
        for epoch in range(8)
    ]


def measure(browser: str, page: Path, width: int, folder: Path) -> tuple[int, int]:
    """Return the widths of a page's window and content, laid out in a frame of ``width``."""
    look = "const d=view.document.documentElement;return [d.clientWidth,d.scrollWidth]"
    window, content = look_at(browser, page, look, width=width, folder=folder)
    return window, content


@pytest.mark.parametrize("width", [390, 1280])
def test_pages_fit_the_window(browser: str, tmp_path: Path, width: int):
    entry = ComparedRun(RUN, evaluation(), history())
    pages = {
        "report": render_report(entry, config_yaml="a: b\n" * 20),
        "study": render_study(study_of([entry] * 3)),
    }
    for name, text in pages.items():
        page = tmp_path / f"{name}.html"
        page.write_text(text)
        window, content = measure(browser, page, width, tmp_path)
        assert 0 < window <= width
        assert content <= window, f"{name} is {content} px wide in a window of {window} px"


def test_a_page_that_sticks_out_is_noticed(browser: str, tmp_path: Path):
    page = tmp_path / "wide.html"
    page.write_text("<!doctype html><body><div style='width:2000px'>wide</div></body>")
    window, content = measure(browser, page, 390, tmp_path)
    assert content > window
