"""Figures, ratios and the pages that are made of them."""

import argparse
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.harness.measure import (
    Row,
    Table,
    Target,
    build_result,
    interleave,
    pair_ratio,
    portable,
    run_benchmark,
    show_progress,
    write_result,
)
from benchmarks.harness.results import (
    COMPARISONS,
    FOLDER,
    read_results,
    render,
    render_result,
    summarize,
)
from benchmarks.harness.tables import format_figure, print_result


def test_all_are_measured_in_each_round_and_warmups_do_not_count() -> None:
    turns: list[str] = []

    def measure(name: str) -> float:
        turns.append(name)
        return float(len(turns))

    figures = interleave(
        {"a": lambda: measure("a"), "b": lambda: measure("b")}, rounds=3, warmups=1
    )
    rounds = [sorted(turns[first : first + 2]) for first in range(0, 8, 2)]
    assert rounds == [["a", "b"]] * 4
    assert [len(values) for values in figures.values()] == [3, 3]
    assert min(min(values) for values in figures.values()) > 2  # the first two were to warm up


def read_terminal(terminal: int) -> bytes:
    """What was written to the other end, which is closed: a read gives what has come so far."""
    said = b""
    with contextlib.suppress(OSError):  # EIO: the other end is closed and all of it is read
        while some := os.read(terminal, 4096):
            said += some
    return said


@pytest.mark.parametrize("watched", [True, False])
def test_a_terminal_shows_what_is_measured_and_a_file_does_not(
    watched: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = (
        os.openpty() if watched else (None, os.open(tmp_path / "log", os.O_CREAT | os.O_WRONLY))
    )
    with os.fdopen(theirs, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        interleave({"rsdl": lambda: 1.0}, rounds=2)
        show_progress("")
    said = read_terminal(ours) if ours is not None else (tmp_path / "log").read_bytes()
    lines = [line.removeprefix(b"\x1b[K").decode() for line in said.split(b"\r")[1:]]
    turns = ["warm-up: rsdl", "round 1 of 2: rsdl", "round 2 of 2: rsdl", ""]
    assert lines == (turns if watched else [])


def test_none_always_follows_the_same_one() -> None:
    turns: list[str] = []
    interleave({"a": lambda: turns.append("a") or 1.0, "b": lambda: turns.append("b") or 1.0})
    assert {tuple(turns[first : first + 2]) for first in range(0, len(turns), 2)} == {
        ("a", "b"),
        ("b", "a"),
    }


def test_a_ratio_is_taken_within_rounds() -> None:
    # The machine was ten times slower in the second round, for both.
    ratio = pair_ratio([10.0, 1.0, 12.0], [5.0, 0.5, 5.0])
    assert ratio is not None
    assert (ratio.median, ratio.low, ratio.high) == (2.0, 2.0, 2.4)


@pytest.mark.parametrize("theirs", [[], [1.0], [1.0, 0.0]])
def test_no_ratio_without_its_pairs(theirs: list[float]) -> None:
    assert pair_ratio([1.0, 2.0], theirs) is None


@pytest.mark.parametrize(
    ("value", "at_least", "met"),
    [(0.85, True, True), (0.84, True, False), (1.1, False, False), (0.85, False, True)],
)
def test_a_target_is_met_on_its_side_of_the_bound(value: float, at_least: bool, met: bool) -> None:
    assert Target("speed", value, 0.85, at_least).met is met


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (12345.6, "12,346"), (0.98765, "0.988"), (5.0, "5")]
)
def test_figures_have_three_digits_that_count(value: float | None, text: str) -> None:
    assert format_figure(value) == text


def test_an_absent_peer_is_on_the_page_with_what_helps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_result(result_of_two(), tmp_path / "loader.json")
    (result,) = read_results(tmp_path)
    page = render([result])
    print_result(result)
    for text in (page, capsys.readouterr().out):
        assert "FFCV" in text
        assert "not installed: pip install ffcv" in text
        assert "MISSED: ours over theirs" in text
        assert "2 (1.5 to 2.5)" in text
    assert result["command"] in page
    assert result["date"] in page
    assert result["machine"]["processor"] in page


def test_every_line_of_a_table_on_the_page_has_all_columns() -> None:
    lines = [line for line in render_result(result_of_two()).splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 3
    assert {line.count("|") - line.count("\\|") for line in lines} == {6}


def test_options_of_any_type_are_written(tmp_path: Path) -> None:
    options = argparse.Namespace(images=tmp_path, sizes=[1, 2], python=None)
    result = build_result("loader", "Loading", [], options=vars(options))
    write_result(result, tmp_path / "new" / "loader.json")
    written = json.loads((tmp_path / "new" / "loader.json").read_text())
    assert written["options"] == {"images": tmp_path.name, "sizes": [1, 2], "python": None}


def result_of_two() -> dict[str, object]:
    rows = [
        Row("ours", [1.5, 2.0, 2.5], "a | b", {"CPU ms/image": 0.5}),
        Row("theirs", [1.0, 1.0, 1.0]),
        Row("FFCV", note="not installed: pip install ffcv"),
    ]
    table = Table("Images", "images/s", "theirs", rows, [Target("ours over theirs", 2.0, 2.5)])
    return build_result("loader", "Loading", [table], options={})


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("--quick", "--quick"), ("s3://bucket/data", "s3://bucket/data"), ("5", "5"),
        ("/home/me/data/aid", "aid"), ("--json=/tmp/x/loader.json", "--json=loader.json"),
        ("/home/me/peers/bin/python", "peers/bin/python"), ("data/aid", "data/aid"),
    ],
)  # fmt: skip
def test_a_result_names_no_folder_of_the_machine(given: str, kept: str):
    assert portable(given) == kept


@pytest.mark.parametrize(("load", "kept"), [(0.2, True), (0.9, False)])
def test_no_result_is_kept_of_a_machine_where_others_compute(
    load: float,
    kept: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    cores = len(os.sched_getaffinity(0))
    monkeypatch.setattr(os, "getloadavg", lambda: (load * cores, 0.0, 0.0))
    monkeypatch.setattr(sys, "argv", ["x", "--json", str(tmp_path / "x.json")])
    done: list[str] = []

    def run(options: argparse.Namespace) -> dict[str, Any]:
        done.append("ran")
        return build_result("x", "X", [], options=vars(options))

    if kept:
        run_benchmark("X", lambda parser: None, run)
    else:
        with pytest.raises(SystemExit) as ended:
            run_benchmark("X", lambda parser: None, run)
        assert ended.value.code == 2 and "0.5 are allowed; wait" in capsys.readouterr().err
    # It is said before the work, not after.
    assert bool(done) is kept and (tmp_path / "x.json").exists() is kept


def test_the_page_begins_with_how_many_times_as_fast_rsdl_is():
    def result(benchmark: str, title: str, unit: str, **values: float) -> dict[str, Any]:
        rows = [{"name": name, "values": [value, value]} for name, value in values.items()]
        return {"benchmark": benchmark, "tables": [{"title": title, "unit": unit, "rows": rows}]}

    store = {"rsdl, verified and fsynced": 0.5, "boto3 download_file": 1.0}
    results = [
        result("loader", "150 px; uint8", "images/s", rsdl=4.0, LitData=2.0, WebDataset=1.0),
        result("loader", "400 px; uint8", "images/s", rsdl=4.0, LitData=8.0),
        result("loader", "400 px; float32", "images/s", rsdl=3.0, LitData=1.0),
        result("store", "Shards", "CPU s/GB", **store),
    ]
    assert [line for line in summarize(results) if "images/s" in line or "CPU time |" in line] == [
        "| loading JPEGs as uint8, images/s | WebDataset | 4 |",
        "| loading JPEGs as uint8, images/s | LitData | 0.5 to 2 |",
        "| loading JPEGs as float32, images/s | LitData | 3 |",
        "| fetching shards, CPU time | boto3 download_file | 2 |",
    ]


def test_every_comparison_of_the_page_has_rows_in_a_result_or_waits_for_a_gpu():
    results = read_results(FOLDER)
    measured = {line.split(" | ")[0][2:] for line in summarize(results)}
    missing = {each.what for each in COMPARISONS} - measured
    assert all("on a GPU" in what for what in missing)
