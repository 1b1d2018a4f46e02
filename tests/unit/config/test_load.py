"""From YAML and overrides to one checked run."""

import os
from pathlib import Path

import pytest

from rsdl.config.load import load_config, to_yaml
from rsdl.core.errors import ConfigError, ConfigErrors

MINIMAL = "data: {url: here}\nmodel: {name: resnet50}\n"


def write(folder: Path, **files: str) -> str:
    """Write YAML files and return the path of ``run.yaml``."""
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return str(folder / "run.yaml")


def messages(path: str, *overrides: str) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        load_config(path, overrides)
    assert str(caught.value).splitlines() == [str(error) for error in caught.value.errors]
    return str(caught.value).splitlines()


def test_the_file_names_the_run(tmp_path: Path):
    assert load_config(write(tmp_path, run=MINIMAL)).name == "run"
    assert load_config(write(tmp_path, run=MINIMAL + "name: other")).name == "other"


def test_a_file_overrides_what_it_extends_and_later_files_override_earlier_ones(tmp_path: Path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts/base.yaml").write_text("optim: {lr: 1.0, weight_decay: 0.1, momentum: 0.5}")
    (tmp_path / "parts/one.yaml").write_text(
        "extends: base.yaml\noptim: {lr: 2.0, weight_decay: 0.2}\nseed: 1"
    )
    (tmp_path / "parts/two.yaml").write_text("optim: {lr: 3.0}\nseed: 2")
    path = write(tmp_path, run=f"extends: [parts/one.yaml, parts/two.yaml]\nseed: 3\n{MINIMAL}")
    config = load_config(path)
    assert (config.seed, config.optim.lr) == (3, 3.0)
    assert (config.optim.weight_decay, config.optim.momentum) == (0.2, 0.5)


def test_a_circle_is_refused_with_its_files(tmp_path: Path):
    path = write(tmp_path, run="extends: a.yaml", a="extends: b.yaml", b="extends: a.yaml")
    with pytest.raises(ConfigError, match=r"a\.yaml -> b\.yaml -> a\.yaml; break the circle"):
        load_config(path)


def test_variables_of_the_environment_stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    text = "data: {url: '${oc.env:PLACE,there}/ucm', batch_size: '${oc.env:SIZE,32}'}\n"
    path = write(tmp_path, run=text + "model: {name: resnet50}")
    monkeypatch.delenv("PLACE", raising=False)
    monkeypatch.delenv("SIZE", raising=False)
    assert load_config(path).data.url == "there/ucm"
    assert load_config(path).data.batch_size == 32
    monkeypatch.setenv("PLACE", "/mnt")
    monkeypatch.setenv("SIZE", "8")
    assert load_config(path).data.url == "/mnt/ucm"
    assert load_config(path).data.batch_size == 8


def test_a_variable_that_is_not_set_is_named(tmp_path: Path):
    path = write(tmp_path, run="data: {url: '${oc.env:RSDL_NOT_SET}'}\nmodel: {name: resnet50}")
    with pytest.raises(ConfigError, match=r"data\.url.*RSDL_NOT_SET"):
        load_config(path)


def test_overrides_are_yaml_and_come_last(tmp_path: Path):
    path = write(tmp_path, run=MINIMAL + "seed: 4")
    config = load_config(
        path,
        [
            "seed=5",
            "seed=6",
            "optim.lr=1e-4",
            "data.crop_scale=[0.2, 0.9]",
            "trainer.compile=true",
            "optim.ema_decay=0.9",
            "optim.clip_grad=null",
            "model.weights=a=b.pth",
            "name=x-1",
        ],
    )
    assert config.seed == 6 and config.optim.lr == 1e-4
    assert config.data.crop_scale == (0.2, 0.9)
    assert config.trainer.compile == "on"
    assert config.optim.ema_decay == 0.9 and config.optim.clip_grad is None
    assert config.model.weights == "a=b.pth" and config.name == "x-1"


@pytest.mark.parametrize("text", ["seed", "=3", "--seed", " =1"])
def test_an_override_must_be_key_and_value(text: str, tmp_path: Path):
    with pytest.raises(ConfigError, match="is not key=value"):
        load_config(write(tmp_path, run=MINIMAL), [text])


def test_an_override_that_is_not_yaml_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"seed: cannot read the value '\[1'"):
        load_config(write(tmp_path, run=MINIMAL), ["seed=[1"])


def test_all_errors_come_together_each_by_its_path(tmp_path: Path):
    path = write(tmp_path, run="data: {url: here, batchsize: 4}\nmodel: {name: resnet50}")
    found = messages(
        path,
        "optim.lr=-1",
        "optim.schedul=step",
        "trainer.max_epochs=many",
        "trainer.devices=some",
        "seeds=1",
        "augment.zzz=1",
        "data.crop_scale=[0.9, 0.2]",
    )
    assert sorted(line.partition(":")[0] for line in found) == [
        "augment.zzz",
        "data.batchsize",
        "optim.lr",
        "optim.schedul",
        "seeds",
        "trainer.devices",
        "trainer.max_epochs",
    ]
    text = "\n".join(found)
    assert 'data.batchsize: unknown field; did you mean "batch_size"?' in text
    assert 'optim.schedul: unknown field; did you mean "schedule"?' in text
    assert 'seeds: unknown field; did you mean "seed"?' in text
    assert "augment.zzz: unknown field; known here: flip, rotate90" in text
    assert "optim.lr: input should be greater than 0, is -1" in text
    assert "trainer.devices: input should be a valid integer" in text
    assert " or input should be 'auto', is 'some'" in text
    assert "trainer.max_epochs: input should be a valid integer" in text and "'many'" in text


def test_a_field_that_is_gone_is_read_where_it_changed_nothing(tmp_path: Path):
    path = write(tmp_path, run=MINIMAL)
    assert load_config(path, ["data.scaled_decode=false"]) == load_config(path)
    (line,) = messages(path, "data.scaled_decode=true")
    assert line == (
        "data.scaled_decode: is gone: it was not faster than decoding whole images; remove it: "
        "samples and crops stay the same"
    )


def test_rules_between_fields_are_checked(tmp_path: Path):
    (line,) = messages(write(tmp_path, run=MINIMAL), "data.crop_scale=[0.9, 0.2]")
    assert line == "data: crop_scale must ascend within (0, 1], is [0.9, 0.2]"


def test_what_is_required_is_named(tmp_path: Path):
    found = messages(write(tmp_path, run="seed: 1"))
    assert [line.partition(";")[0] for line in found] == ["data: is required", "model: is required"]
    (line,) = messages(write(tmp_path, run="data: {}\nmodel: {name: resnet50}"))
    assert line.startswith("data.url: is required; set data.url=...")


def test_a_group_of_fields_cannot_be_a_word(tmp_path: Path):
    (line,) = messages(write(tmp_path, run=MINIMAL + "optim: fast"))
    assert line == "optim: is a group of fields, not 'fast'; set optim.FIELD=VALUE"
    assert messages(write(tmp_path, run=MINIMAL), "optim=fast") == [line]


def test_a_missing_file_is_named_with_the_nearest(tmp_path: Path):
    write(tmp_path, resnet50_ucm=MINIMAL)
    with pytest.raises(ConfigError, match=r"no such file; did you mean .*resnet50_ucm\.yaml\?"):
        load_config(str(tmp_path / "resnet50_umc.yaml"))
    path = write(tmp_path, run="extends: base.yaml\n" + MINIMAL)
    with pytest.raises(ConfigError, match=r"base\.yaml: no such file; mend extends in .*run\.yaml"):
        load_config(path)


@pytest.mark.parametrize("text", ["a: [1", "a: b: c", "\t- x", "- 1\n- 2", "\x00"])
def test_what_is_not_a_yaml_mapping_is_refused_in_one_line(text: str, tmp_path: Path):
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, run=text))
    assert "run.yaml" in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_and_binary_files_are_refused(tmp_path: Path):
    with pytest.raises(ConfigError):
        load_config(str(tmp_path))
    (tmp_path / "run.yaml").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ConfigError, match="is not YAML"):
        load_config(str(tmp_path / "run.yaml"))


@pytest.mark.parametrize("text", ["extends: 3", "extends: {a: b}", "extends: [3]"])
def test_extends_must_name_files(text: str, tmp_path: Path):
    with pytest.raises(ConfigError, match="extends"):
        load_config(write(tmp_path, run=f"{text}\n{MINIMAL}"))


def test_what_is_printed_loads_to_the_same_run(tmp_path: Path):
    config = load_config(write(tmp_path, run=MINIMAL), ["optim.lr=1e-4", "name=again"])
    (tmp_path / "copy.yaml").write_text(to_yaml(config))
    assert load_config(str(tmp_path / "copy.yaml")) == config


def test_variables_may_be_read_from_another_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RSDL_HERE", "mine")
    there = "output: ${oc.env:RSDL_THERE}/runs\nstorage: {endpoint: '${oc.env:RSDL_HERE,null}'}\n"
    path = write(tmp_path, run=MINIMAL + there)
    before = dict(os.environ)
    config = load_config(path, (), {"RSDL_THERE": "s3://bucket"})
    assert (config.output, config.storage.endpoint) == ("s3://bucket/runs", None)
    assert dict(os.environ) == before
    with pytest.raises(ConfigError, match="RSDL_THERE"):
        load_config(path, (), {})
    assert dict(os.environ) == before


def test_a_wrong_head_is_one_error_though_defaults_depend_on_it(tmp_path: Path):
    path = write(tmp_path, run=MINIMAL + "task: {name: detection}")
    (line,) = messages(path, "task.head=other")
    assert line.startswith("task.head: input should be 'dense', ")
    (line,) = messages(path, "task.head=fcos", "task.boxes=oriented")
    assert line.startswith("task.head: finds aligned boxes only; set task.boxes=aligned, or task.")
