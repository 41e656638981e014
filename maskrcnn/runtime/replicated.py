"""Predictions of a batch that the devices of one process share."""

from typing import Any

import numpy as np


class BatchPredictor:
    """A model's predictions; several devices share a batch."""

    def __init__(self, model: Any):
        self.model = model

    def refresh(self) -> None:
        """Takes over the model's weights as they are now."""

    def predict_on_batch(self, x: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return self.model.predict_on_batch(x)


class TensorFlowBatchPredictor(BatchPredictor):
    """Keras would give each device the whole batch."""

    def __init__(self, model: Any, strategy: Any, devices: int):
        import tensorflow as tf

        super().__init__(model)
        self.strategy, self.devices = strategy, devices
        self.run = tf.function(lambda batch: self.strategy.run(lambda part: model(part, training=False), (batch,)))

    def predict_on_batch(self, x: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        outputs = self.run({name: self._spread(value) for name, value in x.items()})
        local = self.strategy.experimental_local_results
        return {name: np.concatenate([part.numpy() for part in local(value)]) for name, value in outputs.items()}

    def _spread(self, value: np.ndarray) -> Any:
        import tensorflow as tf

        parts = iter(np.split(value, self.devices))
        return self.strategy.experimental_distribute_values_from_function(lambda context: tf.constant(next(parts)))


class JAXBatchPredictor(BatchPredictor):
    """Keras would want all processes to predict at the same time, and their outputs could not be read."""

    def __init__(self, model: Any):
        import jax

        super().__init__(model)
        mesh = jax.sharding.Mesh(np.array(jax.local_devices()), ("batch",))
        self.everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
        self.split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
        self.run = jax.jit(lambda weights, batch: model.stateless_call(*weights, batch, training=False)[0])
        self.refresh()

    def refresh(self) -> None:
        import jax

        self.weights = [
            [jax.device_put(np.asarray(variable.value.addressable_data(0)), self.everywhere) for variable in variables]
            for variables in (self.model.trainable_variables, self.model.non_trainable_variables)
        ]

    def predict_on_batch(self, x: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        import jax

        outputs = self.run(self.weights, jax.device_put(x, self.split))
        return {name: np.asarray(value) for name, value in outputs.items()}
