import json
from collections.abc import Callable

import pytest
from pydantic import ValidationError

from rsdl.core.errors import DataError
from rsdl.records.evaluation import ClassificationEvaluation, Picture, parse_evaluation

Make = Callable[..., ClassificationEvaluation]


def test_an_evaluation_survives_its_json(make_evaluation: Make) -> None:
    evaluation = make_evaluation()
    assert parse_evaluation(evaluation.model_dump_json().encode(), "report.json") == evaluation


def test_values_that_json_cannot_hold_become_none(make_evaluation: Make) -> None:
    evaluation = make_evaluation(metrics={"oa": 0.5, "loss": float("nan"), "ece": float("inf")})
    assert evaluation.metrics == {"oa": 0.5, "loss": None, "ece": None}
    assert "NaN" not in evaluation.model_dump_json()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_samples": 7}, "num_samples"),
        ({"confusion": [[1, 0], [0, 29]]}, "3 x 3"),
        ({"classes": ("field", "park", "harbor")}, "per_class"),
    ],
)
def test_pages_that_contradict_themselves_are_refused(
    make_evaluation: Make, change: dict[str, object], message: str
) -> None:
    page = {**make_evaluation().model_dump(), **change}
    with pytest.raises(ValidationError, match=message):
        ClassificationEvaluation.model_validate(page)


@pytest.mark.parametrize(
    "image",
    ["https://example.com/a.png", "file:///a.png", "data:text/html;base64,AAAA", "javascript:0"],
)
def test_a_picture_is_inside_the_page_or_nowhere(image: str) -> None:
    with pytest.raises(ValidationError, match="image"):
        Picture(key="a", source="a", label="a", predicted="b", confidence=0.5, image=image)


def test_a_broken_page_is_one_line_that_names_file_field_and_remedy(make_evaluation: Make) -> None:
    page = json.loads(make_evaluation().model_dump_json())
    page["num_samples"] = "many"
    with pytest.raises(DataError) as caught:
        parse_evaluation(json.dumps(page).encode(), "runs/a/report.json")
    message = str(caught.value)
    assert message.startswith("runs/a/report.json: num_samples: ")
    assert "rsdl evaluate" in message
    assert "\n" not in message
    with pytest.raises(DataError, match=r"^report\.json"):
        parse_evaluation(b"{", "report.json")
