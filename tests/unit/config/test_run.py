"""What makes two runs the same."""

from typing import Any

import pytest

from rsdl.config.run import CHANGEABLE, RunConfig, flatten, json_schema


def config(**fields: Any) -> RunConfig:  # noqa: ANN401
    tree = {"name": "run", "data": {"url": "here"}, "model": {"name": "resnet50"}}
    return RunConfig.model_validate(tree | fields)


def test_where_a_run_goes_does_not_change_what_it_is():
    moved = config(
        data={"url": "there", "num_workers": 3, "cache": "none"},
        output="elsewhere",
        storage={"endpoint": "https://s3.example.org"},
        trainer={"devices": 2, "accumulate": 4},
        checkpoint={"every_minutes": 1},
    )
    assert moved.digest == config().digest


@pytest.mark.parametrize(
    "fields",
    [
        {"seed": 1},
        {"name": "other"},
        {"data": {"url": "here", "batch_size": 32}},
        {"data": {"url": "here", "partitions": 2}},
        {"optim": {"lr": 0.1}},
        {"trainer": {"max_epochs": 2}},
        {"model": {"name": "resnet18"}},
    ],
)
def test_what_decides_the_result_changes_the_digest(fields: dict[str, Any]):
    assert config(**fields).digest != config().digest


def test_every_changeable_field_exists():
    bare = config(data={"url": "here", "cache": "none"})  # a word where else a group stands
    leaves = [flatten(each.model_dump(mode="json")) for each in (config(), bare)]
    assert set(CHANGEABLE) <= leaves[0].keys() | leaves[1].keys()


def test_the_schema_describes_every_field():
    schema = json_schema()

    def undescribed(part: dict[str, Any], path: str) -> list[str]:
        found = []
        for name, field in part["properties"].items():
            # A group that says the same as its class points there.
            if not field.get("description") and "$ref" not in field:
                found.append(f"{path}.{name}")
        return found

    parts = {"run": schema, **schema["$defs"]}
    assert [name for path, part in parts.items() for name in undescribed(part, path)] == []
