from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rsdl.cluster.nautilus import GPUS, REGIONS
from rsdl.cluster.settings import JobSettings, Settings, change, load_settings, to_yaml
from rsdl.cluster.wheels import WHEELS
from rsdl.core.errors import ConfigErrors

own = st.builds(
    JobSettings,
    gpu=st.sampled_from([None, *GPUS]),
    gpus=st.sampled_from([None, 1, 2, 4, 8]),
    nodes=st.sampled_from([None, 1, 3, "1:4", "2:64"]),
    opportunistic=st.sampled_from([None, True, False]),
    overrides=st.sampled_from([(), ("seed=1", "data.url=${oc.env:RSDL_DATA}/x")]),
)
settings = st.builds(
    Settings,
    study=st.from_regex(r"[a-z0-9]([-a-z0-9]{0,5}[a-z0-9])?", fullmatch=True),
    region=st.sampled_from(list(REGIONS)),
    cuda=st.sampled_from(list(WHEELS)),
    gpu=st.sampled_from(list(GPUS)),
    gpus=st.sampled_from([1, 2, 4, 8]),
    nodes=st.sampled_from([1, 64, "1:3", "10:59"]),
    image=st.sampled_from(["a/b:1", "host:5000/a@sha256:" + "0" * 64]),
    jobs=st.dictionaries(st.sampled_from(["a", "b_c"]), own),
)


@given(settings)
def test_what_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, wanted: Settings
) -> None:
    folder = tmp_path_factory.mktemp("k8s")
    (folder / "settings.yaml").write_text(to_yaml(wanted))
    assert load_settings(folder) == wanted


@given(settings)
def test_a_job_has_its_own_settings_and_else_those_of_all(wanted: Settings) -> None:
    for name, job in wanted.jobs.items():
        found = wanted.of(name)
        for field in ("gpu", "gpus", "nodes", "opportunistic"):
            mine = getattr(job, field)
            assert getattr(found, field) == (getattr(wanted, field) if mine is None else mine)
        assert found.overrides == (*wanted.overrides, *job.overrides)
    assert wanted.of("another") == wanted


def test_changes_are_for_all_or_for_some() -> None:
    changed = change(change(Settings(), ["gpu=a40"]), ["gpu=a100", "nodes=2"], ["x", "y"])
    assert changed.gpu == "a40" and changed.of("x").gpu == changed.of("y").gpu == "a100"
    assert changed.of("z").nodes == 1 and "quickstart" in changed.jobs
    with pytest.raises(ConfigErrors, match=r"--set: jobs\.x\.bucket: unknown setting"):
        change(Settings(), ["bucket=b"], ["x"])


def test_what_is_mapped_is_set_as_a_whole() -> None:
    changed = change(Settings(), ["predict={run: a_b, scenes: [s3://x/y], options: [--tta]}"])
    assert changed.predict_run == '"$RSDL_RUNS/a_b"' and changed.predict.scenes == ("s3://x/y",)
    assert change(changed, ["predict={run: s3://r/x}"]).predict_run == "'s3://r/x'"
    assert change(changed, ["predict={parts: 2}"]).predict == changed.predict.model_copy(
        update={"parts": 2}
    )
    assert change(changed, ["predict.parts=3"]).predict.scenes == changed.predict.scenes
    for words in (["--part", "1/2"], ["--out=s3://b"], ["--dry-run"], ["--min-area 50"]):
        with pytest.raises(ConfigErrors, match=r"predict\.options: "):
            change(Settings(), [f"predict.options={words}"])
    with pytest.raises(ConfigErrors, match=r"predict\.runs: unknown setting; known here: run,"):
        change(Settings(), ["predict={runs: a}"])


@pytest.mark.parametrize("word", ["a'b", "$(x)", "`x`", "a\nb", "\\", "", " a"])
def test_no_setting_can_leave_the_quotes_of_a_shell_command(word: str) -> None:
    for tree in (
        {"options": [word]}, {"scenes": [f"s3://{word}"]}, {"out": f"s3://{word}"},
        {"run": word}, {"run": f"s3://{word}"},
    ):  # fmt: skip
        with pytest.raises(ValidationError):
            Settings.model_validate({"predict": tree})


@pytest.mark.parametrize("value", ["12", "'12'", "13"])
def test_cuda_is_a_number_to_yaml_and_a_name_to_us(value: str, tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text(f"cuda: {value}\n")
    assert load_settings(tmp_path).cuda == value.strip("'")
    assert change(Settings(), [f"cuda={value}"]).cuda == value.strip("'")


@pytest.mark.parametrize("value", ["11", "12.8", "true", "[12]"])
def test_another_cuda_is_refused(value: str) -> None:
    with pytest.raises(ConfigErrors, match=r"--set: cuda: must be one of 13, 12, is"):
        change(Settings(), [f"cuda={value}"])


def test_an_image_that_says_its_cuda_is_not_set_with_another() -> None:
    image = "a/b:0.1.0-0123456789ab-cuda12"
    assert change(Settings(), ["cuda=12", f"image={image}"]).image == image
    with pytest.raises(ConfigErrors, match="holds CUDA 12: set cuda=12, too"):
        change(Settings(), [f"image={image}"])


def test_without_a_file_there_are_defaults(tmp_path: Path) -> None:
    assert load_settings(tmp_path) == Settings()


def test_the_name_of_an_image_is_without_tag_and_digest() -> None:
    assert Settings(image="host:5000/a/b:1.0").image_name == "host:5000/a/b"
    assert Settings(image="a/b@sha256:" + "0" * 64).image_name == "a/b"


@pytest.mark.parametrize(
    ("text", "least", "most"), [("3", 3, 3), ("64", 64, 64), ("2:2", 2, 2), ("1:4", 1, 4)]
)
def test_nodes_are_a_number_or_a_range(tmp_path: Path, text: str, least: int, most: int) -> None:
    # YAML 1.1 reads 1:4 as 64, and 2:2 as 122.
    (tmp_path / "settings.yaml").write_text(f"nodes: {text}\n")
    for found in (load_settings(tmp_path), change(Settings(), [f"nodes={text}"])):
        assert (found.fewest_nodes, found.most_nodes) == (least, most)
        assert found.is_elastic == (least < most)
    # A range of one number is a number: nothing comes or goes.
    assert change(Settings(), [f"nodes={text}"]).nodes == (most if least == most else text)


@pytest.mark.parametrize(
    "text", ["0", "65", "4:1", "0:2", "1:65", "1:", "1:2:3", "x", "true", "1.5"]
)
def test_nodes_that_cannot_be_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(ConfigErrors, match=r"nodes: must be N or MIN:MAX, with 1 <= MIN") as found:
        change(Settings(), [f"nodes={text}"], ["x"])
    assert len(found.value.errors) == 1
