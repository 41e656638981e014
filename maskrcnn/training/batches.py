"""The batches of a training run, on all its devices."""

from typing import Any

from maskrcnn.config import Config
from maskrcnn.data.loader.pipeline import Shard, train_dataset, training_image_ids
from maskrcnn.data.loader.synthetic import synthetic_dataset
from maskrcnn.data.loader.wait_time import DataWait
from maskrcnn.data.splits import Split
from maskrcnn.runtime.distribution import Devices


class TrainingData:
    """The infinite batches of a run, from any step on."""

    def __init__(self, split: Split | None, config: Config, seed: int, devices: Devices | None = None):
        devices = devices or Devices()
        self.split, self.config, self.seed, self.devices = split, config, seed, devices
        self.batch_size = config.train.batch_size * devices.replicas
        self._wait = DataWait()

    def waited(self) -> float:
        """Seconds that training has waited for batches so far."""
        return self._wait.seconds

    def image_ids(self, step: int) -> list[int]:
        """The ids of the images of a step, from 0; none if the images are random."""
        if self.split is None:
            return []
        return training_image_ids(self.split, self.config, batch_size=self.batch_size, seed=self.seed, batch=step)

    def batches(self, first_step: int) -> Any:
        """This process's shard of the batches from ``first_step`` on, for `fit`."""
        return self.devices.distribute(lambda: self._wait.measure(self._batches(first_step)))

    def _batches(self, first_step: int) -> Any:
        devices = self.devices
        shard = Shard(devices.rank, devices.world_size, devices.batches_per_step)
        if self.split is None:
            size = self.batch_size // shard.count // shard.pieces
            return synthetic_dataset(self.config, batch_size=size, seed=devices.rank)
        size = self.batch_size
        return train_dataset(
            self.split, self.config, batch_size=size, seed=self.seed, skip_batches=first_step, shard=shard
        )
