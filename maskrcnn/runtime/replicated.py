"""Predictions of a batch that is divided among the devices of one process."""

from typing import Any

import numpy as np


class BatchPredictor:
    """Predicts batches on one device; base of the predictors for several devices."""

    def __init__(self, model: Any):
        self.model = model

    def refresh(self) -> None:
        """Uses the model's current weights from now on."""

    def predict_on_batch(self, x: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The model's outputs for a batch, in the order of its images."""
        return self.model.predict_on_batch(x)


class TensorFlowBatchPredictor(BatchPredictor):
    """Gives each device its part of a batch; Keras would give each the whole batch."""

    def __init__(self, model: Any, strategy: Any, devices: int):
        import tensorflow as tf

        super().__init__(model)
        self.strategy, self.devices = strategy, devices
        self.run = tf.function(
            lambda batch: self.strategy.run(lambda part: model(part, training=False), (batch,)), autograph=False
        )

    def predict_on_batch(self, x: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The same as in the base; the batch size is a multiple of the devices."""
        outputs = self.run({name: self._distribute(value) for name, value in x.items()})
        local = self.strategy.experimental_local_results
        return {name: np.concatenate([part.numpy() for part in local(value)]) for name, value in outputs.items()}

    def _distribute(self, value: np.ndarray) -> Any:
        import tensorflow as tf

        parts = iter(np.split(value, self.devices))
        return self.strategy.experimental_distribute_values_from_function(lambda context: tf.constant(next(parts)))


class JAXBatchPredictor(BatchPredictor):
    """Predicts on the devices of this process alone; Keras would need all processes at once, and outputs of the others
    could not be read."""

    def __init__(self, model: Any):
        import jax

        super().__init__(model)
        mesh = jax.sharding.Mesh(np.array(jax.local_devices()), ("batch",))
        self.replicated = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
        self.sharded = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
        self.run = jax.jit(lambda weights, batch: model.stateless_call(*weights, batch, training=False)[0])
        self.refresh()

    def refresh(self) -> None:
        """Copies the model's current weights to all devices."""
        import jax

        self.weights = [
            [jax.device_put(np.asarray(variable.value.addressable_data(0)), self.replicated) for variable in variables]
            for variables in (self.model.trainable_variables, self.model.non_trainable_variables)
        ]

    def predict_on_batch(self, x: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The same as in the base; the batch size is a multiple of the devices."""
        import jax

        outputs = self.run(self.weights, jax.device_put(x, self.sharded))
        return {name: np.asarray(value) for name, value in outputs.items()}
