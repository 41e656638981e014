"""What the comparison of recipes does to datasets and numbers."""

import json

import pytest

from benchmarks.recipes import BASE, GROUP_NORM, RECIPES, select_classes, summarize
from maskrcnn.demo import demo_config


def test_every_recipe_is_a_config_of_its_own():
    recipes = {name: settings for name, settings in RECIPES.items() if name != GROUP_NORM}
    configs = [demo_config().override({**BASE, **settings}) for settings in recipes.values()]
    assert len(set(map(repr, configs))) == len(recipes)


def test_classes_are_dropped_renumbered_and_renamed(tmp_path):
    content = {
        "images": [{"id": 1, "file_name": "1.jpg"}],
        "categories": [{"id": 1, "name": "circle"}, {"id": 2, "name": "square"}, {"id": 7, "name": "star"}],
        "annotations": [{"id": n, "image_id": 1, "category_id": category} for n, category in enumerate((1, 2, 7, 1))],
    }
    (tmp_path / "all" / "tfrecords").mkdir(parents=True)
    (tmp_path / "all" / "instances_train.json").write_text(json.dumps(content))
    folder = select_classes(tmp_path / "all", tmp_path / "some", {"star": "star", "circle": "disc"})
    selected = json.loads((folder / "instances_train.json").read_text())
    assert selected["categories"] == [{"id": 1, "name": "star"}, {"id": 2, "name": "disc"}]
    assert [annotation["category_id"] for annotation in selected["annotations"]] == [2, 1, 2]
    assert not (folder / "tfrecords").exists()  # of the other classes


def test_a_summary_has_means_and_the_deviation_of_one_run():
    runs = [{"mask": mask, "mask50": 0.5, "seconds": 60.0} for mask in (0.1, 0.3)]
    summary = summarize(runs)
    assert summary["mask AP"] == pytest.approx(0.2)
    assert summary["mask AP, deviation"] == pytest.approx(0.02**0.5)
    assert summarize(runs[:1])["mask AP, deviation"] is None
