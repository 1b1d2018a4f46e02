"""A study on one page: its numbers are the sums of the records, and nothing else."""

import csv
import io
import re
from collections.abc import Callable
from dataclasses import replace
from math import fsum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsdl.evaluate.compared_run import ComparedRun
from rsdl.evaluate.figures.costs import cost_plots, curve_plots, find_front
from rsdl.evaluate.leaderboard import column_of
from rsdl.evaluate.study import render_study, study_of
from rsdl.evaluate.tables import escape
from rsdl.records.run_record import RunRecord

MakeEntry = Callable[..., ComparedRun]
SUMS = {
    "epochs": "epochs_completed",
    "iterations": "optimizer_steps",
    "images": "samples_read",
    "decoded": "bytes_decoded",
    "encoded": "bytes_encoded",
    "wall": "wall_s",
    "device": "device_s",
    "preemptions": "preemptions",
    "resumes": "resumes",
}


def exact(html: str) -> dict[str, str]:
    """Return the exact value of each tile by its label."""
    found = re.findall(r'<dt>([^<]+)</dt><dd class="value"><data value="([^"]*)"', html)
    return dict(found)


def starred(html: str) -> list[str]:
    return re.findall(r'class="crown"[^>]*>([^<]+)<', html)


@pytest.fixture
def entries(entry: MakeEntry) -> list[ComparedRun]:
    """Return four runs: three completed ones and one that is not."""
    card = {"device_name": "NVIDIA A40"}
    return [
        entry("resnet50", "ucm", 91, **card, wall_s=0.1, device_s=0.1, preemptions=0),
        entry("vit_base", "ucm", 95, **card, wall_s=0.2, device_s=0.2, preemptions=3),
        entry("resnet50", "aid", 83, **card, wall_s=0.3, device_s=0.3, parameters=7),
        entry("vit_base", "aid", 99, **card, status="preempted", preemptions=1),
    ]


def test_totals_are_the_sums_of_the_records_exactly(entries: list[ComparedRun]):
    study = study_of(entries)
    tiles = exact(render_study(study))
    for name, key in SUMS.items():
        values = [getattr(entry.run, key) for entry in entries]
        total = fsum(values) if any(isinstance(v, float) for v in values) else sum(values)
        assert study.numbers[name].value == total
        assert tiles[study.numbers[name].label] == str(total)


counts = st.integers(0, 10**15)
seconds = st.floats(0, 1e9)


def test_a_run_that_is_not_completed_is_shown_and_is_no_model(entries: list[ComparedRun]):
    study = study_of(entries)
    html = render_study(study)
    assert study.numbers["models"].value == 3
    assert "1 more run not completed" in html
    assert study.numbers["parameters"].value == 2 * 23_551_061 + 7
    assert 'data-status="preempted"' in html
    assert starred(html) == ["83.00%", "87.00%", "95.00%"]
    assert study.numbers["preemptions"].note == "in 3 runs, 2 of them completed"


def test_the_mean_needs_every_data_set(entries: list[ComparedRun]):
    summaries = study_of(entries).summaries
    assert summaries["resnet50"].mean == pytest.approx(0.87)
    assert summaries["resnet50"].best
    assert summaries["vit_base"].mean is None


def test_device_time_and_energy_are_told_by_type_of_device(entry: MakeEntry):
    metered = {"device_s": 50.0, "readings": 50, "utilization": 0.8, "memory_bytes": 9,
               "energy_j": 10_000.0, "metered_s": 50.0}  # fmt: skip
    other = {"device_s": 30.0, "readings": 150, "utilization": 0.4, "memory_bytes": 7}
    entries = [
        entry("a", "d", 90, device_s=80.0, device_name="NVIDIA A40",
              devices={"NVIDIA A40": metered, "NVIDIA A10": other}),
        entry("b", "d", 91, device_s=20.0, device_name="NVIDIA A40"),
        entry("c", "d", 92, device_s=7.0, device_name="CPU (2 threads)"),
    ]  # fmt: skip
    study = study_of(entries)
    machines = {machine.device: machine for machine in study.machines}
    assert [m.device_s for m in study.machines] == [70.0, 30.0, 7.0]
    assert machines["NVIDIA A40"].num_runs == 2
    assert machines["NVIDIA A40"].basis == "measured and rated"
    assert machines["NVIDIA A40"].energy_j == 10_000 + 20 * 300
    assert machines["NVIDIA A10"].energy_j == 30 * 150
    assert machines["NVIDIA A10"].memory_bytes == 7
    assert machines["CPU (2 threads)"].energy_j is None
    assert study.numbers["device"].value == 100.0
    assert study.numbers["device"].label == "GPU-hours"
    assert study.numbers["energy"].value == 10_000 + 20 * 300 + 30 * 150
    assert "not known for CPU (2 threads)" in study.numbers["energy"].note
    assert study.numbers["use"].value == pytest.approx((50 * 0.8 + 150 * 0.4) / 200)


def test_on_processors_alone_no_gpu_is_spoken_of(entry: MakeEntry):
    study = study_of([entry("a", "d", 90, device_name="CPU (2 threads)")])
    assert study.numbers["device"].label == "Device hours"
    assert study.numbers["energy"].value is None
    assert study.numbers["use"].shown == "\u2013"


def test_the_csv_has_a_row_for_each_run_whose_sums_are_the_totals(entries: list[ComparedRun]):
    study = study_of(entries)
    rows = list(csv.DictReader(io.StringIO(study.csv)))
    assert len(rows) == 4
    for name, key in SUMS.items():
        assert fsum(float(row[key]) for row in rows) == pytest.approx(study.numbers[name].value)
    assert {row["status"] for row in rows} == {"completed", "preempted"}
    assert fsum(float(row["energy_j"]) for row in rows) == pytest.approx(
        study.numbers["energy"].value
    )


def test_a_spreadsheet_runs_nothing_that_a_record_says(entry: MakeEntry):
    study = study_of([entry("=cmd()", "@d", 90)])
    (row,) = csv.DictReader(io.StringIO(study.csv))
    assert (row["architecture"], row["dataset"]) == ("'=cmd()", "'@d")


def test_the_latex_has_the_best_in_bold_and_no_run_that_is_not_completed(
    entries: list[ComparedRun],
):
    latex = study_of(entries).latex
    rows = {line.split(" & ")[0]: line for line in latex.splitlines() if " & " in line}
    assert rows["vit\\_base"].split(" & ")[1:4] == ["--", r"\textbf{95.00}", "--"]
    assert rows["resnet50"].split(" & ")[1:4] == [r"\textbf{83.00}", "91.00", r"\textbf{87.00}"]
    assert rows["Trained models"] == r"Trained models & 3 \\"
    columns = [len(spec) for spec in re.findall(r"\\begin\{tabular\}\{([lr]+)\}", latex)]
    tables = latex.split(r"\end{tabular}")[:-1]
    for count, table in zip(columns, tables, strict=True):
        cells = [line for line in table.splitlines() if line.endswith(r"\\")]
        assert cells and all(len(line.split(" & ")) == count for line in cells)
    for name in ("table", "tabular"):
        assert latex.count(rf"\begin{{{name}}}") == latex.count(rf"\end{{{name}}}") == 2


@given(st.text())
def test_latex_that_was_escaped_has_no_sign_that_means_something(text: str):
    bare = re.sub(r"\\(text(backslash|asciitilde|asciicircum)\{\}|[&%$#_{}])", "", escape(text))
    assert not re.search(r"[\\~^&%#_{}]", bare)


@given(st.lists(st.tuples(st.floats(0.1, 100), st.floats(0, 1)), max_size=12))
def test_nothing_beats_the_front(pairs: list[tuple[float, float]]):
    front = find_front(pairs)
    for cost, score in pairs:
        assert any(c <= cost and s >= score for c, s in front)
    for cost, score in front:
        assert not any(c <= cost and s > score for c, s in pairs)
    assert front == sorted(front)


def test_the_front_is_drawn_through_completed_runs_alone(entry: MakeEntry):
    entries = [
        entry("a", "d", 80, device_s=10.0),
        entry("b", "d", 90, device_s=20.0),
        entry("c", "d", 99, device_s=5.0, status="failed"),
    ]
    html = render_study(study_of(entries))
    paths = re.findall(r'class="front" d="M[\d.]+ [\d.]+(?:H[\d.]+V[\d.]+)+"', html)
    assert len(paths) == 1  # by device hours; all have as many parameters


def test_names_are_inert_and_the_page_asks_no_network(entry: MakeEntry):
    html = render_study(study_of([entry("<b>x</b>", "</pre><i>y</i>", 80)]))
    assert "<b>" not in html and "<i>" not in html
    assert not re.search(r"https?://|url\(|@import|\ssrc=", html)
    assert "default-src &#39;none&#39;" in html


@pytest.mark.parametrize("num_runs", [0, 1, 2])
def test_runs_that_have_just_begun_make_a_study(begun: RunRecord, num_runs: int):
    study = study_of([ComparedRun(begun)] * num_runs)
    html = render_study(study)
    assert "By the numbers" in html and "No history recorded yet" in html
    assert starred(html) == []
    assert study.numbers["models"].value == 0
    assert study.latex and study.csv


def rename(entry: ComparedRun, name: str, *, seed: int, recipe: str) -> ComparedRun:
    run = entry.run.model_copy(update={"name": name, "seed": seed})
    return replace(entry, run=run, recipe=recipe)


@pytest.fixture
def seeds(entry: MakeEntry) -> list[ComparedRun]:
    """Return three seeds of one recipe, one of them again, and a run of another recipe."""
    rows = [("s0", 90, 0, "a"), ("s1", 92, 1, "a"), ("s2", 97, 2, "a"), ("t0", 94, 0, "b")]
    return [
        rename(entry("cnn", "ucm", right), name, seed=seed, recipe=recipe)
        for name, right, seed, recipe in rows
    ]


def test_seeds_of_one_recipe_are_their_mean_and_never_the_best(seeds: list[ComparedRun]):
    study = study_of(seeds[:3])
    html = render_study(study)
    assert starred(html)[0] == "93.00%"
    assert "\u00b1 3.61%, n = 3" in html
    assert study.summaries["cnn"].mean == pytest.approx(0.93)
    assert r"\textbf{93.00} $\pm$ 3.61 (3)" in study.latex
    rows = list(csv.DictReader(io.StringIO(study.csv)))
    assert [(row["run"], row["seeds"], row["split"]) for row in rows] == [
        (name, "3", "test") for name in ("s0", "s1", "s2")
    ]
    assert {round(float(row["oa_mean"]), 6) for row in rows} == {0.93}
    assert {round(float(row["oa_std"]), 6) for row in rows} == {0.036056}


def test_runs_that_differ_in_more_than_the_seed_are_told_apart(seeds: list[ComparedRun]):
    study = study_of(seeds)
    cell = study.board.cells[("cnn", "ucm")]
    assert [(r.name, r.n, best) for r, best in cell] == [
        ("t0", 1, True), ("s0, s1, s2", 3, False)
    ]  # fmt: skip
    assert study.summaries["cnn"].mean is None
    assert r"\textbf{94.00} / 93.00 $\pm$ 3.61 (3)" in study.latex
    html = render_study(study)
    assert '<span class="cell-note">t0</span>' in html and "s0, s1, s2" in html


def test_a_seed_that_was_run_again_is_no_further_sample(seeds: list[ComparedRun]):
    again = rename(seeds[2], "s2_again", seed=2, recipe="a")
    cell = study_of([*seeds[:3], again]).board.cells[("cnn", "ucm")]
    assert [(r.name, r.n) for r, _ in cell] == [("s2_again", 1), ("s0, s1, s2", 3)]


def page_of(entries: list[ComparedRun]) -> str:
    return render_study(study_of(entries))


def best(html: str) -> list[str]:
    """Return the results that are marked as the best of a data set."""
    return re.findall(r'class="crown" title="best of [^>]*>([^<]+)<', html)


def test_runs_that_tie_are_both_marked(entry: MakeEntry):
    html = page_of([entry("resnet50", "ucm", 95), entry("vit_base", "ucm", 95)])
    assert best(html) == ["95.00%", "95.00%"]


def test_a_validation_score_never_wins_over_a_test_score(entry: MakeEntry):
    best_validation = {"metrics": {"best": {"epoch": 3, "oa": 0.999}}}
    html = page_of(
        [entry("resnet50", "ucm", 80), entry("vit_base", "ucm", None, **best_validation)]
    )
    assert best(html) == ["80.00%"]
    assert "99.90%" in html
    assert '<span class="cell-note">val</span>' in html


def test_a_column_is_compared_on_the_split_that_most_runs_were_measured_on(
    entry: MakeEntry,
):
    rows = [
        entry("a", "ucm", 80, split="val"),
        entry("b", "ucm", 81, split="val"),
        entry("c", "ucm", 99, split="test"),
    ]
    assert (column_of(rows, "ucm").basis, column_of(rows, "ucm").best) == ("val", 0.81)
    assert column_of(rows[1:], "ucm").basis == "test"


def test_a_data_set_without_a_completed_run_has_no_best(entry: MakeEntry):
    html = page_of([entry("resnet50", "ucm", None, status="failed", metrics={})])
    assert best(html) == []
    assert "failed" in html


def test_cost_stands_beside_accuracy_for_every_data_set(entry: MakeEntry):
    html = page_of([entry("resnet50", "ucm", 80), entry("vit_base", "aid", 90)])
    for title in ("OA by device hours", "OA by parameters"):
        assert f"ucm: {title}" in html
        assert f"aid: {title}" in html
    assert "80.00% at 1.03 device hours" in html


def test_hours_of_different_cards_are_not_compared(entry: MakeEntry):
    entries = [
        entry("resnet50", "ucm", 80, device_name="NVIDIA A10"),
        entry("swin_base", "ucm", 85, device_name="NVIDIA A10"),
        entry("vit_base", "ucm", 90, device_name="NVIDIA L40"),
    ]
    titles = re.findall(r"ucm: OA by ([^:<;]+)(?=<)", page_of(entries))
    wanted = {"device hours of NVIDIA A10", "device hours of NVIDIA L40", "parameters"}
    assert set(titles) == wanted
    alone = page_of(entries[:2])
    assert "OA by device hours" in alone and "hours of NVIDIA" not in alone


@pytest.fixture
def rivals(entry: MakeEntry) -> list[ComparedRun]:
    """Return two architectures with the same three seeds, and a third with others."""
    rights = {"cnn": {0: 90, 1: 92, 2: 97}, "vit": {0: 91, 1: 94, 2: 98}, "swin": {7: 50, 8: 51}}
    return [
        rename(entry(name, "ucm", right), f"{name}_{seed}", seed=seed, recipe=name)
        for name, seeds in rights.items()
        for seed, right in seeds.items()
    ]


def test_architectures_are_compared_pair_by_pair_over_the_seeds_that_they_share(
    rivals: list[ComparedRun],
):
    study = study_of(rivals)
    (found,) = study.comparisons
    assert (found.names, found.test.n) == (("vit", "cnn"), 3)
    # Differences 1, 2, 1: mean 4/3, standard error 1/3, t = 4 with 2 degrees of freedom.
    assert found.test.mean == pytest.approx(0.04 / 3)
    assert found.test.half_width == pytest.approx(0.0430265 / 3, abs=1e-6)
    assert found.test.p == found.adjusted == pytest.approx(0.0571910, abs=1e-6)
    assert '<td class="num" data-value="0.057' in render_study(study)
    assert r"ucm & vit & cnn & 3 & 1.33 $\pm$ 1.43 & 0.057 & 0.057 \\" in study.latex
    (interval,) = {row["oa_ci95"] for row in csv.DictReader(io.StringIO(study.csv))
                   if row["architecture"] == "cnn"}  # fmt: skip
    assert float(interval) == pytest.approx(4.302653 * 0.0360555 / 3**0.5, abs=1e-6)
    assert "n = 3; 95% CI \u00b1 8.96%" in render_study(study)


def fold_of(entry: ComparedRun, number: int, num_folds: int) -> ComparedRun:
    run = entry.run.model_copy(update={"seed": 0, "fold": f"{number}/{num_folds}"})
    return replace(entry, run=run)


def test_folds_are_repeats_of_one_result_and_paired_fold_by_fold(rivals: list[ComparedRun]):
    folded = [fold_of(row, 1 + place % 3, 3) for place, row in enumerate(rivals[:6])]
    study = study_of(folded)
    (found,) = study.comparisons
    assert (found.names, found.test.n) == (("vit", "cnn"), 3)
    plain = study_of(rivals[:6]).comparisons[0]
    wider = ((1 / 3 + 1 / 2) / (1 / 3)) ** 0.5
    assert found.test.half_width == pytest.approx(plain.test.half_width * wider)
    (cell,) = [r for r, _ in study.board.cells[("cnn", "ucm")]]
    assert cell.n == 3 and cell.half_width == pytest.approx(0.0895667 * wider, abs=1e-5)
    assert {row["fold"] for row in csv.DictReader(io.StringIO(study.csv))} == {"1/3", "2/3", "3/3"}
    # The same fold of another seed is another repeat; the same one again is none.
    again = [*folded[:3], fold_of(rename(rivals[0], "again", seed=0, recipe="cnn"), 1, 3)]
    assert [r.n for r, _ in study_of(again).board.cells[("cnn", "ucm")]] == [3, 1]


def test_without_shared_seeds_nothing_is_called_significant(rivals: list[ComparedRun]):
    study = study_of([row for row in rivals if row.run.architecture != "vit"])
    assert not study.comparisons
    assert "Significance" not in render_study(study) and "significance" not in study.latex


def test_an_extended_run_is_no_seed_of_one_that_was_as_long_at_once(seeds: list[ComparedRun]):
    run = seeds[2].run.model_copy(update={"extended_at": [120]})
    cell = study_of([*seeds[:2], replace(seeds[2], run=run)]).board.cells[("cnn", "ucm")]
    assert sorted(r.name for r, _ in cell) == ["s0, s1", "s2"]


def test_recipes_of_one_architecture_have_names_and_colours_of_their_own(
    seeds: list[ComparedRun],
):
    study = study_of(seeds)
    for plot in cost_plots(study.rows, study.board):
        assert {point.name for point in plot.points} == {"s0", "t0"}
        assert len({point.style for point in plot.points}) == 2
    (plot,) = curve_plots(study.rows, study.board)
    styles = {line.name: line.style for line in plot.lines}
    assert list(styles) == ["s0", "s1", "s2", "t0"]
    assert styles["s0"] == styles["s1"] == styles["s2"] != styles["t0"]


def test_draws_of_one_split_are_repeats_and_pairs_share_a_draw(rivals: list[ComparedRun]):
    # Each seed of the draw has a manifest of its own; vit has not seen the last.
    entries = [
        replace(
            row,
            run=row.run.model_copy(
                update={"seed": 0, "manifest_digest": f"m{row.run.seed}", "split_draw": "d"}
            ),
        )
        for row in rivals
        if row.run.name != "vit_2"
    ]
    study = study_of(entries)
    assert [r.n for r, _ in study.board.cells[("cnn", "ucm")]] == [3]
    (found,) = study.comparisons
    assert (found.names, found.test.n) == (("vit", "cnn"), 2)
    assert found.test.mean == pytest.approx(0.015)
    apart = [replace(e, run=e.run.model_copy(update={"split_draw": ""})) for e in entries]
    assert not study_of(apart).comparisons
