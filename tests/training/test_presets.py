from dataclasses import replace

import pytest

from maskrcnn.config import Config
from maskrcnn.errors import UserError
from maskrcnn.training.presets import PRESETS, Recipe, describe_recipe, device_preset


@pytest.mark.parametrize("images", [1, 30, 500, 118_000])
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("on_cpu", [True, False])
@pytest.mark.parametrize("pretrained", [None, Config().model])
def test_every_preset_is_a_config_that_trains(images, preset, on_cpu, pretrained):
    config = Recipe(preset, pretrained=pretrained).complete(images=images, on_cpu=on_cpu)
    train = config.train
    assert train.epochs >= 1
    assert 0 <= train.learning_rate_boundaries[0] <= train.epochs
    assert len(train.learning_rate_values) == len(train.learning_rate_boundaries)
    assert train.evaluate_every <= train.epochs
    assert str(train.epochs) in describe_recipe(config)


def test_a_cpu_sees_about_as_many_images_whatever_the_size_of_the_dataset():
    for images in (100, 500, 1500):
        epochs = Recipe("cpu").complete(images=images, on_cpu=True).train.epochs
        assert 5000 < epochs * images <= 6500


def test_auto_follows_the_device():
    assert (device_preset("auto", on_cpu=True), device_preset("auto", on_cpu=False)) == ("cpu", "gpu")
    assert device_preset("v2", on_cpu=True) == "v2"
    small = Recipe("auto").complete(images=500, on_cpu=True)
    large = Recipe("auto").complete(images=500, on_cpu=False)
    assert (small.model.backbone.depth, large.model.backbone.depth) == (18, 50)
    assert (small.model.image.max_side, large.model.image.max_side) == (256, 1344)


def test_reference_is_the_default_config():
    assert Recipe("reference").complete(images=500, on_cpu=True) == Config()


def test_settings_override_the_preset():
    config = Recipe("cpu", {"image.min_side": 320, "train.epochs": 2}).complete(images=500, on_cpu=True)
    assert (config.model.image.min_side, config.train.epochs) == (320, 2)
    assert Recipe("cpu", {"data.skip_bad": True}).base.data.skip_bad


def test_fine_tuning_keeps_the_architecture_of_the_weights():
    pretrained = Config().override({"backbone.depth": 101}).model
    config = Recipe("cpu", pretrained=pretrained).complete(images=500, on_cpu=True)
    assert config.model.backbone == pretrained.backbone
    assert (config.model.image.max_side, config.train.optimizer) == (672, "sgd")


def test_a_small_model_is_fine_tuned_at_its_own_size_with_the_recipe_that_it_was_trained_with():
    scratch = Recipe("cpu").complete(images=500, on_cpu=True)
    for small in (scratch.model, Config.tiny().model):
        assert Recipe("cpu", pretrained=small).complete(images=500, on_cpu=True) == replace(scratch, model=small)


def test_an_unknown_preset_is_named():
    with pytest.raises(UserError, match="--preset tpu: choose one of auto, cpu, gpu, v2, reference"):
        Recipe("tpu")
