"""A model that costs nothing in place of the real one, and outputs that are computed once."""

import keras
import pytest
from keras import ops

from maskrcnn.config import Config
from maskrcnn.runtime import backend


class StandIn(keras.Model):
    """In place of MaskRCNN where training around the model is tested: one dense layer, and noise as it has."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.dense = keras.layers.Dense(1, name="dense")
        self.dense.build((None, 3))
        self.resnet = self.dense
        self.seed_generator = keras.random.SeedGenerator(config.train.seed)
        self.loss_trackers = {name: keras.metrics.Mean(name) for name in ("box_loss", "mask_loss")}
        self.built = True

    def call(self, inputs, training=False):
        images = ops.cast(inputs["images"], "float32")
        if not training:
            return self.detect(images)
        mean = ops.mean(images, axis=(1, 2)) / 255  # [B, 3]
        noise = keras.random.normal((), seed=self.seed_generator)
        target = ops.mean(inputs["boxes"], axis=(1, 2)) / 64
        return {
            "box_loss": ops.mean(ops.square(self.dense(mean)[:, 0] - target)),
            "mask_loss": ops.mean(self.dense(mean)) * noise * 0.01 + 1,
        }

    def detect(self, images):
        """One box of class 1 over the upper left of each image."""
        number = ops.shape(images)[0]
        one = ops.ones((number, 1))
        return {
            "boxes": ops.ones((number, 1, 4)) * ops.convert_to_tensor([0.0, 0.0, 32.0, 32.0]),
            "classes": ops.cast(one, "int32"),
            "scores": one,
            "masks": ops.ones((number, 1, 28, 28)),
            "valid": ops.cast(one, "bool"),
        }

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        losses = dict(y_pred or {})
        for name, value in losses.items():
            self.loss_trackers[name].update_state(value)
        return backend.scale_loss_by_replicas(sum(losses.values()))


def use_stand_in(patch: pytest.MonkeyPatch) -> type[StandIn]:
    patch.setattr("maskrcnn.training.model_setup.MaskRCNN", StandIn)
    patch.setattr("maskrcnn.weights.model_folder.MaskRCNN", StandIn)
    patch.setattr("maskrcnn.reports.run_report.draw_charts", lambda history: [])  # they take as long as the rest
    return StandIn


def remember_outputs(model: keras.Model) -> None:
    """Lets a model whose weights stay compute each batch once: many files are checked on the same images."""
    predict, outputs = model.predict_on_batch, {}

    def predict_on_batch(x):
        key = tuple((name, value.shape, value.tobytes()) for name, value in x.items())
        if key not in outputs:
            outputs[key] = predict(x)
        return outputs[key]

    model.predict_on_batch = predict_on_batch
