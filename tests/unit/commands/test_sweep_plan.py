"""What there is to do of a study, and what is wrong with it, all at once."""

from pathlib import Path

import pytest
import yaml

from rsdl.commands.sweep.plan import Repeats, plan_study, split_arguments
from rsdl.config.load import load_config, to_yaml
from rsdl.core.errors import ConfigError, ConfigErrors
from tests.run_records import make_record


def write(folder: Path, stem: str, /, **fields: object) -> str:
    tree = {
        "output": str(folder / "runs"), "data": {"url": "data"}, "model": {"name": "test_vit"},
        **fields,
    }  # fmt: skip
    path = folder / f"{stem}.yaml"
    path.write_text(yaml.safe_dump(tree))
    return str(path)


def test_overrides_are_told_from_configs():
    assert split_arguments(["a.yaml", "x=1", "b.yaml", "a.yaml"]) == (["a.yaml", "b.yaml"], ["x=1"])
    with pytest.raises(ConfigError, match="CONFIG: is required"):
        split_arguments(["x=1"])


def record(path: str, folder: Path, status: str, reason: str = "", digest: str = "") -> None:
    """Write a run's record as if it had ended so."""
    (run,) = plan_study([path], [])
    digest = digest or run.config.digest
    made = make_record(name=run.name, config_digest=digest, status=status, reason=reason)
    run.folder.store.write("run.json", made.model_dump_json().encode())


@pytest.mark.parametrize(
    ("status", "reason", "todo", "retried"),
    [
        ("completed", "", "leave", "leave"),
        ("preempted", "stopped by SIGTERM", "resume", "resume"),
        ("running", "", "resume", "resume"),  # killed
        ("failed", "interrupted", "resume", "resume"),
        ("failed", "RuntimeError: x", "leave", "resume"),
    ],
)
def test_what_is_done_about_a_run(
    status: str, reason: str, todo: str, retried: str, tmp_path: Path
):
    path = write(tmp_path, "run")
    (run,) = plan_study([path], [])
    assert run.todo(retry=False) == run.todo(retry=True) == "begin"
    record(path, tmp_path, status, reason)
    (run,) = plan_study([path], [])
    assert (run.todo(retry=False), run.todo(retry=True)) == (todo, retried)


def test_what_is_wrong_in_one_config_is_told_with_its_file(tmp_path: Path):
    paths = [write(tmp_path, "good"), write(tmp_path, "bad", seed=-1, colour="red")]
    with pytest.raises(ConfigErrors) as caught:
        plan_study([*paths, str(tmp_path / "none.yaml")], [])
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert all("bad.yaml: " in line for line in lines[:2])
    assert "none.yaml" in lines[2]


def test_what_is_wrong_in_all_of_them_is_told_once(tmp_path: Path):
    paths = [write(tmp_path, stem) for stem in ("a", "b", "c")]
    with pytest.raises(ConfigErrors) as caught:
        plan_study(paths, ["seed=-1"])
    (line,) = str(caught.value).splitlines()
    assert line.startswith("seed: ")


@pytest.mark.parametrize(
    ("fields", "overrides", "words"),
    [
        ({"name": "same"}, [], "name: another config is named same, too"),
        ({}, ["trainer.devices=2"], "trainer.devices: asks for several devices"),
        ({}, ["trainer.num_nodes=2"], "trainer.devices: asks for several devices"),
    ],
)
def test_what_is_no_study_is_refused(
    fields: dict[str, object], overrides: list[str], words: str, tmp_path: Path
):
    paths = [write(tmp_path, stem, **fields) for stem in ("a", "b")]
    with pytest.raises(ConfigErrors, match=words):
        plan_study(paths, overrides)


def test_runs_that_go_to_different_places_are_refused(tmp_path: Path):
    paths = [write(tmp_path, "a"), write(tmp_path, "b", output="elsewhere")]
    with pytest.raises(ConfigErrors, match="output: is elsewhere, but not in every config"):
        plan_study(paths, [])
    assert len(plan_study(paths, ["output=here"])) == 2


def test_a_run_of_another_config_is_refused(tmp_path: Path):
    paths = [write(tmp_path, "a"), write(tmp_path, "b")]
    record(paths[1], tmp_path, "completed", digest="another")
    with pytest.raises(ConfigErrors, match=r"b\.yaml: .*holds a run with another config"):
        plan_study(paths, [])


def test_a_completed_run_that_is_made_longer_is_resumed(tmp_path: Path):
    path = write(tmp_path, "run", trainer={"max_epochs": 10})
    record(path, tmp_path, "completed")
    (run,) = plan_study([path], [])
    run.folder.store.write("config.yaml", to_yaml(run.config).encode())
    (longer,) = plan_study([path], ["trainer.max_epochs=20"])
    assert (longer.todo(retry=False), longer.is_completed) == ("resume", False)
    with pytest.raises(ConfigErrors, match="max_epochs 10 -> 5"):
        plan_study([path], ["trainer.max_epochs=5"])
    record(path, tmp_path, "preempted")
    with pytest.raises(ConfigErrors, match="max_epochs 10 -> 20"):
        plan_study([path], ["trainer.max_epochs=20"])


def test_each_config_is_planned_once_a_seed_and_the_first_keeps_its_name(tmp_path: Path):
    paths = [
        write(tmp_path, "a", seed=7),
        write(tmp_path, "b", seed=0, logging={"project": "p${seed}"}),
    ]
    runs = plan_study(paths, ["trainer.max_epochs=3"], Repeats(seeds=3))
    assert [(run.name, run.config.seed) for run in runs] == [
        ("a", 7), ("a_seed8", 8), ("a_seed9", 9), ("b", 0), ("b_seed1", 1), ("b_seed2", 2),
    ]  # fmt: skip
    # A run is started by its overrides alone.
    for run in runs:
        again = load_config(run.path, ["trainer.max_epochs=3", *run.overrides])
        assert again == run.config
    assert runs[4].config.logging.project == "p1"


def test_a_seed_whose_name_another_config_has_is_refused(tmp_path: Path):
    paths = [write(tmp_path, "a"), write(tmp_path, "a_seed1", seed=5)]
    with pytest.raises(ConfigErrors, match="another config is named a_seed1, too"):
        plan_study(paths, [], Repeats(seeds=2))


def test_each_seed_of_a_config_is_planned_once_a_fold(tmp_path: Path):
    paths = [write(tmp_path, "a", seed=7), write(tmp_path, "b")]
    runs = plan_study(paths, [], Repeats(seeds=2, folds=2))
    assert [(run.name, run.config.seed, run.config.data.fold) for run in runs] == [
        ("a-fold1of2", 7, "1/2"), ("a-fold2of2", 7, "2/2"),
        ("a_seed8-fold1of2", 8, "1/2"), ("a_seed8-fold2of2", 8, "2/2"),
        ("b-fold1of2", 0, "1/2"), ("b-fold2of2", 0, "2/2"),
        ("b_seed1-fold1of2", 1, "1/2"), ("b_seed1-fold2of2", 1, "2/2"),
    ]  # fmt: skip
    for run in runs:
        assert load_config(run.path, run.overrides) == run.config
    with pytest.raises(ConfigErrors, match=r"data\.fold: is 1/3, and --folds is given"):
        plan_study(paths, ["data.fold=1/3"], Repeats(folds=2))
