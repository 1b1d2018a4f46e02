from rsdl.evaluate.figures.axes import Plot
from rsdl.evaluate.figures.curves import run_curves, time_axis
from rsdl.evaluate.report import TASK_REPORTS

Rows = list[dict[str, float | None]]


def plots_of(history: Rows) -> list[Plot]:
    return run_curves(history, TASK_REPORTS["classification"].curves)


def test_steps_become_epochs(history: Rows) -> None:
    label, positions = time_axis(history)
    assert label == "Epoch"
    assert positions == [0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4]


def test_epochs_may_be_counted_from_one(history: Rows) -> None:
    shifted = [{**row, "epoch": (row["epoch"] or 0) + 1} for row in history]
    assert time_axis(shifted) == time_axis(history)


def test_an_unfinished_epoch_does_not_bend_the_axis(history: Rows) -> None:
    begun: Rows = [*history, {"epoch": 4, "step": 83, "train_loss": 0.1}]
    assert time_axis(begun)[1][:-1] == time_axis(history)[1]


def test_one_epoch_alone_is_counted_in_steps() -> None:
    assert time_axis([{"epoch": 0, "step": 5}, {"epoch": 0, "step": 10}]) == (
        "Optimizer step",
        [5.0, 10.0],
    )


def test_curves_without_values_are_left_out(history: Rows) -> None:
    plots = {plot.title: plot for plot in plots_of(history)}
    assert [line.name for line in plots["Loss"].lines] == ["train", "validation"]
    assert [line.name for line in plots["Validation accuracy"].lines] == ["overall accuracy"]
    assert plots_of([]) == []
    assert plots_of([{"epoch": 0, "step": 1, "train_loss": float("nan")}]) == []


def test_the_summary_says_where_a_curve_begins_and_ends(history: Rows) -> None:
    accuracy = plots_of(history)[1]
    assert "overall accuracy from 50% to 80%" in accuracy.summary


def test_a_run_of_many_steps_stays_small() -> None:
    rows: Rows = [{"epoch": k // 100, "step": k, "train_loss": 1 / (k + 1)} for k in range(20_000)]
    (loss,) = plots_of(rows)
    assert len(loss.lines[0].path) < 5_000
