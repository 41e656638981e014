"""Two evaluations of five images: differences by hand, and every missing file in one line."""

import json
from pathlib import Path

import pytest

from maskrcnn.config import Config
from maskrcnn.errors import UserError
from maskrcnn.evaluation.coco_metrics import CocoScorer
from maskrcnn.evaluation.comparison import Interval, compare, format_comparison, open_runs, to_json
from maskrcnn.evaluation.predictions import read_predictions, write_predictions
from tests.evaluation.fabricated import CAT, DOG, FOUND, Found, scorer_of, write_truth

pytestmark = pytest.mark.no_backend

BETTER: dict[int, list[Found]] = {**FOUND, 5: [*FOUND[5], (CAT, 10, 10, 0.99)], 4: [(DOG, 0, 0, 0.98)]}


def write_run(folder: Path, truth: Path, found: dict[int, list[Found]], **changes) -> Path:
    folder.mkdir(parents=True)
    scorer = scorer_of(truth, found)
    write_predictions(scorer, folder / "predictions_val.json")
    data = {"data_dir": str(truth.parent), "split": "val", "annotation_file": str(truth), "image_ids": None}
    (folder / "metrics_val.json").write_text(json.dumps({**scorer.metrics(), "data": {**data, **changes}}))
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    truth = write_truth(tmp_path / "val.json")
    folders = [write_run(tmp_path / "a", truth, FOUND), write_run(tmp_path / "b", truth, BETTER)]
    for folder, rate in zip(folders, (0.1, 0.2), strict=True):
        config = Config.tiny().override({"train.momentum": rate})
        (folder / "config.json").write_text(config.to_json())
    return folders


def test_detections_in_a_file_score_the_same(tmp_path: Path) -> None:
    scorer = scorer_of(write_truth(tmp_path / "val.json"))
    write_predictions(scorer, tmp_path / "predictions.json")
    again = CocoScorer(scorer.annotation_file)
    read_predictions(tmp_path / "predictions.json", again)
    assert again.metrics() == scorer.metrics()
    some = CocoScorer(scorer.annotation_file)
    (tmp_path / "none.json").write_text("[]")
    read_predictions(tmp_path / "none.json", some, [1, 3])
    assert some.image_ids == [1, 3]


def test_differences_by_hand(runs: list[Path]) -> None:
    comparison = compare(open_runs(runs), bootstrap=50)
    first, second = comparison.metrics["segm"]["AP50"]
    # cats: right at ranks 1, 3, 4 of 4 objects, and a wrong one between: precision 1 to 0.25, then 3/4 to 0.75
    assert (first.value, second.value) == pytest.approx((34 / 101, ((26 + 50 * 3 / 4) + 34 / 2) / 202), abs=1e-4)
    assert second.difference == pytest.approx(second.value - first.value)
    assert second.low is not None
    assert second.high is not None
    assert second.low <= second.difference <= second.high
    assert [run.name for run in comparison.runs] == ["a", "b"]
    cat, dog = comparison.classes
    assert cat["difference"] > 0 > dog["difference"]  # the wrong dog of image 4 now comes first
    changes = {row["id"]: row["difference"] for row in comparison.images}
    assert changes[4] == -1  # nothing to find, and now a wrong detection
    assert changes[5] == pytest.approx(1 - 2 / 3)
    assert changes[1] == 0
    assert comparison.settings == [("train.momentum", [0.1, 0.2])]
    assert json.loads(json.dumps(to_json(comparison)))["runs"] == ["a", "b"]
    table = format_comparison(comparison)
    assert "5 images: 1 better, 1 worse in b, by F1" in table
    assert "train.momentum: 0.1 / 0.2" in table


def test_a_run_is_no_different_from_itself(runs: list[Path]) -> None:
    comparison = compare(open_runs([runs[0], runs[0], runs[0]]), bootstrap=5)
    for row in comparison.metrics["bbox"].values():
        assert len(row) == 3
        assert not any(interval.is_certain or interval.difference for interval in row[1:])
    assert compare(open_runs(runs), bootstrap=0).metrics["bbox"]["AP"][1].low is None


def test_intervals_that_exclude_zero_are_certain() -> None:
    assert Interval(0.5, 0.1, 0.01, 0.2).is_certain
    assert Interval(0.5, -0.1, -0.2, -0.01).is_certain
    assert not Interval(0.5, 0.1, -0.01, 0.2).is_certain
    assert not Interval(0.5).is_certain


def test_missing_and_unfit_files_are_named(runs: list[Path], tmp_path: Path) -> None:
    first, second = runs
    with pytest.raises(UserError, match=r"c: no such folder; give folders"):
        open_runs([first, tmp_path / "c"])
    (tmp_path / "c").mkdir()
    with pytest.raises(UserError, match=r"c: has no metrics_val\.json; run `maskrcnn eval"):
        open_runs([first, tmp_path / "c"])
    with pytest.raises(UserError, match=r"a: has no metrics_test\.json"):
        open_runs(runs, split="test")
    truth = write_truth(tmp_path / "other.json")
    other = write_run(tmp_path / "d", truth, FOUND)
    with pytest.raises(UserError, match=r"evaluated on .*other\.json and .*val\.json; give the ground truth"):
        open_runs([first, other])
    assert len(open_runs([first, other], eval_file=truth)) == 2
    truth.unlink()
    with pytest.raises(UserError, match=r"other\.json: the ground truth of .* is gone; give it with --eval_file"):
        open_runs([other, other])
    (second / "predictions_val.json").write_text('[{"image_id": 1}]')
    with pytest.raises(UserError, match=r"predictions_val\.json: not COCO results with masks"):
        open_runs(runs)
    (second / "predictions_val.json").unlink()
    with pytest.raises(UserError, match=r"b: has metrics_val\.json, but not its detections"):
        open_runs(runs)
    (second / "metrics_val.json").write_text('{"bbox": {}}')
    with pytest.raises(UserError, match=r"does not say which images were evaluated"):
        open_runs([first, second / "metrics_val.json"])


def test_runs_of_other_images_are_refused(runs: list[Path], tmp_path: Path) -> None:
    fewer = write_run(tmp_path / "e", tmp_path / "val.json", {1: FOUND[1]}, image_ids=[1])
    with pytest.raises(UserError, match=r"1 images, .* has 5 or others; evaluate both on the same split"):
        open_runs([runs[0], fewer])
