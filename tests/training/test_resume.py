"""Which categories and settings a resumed run may change."""

import dataclasses

import pytest

from maskrcnn.config import Category, Config
from maskrcnn.errors import UserError
from maskrcnn.training.resume import check_same_run
from maskrcnn.weights.model_folder import save_config


def with_categories(*categories):
    listed = [Category(index, *category) for index, category in enumerate(categories, start=1)]
    return dataclasses.replace(Config(), categories=tuple(listed))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ([(1, "Tumor"), (2, "Cell")], "a model of 1 class (Tumor), the data has 2 classes (Tumor, Cell);"),
        ([(7, "Tumor")], "a model of other category ids: Tumor is 1, in the data 7;"),
        ([(1, "Cell")], "a model of other category names: 1 is Tumor, in the data Cell;"),
        ([(7, "Cell")], "a model of 1 class (Tumor), the data has 1 class (Cell);"),
    ],
)
def test_other_categories_are_named(tmp_path, data, expected):
    save_config(with_categories((1, "Tumor")), tmp_path)
    with pytest.raises(UserError) as error:
        check_same_run(with_categories(*data), tmp_path)
    assert f"{tmp_path}: holds {expected}" in str(error.value)
    assert f"another --model_dir, and --weights {tmp_path}" in str(error.value)


def test_only_settings_that_do_not_change_the_training_are_free(tmp_path):
    save_config(Config(), tmp_path)
    check_same_run(Config().override({"train.epochs": 20, "train.keep": 5, "train.precision": "bfloat16"}), tmp_path)
    with pytest.raises(UserError, match=r"other settings \(train\.accumulate 1 -> 2\); give the same ones"):
        check_same_run(Config().override({"train.accumulate": 2}), tmp_path)
