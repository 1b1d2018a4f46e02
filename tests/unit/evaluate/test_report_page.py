import base64
import hashlib
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from rsdl.evaluate.compared_run import ComparedRun
from rsdl.evaluate.figures.confusion import Cell, confusion_matrix, frequent_confusions
from rsdl.evaluate.figures.reliability import reliability
from rsdl.evaluate.report import render_report
from rsdl.records.evaluation import CalibrationBin, ClassificationEvaluation
from rsdl.records.run_record import RunRecord

Make = Callable[..., ClassificationEvaluation]
Rows = list[dict[str, float | None]]
EVIL = "<b onmouseover=\"alert(1)\">'x'</b><script>alert(2)</script>"
SECTIONS = ("summary", "curves", "confusion", "classes", "calibration", "pictures", "ledger")


class Page(HTMLParser):
    """A page taken apart: its elements with attributes, ids, and visible text."""

    VOID = frozenset(("meta", "img", "br", "wbr"))

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == [], "an element is never closed"
        self.text = " ".join("".join(self.words).split())
        self.ids = [attrs["id"] for _, attrs in self.elements if "id" in attrs]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.words.append(data)


@pytest.fixture
def html(make_evaluation: Make, run: RunRecord, history: Rows) -> str:
    entry = ComparedRun(run, make_evaluation(), history)
    return render_report(entry, config_yaml="name: resnet50_ucm\n")


def test_every_section_shows_its_values(html: str) -> None:
    page = Page(html)
    assert {*SECTIONS, "record", "config"} <= set(page.ids)
    for words in (
        "80.0%",  # overall accuracy: 24 of 30
        "24 of 30 test images",
        "0.700",  # kappa
        "98.8%",  # top-5
        "4.3%",  # calibration error
        "3 more could not be decoded",
        "15.4 k",  # images read
        "1 h 2 min",
        "NVIDIA A100",
        "harbor/harbor_7.jpg",
        "98.7%",
        "EPSG:32618",
        "500256.0",
        "15,372",  # planned, all epochs
        "✗ off",
        "3f2c1e9a",
        "name: resnet50_ucm",
        "overconfident",
    ):
        assert words in page.text
    titles = [data for data in page.words if data.startswith("field predicted as park")]
    assert titles == ["field predicted as park: 1 (10.0%)"]


def test_the_page_asks_no_network(html: str) -> None:
    for tag, attributes in Page(html).elements:
        for name in ("src", "href", "srcset", "action", "data", "xlink:href", "poster"):
            target = attributes.get(name)
            assert target is None or target.startswith(("data:image/", "#")), (tag, name, target)
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
    assert not re.search(r"url\(|@import|https?://|//\w+\.\w", html.split("<body>")[0])


def test_every_link_within_the_page_arrives(html: str) -> None:
    page = Page(html)
    targets = [attrs["href"] for tag, attrs in page.elements if tag == "a"]
    assert targets
    assert {target.removeprefix("#") for target in targets if target} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_the_policy_allows_exactly_our_style_and_script(html: str) -> None:
    (policy,) = (
        attrs["content"] or ""
        for _, attrs in Page(html).elements
        if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (source,) = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    # Style attributes and inline handlers would be blocked by that policy, so there must be none.
    for tag, attributes in Page(html).elements:
        assert not [name for name in attributes if name == "style" or name.startswith("on")], tag


def test_text_from_outside_is_inert(make_evaluation: Make, run: RunRecord, history: Rows) -> None:
    evaluation = make_evaluation((EVIL, "harbor", "park"), checkpoint=EVIL, split=EVIL)
    chosen = ("status", "task")
    texts = {key: EVIL for key, value in run if isinstance(value, str) and key not in chosen}
    poisoned = RunRecord(**run.model_dump() | texts | {"environment": {EVIL: EVIL}})
    poisoned.ledger[0] = poisoned.ledger[0].model_copy(update={"split": EVIL})
    entry = ComparedRun(poisoned, evaluation, history)
    html = render_report(entry, config_yaml=f"</pre>{EVIL}")
    tags = [tag for tag, _ in Page(html).elements]
    assert tags.count("script") == 1
    assert "b" not in tags
    assert f"</pre>{EVIL}" in Page(html).text


def test_pictures_have_an_alternative_text_and_missing_ones_say_so(html: str) -> None:
    page = Page(html)
    alternatives = [attrs.get("alt") for tag, attrs in page.elements if tag == "img"]
    assert alternatives == ["field, predicted as park"]
    assert "no preview" in page.text
    figures = [attrs for tag, attrs in page.elements if tag == "svg" and "role" in attrs]
    assert len(figures) == 5
    assert all(attrs["aria-label"] for attrs in figures)


def test_a_run_that_was_not_evaluated_shows_its_best_validation(run: RunRecord) -> None:
    run.status, run.reason, run.epochs_completed = "preempted", "the node was drained", 9
    page = Page(render_report(ComparedRun(run), config_yaml=""))
    for words in ("73.4%", "best validation, epoch 9", "9 of 12", "the node was drained"):
        assert words in page.text
    assert "Not evaluated yet" in page.text
    assert "No history recorded yet" in page.text
    assert {attrs.get("data-status") for _, attrs in page.elements} >= {"preempted"}
    assert set(SECTIONS) <= set(page.ids)


@pytest.mark.parametrize(
    "metrics", [{}, {"best": {"oa": None}, "final": {}}, {"best": {"oa": float("nan")}}]
)
def test_a_run_that_has_just_begun_has_a_page(begun: RunRecord, metrics: dict[str, Any]) -> None:
    begun.metrics = metrics
    page = Page(render_report(ComparedRun(begun), config_yaml=""))
    assert "not evaluated yet" in page.text and "No epoch has closed its ledger" in page.text
    assert "–" in page.text  # noqa: RUF001
    assert "None" not in page.text
    assert "nan" not in page.text


def test_an_evaluation_without_samples_or_pictures_still_makes_a_page(
    make_evaluation: Make, run: RunRecord
) -> None:
    evaluation = make_evaluation(
        confusion=np.zeros((3, 3), dtype=int), calibration=(), mistakes=(), uncertain=()
    )
    page = Page(render_report(ComparedRun(run, evaluation), config_yaml=""))
    assert "No mistakes" in page.text
    assert "No calibration was measured" in page.text


def test_classes_stand_weakest_first_and_undefined_ones_last(
    make_evaluation: Make, run: RunRecord
) -> None:
    confusion = [[9, 1, 0, 0], [5, 5, 0, 0], [0, 0, 0, 0], [0, 0, 0, 9]]
    evaluation = make_evaluation(("good", "weak", "absent", "perfect"), confusion=confusion)
    html = render_report(ComparedRun(run, evaluation), config_yaml="")
    table = html.split('class="sortable classes"')[1].split("</table>")[0]
    assert re.findall(r'<th scope="row">(\w+)', table) == ["weak", "good", "perfect", "absent"]


def test_the_page_does_not_depend_on_when_it_is_made(
    html: str, make_evaluation: Make, run: RunRecord, history: Rows
) -> None:
    entry = ComparedRun(run, make_evaluation(), history)
    assert render_report(entry, config_yaml="name: resnet50_ucm\n") == html


def test_the_matrix_draws_every_sample_once(make_evaluation: Make) -> None:
    random = np.random.default_rng(5)
    confusion = random.poisson(0.4, (45, 45)) + np.diag(random.integers(90, 140, 45))
    names = tuple(f"a rather long class name {k}" for k in range(45))
    matrix = confusion_matrix(make_evaluation(names, confusion=confusion))
    assert sum(cell.count for cell in matrix.cells) == confusion.sum()
    assert all(confusion[cell.row, cell.column] == cell.count for cell in matrix.cells)
    assert all(cell.shown for cell in matrix.cells)
    assert matrix.side * 45 <= 1000
    assert max(map(len, matrix.labels)) <= 22
    assert all(0 < cell.opacity <= 1 for cell in matrix.cells)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("colour", ["good", "bad"])
def test_counts_can_be_read_on_every_strength_of_colour(html: str, theme: int, colour: str) -> None:
    def channels(name: str) -> np.ndarray:
        code = re.findall(rf"--{name}: #([0-9a-f]{{6}});", html)[theme]
        return np.array([int(code[k : k + 2], 16) for k in (0, 2, 4)]) / 255

    def luminance(rgb: np.ndarray) -> float:
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    for share in np.linspace(0.001, 1, 200):
        cell = Cell(0, 0, 1, float(share), "1")
        ground = cell.opacity * channels(colour) + (1 - cell.opacity) * channels("panel")
        low, high = sorted((luminance(ground), luminance(channels(cell.tone))))
        # WCAG 2.2, success criterion 1.4.3 (AA).
        assert (high + 0.05) / (low + 0.05) >= 4.5, share


def test_a_thousand_classes_cost_no_more_than_their_samples(make_evaluation: Make) -> None:
    confusion = np.eye(1000, dtype=int)
    matrix = confusion_matrix(
        make_evaluation(tuple(f"c{k}" for k in range(1000)), confusion=confusion)
    )
    assert len(matrix.cells) == 1000


def test_confusions_come_most_frequent_first(make_evaluation: Make) -> None:
    evaluation = make_evaluation(confusion=[[5, 3, 0], [1, 5, 3], [0, 0, 2]])
    found = [(c.label, c.predicted, c.count) for c in frequent_confusions(evaluation, 2)]
    # Equal counts: the larger share of its class stands first.
    assert found == [("field", "harbor", 3), ("harbor", "park", 3)]


def test_calibration_weighs_bins_by_their_samples() -> None:
    bins = [
        CalibrationBin(low=0, high=0.5, count=10, confidence=0.4, accuracy=0.9),
        CalibrationBin(low=0.5, high=1, count=90, confidence=0.9, accuracy=0.8),
    ]
    diagram = reliability(bins)
    assert diagram is not None
    assert "mean confidence 85.0%, accuracy 81.0%" in diagram.verdict
    low, high = diagram.bars
    assert low.accuracy_y < low.confidence_y
    assert high.accuracy_y > high.confidence_y
    assert high.count_y < low.count_y
    assert reliability([]) is None


def test_the_room_loads_without_torch() -> None:
    code = (
        "import sys, rsdl.evaluate.report, rsdl.evaluate.study;"
        "sys.exit(bool({'torch', 'matplotlib', 'pytorch_lightning'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
