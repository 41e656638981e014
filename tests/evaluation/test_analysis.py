"""Five images whose errors are counted by hand, and random ones whose curves are COCOeval's."""

import json
from pathlib import Path

import numpy as np
import pytest

from maskrcnn.evaluation.analysis import Analysis, analyze, doubtful, draw_curve, worst
from maskrcnn.evaluation.coco_metrics import CocoScorer
from tests.evaluation.fabricated import CAT, scorer_of, write_truth
from tests.parity.cocoeval_oracle import random_dataset

pytestmark = pytest.mark.no_backend


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    return analyze(scorer_of(write_truth(tmp_path_factory.mktemp("five") / "val.json")))


@pytest.mark.parametrize("kind", ["bbox", "segm"])  # the masks fill their boxes
def test_lost_ap_by_hand(analysis: Analysis, kind: str) -> None:
    errors = analysis.summary["errors"][kind]
    assert errors["counts"] == {
        "classification": 1,
        "localization": 1,
        "both": 1,
        "duplicate": 1,
        "background": 1,
        "missed": 2,  # the dog of image 3, which only another class overlaps, and the cat of image 5
    }
    # Of 101 recalls, cats reach 0.5 of 4 objects with precision 2/3: 51 * 2/3 = 34; dogs 1/3 of 3 with precision 1: 34
    assert errors["AP50"] == pytest.approx(34 / 101, abs=1e-4)
    gained = {
        # the cat in the dog's place is a dog: dogs reach 2/3 (67 recalls), cats have precision 1 up to 0.5 (51)
        "classification": (67 - 34 + 51 - 34) / 202,
        "localization": (76 * 3 / 4 - 34) / 202,  # cats: a third one is found after a wrong one, recall 0.75
        "both": 0,  # wrong detections below the last right one cost nothing
        "duplicate": 0,
        "background": 0,
        "missed": (67 * 2 / 3 - 34 + 51 - 34) / 202,  # cats: 2 of 3, dogs: 1 of 2
    }
    assert errors["lost"] == pytest.approx(gained, abs=1e-4)


def test_threshold_and_curves_by_hand(analysis: Analysis) -> None:
    # by score: wrong, right, right, right (F1 = 2 * 3 / (4 + 7 objects)), and then only wrong ones
    assert analysis.threshold == 0.85
    assert analysis.summary["overall"] == pytest.approx(
        {"score": 0.85, "F1": 6 / 11, "precision": 0.75, "recall": 3 / 7}, abs=1e-4
    )
    cats = analysis.curves["cat"]
    assert cats.objects == 4
    np.testing.assert_allclose(cats.precision, [0, 1 / 2, 2 / 3, 2 / 4, 2 / 5, 2 / 6])
    np.testing.assert_allclose(cats.recall, [0, 0.25, 0.5, 0.5, 0.5, 0.5])
    assert analysis.summary["thresholds"]["dog"] == {"score": 0.85, "F1": 0.5, "precision": 1, "recall": 0.3333}


def test_confusions_by_hand(analysis: Analysis) -> None:
    assert analysis.summary["confusion"] == {
        "classes": ["cat", "dog"],
        "counts": [[0, 0, 2], [0, 2, 2], [1, 0, 1], [1, 1, 1], [1, 2, 1]],
    }


def test_images_by_hand(analysis: Analysis) -> None:
    outcomes = {image.id: image for image in analysis.images}
    assert {i: (image.objects, image.missed, image.wrong) for i, image in outcomes.items()} == {
        1: (2, 1, 1),
        2: (2, 1, 0),
        3: (1, 1, 0),
        4: (0, 0, 0),
        5: (2, 1, 0),
    }
    assert [outcomes[i].f1 for i in range(1, 6)] == pytest.approx([1 / 2, 2 / 3, 0, 1, 2 / 3])
    assert [image.id for image in worst(analysis.images)] == [3, 1, 2, 5]
    assert [(image.id, image.doubtful) for image in doubtful(analysis.images)] == [(1, 2), (2, 2), (5, 1)]
    crowding = [(row["group"], row["images"]) for row in analysis.summary["by_crowding"]]
    assert crowding == [("1", 1), ("2 to 4", 3)]
    sizes = {row["group"]: (row["objects"], row["found"]) for row in analysis.summary["by_size"]}
    assert sizes == {"small": (0, None), "medium": (7, 0.4286), "large": (0, None)}


def test_labels_and_calibration_by_hand(analysis: Analysis) -> None:
    (label,) = analysis.labels
    assert (label["image_id"], label["type"], label["annotated"], label["predicted"]) == (
        1,
        "wrong_label",
        "dog",
        "cat",
    )
    bins = {low: (count, precision) for low, count, _, precision in analysis.summary["calibration"]["bins"]}
    assert bins[0.9] == (2, 0.5)  # 0.97 and 0.95
    assert bins[0.8] == (2, 1)  # 0.85, and 0.9 as float32
    assert sum(count for count, _ in bins.values()) == 8


def test_the_summary_is_json(analysis: Analysis) -> None:
    assert json.loads(json.dumps(analysis.summary, allow_nan=False)) == analysis.summary


def test_no_detections_are_explained_too(tmp_path: Path) -> None:
    analysis = analyze(scorer_of(write_truth(tmp_path / "val.json"), {image_id: [] for image_id in range(1, 6)}))
    assert analysis.summary["overall"] is None
    assert analysis.summary["errors"]["segm"]["counts"]["missed"] == 7
    assert [image.id for image in worst(analysis.images)] == [1, 2, 5, 3]
    assert analyze(scorer_of(write_truth(tmp_path / "none.json", {1: []}), {1: []})).threshold == 0.5


def test_objects_found_below_the_threshold_are_missed(tmp_path: Path) -> None:
    path = write_truth(tmp_path / "val.json", {1: [(CAT, 0, 0), (CAT, 100, 0)]})
    wrong = [(CAT, 0, 100, 0.8), (CAT, 100, 100, 0.7), (CAT, 50, 150, 0.6)]
    analysis = analyze(scorer_of(path, {1: [(CAT, 0, 0, 0.9), *wrong, (CAT, 100, 0, 0.1)]}))
    assert analysis.threshold == pytest.approx(0.9, abs=1e-3)
    assert analysis.found == {1}
    assert analysis.images[0].missed == 1
    assert analysis.summary["by_size"][1]["found"] == 1  # at any score


def test_equal_scores_are_one_threshold() -> None:
    curve = draw_curve(np.array([0.5, 0.9, 0.5]), np.array([True, False, True]), 2)
    np.testing.assert_allclose(curve.scores, [0.9, 0.5])
    np.testing.assert_allclose(curve.precision, [0, 2 / 3])
    np.testing.assert_allclose(curve.f1, [0, 4 / 5])


@pytest.mark.parametrize(
    "seed",
    [0, 1, 4, 5, 6, 7],  # without equal scores, which COCOeval takes one by one
)
def test_curves_of_random_sets_are_cocoevals(tmp_path: Path, seed: int) -> None:
    assert curve_difference(seed, tmp_path / "val.json") < 1e-12


def curve_difference(seed: int, path: Path) -> float:
    """The largest difference of mask precision at 101 recalls."""
    content, found = random_dataset(seed)
    path.write_text(json.dumps(content))
    scorer = CocoScorer(path)
    for image_id, detections in found.items():
        scorer.add(image_id, detections)
    analysis, evaluation = analyze(scorer), scorer.evaluation("segm")
    names = {category["id"]: category["name"] for category in content["categories"]}
    grid, largest = np.linspace(0, 1, 101), 0.0
    for k, category_id in enumerate(evaluation.params.catIds):
        expected = np.asarray(evaluation.eval["precision"])[0, :, k, 0, -1]
        curve = analysis.curves.get(names[category_id])
        if curve is None:
            assert (expected == -1).all()
            continue
        envelope = np.append(np.maximum.accumulate(curve.precision[::-1])[::-1], 0)
        largest = max(largest, np.abs(envelope[np.searchsorted(curve.recall, grid)] - expected).max())
    return float(largest)
