"""The hardware under a run: devices, memory, and a description of the machine for measurements."""

import contextlib
import importlib
import os
import platform
import resource
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from maskrcnn.runtime.backend import active_backend

PACKAGES = ("maskrcnn", "keras", "tensorflow", "jax", "jaxlib", "numpy")


class PeakMemory(NamedTuple):
    """Largest memory use so far, bytes."""

    host: int  # resident set of this process
    device: int | None  # of the first accelerator; None where there is none


def describe_devices() -> str:
    """What the model runs on, in words: ``tensorflow 2.21.0 on cpu``."""
    import keras

    devices = keras.distribution.list_devices()
    kind = devices[0].split(":")[0] if devices else "cpu"
    count = f"{len(devices)} x " if len(devices) > 1 else ""
    backend = active_backend()
    return f"{backend} {importlib.import_module(backend).__version__} on {count}{kind}"


def computes_on_cpu() -> bool:
    """Whether the model runs on processors, and not on a GPU or a TPU."""
    if active_backend() == "jax":
        import jax

        return jax.default_backend() == "cpu"
    import tensorflow as tf

    return not tf.config.get_visible_devices("GPU")


def peak_memory() -> PeakMemory:
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return PeakMemory(host, _device_peak())


def _device_peak() -> int | None:
    if active_backend() == "jax":
        import jax

        statistics = jax.local_devices()[0].memory_stats() or {}
        return statistics.get("peak_bytes_in_use")
    import tensorflow as tf

    gpus = tf.config.get_visible_devices("GPU")
    return tf.config.experimental.get_memory_info("GPU:0")["peak"] if gpus else None


def device_name() -> str:
    """The model of the first device that computes: ``NVIDIA H100 80GB HBM3``, or ``cpu``."""
    if active_backend() == "jax":
        import jax

        return jax.local_devices()[0].device_kind
    import tensorflow as tf

    gpus = tf.config.get_visible_devices("GPU")
    return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "gpu") if gpus else "cpu"


def describe_machine() -> dict[str, Any]:
    """Processor, cores that this process may use, memory (bytes), Python and the packages that set the speed."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
        "commit": commit(),
    }


def commit() -> str | None:
    """The commit that this package was checked out at, "+" after it if files were changed; None outside of git."""
    try:
        result = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()


def _processor() -> str:
    """The model's name and the widest instructions it has, which decide on a CPU's speed."""
    try:
        fields = dict(
            line.split(":", 1) for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if ":" in line
        )
    except OSError:
        return platform.processor() or platform.machine()
    values = {key.strip(): value.strip() for key, value in fields.items()}
    flags = values.get("flags", "").split()
    widest = next((name for name in ("avx512_bf16", "avx512f", "avx2") if name in flags), "")
    model = f"family {values['cpu family']} model {values['model']}" if "cpu family" in values else ""
    return " ".join(filter(None, [values.get("model name", platform.machine()), model, widest]))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def reset_peak_memory() -> None:
    """Makes `peak_resident` count from now on; does nothing where the system cannot (it is Linux' way)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_resident() -> int | None:
    """Largest resident set since `reset_peak_memory`, bytes; None where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)
