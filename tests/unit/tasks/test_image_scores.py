import numpy as np

from rsdl.tasks.base import Lookup
from rsdl.tasks.image_scores import MAX_SAMPLES, choose_images, score_scenes


def name(scenes: dict[int, str]) -> Lookup:
    """Return what names the scene of each sample, and is asked nothing else."""

    def fail(samples: object) -> list[object]:
        raise AssertionError("nothing is shown")

    return Lookup(fail, fail, lambda samples: [scenes[sample] for sample in samples])  # type: ignore[arg-type]


def test_scenes_add_up_their_tiles_and_the_worst_come_first():
    # Two classes; of sample 5 nothing is labelled or predicted.
    columns = {
        "samples": np.array([1, 2, 3, 5]),
        "true": np.array([[10, 0], [5, 5], [0, 20], [0, 0]]),
        "predicted": np.array([[10, 0], [10, 0], [10, 10], [0, 0]]),
        "both": np.array([[10, 0], [5, 0], [0, 10], [0, 0]]),
    }
    scores = score_scenes(columns, name({1: "b.tif", 2: "b.tif", 3: "a.tif", 5: "c.tif"}))
    assert [(row.name, row.num_samples, row.num_pixels) for row in scores] == [
        ("a.tif", 1, 20), ("b.tif", 2, 20), ("c.tif", 1, 0),
    ]  # fmt: skip
    # a: 0 of 10 and 10 of 20; b: 15 of 20 and 0 of 5.
    assert [row.miou for row in scores] == [0.25, 0.375, None]
    assert [row.oa for row in scores] == [0.5, 0.75, 0.0]


def test_scenes_of_too_many_samples_are_not_read():
    many = {"samples": np.arange(MAX_SAMPLES + 1)}
    assert score_scenes(many, name({})) == []


def test_the_best_the_median_and_the_worst_images_are_chosen_once_each():
    scores = np.array([50, 100, 0, 80, 20, 60, 40, 90, 10])
    columns = {
        "samples": np.arange(9), "true": np.full((9, 1), 100), "predicted": scores[:, None],
        "both": scores[:, None],
    }  # fmt: skip
    columns["true"][2] = columns["predicted"][2] = 0  # nothing is labelled in it
    chosen = choose_images(columns, 2)
    assert [(rank, round(100 * score)) for rank, _, score in chosen] == [
        ("best", 100), ("best", 90), ("median", 60), ("median", 50), ("worst", 20), ("worst", 10),
    ]  # fmt: skip
    few = choose_images({name: column[:2] for name, column in columns.items()}, 4)
    assert [row for _, row, _ in few] == [1, 0]
