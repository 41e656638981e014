"""Several devices and several machines, through the engines that the backends have; nothing home-made.

One machine: TensorFlow's MirroredStrategy, or Keras' DataParallel on JAX. Several: MultiWorkerMirroredStrategy, or
JAX's own multi-process runtime under the same DataParallel. Each process loads its part of every batch.
"""

import atexit
import contextlib
import logging
import os
import pickle
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from maskrcnn.errors import UserError
from maskrcnn.runtime import backend, compiler
from maskrcnn.runtime.replicated import BatchPredictor, JAXBatchPredictor, TensorFlowBatchPredictor

HEARTBEAT_SECONDS = 30  # without a sign of a JAX process, and the others end
SHUTDOWN_SECONDS = 15  # that JAX waits at the end for processes that may be gone
EXIT_STATUS = 2  # of a process that lost another one
SLURM_PORT = 8888  # of TensorFlow's first process on a machine, under SLURM
# what JAX and TensorFlow raise when a process does not answer
SILENCE = re.compile(
    "abort|connect|closed|peer|refused|reset|unavailable|timed? ?out", re.IGNORECASE
)  # the telling line
LOST = ("JaxRuntimeError", "XlaRuntimeError", "UnavailableError", "AbortedError", "CancelledError", "InternalError")


@dataclass(frozen=True)
class Devices:
    """All devices of a run, of which this process drives some."""

    replicas: int = 1  # of the model: devices of all processes together
    world_size: int = 1
    rank: int = 0  # of this process; rank 0 is the chief, which alone writes files
    strategy: Any = None  # TensorFlow's or Keras' object; None for one device

    @property
    def local_replicas(self) -> int:
        """Devices of this process."""
        return self.replicas // self.world_size

    @property
    def is_chief(self) -> bool:
        return self.rank == 0

    @property
    def batches_per_step(self) -> int:
        """The batches that this process's part of a step is cut into: TensorFlow wants one for each device."""
        return self.local_replicas if backend.active_backend() == "tensorflow" else 1

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """In which models are built, compiled and trained."""
        return self.strategy.scope() if self.strategy is not None else contextlib.nullcontext()

    def compile_options(self, *, xla: bool, eagerly: bool) -> dict[str, bool]:
        """As `compiler.compile_options`; several devices under TensorFlow are compiled operation by operation.

        Its collective operations cannot be inside an XLA program of Keras' making; XLA then takes clusters of others.
        """
        options = compiler.compile_options(xla=xla, eagerly=eagerly)
        if self.strategy is None or backend.active_backend() == "jax":
            return options
        import tensorflow as tf

        tf.config.optimizer.set_jit("autoclustering" if xla else False)
        return {**options, "jit_compile": False}

    def distribute(self, make_dataset: Callable[[], Any]) -> Any:
        """A dataset of this process's batches as `fit` wants it."""
        if self.strategy is None or backend.active_backend() == "jax":
            return make_dataset()
        return self.strategy.distribute_datasets_from_function(lambda context: make_dataset())

    def predictor(self, model: Any) -> BatchPredictor:
        """What predicts batches of this process alone, on all its devices."""
        if self.strategy is None:
            return BatchPredictor(model)
        if backend.active_backend() == "jax":
            return JAXBatchPredictor(model)
        return TensorFlowBatchPredictor(model, self.strategy, self.local_replicas)

    def all_gather_object(self, value: Any) -> list[Any]:
        """What each process gives, in their order, on all of them; each must call it."""
        if self.world_size == 1:
            return [value]
        data = np.frombuffer(pickle.dumps(value), np.uint8)
        lengths = self._gather_rows(np.array([len(data)], np.int32))
        padded = np.zeros(-(-int(lengths.max()) // 4) * 4, np.uint8)
        padded[: len(data)] = data
        rows = self._gather_rows(padded.view(np.int32))
        # of processes of the same run, so that unpickling is safe
        return [pickle.loads(row.tobytes()[:length]) for row, (length,) in zip(rows, lengths.tolist(), strict=True)]

    def broadcast_object(self, value: Any) -> Any:
        """The first process's value, on all of them."""
        return self.all_gather_object(value)[0]

    def all_gather_items(self, items: Iterable[Any]) -> Iterator[Any]:
        """The items of all processes, on each of them."""
        if self.world_size == 1:
            yield from items
        else:
            for part in self.all_gather_object(list(items)):
                yield from part

    @contextlib.contextmanager
    def main_process_first(self) -> Iterator[None]:
        """The first process runs the block while the others wait, then they do: for what it leaves on a shared disk."""
        if not self.is_chief:
            self.all_gather_object(None)
        try:
            yield
        finally:
            if self.is_chief:
                self.all_gather_object(None)

    @contextlib.contextmanager
    def report_lost_process(self) -> Iterator[None]:
        """Says in words that another process is gone.

        Raises:
            UserError: the backend could not reach it.
        """
        try:
            yield
        except Exception as error:
            if self.world_size == 1 or type(error).__name__ not in LOST or "RESOURCE_EXHAUSTED" in str(error):
                raise
            _leave_without_the_lost()
            lines = str(error).strip().splitlines() or [""]
            reason = next((line for line in lines if SILENCE.search(line)), lines[0])[:200]
            raise UserError(
                f"process {self.rank} of {self.world_size}: another process of the run is lost ({reason}); start all "
                "of them again with the same command: the run goes on from its last checkpoint"
            ) from error

    def _gather_rows(self, row: np.ndarray) -> np.ndarray:
        """Rows [N] of int32, one of each process -> [processes, N]."""
        if backend.active_backend() == "jax":
            from jax.experimental import multihost_utils

            return np.asarray(multihost_utils.process_allgather(row)).reshape(self.world_size, -1)
        import tensorflow as tf

        rows = self.strategy.experimental_distribute_values_from_function(lambda context: tf.constant(row[None]))
        gathered = self.strategy.gather(rows, axis=0).numpy()  # [replicas, N]
        return gathered[:: self.local_replicas]


def connect(coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None) -> Devices:
    """All devices that this process sees, and those of the processes that it is told of; before anything computes.

    Args:
        coordinator: HOST:PORT of JAX's first process; TensorFlow reads the variable TF_CONFIG instead. Under SLURM both
            find out by themselves, if a step has several tasks.
        num_processes: of the run, for JAX.
        process_id: of this one, from 0, for JAX.

    Raises:
        UserError: flags that do not fit together or the backend.
    """
    given = [value is not None for value in (coordinator, num_processes, process_id)]
    if any(given) and not all(given):
        raise UserError("--coordinator, --num_processes and --process_id belong together; give all three")
    slurm = int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_PROCID" in os.environ
    if backend.active_backend() == "jax":
        if all(given) or slurm:
            _initialize_jax(coordinator, num_processes, process_id)
        return _jax_devices()
    if any(given):
        raise UserError(
            "--coordinator is JAX's; TensorFlow's processes are told of each other by the variable TF_CONFIG"
        )
    return _tensorflow_devices(slurm)


def _leave_without_the_lost() -> None:
    """JAX would wait for the lost process when this one ends, and then abort: before that, it leaves by itself."""
    if backend.active_backend() != "jax":
        return
    import jax

    if jax.distributed.is_initialized():
        atexit.register(os._exit, EXIT_STATUS)  # the last one registered is the first one called, before JAX's own
        atexit.register(logging.shutdown)
        atexit.register(sys.stdout.flush)


def _initialize_jax(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    import jax

    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=SHUTDOWN_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"the processes of the run cannot be connected ({reason}); start all of them with the same --coordinator "
            "and --num_processes"
        ) from error


def _jax_devices() -> Devices:
    import jax

    if jax.device_count() == 1:
        return Devices()
    if jax.device_count() % jax.process_count():
        raise UserError(f"{jax.device_count()} devices in {jax.process_count()} processes: give each the same number")
    parallel = keras.distribution.DataParallel(devices=keras.distribution.list_devices(), auto_shard_dataset=False)
    return Devices(jax.device_count(), jax.process_count(), jax.process_index(), parallel)


def _tensorflow_devices(slurm: bool) -> Devices:
    import tensorflow as tf

    if "TF_CONFIG" in os.environ or slurm:
        resolver = None
        if slurm and "TF_CONFIG" not in os.environ:
            resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(port_base=SLURM_PORT, auto_set_gpu=False)
        strategy = tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
        resolver = strategy.cluster_resolver
        processes = len(resolver.cluster_spec().as_dict().get("worker", [""]))
        if processes > 1:
            return Devices(strategy.num_replicas_in_sync, processes, int(resolver.task_id), strategy)
    names = [device.name for device in tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")]
    return Devices(len(names), strategy=tf.distribute.MirroredStrategy(names)) if len(names) > 1 else Devices()
