"""Several devices and several machines, through what the backends provide.

One machine: TensorFlow's MirroredStrategy, or Keras' DataParallel on JAX. Several: MultiWorkerMirroredStrategy, or
JAX's own multi-process runtime under the same DataParallel. Each process loads its shard of every batch.
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

from maskrcnn.errors import UserError, first_line
from maskrcnn.runtime import backend, compiler
from maskrcnn.runtime.environment import check_processes
from maskrcnn.runtime.replicated import BatchPredictor, JAXBatchPredictor, TensorFlowBatchPredictor

HEARTBEAT_SECONDS = 30  # without a heartbeat of a JAX process, after which the others end
SHUTDOWN_SECONDS = 15  # for which JAX waits at the end for processes that may be lost
EXIT_STATUS = 2  # of a process that lost another one
SLURM_PORT = 8888  # of TensorFlow's first process on a machine, under SLURM
# the errors of JAX and TensorFlow when a process does not answer, and the line of their text that tells it
NO_ANSWER = re.compile("abort|connect|closed|peer|refused|reset|unavailable|timed? ?out", re.IGNORECASE)
LOST = ("JaxRuntimeError", "XlaRuntimeError", "UnavailableError", "AbortedError", "CancelledError", "InternalError")


@dataclass(frozen=True)
class Devices:
    """The devices of a run, on all its processes."""

    replicas: int = 1  # of the model, one on each device of all processes
    world_size: int = 1
    rank: int = 0  # of this process; rank 0 is the chief, the only one that writes files
    strategy: Any = None  # TensorFlow's or Keras' object; None for one device

    @property
    def local_replicas(self) -> int:
        """The number of devices of this process."""
        return self.replicas // self.world_size

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the files of the run."""
        return self.rank == 0

    @property
    def uses_tensorflow_strategy(self) -> bool:
        """Whether training runs through `tf.distribute`."""
        return self.strategy is not None and backend.active_backend() == "tensorflow"

    @property
    def batches_per_step(self) -> int:
        """The number of batches in this process's shard of a step: TensorFlow needs one for each device."""
        return self.local_replicas if backend.active_backend() == "tensorflow" else 1

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """A context in which models are built, compiled and trained."""
        return self.strategy.scope() if self.strategy is not None else contextlib.nullcontext()

    def compile_options(self, *, xla: bool, eagerly: bool) -> dict[str, bool]:
        """The options of `compiler.compile_options`; several TensorFlow devices get no XLA program for a whole step.

        TensorFlow's collective operations cannot be in such a program; with ``xla``, clusters of others are compiled.
        """
        options = compiler.compile_options(xla=xla, eagerly=eagerly)
        if not self.uses_tensorflow_strategy:
            return options
        import tensorflow as tf

        tf.config.optimizer.set_jit("autoclustering" if xla else False)
        return {**options, "jit_compile": False}

    def distribute(self, make_dataset: Callable[[], Any]) -> Any:
        """The dataset of this process's batches for `fit`."""
        if not self.uses_tensorflow_strategy:
            return make_dataset()
        return self.strategy.distribute_datasets_from_function(lambda context: make_dataset())

    def predictor(self, model: Any) -> BatchPredictor:
        """The predictor of this process, on all its devices."""
        if self.strategy is None:
            return BatchPredictor(model)
        if backend.active_backend() == "jax":
            return JAXBatchPredictor(model)
        return TensorFlowBatchPredictor(model, self.strategy, self.local_replicas)

    def all_gather_object(self, value: Any) -> list[Any]:
        """The values of all processes, by rank; each process must call it."""
        if self.world_size == 1:
            return [value]
        data = np.frombuffer(pickle.dumps(value), np.uint8)
        lengths = self._gather_rows(np.array([len(data)], np.int32))
        padded = np.zeros(-(-int(lengths.max()) // 4) * 4, np.uint8)
        padded[: len(data)] = data
        rows = self._gather_rows(padded.view(np.int32))
        # unpickling is safe: the data is of processes of the same run
        return [pickle.loads(row.tobytes()[:length]) for row, (length,) in zip(rows, lengths.tolist(), strict=True)]

    def broadcast_object(self, value: Any) -> Any:
        """The chief's value, on all processes."""
        return self.all_gather_object(value)[0]

    def all_gather_items(self, items: Iterable[Any]) -> Iterator[Any]:
        """Yields the items of all processes, on each of them."""
        if self.world_size == 1:
            yield from items
        else:
            for part in self.all_gather_object(list(items)):
                yield from part

    @contextlib.contextmanager
    def main_process_first(self) -> Iterator[None]:
        """Runs the block on the chief while the others wait, then on them: for files left on a shared disk."""
        if not self.is_chief:
            self.all_gather_object(None)
        try:
            yield
        finally:
            if self.is_chief:
                self.all_gather_object(None)

    @contextlib.contextmanager
    def report_lost_process(self) -> Iterator[None]:
        """Reports that another process is lost.

        Raises:
            UserError: the backend could not reach it.
        """
        try:
            yield
        except Exception as error:
            if self.world_size == 1 or type(error).__name__ not in LOST or "RESOURCE_EXHAUSTED" in str(error):
                raise
            _end_without_waiting()
            lines = str(error).strip().splitlines() or [""]
            reason = next((line for line in lines if NO_ANSWER.search(line)), lines[0])[:200]
            raise UserError(
                f"process {self.rank} of {self.world_size}: another process of the run is lost ({reason}); start all "
                "of them again with the same command: the run resumes from its last checkpoint"
            ) from error

    def _gather_rows(self, row: np.ndarray) -> np.ndarray:
        """Rows [N] of int32, one of each process -> [world_size, N]."""
        if backend.active_backend() == "jax":
            from jax.experimental import multihost_utils

            return np.asarray(multihost_utils.process_allgather(row)).reshape(self.world_size, -1)
        import tensorflow as tf

        rows = self.strategy.experimental_distribute_values_from_function(lambda context: tf.constant(row[None]))
        gathered = self.strategy.gather(rows, axis=0).numpy()  # [replicas, N]
        return gathered[:: self.local_replicas]


def connect(coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None) -> Devices:
    """The devices of this process and of the others of its run; called before anything computes.

    Args:
        coordinator: HOST:PORT of JAX's first process; TensorFlow reads the variable TF_CONFIG instead. Both detect
            a SLURM step of several tasks automatically.
        num_processes: number of processes of the run, for JAX.
        process_id: rank of this process, from 0, for JAX.

    Raises:
        UserError: flags that do not fit together, or that the backend does not have.
    """
    slurm = check_processes(coordinator, num_processes, process_id)
    if backend.active_backend() == "jax":
        if coordinator or slurm:
            _initialize_jax(coordinator, num_processes, process_id)
        return _jax_devices()
    if coordinator:
        raise UserError("--coordinator is for JAX; TensorFlow reads the processes of a run from the variable TF_CONFIG")
    return _tensorflow_devices(slurm)


def _end_without_waiting() -> None:
    """Ends this process without JAX's shutdown, which would wait for the lost process and then abort."""
    if backend.active_backend() != "jax":
        return
    import jax

    if jax.distributed.is_initialized():
        atexit.register(os._exit, EXIT_STATUS)  # called in reverse order, so before JAX's own
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
        raise UserError(
            f"the processes of the run cannot be connected ({first_line(error)}); start all of them with the same "
            "--coordinator and --num_processes"
        ) from error


def _jax_devices() -> Devices:
    import jax

    if jax.device_count() == 1:
        return Devices()
    if jax.device_count() % jax.process_count():
        raise UserError(
            f"{jax.device_count()} devices in {jax.process_count()} processes; give each process the same number"
        )
    parallel = keras.distribution.DataParallel(devices=keras.distribution.list_devices(), auto_shard_dataset=False)
    return Devices(jax.device_count(), jax.process_count(), jax.process_index(), parallel)


def _slurm_resolver() -> Any:
    import tensorflow as tf

    try:
        return tf.distribute.cluster_resolver.SlurmClusterResolver(port_base=SLURM_PORT, auto_set_gpu=False)
    except Exception as error:  # it parses lists of nodes, and fails in many ways
        raise UserError(f"the variables of SLURM describe no step of several tasks ({error}); use srun") from error


def _tensorflow_devices(slurm: bool) -> Devices:
    import tensorflow as tf

    if os.environ.get("TF_CONFIG") or slurm:
        resolver = None
        if slurm and not os.environ.get("TF_CONFIG"):
            resolver = _slurm_resolver()
        try:
            strategy = tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
        except (ValueError, KeyError, RuntimeError, tf.errors.OpError) as error:
            reason = first_line(error)[:200]
            raise UserError(f"the processes of the run cannot be connected ({reason}); check TF_CONFIG") from error
        resolver = strategy.cluster_resolver
        processes = len(resolver.cluster_spec().as_dict().get("worker", [""]))
        if processes > 1:
            return Devices(strategy.num_replicas_in_sync, processes, int(resolver.task_id), strategy)
    names = [device.name for device in tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")]
    return Devices(len(names), strategy=tf.distribute.MirroredStrategy(names)) if len(names) > 1 else Devices()
