import re
from collections.abc import Callable

import pytest

from rsdl.evaluate.comparison import ComparedRun, column_of, render_comparison, row_of

MakeEntry = Callable[..., ComparedRun]


def starred(html: str) -> list[str]:
    return re.findall(r'class="crown"[^>]*>([^<]+)<', html)


def test_the_best_of_each_data_set_is_marked(entry: MakeEntry) -> None:
    entries = [
        entry("resnet50", "ucm", 91),
        entry("vit_base", "ucm", 95),
        entry("resnet50", "aid", 83),
        entry("vit_base", "aid", 82),
    ]
    html = render_comparison(entries)
    assert sorted(starred(html)) == ["83.00%", "95.00%"]
    assert {"91.00%", "82.00%"} <= set(re.findall(r"\d\d\.\d\d%", html))


def test_runs_that_tie_are_both_marked(entry: MakeEntry) -> None:
    html = render_comparison([entry("resnet50", "ucm", 95), entry("vit_base", "ucm", 95)])
    assert starred(html) == ["95.00%", "95.00%"]


@pytest.mark.parametrize("status", ["running", "preempted", "failed"])
def test_only_a_completed_run_can_be_best(entry: MakeEntry, status: str) -> None:
    html = render_comparison(
        [entry("resnet50", "ucm", 80), entry("vit_base", "ucm", 99, status=status)]
    )
    assert starred(html) == ["80.00%"]
    assert f'data-status="{status}"' in html.split('id="cost"')[0]


def test_a_validation_score_never_wins_over_a_test_score(entry: MakeEntry) -> None:
    best_validation = {"metrics": {"best": {"epoch": 3, "oa": 0.999}}}
    html = render_comparison(
        [entry("resnet50", "ucm", 80), entry("vit_base", "ucm", None, **best_validation)]
    )
    assert starred(html) == ["80.00%"]
    assert "99.90%" in html
    assert '<span class="cell-note">val</span>' in html


def test_a_column_is_compared_on_the_split_that_most_runs_were_measured_on(
    entry: MakeEntry,
) -> None:
    rows = [
        row_of(entry("a", "ucm", 80, split="val")),
        row_of(entry("b", "ucm", 81, split="val")),
        row_of(entry("c", "ucm", 99, split="test")),
    ]
    assert (column_of(rows, "ucm").basis, column_of(rows, "ucm").best) == ("val", 0.81)
    assert column_of(rows[1:], "ucm").basis == "test"


def test_a_data_set_without_a_completed_run_has_no_best(entry: MakeEntry) -> None:
    html = render_comparison([entry("resnet50", "ucm", None, status="failed", metrics={})])
    assert starred(html) == []
    assert "failed" in html


def test_totals_add_up_over_the_runs(entry: MakeEntry) -> None:
    html = render_comparison([entry("resnet50", "ucm", 80), entry("vit_base", "ucm", 90)])
    totals = dict(re.findall(r'<dt>([^<]+)</dt><dd class="value">([^<]+)</dd>', html))
    assert totals["Runs"] == "2"
    assert totals["Parameters"] == "47.1 M"
    assert totals["Epochs"] == "24"
    assert totals["Imagery read"] == "6.00 GB"
    assert totals["Preemptions"] == "4"


def test_cost_stands_beside_accuracy_for_every_data_set(entry: MakeEntry) -> None:
    html = render_comparison([entry("resnet50", "ucm", 80), entry("vit_base", "aid", 90)])
    for title in ("accuracy by device hours", "accuracy by parameters"):
        assert f"ucm: {title}" in html
        assert f"aid: {title}" in html
    assert "80.00% at 1.03 device hours" in html


def test_hours_of_different_cards_are_not_compared(entry: MakeEntry) -> None:
    entries = [
        entry("resnet50", "ucm", 80, device_name="NVIDIA A10"),
        entry("swin_base", "ucm", 85, device_name="NVIDIA A10"),
        entry("vit_base", "ucm", 90, device_name="NVIDIA L40"),
    ]
    titles = re.findall(r"ucm: accuracy by ([^:<;]+)(?=<)", render_comparison(entries))
    wanted = {"device hours of NVIDIA A10", "device hours of NVIDIA L40", "parameters"}
    assert set(titles) == wanted
    alone = render_comparison(entries[:2])
    assert "accuracy by device hours" in alone and "hours of NVIDIA" not in alone


def test_names_are_inert_and_every_run_has_its_row(entry: MakeEntry) -> None:
    html = render_comparison([entry("<b>x</b>", "<i>y</i>", 80), entry("vit", "aid", 90)])
    assert "<b>" not in html
    assert "<i>" not in html
    assert "&lt;b&gt;x" in html
    table = html.split('id="runs"')[1]
    assert table.count('<th scope="row">') == 2


@pytest.mark.parametrize(
    "entries", [[], [ComparedRun({})], [ComparedRun({"status": "running"})] * 2]
)
def test_empty_records_still_make_a_page(entries: list[ComparedRun]) -> None:
    html = render_comparison(entries)
    assert "No history recorded yet" in html
    assert starred(html) == []


def test_the_page_asks_no_network(entry: MakeEntry) -> None:
    html = render_comparison([entry("resnet50", "ucm", 80)])
    assert not re.search(r"https?://|url\(|@import|\ssrc=", html)
