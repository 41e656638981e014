"""The hardware under a run: devices, memory, and a description of the machine for measurements."""

import contextlib
import importlib
import itertools
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from maskrcnn.runtime.backend import active_backend, installed_gpus

PACKAGES = ("maskrcnn", "keras", "tensorflow", "jax", "jaxlib", "onnxruntime", "openvino", "ai-edge-litert", "numpy")
# Names of the instruction sets that decide on a CPU's speed, as Linux and (for ARM) macOS spell them.
INSTRUCTION_SETS = (
    *("sse4_2", "avx", "fma", "avx2", "avx_vnni", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"),
    *("avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimddp", "bf16", "i8mm", "sve"),
)


class PeakMemory(NamedTuple):
    """Largest memory use so far, bytes."""

    host: int | None  # resident set of this process; None where the system does not report it
    device: int | None  # of the first accelerator; None where there is none


def describe_devices() -> str:
    """Backend and devices in words: ``tensorflow 2.21.0 on cpu``."""
    import keras

    devices = keras.distribution.list_devices()
    kind = devices[0].split(":")[0] if devices else "cpu"
    count = f"{len(devices)} x " if len(devices) > 1 else ""
    backend = active_backend()
    return f"{backend} {importlib.import_module(backend).__version__} on {count}{kind}"


def computes_on_cpu() -> bool:
    """Whether the model runs on the CPU, and not on a GPU or a TPU."""
    if active_backend() == "jax":
        import jax

        return jax.default_backend() == "cpu"
    import tensorflow as tf

    return not tf.config.get_visible_devices("GPU")


def machine_memory() -> int | None:
    """Bytes of memory that the machine has; None where the system does not report it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf
        return None


def device_memory(*, on_cpu: bool) -> int | None:
    """Bytes of memory of the machine, or of the GPU that has least; None where the system does not report it."""
    if on_cpu:
        return machine_memory()
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.split()
        return min(int(mebibytes) for mebibytes in listed) << 20
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def available_cores() -> int:
    """The number of cores that this process may use, or that the machine has where the system does not restrict it."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def peak_memory() -> PeakMemory:
    """The largest memory use of this process since it started."""
    return PeakMemory(_host_peak(), _device_peak())


def _host_peak() -> int | None:
    try:
        import resource  # Unix only
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _device_peak() -> int | None:
    if "keras" not in sys.modules:  # an exported file, on the CPU
        return None
    if active_backend() == "jax":
        import jax

        statistics = jax.local_devices()[0].memory_stats() or {}
        return statistics.get("peak_bytes_in_use")
    import tensorflow as tf

    gpus = tf.config.get_visible_devices("GPU")
    return tf.config.experimental.get_memory_info("GPU:0")["peak"] if gpus else None


def device_name() -> str:
    """The model of the first device that computes: ``NVIDIA H100 80GB HBM3``, or ``cpu``."""
    if "keras" not in sys.modules:  # an exported file
        return "cpu"
    if active_backend() == "jax":
        import jax

        return jax.local_devices()[0].device_kind
    import tensorflow as tf

    gpus = tf.config.get_visible_devices("GPU")
    return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "gpu") if gpus else "cpu"


def describe_machine() -> dict[str, Any]:
    """The parts of the machine that measured times depend on.

    Keys: processor, instruction_sets, onednn, cores that this process may use, memory_bytes, system, python, versions
    of packages, commit. A value is None where the system does not report it.
    """
    fields = _cpu_fields()
    return {
        "processor": describe_processor(fields),
        "instruction_sets": instruction_sets(fields),
        "onednn": uses_onednn(),
        "onednn_max_cpu_isa": os.environ.get("ONEDNN_MAX_CPU_ISA"),
        "cores": available_cores(),
        "memory_bytes": machine_memory(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := installed_version(name))},
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


def uses_onednn() -> bool | None:
    """Whether TensorFlow computes with oneDNN on the CPU; None where TensorFlow decides by the processor itself.

    TensorFlow reads ``TF_ENABLE_ONEDNN_OPTS`` when it is imported; `maskrcnn` sets it to 1 unless it is set.
    """
    setting = os.environ.get("TF_ENABLE_ONEDNN_OPTS", "").strip().lower()
    return {"1": True, "true": True, "0": False, "false": False}.get(setting)


def instruction_sets(fields: dict[str, str] | None = None) -> list[str] | None:
    """The vector instructions that the processor has; None where the system does not report them.

    A library may be restricted to fewer, e.g. oneDNN by ``ONEDNN_MAX_CPU_ISA``.
    """
    fields = _cpu_fields() if fields is None else fields
    flags = (fields.get("flags") or fields.get("Features") or "").split()  # of x86, of ARM
    return [name for name in INSTRUCTION_SETS if name in flags] if flags else None


def uses_avx512() -> bool | None:
    """Whether oneDNN computes with AVX-512: the processor has it, and ``ONEDNN_MAX_CPU_ISA`` does not rule it out.

    None where the system does not report the processor's instructions, and where they are not those of x86.
    """
    own = instruction_sets() or ()
    if "sse4_2" not in own:
        return None
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    return "avx512f" in own and limit != "AVX" and not limit.startswith(("SSE", "AVX2"))


def sums_int8_exactly() -> bool:
    """Whether products of 8-bit integers are added in 32 bits; otherwise pairs of them saturate at 16 bits."""
    return bool({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"} & set(instruction_sets() or ()))


def mixed_precision(gpus: int | None = None) -> str:
    """The precision that ``--amp`` means: float16 on a GPU; on a CPU bfloat16 if it computes in it, else float32.

    TensorFlow's gradients of a convolution in float16 take a CPU some 200 times as long as in float32.

    Args:
        gpus: the number asked for; None is all.
    """
    if gpus != 0 and installed_gpus() != 0:
        return "float16"
    return "bfloat16" if {"avx512_bf16", "amx_bf16", "bf16"} & set(instruction_sets() or ()) else "float32"


def _cpu_fields() -> dict[str, str]:
    """The description of the first core by Linux; empty on other systems."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as file:  # a paragraph for each core
            lines = list(itertools.takewhile(str.strip, file))
    except OSError:
        return {}
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return {key.strip(): value.strip() for key, value in fields.items()}


def describe_processor(fields: dict[str, str] | None = None) -> str:
    """The model's name, with family and model number, which tell processors of one name apart."""
    fields = _cpu_fields() if fields is None else fields
    name = fields.get("model name") or platform.processor() or platform.machine()
    model = f"family {fields['cpu family']} model {fields['model']}" if "cpu family" in fields else ""
    return f"{name} {model}".strip()


def installed_version(package: str) -> str | None:
    """The version of a package; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def reset_peak_memory() -> None:
    """Makes `peak_resident` count from now on; does nothing on systems other than Linux."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_resident() -> int | None:
    """Largest resident set since `reset_peak_memory`, bytes; None on systems other than Linux."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)
